//! Delivery acknowledgement timeouts: who holds a delivery for too long loses the channel (RabbitMQ's page "Consumers",
//! "Delivery Acknowledgement Timeout").
//!
//! Owns when each channel is to be looked at. That moment may come too early, for what was held then may be settled by
//! now; it never comes too late. RabbitMQ looks once a minute, so that its timeouts are as much longer.

use std::collections::BTreeSet;
use std::time::Duration;

use hopmq_proto::Time;
use hopmq_proto::method::MethodId;

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{QueueKey, SessionKey};
use crate::engine::queue::Queue;
use crate::engine::refusal::Refusal;

/// When channels are to be looked at, each once.
pub(in crate::engine) type Timeouts = BTreeSet<(Time, SessionKey, u16)>;

impl Engine {
    /// How long a delivery of a queue may be held.
    fn patience_of(&self, queue: &Queue) -> Option<Duration> {
        queue.settings.consumer_timeout.or(self.config.consumer_timeout).filter(|timeout| !timeout.is_zero())
    }

    /// A channel got a delivery that it has to settle in time.
    #[inline]
    pub(in crate::engine) fn note_held(&mut self, id: SessionKey, number: u16, queue: QueueKey) {
        let Some(timeout) = self.queues.get(queue).and_then(|queue| self.patience_of(queue)) else { return };
        let until = self.now + timeout;
        let channel = self.sessions.get_mut(id).and_then(|session| session.channel_mut(number));
        let Some(channel) = channel.invariant("channel") else { return };
        if channel.look_at.is_some_and(|at| at <= until) {
            return;
        }
        if let Some(later) = channel.look_at.replace(until) {
            self.timeouts.remove(&(later, id, number));
        }
        self.timeouts.insert((until, id, number));
    }

    /// A channel has ended.
    pub(in crate::engine) fn forget_held(&mut self, id: SessionKey, number: u16, look_at: Option<Time>) {
        if let Some(at) = look_at {
            self.timeouts.remove(&(at, id, number));
        }
    }

    /// Looks at the channels whose time has come.
    pub(in crate::engine) fn look_at_held(&mut self) {
        while let Some(&(at, id, number)) = self.timeouts.first()
            && at <= self.now
        {
            self.timeouts.pop_first();
            self.look_at_channel(id, number);
            self.hand_on_dead_letters();
        }
    }

    fn look_at_channel(&mut self, id: SessionKey, number: u16) {
        let channel = self.sessions.get(id).and_then(|session| session.channel(number));
        let Some(channel) = channel.invariant("channel") else { return };
        let due = channel.unacked.iter().filter_map(|held| {
            let timeout = self.queues.get(held.queue).and_then(|queue| self.patience_of(queue))?;
            Some((held.since + timeout, timeout))
        });
        let first = due.min();
        let channel = self.sessions.get_mut(id).and_then(|session| session.channel_mut(number));
        let Some(channel) = channel.invariant("channel") else { return };
        channel.look_at = None;
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
                channel.look_at = Some(until);
                self.timeouts.insert((until, id, number));
            }
            None => {}
        }
    }
}
