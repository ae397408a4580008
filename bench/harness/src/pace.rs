//! A fixed rate of messages, and their latencies. Latency counts from the moment when a message was due, not from when
//! it was sent, so that a stall counts for every message that it delays (no coordinated omission).

use std::thread;
use std::time::{Duration, Instant};

/// A rate of one message per period.
pub struct Pace {
    next: Instant,
    period: Duration,
}

impl Pace {
    pub fn new(period: Duration) -> Self {
        Self { next: Instant::now() + period, period }
    }

    /// Blocks until the next message is due, and returns that time. Spins at the end, because a sleep ends late.
    pub fn wait(&mut self) -> Instant {
        const SPIN: Duration = Duration::from_micros(120);
        let due = self.next;
        self.next += self.period;
        if let Some(sleep) = due.checked_duration_since(Instant::now()).and_then(|left| left.checked_sub(SPIN)) {
            thread::sleep(sleep);
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        due
    }
}

/// All latencies of a run.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn with_capacity(n: u64) -> Self {
        Self(Vec::with_capacity(n as usize))
    }

    pub fn since(&mut self, due: Instant) {
        self.0.push(due.elapsed());
    }

    /// The 50th, 99th and 99.9th percentiles; `None` without latencies.
    pub fn percentiles(mut self) -> Option<[Duration; 3]> {
        self.0.sort_unstable();
        let at = |share: f64| {
            let rank = (share * self.0.len() as f64).ceil() as usize;
            self.0.get(rank.saturating_sub(1)).copied()
        };
        Some([at(0.5)?, at(0.99)?, at(0.999)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sorted_latencies() {
        let all = Latencies((1..=1000).rev().map(Duration::from_micros).collect());
        assert_eq!(all.percentiles().unwrap().map(|d| d.as_micros()), [500, 990, 999]);
        assert_eq!(Latencies::default().percentiles(), None);
    }
}
