//! Time as a runtime provides it: a clock, and an alarm to wait for.
//!
//! A driver owns one [`Timer`]; the handles only read its [`Clock`]. So no waiting future needs a timer, and a test or
//! a browser can bring its own time.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use hopmq_proto::Time;

/// An alarm of a runtime.
pub trait Timer {
    /// Returns the clock that the alarm uses.
    fn clock(&self) -> Clock;

    /// Returns ready once `deadline` has passed; otherwise it wakes the task at that time. Each call replaces the
    /// deadline of the previous one.
    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()>;
}

impl<T: Timer + ?Sized> Timer for Box<T> {
    fn clock(&self) -> Clock {
        (**self).clock()
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        (**self).poll_until(deadline, context)
    }
}

/// A monotonic clock that can be read from any thread.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// Creates a clock that `now` reads. The clock must never go back.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the current time.
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
