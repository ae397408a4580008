//! How many messages a queue's handlers take over time, and in which pieces.

use std::time::Duration;

use crate::flow::Verdict;

/// How many messages are taken over time, by one app from one queue: see
/// [`Queue::rate_limit`](crate::Queue::rate_limit).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Rate {
    pub(crate) messages: u32,
    pub(crate) per: Duration,
    pub(crate) burst: u32,
}

impl Rate {
    /// At most `messages` in each `time`, at least 1. That many may be taken at once after a rest
    /// ([`burst`](Self::burst)).
    pub fn new(messages: u32, time: Duration) -> Self {
        let messages = messages.max(1);
        Self { messages, per: time, burst: messages }
    }

    /// Sets how many messages may be taken at once after a rest, at least 1.
    pub fn burst(mut self, messages: u32) -> Self {
        self.burst = messages.max(1);
        self
    }

    /// How many messages two seconds allow.
    pub(crate) fn soon(&self) -> usize {
        let each = (self.per / self.messages).as_nanos().max(1);
        usize::try_from(2_000_000_000 / each).unwrap_or(usize::MAX)
    }
}

/// When an app stops taking messages of a queue because their handler fails: see
/// [`Queue::breaker`](crate::Queue::breaker).
///
/// ```
/// use std::time::Duration;
/// use hopmq_app::{Breaker, Queue};
///
/// // Five of the latest twenty messages failed because of the database: rest for 30 s, then try one message.
/// let breaker = Breaker::after(5).of(20).class("db").pause(Duration::from_secs(30));
/// let orders = Queue::new("orders").breaker(breaker);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Breaker {
    pub(crate) failures: usize,
    pub(crate) of: usize,
    pub(crate) pause: Duration,
    classes: Vec<String>,
}

impl Breaker {
    /// Opens after this many failures, at least 1, among as many messages ([`of`](Self::of)): in a row.
    pub fn after(failures: usize) -> Self {
        let failures = failures.max(1);
        Self { failures, of: failures, pause: Duration::from_secs(30), classes: Vec::new() }
    }

    /// Sets among how many of the latest messages failures are counted.
    pub fn of(mut self, messages: usize) -> Self {
        self.of = messages.max(self.failures);
        self
    }

    /// Counts only failures of this class ([`Classify::name`](crate::Classify::name)), whatever happens with their
    /// messages. Called again, it adds a class. The default counts what is to be tried again, panics included, and not
    /// what is rejected or parked, because then the message is at fault.
    pub fn class(mut self, class: impl Into<String>) -> Self {
        self.classes.push(class.into());
        self
    }

    /// Sets how long no message is taken. The default is 30 seconds. From a second on, the messages that were sent
    /// ahead go back to the queue, for other consumers.
    pub fn pause(mut self, time: Duration) -> Self {
        self.pause = time;
        self
    }

    pub(crate) fn counts(&self, verdict: &Verdict) -> bool {
        match verdict.failure() {
            Some(failure) if !self.classes.is_empty() => self.classes.iter().any(|class| class == failure.class()),
            _ => matches!(verdict, Verdict::Retry(_)),
        }
    }
}

/// The state of a [`Breaker`]: see [`Observer::breaker`](crate::Observer::breaker).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Messages are taken.
    Closed,
    /// No message is taken.
    Open,
    /// One message is taken, to see whether it succeeds.
    Probing,
}

/// The limits of a batch: it is complete when it reaches one of them. See [`Queue::batch`](crate::Queue::batch).
///
/// The default is 100 messages, 1 MiB, and 50 ms after the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct BatchLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) wait: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { messages: 100, bytes: 1 << 20, wait: Duration::from_millis(50) }
    }
}

impl BatchLimits {
    /// Sets how many messages a batch has at most, at least 1.
    pub fn of(messages: usize) -> Self {
        Self { messages: messages.max(1), ..Self::default() }
    }

    /// Sets about how many bytes the messages of a batch take at most, unless a single one takes more. The
    /// `receive_limit` of the connection, 8 MiB, limits it too.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes.max(1);
        self
    }

    /// Sets how long a batch waits for more messages after its first.
    pub fn within(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }
}
