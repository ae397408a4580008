//! Signs of life in both directions (specification, section 4.2.7; RabbitMQ's page "Heartbeats").
//!
//! Owns the two moments that matter: when something last came and when something last went. Anything counts, not only
//! heartbeat frames. It must never know what came.

use std::time::Duration;

use crate::Time;

/// When to send a heartbeat, and when to give the peer up.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// Zero switches both directions off.
    interval: Duration,
    received: Time,
    sent: Time,
}

impl Heartbeat {
    pub(crate) fn off() -> Self {
        Self { interval: Duration::ZERO, received: Time::ZERO, sent: Time::ZERO }
    }

    pub(crate) fn start(interval: Duration, now: Time) -> Self {
        Self { interval, received: now, sent: now }
    }

    pub(crate) fn received(&mut self, now: Time) {
        self.received = now;
    }

    pub(crate) fn sent(&mut self, now: Time) {
        self.sent = now;
    }

    /// The moment of the next decision.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (!self.interval.is_zero()).then(|| self.send_at().min(self.dead_at()))
    }

    /// Whether a heartbeat is due: half an interval without anything sent, so that the peer never counts one as missed.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        !self.interval.is_zero() && now >= self.send_at()
    }

    /// Whether the peer was silent for two intervals.
    pub(crate) fn is_dead(&self, now: Time) -> bool {
        !self.interval.is_zero() && now >= self.dead_at()
    }

    fn send_at(&self) -> Time {
        self.sent + self.interval / 2
    }

    fn dead_at(&self) -> Time {
        self.received + self.interval * 2
    }
}
