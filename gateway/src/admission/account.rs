//! What one user may pass on to RabbitMQ per second, or one address whose users are not known.
//!
//! All connections of the user share an [`Account`], which outlives them. [`Account::charge`] takes messages and bytes
//! before they are written, and says how long they have to wait; a [`Charge`] that is dropped before the wait is over
//! gives back what it took. Time is an argument. An account knows no connection and no socket.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use crate::config;

/// The longest pause for a rate limit. A connection that would have to wait longer is closed, and the settings are
/// refused if one frame would have to.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How much is passed on at once: the part of what a second allows. So connections of one user take turns.
const BATCHES_PER_SECOND: u32 = 10;

/// What may be sent per second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
}

impl Rates {
    /// Returns the rates of the settings for all users.
    pub(crate) fn of_all(limits: &config::Limits) -> Self {
        Self { messages: limits.messages_per_second, bytes: limits.bytes_per_second.0 }
    }

    /// Whether nothing is limited.
    pub(crate) fn are_unlimited(self) -> bool {
        self.messages == 0 && self.bytes == 0
    }
}

/// The account of a user or of an address; see the [module](self).
#[derive(Debug)]
pub(crate) struct Account(Mutex<Buckets>);

#[derive(Debug)]
struct Buckets {
    rates: Rates,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// What a connection may pass on before the next charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) messages: u64,
    pub(crate) bytes: usize,
}

impl Batch {
    pub(crate) const UNLIMITED: Self = Self { messages: u64::MAX, bytes: usize::MAX };
}

/// What an account was charged. Unless it is [settled](Self::settle), dropping it gives everything back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    account: Arc<Account>,
    messages: f64,
    bytes: f64,
    /// How long to wait before writing.
    pub(crate) wait: Duration,
}

impl Account {
    /// Returns an account with these rates. A burst may have as much as one second allows, and `burst` bytes.
    pub(crate) fn new(rates: Rates, burst: u64, now: Instant) -> Arc<Self> {
        let bucket = |rate: f64, capacity: f64| (rate > 0.0).then(|| Bucket::new(rate, capacity, now));
        Arc::new(Self(Mutex::new(Buckets {
            rates,
            messages: bucket(f64::from(rates.messages), f64::from(rates.messages)),
            bytes: bucket(rates.bytes as f64, rates.bytes.max(burst) as f64),
        })))
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the rates to those of the latest login. What is overdrawn stays overdrawn.
    pub(crate) fn change(&self, rates: Rates, now: Instant) {
        let mut buckets = self.buckets();
        if buckets.rates == rates {
            return;
        }
        let change = |bucket: &mut Option<Bucket>, rate: f64| match bucket {
            Some(bucket) if rate > 0.0 => bucket.change(rate, rate, now),
            _ => *bucket = (rate > 0.0).then(|| Bucket::new(rate, rate, now)),
        };
        change(&mut buckets.messages, f64::from(rates.messages));
        change(&mut buckets.bytes, rates.bytes as f64);
        buckets.rates = rates;
    }

    /// Returns how much a connection may pass on at once.
    pub(crate) fn batch(&self) -> Batch {
        let Rates { messages, bytes } = self.buckets().rates;
        let part = |rate: u64| if rate == 0 { u64::MAX } else { rate.div_ceil(u64::from(BATCHES_PER_SECOND)) };
        Batch { messages: part(messages.into()), bytes: usize::try_from(part(bytes)).unwrap_or(usize::MAX) }
    }

    /// Takes what is about to be written.
    pub(crate) fn charge(self: &Arc<Self>, messages: u64, bytes: u64, now: Instant) -> Charge {
        let (messages, bytes) = (messages as f64, bytes as f64);
        let mut buckets = self.buckets();
        let take = |bucket: &mut Option<Bucket>, count: f64| {
            bucket.as_mut().map_or(Duration::ZERO, |bucket| bucket.overdraw(count, now))
        };
        let wait = take(&mut buckets.messages, messages).max(take(&mut buckets.bytes, bytes));
        drop(buckets);
        Charge { account: Arc::clone(self), messages, bytes, wait }
    }

    /// Whether the account is like a new one: forgetting it changes nothing.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        let mut buckets = self.buckets();
        let Buckets { messages, bytes, .. } = &mut *buckets;
        [messages, bytes].into_iter().flatten().all(|bucket| bucket.is_full(now))
    }
}

impl Charge {
    /// Keeps what was taken, because it is written.
    pub(crate) fn settle(mut self) {
        (self.messages, self.bytes) = (0.0, 0.0);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut buckets = self.account.buckets();
        let Buckets { messages, bytes, .. } = &mut *buckets;
        for (bucket, count) in [(messages, self.messages), (bytes, self.bytes)] {
            if let Some(bucket) = bucket.as_mut().filter(|_| count > 0.0) {
                bucket.give_back(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { messages: 10, bytes: 1000 };

    #[test]
    fn forty_connections_that_share_an_account_pass_on_no_more_than_its_rate() {
        let start = Instant::now();
        let account = Account::new(RATES, 0, start);
        let mut passed = [0_u64; 31];
        // Each of 40 connections charges one batch at a time, waits for it, and charges the next.
        let mut ready = vec![start; 40];
        let seconds = |at: Instant| at.saturating_duration_since(start).as_secs();
        loop {
            let next = ready.iter_mut().min().expect("there are connections");
            if seconds(*next) >= 30 {
                break;
            }
            let batch = account.batch();
            let charge = account.charge(batch.messages, 0, *next);
            *next += charge.wait;
            passed[seconds(*next).min(30) as usize] += batch.messages;
            charge.settle();
        }
        let mut total = 0;
        for (second, count) in passed[..30].iter().enumerate() {
            total += count;
            assert!(total <= 10 * (second as u64 + 2), "{total} messages after {} seconds", second + 1);
        }
        assert!(total >= 300, "{total} messages in 30 seconds");
    }

    #[test]
    fn a_charge_that_is_dropped_before_it_is_written_is_given_back() {
        let now = Instant::now();
        let account = Account::new(RATES, 0, now);
        for _ in 0..1000 {
            assert!(account.charge(30, 0, now).wait <= Duration::from_secs(2));
        }
        account.charge(30, 0, now).settle();
        assert_eq!(account.charge(0, 0, now).wait, Duration::from_secs(2));
        assert!(!account.is_full(now) && account.is_full(now + Duration::from_secs(3)));
    }

    #[test]
    fn a_batch_is_a_tenth_of_a_second_and_at_least_one() {
        let now = Instant::now();
        let batch = |messages, bytes| Account::new(Rates { messages, bytes }, 0, now).batch();
        assert_eq!(batch(1000, 5), Batch { messages: 100, bytes: 1 });
        assert_eq!(batch(1, 0), Batch { messages: 1, bytes: usize::MAX });
    }

    #[test]
    fn the_rates_of_the_latest_login_apply_to_all_connections() {
        let now = Instant::now();
        let account = Account::new(RATES, 0, now);
        account.charge(30, 0, now).settle();
        account.change(Rates { messages: 20, bytes: 0 }, now);
        assert_eq!(account.charge(0, 1 << 30, now).wait, Duration::from_secs(1));
    }
}
