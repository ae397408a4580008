//! The delays between attempts: a link that worked is replaced at once; otherwise exponential backoff with full jitter,
//! in proportion to the outage.
//!
//! The input is how long a link worked, or that an attempt failed; the output is how long to wait. The backoff reads no
//! clock.
//!
//! *At once* is a random time of up to a tenth of the first delay (10 ms by default). When a broker stops, all its
//! clients lose their links at the same moment. Their first attempts cost the broker nothing while it is down. Attempts
//! that are refused, or that wait in the backlog of an overloaded listener, are followed by growing delays: these
//! spread the clients. The first delay would have to last seconds to do so; a program that wants that sets longer
//! delays.
//!
//! The later delays grow with the time waited so far: each is random, up to half of that time. So they grow
//! exponentially, but the client still reconnects soon after the broker is back: an outage is extended by half at most,
//! and by a quarter on average, whatever its length. Doubling delays would double the outage.
//!
//! A link that worked for a moment proves nothing: a broker may accept every connection and fail under their load. So a
//! link must have worked for [`SETTLED`] to be replaced at once, and only [`QUICK`] times in a row; then a link must
//! outlive the longest delay. That bounds the number of attempts when links live just long enough.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::policy::{LEAST_DELAY, Recovery};

/// For how long a link must have worked to be replaced at once; no longer than the longest delay.
const SETTLED: Duration = Duration::from_secs(1);
/// How often in a row a link is replaced at once that worked no longer than the longest delay.
const QUICK: u32 = 10;

/// The delays between attempts. The same seed gives the same delays.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    /// For how long attempts have failed.
    waited: Duration,
    /// Links that were replaced at once since a link outlived the longest delay.
    quick: u32,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(recovery: &Recovery) -> Self {
        let seed = recovery.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Self { first: recovery.first, longest: recovery.longest, waited: Duration::ZERO, quick: 0, random: seed }
    }

    /// Returns how long to wait after a failed attempt: a random time of up to half of the time waited so far.
    pub(crate) fn next(&mut self) -> Duration {
        let most = (self.waited / 2).clamp(self.first, self.longest);
        let delay = most.mul_f64(self.fraction()).max(LEAST_DELAY);
        self.waited = self.waited.saturating_add(delay);
        delay
    }

    /// Returns how long to wait after the loss of a link that had worked for this long.
    pub(crate) fn replace(&mut self, worked: Duration) -> Duration {
        if worked > self.longest {
            self.quick = 0;
        } else if worked >= SETTLED && self.quick < QUICK {
            self.quick += 1;
        } else {
            // A broker that accepts connections and drops them at once is not tried again at once.
            return self.next();
        }
        self.waited = Duration::ZERO;
        (self.first / 10).mul_f64(self.fraction()).max(LEAST_DELAY)
    }

    /// Returns a random number between 0 and 1, by SplitMix64.
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
    fn delays_grow_up_to_the_longest_and_repeat_with_the_same_seed() {
        let recovery = Recovery::new().delays(Duration::from_millis(100), Duration::from_secs(3)).seed(7);
        let mut one = Backoff::new(&recovery);
        let mut other = Backoff::new(&recovery);
        let mut most = Duration::ZERO;
        let mut waited = Duration::ZERO;
        for attempt in 0..1000 {
            let delay = one.next();
            assert_eq!(delay, other.next());
            let limit = (waited / 2).clamp(Duration::from_millis(100), Duration::from_secs(3));
            assert!(delay >= LEAST_DELAY && delay <= limit, "{attempt}: {delay:?}");
            most = most.max(delay);
            waited += delay;
        }
        assert!(most > Duration::from_millis(2900), "full jitter uses all of the range, not {most:?}");
        assert!(one.replace(Duration::from_secs(4)) <= Duration::from_millis(10));
        assert!(one.next() <= Duration::from_millis(100), "the delays start short again");
    }

    #[test]
    fn reconnecting_adds_little_to_the_outage() {
        for outage in [500, 2_000, 8_000].map(Duration::from_millis) {
            let mut late: Vec<Duration> = (0..1000)
                .map(|seed| {
                    let mut backoff = Backoff::new(&Recovery::new().seed(seed));
                    let mut waited = backoff.replace(Duration::from_secs(60));
                    while waited < outage {
                        waited += backoff.next();
                    }
                    waited - outage
                })
                .collect();
            late.sort_unstable();
            assert!(late[500] < outage / 5 && late[999] <= outage / 2, "{:?} and {:?}", late[500], late[999]);
        }
    }

    #[test]
    fn the_first_attempts_of_many_clients_are_spread_a_little() {
        let spread = |seed| Backoff::new(&Recovery::new().seed(seed)).replace(Duration::from_secs(60));
        let delays: std::collections::BTreeSet<Duration> = (0..1000).map(spread).collect();
        assert!(delays.len() > 800, "{} different delays", delays.len());
        assert!(delays.last() <= Some(&Duration::from_millis(10)), "{delays:?}");
    }

    #[test]
    fn links_that_live_just_long_enough_are_replaced_at_once_only_a_few_times_in_a_row() {
        let mut backoff = Backoff::new(&Recovery::new().seed(1));
        let at_once = |backoff: &mut Backoff, worked| {
            let slow: Vec<Duration> = (0..50)
                .map(|_| backoff.replace(worked))
                .skip_while(|delay| *delay <= Duration::from_millis(10))
                .collect();
            50 - slow.len()
        };
        assert_eq!(at_once(&mut backoff, Duration::from_millis(999)), 0, "the link did not work long enough");
        assert_eq!(at_once(&mut backoff, SETTLED), QUICK as usize);
        assert_eq!(at_once(&mut backoff, SETTLED), 0);
        assert!(
            backoff.replace(Duration::from_millis(5001)) <= Duration::from_millis(10),
            "the link outlived the longest delay"
        );
        assert_eq!(at_once(&mut backoff, SETTLED), QUICK as usize);
    }
}
