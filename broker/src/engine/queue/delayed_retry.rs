//! Delayed retries of a quorum queue: a returned message waits before it is delivered again (RabbitMQ 4.3's page
//! "Quorum Queues", delayed retry; LavinMQ's page "Automatic Retries").

use std::time::Duration;

use hopmq_proto::FieldTable;

use crate::engine::profile::Profile;
use crate::engine::queue::settings::{number, text, time};

const TYPE: &str = "x-delayed-retry-type";
const MIN: &str = "x-delayed-retry-min";
const MAX: &str = "x-delayed-retry-max";
/// LavinMQ's.
const MULTIPLIER: &str = "x-delayed-retry-multiplier";

/// Which returned messages wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    /// Those whose return counts towards the delivery limit.
    Failed,
    /// Those whose return does not.
    Returned,
}

/// How long returned messages wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DelayedRetry {
    which: Which,
    min: Duration,
    max: Option<Duration>,
    /// The growth from each wait to the next; linear without it.
    multiplier: Option<u32>,
}

impl DelayedRetry {
    /// Parses valid arguments. LavinMQ has no type: with a shortest time alone, all returned messages wait.
    pub(crate) fn of(arguments: &FieldTable, quorum: bool, profile: Profile) -> Option<Self> {
        if !quorum || !profile.has_delayed_retries() {
            return None;
        }
        let which = match text(arguments, TYPE) {
            Some("disabled") => return None,
            Some("failed") => Which::Failed,
            Some("returned") => Which::Returned,
            _ => Which::All,
        };
        let multiplier = number(arguments, MULTIPLIER);
        Some(Self {
            which,
            min: time(arguments, MIN)?,
            max: time(arguments, MAX),
            multiplier: multiplier.map(|multiplier| multiplier.try_into().unwrap_or(u32::MAX)),
        })
    }

    /// Returns how long a message waits that has returned this many times. The last return may or may not have
    /// counted towards the delivery limit.
    pub(crate) fn delay(&self, returns: u32, counted: bool) -> Option<Duration> {
        let waits = match self.which {
            Which::All => true,
            Which::Failed => counted,
            Which::Returned => !counted,
        };
        let factor = match self.multiplier {
            None => returns,
            Some(multiplier) => multiplier.saturating_pow(returns.saturating_sub(1)),
        };
        waits.then(|| self.min.saturating_mul(factor).min(self.max.unwrap_or(LONGEST)))
    }
}

/// The longest wait: LavinMQ's, about 49.7 days.
const LONGEST: Duration = Duration::from_millis(0xFFFF_FFFF);

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(arguments: &FieldTable) -> Vec<u128> {
        let retry = DelayedRetry::of(arguments, true, Profile::RabbitMq4_3).unwrap();
        [1, 2, 3, 4].map(|returns| retry.delay(returns, true).unwrap_or_default().as_millis()).to_vec()
    }

    #[test]
    fn the_wait_grows_up_to_the_longest() {
        let linear = FieldTable::new().with(TYPE, "all").with(MIN, 1000).with(MAX, 3000);
        assert_eq!(delays(&linear), [1000, 2000, 3000, 3000]);
        let lavin = |multiplier: i32| FieldTable::new().with(MIN, 10).with(MULTIPLIER, multiplier);
        assert_eq!(delays(&FieldTable::new().with(MIN, 10)), [10, 20, 30, 40]);
        assert_eq!((delays(&lavin(1)), delays(&lavin(3))), (vec![10; 4], vec![10, 30, 90, 270]));
        let huge = DelayedRetry::of(&lavin(1000), true, Profile::RabbitMq4_3).unwrap();
        assert_eq!(huge.delay(u32::MAX, true), Some(LONGEST));
    }

    #[test]
    fn the_type_selects_which_returns_wait() {
        for (name, counted, uncounted) in [("all", true, true), ("failed", true, false), ("returned", false, true)] {
            let arguments = FieldTable::new().with(TYPE, name).with(MIN, 5);
            let retry = DelayedRetry::of(&arguments, true, Profile::RabbitMq4_3).unwrap();
            assert_eq!((retry.delay(1, true).is_some(), retry.delay(1, false).is_some()), (counted, uncounted));
        }
        let disabled = FieldTable::new().with(TYPE, "disabled").with(MIN, 5);
        assert_eq!(DelayedRetry::of(&disabled, true, Profile::RabbitMq4_3), None);
    }

    #[test]
    fn older_releases_ignore_the_arguments() {
        let arguments = FieldTable::new().with(MIN, 5);
        assert_eq!(DelayedRetry::of(&arguments, true, Profile::RabbitMq4_0), None);
    }
}
