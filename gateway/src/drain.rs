//! How the gateway goes away: from serving to draining to over.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::watch;

/// Where the gateway is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Nobody is let in, and those who are there are told goodbye within `spread`.
    Draining {
        spread: Duration,
    },
    /// Whoever is still there is told so now.
    Over,
}

/// The phase, for everybody to see.
#[derive(Debug)]
pub(crate) struct Drain(watch::Sender<Phase>);

impl Drain {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }

    pub(crate) fn is_serving(&self) -> bool {
        *self.0.borrow() == Phase::Serving
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.send_replace(phase);
    }
}

/// A random part of `spread`, so that those who were told goodbye do not all come back at once.
pub(crate) fn jitter(spread: Duration) -> Duration {
    let dice = RandomState::new().hash_one(0) as u32;
    spread.mul_f64(f64::from(dice) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodbyes_are_spread() {
        let spread = Duration::from_secs(10);
        let times: Vec<Duration> = (0..1000).map(|_| jitter(spread)).collect();
        assert!(times.iter().all(|time| *time <= spread));
        assert!(times.iter().filter(|time| **time < spread / 2).count().abs_diff(500) < 200);
    }
}
