use std::time::Duration;

/// The upper bounds of the buckets, in seconds, as the conventions advise.
pub(super) const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Durations, counted in buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// The durations of each bucket alone; the last bucket has no bound.
    buckets: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    pub(super) fn record(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket] += 1;
        self.sum += time;
    }

    /// Returns how many durations are at most as long as each bound.
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut count = 0;
        BOUNDS.iter().zip(&self.buckets).map(move |(bound, here)| {
            count += here;
            (*bound, count)
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }
}
