//! Time, as a runtime provides it: a clock to read and one alarm to wait for.
//!
//! A driver owns one [`Timer`]; the handles only read its [`Clock`]. So nothing that waits needs a timer of its own,
//! and a test or a browser brings its own time.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use hopmq_proto::Time;

/// The alarm of a runtime.
pub trait Timer {
    /// The clock that the alarm goes by.
    fn clock(&self) -> Clock;

    /// Ready once `deadline` has come; otherwise the task is woken at that time. A call replaces the one before.
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

/// A monotonic clock that can be read from anywhere.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// A clock that is read by `now`. It must never go back.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
