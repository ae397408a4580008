//! What a queue does with messages whose handler failed.

use std::time::Duration;

use super::{Backoff, IN_SLOT};

/// The policy of one queue: the part of its declaration that [`decide`](super::decide) reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The queue.
    pub queue: String,
    /// The attempts for errors without a backoff of their own.
    pub retry: Backoff,
    /// The attempts for a class of errors.
    pub retry_class: Vec<(String, Backoff)>,
    /// The queue for messages that are rejected or have failed too often. Without one, they are rejected, and the
    /// queue's own dead-letter exchange takes them, if it has one.
    pub dead_letter: Option<String>,
    /// The queue for messages that a person must look at.
    pub parked: Option<String>,
    /// Whether all waits happen in the slot, because messages with the same key must stay in order.
    pub in_slot: bool,
    /// Whether the broker delays and counts the attempts: see [`Queue::broker_retry`](crate::Queue::broker_retry).
    pub by_broker: bool,
    /// After how many deliveries without an outcome a message is parked; 0 means never.
    pub delivery_limit: u32,
}

impl Policy {
    /// Returns the policy of a queue without retries: failures go to `<queue>.dlq`, parked messages to
    /// `<queue>.parked`.
    pub fn new(queue: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            retry: Backoff::never(),
            retry_class: Vec::new(),
            dead_letter: Some(format!("{queue}.dlq")),
            parked: Some(format!("{queue}.parked")),
            in_slot: false,
            by_broker: false,
            delivery_limit: 10,
        }
    }

    /// Returns the backoff for errors of a class.
    pub fn backoff(&self, class: &str) -> &Backoff {
        self.retry_class.iter().find(|(name, _)| name == class).map_or(&self.retry, |(_, backoff)| backoff)
    }

    /// Returns the most attempts of any backoff.
    pub(crate) fn most_attempts(&self) -> u32 {
        let all = self.retry_class.iter().map(|(_, backoff)| backoff).chain([&self.retry]);
        all.map(Backoff::most).max().unwrap_or(1)
    }

    /// Returns the sum of the delays of the longest backoff.
    pub(crate) fn total_wait(&self) -> Duration {
        let all = self.retry_class.iter().map(|(_, backoff)| backoff).chain([&self.retry]);
        all.map(Backoff::total).max().unwrap_or_default()
    }

    /// Returns the delays that need a queue of their own, in ascending order.
    pub fn steps(&self) -> Vec<Duration> {
        if self.in_slot || self.by_broker {
            return Vec::new();
        }
        let all = self.retry_class.iter().map(|(_, backoff)| backoff).chain([&self.retry]);
        let mut steps: Vec<_> = all.flat_map(Backoff::steps).filter(|step| *step >= IN_SLOT).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Returns the step that is at least as long as `delay`, or the longest; `None` if all waits are in the slot.
    pub(super) fn step(&self, delay: Duration) -> Option<Duration> {
        let steps = self.steps();
        let fits = steps.iter().find(|step| **step >= delay);
        fits.or(steps.last()).copied()
    }
}
