//! Observers: what looks at every message without changing it, on every API.

use std::any::Any;
use std::time::Duration;

use crate::flow::Verdict;
use crate::incoming::Incoming;
use crate::topology::BreakerState;

/// Sees the beginning and the end of each call of a handler: for logs, metrics and spans.
///
/// All methods are called on the thread that runs the app, so they must not block.
pub trait Observer: Send + Sync {
    /// A handler is about to be called. What this returns comes back in the other methods.
    fn begin(&self, incoming: &Incoming) -> Mark {
        let _ = incoming;
        Mark::default()
    }

    /// The handler's future is about to be polled.
    fn enter(&self, mark: &mut Mark) {
        let _ = mark;
    }

    /// The handler's future was polled.
    fn exit(&self, mark: &mut Mark) {
        let _ = mark;
    }

    /// The handler has ended.
    fn end(&self, mark: Mark, incoming: &Incoming, ended: &Ended<'_>) {
        let _ = (mark, incoming, ended);
    }

    /// The [circuit breaker](crate::Queue::breaker) of a queue has turned.
    fn breaker(&self, queue: &str, state: BreakerState) {
        let _ = (queue, state);
    }

    /// The app now holds this many messages of a queue that no handler works on, because they wait for their next
    /// attempt or for one with the same key. Called when the number has changed.
    fn waiting(&self, queue: &str, messages: usize) {
        let _ = (queue, messages);
    }

    /// A handler has published a message: see [`Context::publish`](crate::Context::publish).
    fn sent(&self, sent: &Sent<'_>) {
        let _ = sent;
    }
}

/// What an observer remembers of a message between its beginning and its end.
#[derive(Debug, Default)]
pub struct Mark(Option<Box<dyn Any + Send>>);

impl Mark {
    /// Remembers a value.
    pub fn new(value: impl Any + Send) -> Self {
        Self(Some(Box::new(value)))
    }

    /// Returns the value, if it has this type.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.downcast_mut()
    }
}

/// How a call of a handler ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// What the handler said.
    pub verdict: &'a Verdict,
    /// How long the call took.
    pub elapsed: Duration,
    /// Whether the handler panicked.
    pub panicked: bool,
}

/// A publish that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sent<'a> {
    /// The exchange; empty for the default exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// Whether the broker has confirmed the message.
    pub result: &'a hopmq::Result<()>,
    /// How long the confirm took.
    pub elapsed: Duration,
}
