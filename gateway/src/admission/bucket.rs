//! A token bucket, which limits a rate. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that may be overdrawn: a large piece is charged whole, and has to wait until the bucket has
/// recovered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Returns a full bucket of `capacity` tokens.
    pub(crate) fn new(per_second: f64, capacity: f64, now: Instant) -> Self {
        Self { per_second, capacity, level: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// Changes the rate and the capacity. What is overdrawn stays overdrawn.
    pub(crate) fn change(&mut self, per_second: f64, capacity: f64, now: Instant) {
        self.fill(now);
        (self.per_second, self.capacity) = (per_second, capacity);
        self.level = self.level.min(capacity);
    }

    /// Takes `count` tokens, or returns after how long to try again.
    pub(crate) fn take(&mut self, count: f64, now: Instant) -> Result<(), Duration> {
        self.check(count, now)?;
        self.level -= count;
        Ok(())
    }

    /// Checks that `count` tokens could be taken, or returns after how long they could.
    pub(crate) fn check(&mut self, count: f64, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.level < count { Err(self.wait(count)) } else { Ok(()) }
    }

    /// Takes `count` tokens in any case, and returns how long to wait until the bucket is not overdrawn.
    pub(crate) fn overdraw(&mut self, count: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= count;
        self.wait(0.0)
    }

    /// Returns tokens that were taken and not used.
    pub(crate) fn give_back(&mut self, count: f64) {
        self.level = (self.level + count).min(self.capacity);
    }

    fn wait(&self, wanted: f64) -> Duration {
        // A rate is at least one a minute, and what is overdrawn is bounded, so this is only a guard against overflow.
        Duration::from_secs_f64(((wanted - self.level) / self.per_second).clamp(0.0, 1e9))
    }

    /// Whether the bucket is like a new one.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level >= self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overdrawn_bucket_makes_the_piece_wait() {
        let now = Instant::now();
        let mut bucket = Bucket::new(100.0, 100.0, now);
        assert_eq!(bucket.overdraw(300.0, now), Duration::from_secs(2));
        assert_eq!(bucket.overdraw(0.0, now + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn what_is_overdrawn_survives_a_change_of_the_rate() {
        let now = Instant::now();
        let mut bucket = Bucket::new(100.0, 100.0, now);
        bucket.overdraw(300.0, now);
        bucket.change(50.0, 50.0, now);
        assert_eq!(bucket.overdraw(0.0, now), Duration::from_secs(4));
        bucket.give_back(1000.0);
        assert!(bucket.is_full(now));
    }
}
