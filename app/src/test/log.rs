//! What the handlers of an app did, seen by an observer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::incoming::Incoming;
use crate::observe::{Ended, Mark, Observer};

/// One call of a handler that has ended.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handled {
    /// The queue.
    pub queue: String,
    /// The routing key that the message was first published with.
    pub routing_key: String,
    /// The attempt, beginning with 1.
    pub attempt: u32,
    /// What the handler said: `ack`, `retry`, `reject`, …: see [`Verdict::name`](crate::Verdict::name).
    pub verdict: &'static str,
    /// Why it failed, if it did: the class and the text.
    pub failure: Option<String>,
}

impl fmt::Debug for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, attempt {}: {}", self.queue, self.routing_key, self.attempt, self.verdict)?;
        self.failure.iter().try_for_each(|failure| write!(f, " ({failure})"))
    }
}

/// The calls of all handlers of a test.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    ended: Vec<Handled>,
    /// The messages that handlers work on.
    running: usize,
}

impl Log {
    pub(super) fn of_queue(&self, queue: &str) -> Vec<Handled> {
        self.lock().ended.iter().filter(|handled| handled.queue == queue).cloned().collect()
    }

    pub(super) fn running(&self) -> usize {
        self.lock().running
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that has begun, until it ends or is given up.
struct Call(Log);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

impl Observer for Log {
    fn begin(&self, _: &Incoming) -> Mark {
        self.lock().running += 1;
        Mark::new(Call(self.clone()))
    }

    fn end(&self, _: Mark, incoming: &Incoming, ended: &Ended<'_>) {
        let handled = Handled {
            queue: incoming.queue().to_owned(),
            routing_key: incoming.routing_key().to_owned(),
            attempt: incoming.attempt(),
            verdict: ended.verdict.name(),
            failure: ended.verdict.failure().map(ToString::to_string),
        };
        self.lock().ended.push(handled);
    }
}
