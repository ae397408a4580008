//! When to try again: exponential backoff with full jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::{LEAST_DELAY, Recovery};

/// The delays between attempts. The same seed gives the same ones.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempt: u32,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(recovery: &Recovery) -> Self {
        let seed = recovery.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Self { first: recovery.first, longest: recovery.longest, attempt: 0, random: seed }
    }

    /// How long to wait before the next attempt: anything up to twice as much as the time before.
    pub(crate) fn next(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.attempt);
        let most = self.first.saturating_mul(factor).min(self.longest);
        self.attempt += 1;
        most.mul_f64(self.fraction()).max(LEAST_DELAY)
    }

    /// Begins with short delays again.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Between 0 and 1, by SplitMix64.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_longest_and_repeat_by_their_seed() {
        let recovery = Recovery::new().delays(Duration::from_millis(100), Duration::from_secs(3)).seed(7);
        let (mut one, mut other) = (Backoff::new(&recovery), Backoff::new(&recovery));
        let mut most = Duration::ZERO;
        for attempt in 0..1000 {
            let delay = one.next();
            assert_eq!(delay, other.next());
            let limit = Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(attempt));
            assert!(delay >= LEAST_DELAY && delay <= limit.min(Duration::from_secs(3)), "{attempt}: {delay:?}");
            most = most.max(delay);
        }
        assert!(most > Duration::from_millis(2900), "full jitter uses all of the range, not {most:?}");
        one.reset();
        assert!(one.next() <= Duration::from_millis(100));
    }
}
