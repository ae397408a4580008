use std::time::Duration;

use super::{FromDelivery, unreadable};
use crate::flow::{Verdict, headers};
use crate::incoming::Incoming;
use crate::wall::WallClock;

/// When the sender of the message stops waiting for the reply: the header `x-hopmq-deadline`.
///
/// A message without the header has a deadline that never passes. A header of another type sends the message to the
/// dead letters. The clocks of the programs must agree as closely as deadlines matter.
///
/// ```
/// use hopmq_app::Deadline;
///
/// async fn on_question(deadline: Deadline) {
///     if deadline.remaining().is_some_and(|left| left.as_millis() < 50) {
///         println!("too late for the long way");
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Deadline {
    unix_millis: Option<u64>,
    wall: WallClock,
}

impl Deadline {
    /// Returns the deadline at this many milliseconds since 1970, as `wall` measures them.
    pub fn at(unix_millis: u64, wall: &WallClock) -> Self {
        Self { unix_millis: Some(unix_millis), wall: wall.clone() }
    }

    /// Returns the deadline in milliseconds since 1970, or `None` if there is none.
    pub fn unix_millis(&self) -> Option<u64> {
        self.unix_millis
    }

    /// Returns the time that is left: zero if the deadline has passed, `None` if there is none or the program has no
    /// wall clock.
    pub fn remaining(&self) -> Option<Duration> {
        let (at, now) = (self.unix_millis?, self.wall.unix_millis()?);
        Some(Duration::from_millis(at.saturating_sub(now)))
    }

    /// Returns whether the deadline has passed.
    pub fn has_passed(&self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }
}

impl<S> FromDelivery<S> for Deadline {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        let wall = incoming.context().alarms().wall().clone();
        let Some(value) = incoming.header(headers::DEADLINE) else { return Ok(Self { unix_millis: None, wall }) };
        match value.as_i64().and_then(|millis| u64::try_from(millis).ok()) {
            Some(millis) => Ok(Self { unix_millis: Some(millis), wall }),
            None => {
                let text = format!("the header {:?} is {value:?}, not milliseconds since 1970", headers::DEADLINE);
                Err(unreadable("header", text))
            }
        }
    }
}
