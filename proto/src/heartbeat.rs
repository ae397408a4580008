//! Heartbeats in both directions (specification §4.2.7; RabbitMQ's page "Heartbeats").
//!
//! Owns the times of the last bytes received and sent. Any bytes count, not only heartbeat frames. This module must
//! never know what the bytes were.

use std::time::Duration;

use crate::time::Time;

/// Decides when to send a heartbeat, and when the peer counts as dead.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// Zero disables both directions.
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

    /// Returns the time of the next decision.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (!self.interval.is_zero()).then(|| self.send_at().min(self.dead_at()))
    }

    /// Returns whether a heartbeat is due: after half an interval without output, so that the peer never misses one.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        !self.interval.is_zero() && now >= self.send_at()
    }

    /// Returns whether the peer was silent for two intervals.
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
