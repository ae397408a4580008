//! A token bucket: how many messages may be taken over time.

use std::time::Duration;

use hopmq::Time;

use crate::topology::Rate;

/// Tokens that come back over time. A batch may take more than there are; what is owed must come back first.
pub(super) struct Bucket {
    /// How long one token takes to come back.
    each: Duration,
    burst: u32,
    /// When the bucket is full, if nothing more is taken.
    full: Time,
    now: Time,
}

impl Bucket {
    pub(super) fn new(rate: &Rate, now: Time) -> Self {
        Self { each: rate.per / rate.messages, burst: rate.burst, full: now, now }
    }

    /// Returns when the next message may be taken; `None` if it is now.
    pub(super) fn next_at(&mut self, now: Time) -> Option<Time> {
        self.now = now;
        // A token is there when the bucket lacks at most all but one of its tokens.
        let slack = self.each * (self.burst - 1);
        (self.full > now + slack).then(|| Time::from_epoch(self.full.since_epoch() - slack))
    }

    pub(super) fn take(&mut self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.full = self.full.max(self.now) + self.each.saturating_mul(messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Time {
        Time::from_epoch(Duration::from_millis(1_000_000 + millis))
    }

    #[test]
    fn a_burst_is_taken_at_once_and_the_rest_at_the_rate() {
        let mut bucket = Bucket::new(&Rate::new(10, Duration::from_secs(1)).burst(3), millis(0));
        for _ in 0..3 {
            assert_eq!(bucket.next_at(millis(0)), None);
            bucket.take(1);
        }
        assert_eq!(bucket.next_at(millis(0)), Some(millis(100)));
        assert_eq!(bucket.next_at(millis(100)), None);
        bucket.take(1);
        assert_eq!(bucket.next_at(millis(100)), Some(millis(200)));
        // After a long rest there is one burst, not all that was left out.
        let mut taken = 0;
        while bucket.next_at(millis(60_000)).is_none() {
            bucket.take(1);
            taken += 1;
        }
        assert_eq!(taken, 3);
    }

    #[test]
    fn a_batch_may_owe() {
        let mut bucket = Bucket::new(&Rate::new(10, Duration::from_secs(1)).burst(1), millis(0));
        assert_eq!(bucket.next_at(millis(0)), None);
        bucket.take(5);
        assert_eq!(bucket.next_at(millis(0)), Some(millis(500)));
    }
}
