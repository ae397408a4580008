//! A limit on how fast messages fill the memory of a broker.
//!
//! Owns the memory that may be used at the moment: it rises with time, up to a burst above what is used. In come what
//! is used, the time, and what each connection publishes; out goes which publishers must wait. It must never know a
//! message.
//!
//! Only those wait that publish more than a little: one client that fills the memory must not hold up the others.
//!
//! Without it, a client fills the memory up to its limit before an operator or an alarm can react: 4 GB in five
//! seconds. Consumers that keep up with publishers never meet it, nor do bursts.

use std::time::Duration;

use hopmq_proto::Time;

/// What may be added at once, in bytes.
const BURST: u64 = 768 << 20;
/// What may be added in a second beyond that, in bytes.
const RATE: u64 = 300 << 20;
/// How often a broker looks again while publishers wait.
const INTERVAL: Duration = Duration::from_millis(20);

/// What a connection may publish in each interval, while others wait, in bytes.
const LITTLE: usize = 64 << 10;
/// What a message without a body counts, in bytes: about what it takes in a queue.
const MESSAGE: usize = 256;

/// What a connection has published in the latest interval in which publishers waited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    round: u64,
    bytes: usize,
}

/// See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Growth {
    /// What may be used at `at`.
    allowed: u64,
    at: Time,
    /// When to look again, while publishers wait.
    next: Option<Time>,
    /// The number of the interval.
    round: u64,
}

impl Growth {
    pub(super) fn new() -> Self {
        Self { allowed: BURST, at: Time::ZERO, next: None, round: 0 }
    }

    /// Returns when to look again, while publishers wait.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    /// Counts a body that a connection publishes while publishers wait. Returns whether it must wait.
    pub(super) fn must_wait(&self, published: &mut Published, bytes: usize) -> bool {
        if published.round != self.round {
            *published = Published { round: self.round, bytes: 0 };
        }
        published.bytes = published.bytes.saturating_add(MESSAGE + bytes);
        published.bytes > LITTLE
    }

    /// Returns whether publishers must begin or cease to wait, if that is a change.
    #[inline]
    pub(super) fn check(&mut self, now: Time, used: u64) -> Option<bool> {
        // What may be used is not lowered each time that less is used: most calls have nothing to do.
        let fits = used < self.allowed && used + BURST + BURST / 4 > self.allowed;
        if fits && self.next.is_none() { None } else { self.look(now, used) }
    }

    fn look(&mut self, now: Time, used: u64) -> Option<bool> {
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        let risen = (now - self.at).as_micros().saturating_mul(u128::from(RATE)) / 1_000_000;
        let risen = u64::try_from(risen).unwrap_or(u64::MAX);
        self.allowed = self.allowed.saturating_add(risen).min(used.saturating_add(BURST));
        self.at = now;
        let waited = self.next.is_some();
        let waits = used >= self.allowed;
        self.next = waits.then(|| now + INTERVAL);
        self.round += 1;
        (waits != waited).then_some(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_epoch(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_is_let_through_and_then_memory_grows_at_the_rate() {
        let mut growth = Growth::new();
        assert_eq!(growth.check(at(0), BURST - 1), None);
        assert_eq!(growth.check(at(0), BURST), Some(true));
        assert_eq!(growth.check(at(1), BURST), None);
        assert_eq!(growth.poll_timeout(), Some(at(20)));
        assert_eq!(growth.check(at(20), BURST), Some(false));
        assert_eq!(growth.poll_timeout(), None);
        // In five seconds, however fast a client is.
        let mut used = BURST;
        for millis in 20..5_000 {
            let waits = growth.check(at(millis), used).unwrap_or(growth.poll_timeout().is_some());
            if !waits {
                used += 10 << 20;
            }
        }
        assert!((BURST + 4 * RATE..BURST + 6 * RATE).contains(&used), "{used}");
    }

    #[test]
    fn a_connection_that_publishes_little_does_not_wait() {
        let mut growth = Growth::new();
        let (mut little, mut much) = (Published::default(), Published::default());
        assert_eq!(growth.check(at(0), BURST), Some(true));
        for millis in [20, 40, 60] {
            assert_eq!(growth.check(at(millis), 2 * BURST), None);
            assert!(!growth.must_wait(&mut little, LITTLE - MESSAGE));
            let waits = (0..=LITTLE / MESSAGE).map(|_| growth.must_wait(&mut much, 0)).collect::<Vec<_>>();
            assert_eq!(waits.iter().position(|waits| *waits), Some(LITTLE / MESSAGE), "empty messages count too");
        }
    }

    #[test]
    fn what_is_consumed_may_be_added_again() {
        let mut growth = Growth::new();
        for round in 0..100 {
            assert_eq!(growth.check(at(round), BURST - 1), None, "{round}");
            assert_eq!(growth.check(at(round), 0), None);
        }
    }

    #[test]
    fn publishers_go_on_once_memory_is_given_back() {
        let mut growth = Growth::new();
        assert_eq!(growth.check(at(0), 2 * BURST), Some(true));
        assert_eq!(growth.check(at(20), 0), Some(false));
    }
}
