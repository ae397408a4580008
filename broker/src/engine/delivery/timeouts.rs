//! Delivery acknowledgement timeouts: a channel that does not settle a delivery in time is closed (RabbitMQ's page
//! "Consumers", "Delivery Acknowledgement Timeout").
//!
//! Owns the time of the next check of each channel. A check may come too early, because the delivery was settled in the
//! meantime; it never comes too late. RabbitMQ checks once a minute, so that its timeouts are up to a minute longer.

use std::collections::BTreeSet;
use std::time::Duration;

use hopmq_proto::Time;
use hopmq_proto::method::MethodId;

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{QueueKey, SessionKey};
use crate::engine::queue::Queue;
use crate::engine::refusal::Refusal;

/// The next check of each channel.
pub(in crate::engine) type Timeouts = BTreeSet<(Time, SessionKey, u16)>;

impl Engine {
    /// Returns the time limit for settling a delivery of a queue.
    fn settle_timeout(&self, queue: &Queue) -> Option<Duration> {
        queue.settings.consumer_timeout.or(self.config.consumer_timeout).filter(|timeout| !timeout.is_zero())
    }

    /// Notes a delivery that a channel must settle in time.
    #[inline]
    pub(in crate::engine) fn note_delivery(&mut self, id: SessionKey, number: u16, queue: QueueKey) {
        let Some(timeout) = self.queues.get(queue).and_then(|queue| self.settle_timeout(queue)) else { return };
        let until = self.now + timeout;
        let channel = self.sessions.get_mut(id).and_then(|session| session.channel_mut(number));
        let Some(channel) = channel.invariant("channel") else { return };
        if channel.next_check.is_some_and(|at| at <= until) {
            return;
        }
        if let Some(later) = channel.next_check.replace(until) {
            self.timeouts.remove(&(later, id, number));
        }
        self.timeouts.insert((until, id, number));
    }

    /// Removes the check of a closed channel.
    pub(in crate::engine) fn remove_timeout_check(&mut self, id: SessionKey, number: u16, next_check: Option<Time>) {
        if let Some(at) = next_check {
            self.timeouts.remove(&(at, id, number));
        }
    }

    /// Checks the channels that are due.
    pub(in crate::engine) fn check_delivery_timeouts(&mut self) {
        while let Some(&(at, id, number)) = self.timeouts.first()
            && at <= self.now
        {
            self.timeouts.pop_first();
            self.check_channel_timeouts(id, number);
            self.route_dead_letters();
        }
    }

    fn check_channel_timeouts(&mut self, id: SessionKey, number: u16) {
        let channel = self.sessions.get(id).and_then(|session| session.channel(number));
        let Some(channel) = channel.invariant("channel") else { return };
        let due = channel.unacked.iter().filter_map(|held| {
            let timeout = self.queues.get(held.queue).and_then(|queue| self.settle_timeout(queue))?;
            Some((held.since + timeout, timeout))
        });
        let first = due.min();
        let channel = self.sessions.get_mut(id).and_then(|session| session.channel_mut(number));
        let Some(channel) = channel.invariant("channel") else { return };
        channel.next_check = None;
        match first {
            Some((until, timeout)) if until <= self.now => {
                let text = format_args!(
                    "delivery acknowledgement on channel {number} timed out. Timeout value used: {} ms. This timeout \
                     value can be configured, see consumers doc guide to learn more",
                    timeout.as_millis()
                );
                self.refused(id, number, MethodId::default(), Err(Refusal::precondition(text)));
            }
            Some((until, _)) => {
                channel.next_check = Some(until);
                self.timeouts.insert((until, id, number));
            }
            None => {}
        }
    }
}
