//! The phases of a shutdown: serving, draining, over.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::watch;

/// The phase of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// No WebSockets are accepted, and open ones are closed within `spread`.
    Draining {
        spread: Duration,
    },
    /// Open WebSockets are closed at once.
    Over,
}

/// Publishes the phase to the sessions.
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

/// Returns the time over which the closes of so many connections are spread at most: few of them need no time.
pub(crate) fn spread_for(connections: usize) -> Duration {
    Duration::from_millis(5).saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX))
}

/// Returns a random part of `spread`, so that closed clients do not all reconnect at once.
pub(crate) fn jitter(spread: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as u32;
    spread.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_are_closed_at_once() {
        assert_eq!(spread_for(1), Duration::from_millis(5));
        assert_eq!(spread_for(2000), Duration::from_secs(10));
    }

    #[test]
    fn closes_are_spread_evenly() {
        let spread = Duration::from_secs(10);
        let times: Vec<Duration> = (0..1000).map(|_| jitter(spread)).collect();
        assert!(times.iter().all(|time| *time <= spread));
        assert!(times.iter().filter(|time| **time < spread / 2).count().abs_diff(500) < 200);
    }
}
