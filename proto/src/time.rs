//! Time as an argument: the protocol has no clock of its own.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment of the driver's monotonic clock, counted from an epoch that the driver chooses.
///
/// `std::time::Instant` does not work in a browser and can't be set in a test, so the protocol takes this instead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// The epoch.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment that lies `since_epoch` after the epoch.
    pub const fn from_epoch(since_epoch: Duration) -> Self {
        Self(since_epoch)
    }

    /// How far the moment lies after the epoch.
    pub const fn since_epoch(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates: a deadline of `Duration::MAX` never comes.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// Zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
