//! Delivery acknowledgement timeouts: a channel that does not settle a delivery in time is closed; since RabbitMQ 4.3,
//! the consumer is cancelled instead, on quorum queues only (RabbitMQ's page "Consumers", "Delivery Acknowledgement
//! Timeout").
//!
//! Owns the time of the next check of each channel. A check may come too early, because the delivery was settled in the
//! meantime; it never comes too late. RabbitMQ checks once a minute, so that its timeouts are up to a minute longer.

use std::collections::BTreeSet;
use std::time::Duration;

use hopmq_proto::Time;
use hopmq_proto::method::{MethodId, basic};

use crate::engine::Engine;
use crate::engine::delivery::requeue::{HeldBack, Requeue};
use crate::engine::delivery::unacked::Held;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ConsumerKey, QueueKey, SessionKey};
use crate::engine::queue::Queue;
use crate::engine::refusal::Refusal;
use crate::engine::work::Task;

/// The next check of each channel.
pub(in crate::engine) type Timeouts = BTreeSet<(Time, SessionKey, u16)>;

impl Engine {
    /// Returns the time limit for settling a delivery of a queue.
    fn settle_timeout(&self, queue: &Queue, consumer: Option<ConsumerKey>) -> Option<Duration> {
        let cancels = self.config.profile.timeout_cancels();
        if cancels && !queue.settings.quorum {
            return None;
        }
        let own = consumer.filter(|_| cancels).and_then(|id| self.consumers.get(id)?.timeout);
        let timeout = own.or(queue.settings.consumer_timeout).or(self.config.consumer_timeout);
        timeout.filter(|timeout| !timeout.is_zero())
    }

    /// Returns when a delivery must be settled.
    fn settle_deadline(&self, held: &Held) -> Option<(Time, Duration)> {
        let timeout = self.settle_timeout(self.queues.get(held.queue)?, held.consumer)?;
        Some((held.since + timeout, timeout))
    }

    /// Notes a delivery that a channel must settle in time.
    #[inline]
    pub(in crate::engine) fn note_delivery(
        &mut self,
        id: SessionKey,
        number: u16,
        queue: QueueKey,
        consumer: Option<ConsumerKey>,
    ) {
        let timeout = self.queues.get(queue).and_then(|queue| self.settle_timeout(queue, consumer));
        let Some(timeout) = timeout else { return };
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
        // What is not due costs nothing of the turn, so that each kind of timer gets its turn.
        while let Some(&(at, id, number)) = self.timeouts.first()
            && at <= self.now
            && self.goes_on()
        {
            if self.timeouts.remove(&(at, id, number)) {
                self.check_channel_timeouts(id, number);
            }
        }
    }

    fn check_channel_timeouts(&mut self, id: SessionKey, number: u16) {
        let can_notify = self.sessions.get(id).is_some_and(|session| session.can("consumer_cancel_notify"));
        if self.config.profile.timeout_cancels() && can_notify {
            self.cancel_late_consumers(id, number);
        }
        let channel = self.sessions.get(id).and_then(|session| session.channel(number));
        let Some(channel) = channel.invariant("channel") else { return };
        let first = channel.unacked.iter().filter_map(|held| self.settle_deadline(held)).min();
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

    /// Cancels the consumers of a channel that are late, and returns their messages, and those of `basic.get`, to their
    /// queues.
    fn cancel_late_consumers(&mut self, id: SessionKey, number: u16) {
        let channel = self.sessions.get(id).and_then(|session| session.channel(number));
        let Some(channel) = channel.invariant("channel") else { return };
        let late = |held: &&Held| self.settle_deadline(held).is_some_and(|(until, _)| until <= self.now);
        let (mut consumers, mut tags) = (BTreeSet::new(), BTreeSet::new());
        for held in channel.unacked.iter().filter(late) {
            match held.consumer {
                Some(consumer) => consumers.insert(consumer),
                None => tags.insert(held.tag),
            };
        }
        let channel = self.sessions.get_mut(id).and_then(|session| session.channel_mut(number));
        let Some(channel) = channel.invariant("channel") else { return };
        let is_late = |consumer: Option<ConsumerKey>| consumer.is_some_and(|consumer| consumers.contains(&consumer));
        let taken = channel.unacked.take_lapsed(|held| is_late(held.consumer) || tags.contains(&held.tag));
        channel.consuming -= taken.iter().filter(|held| held.consumer.is_some()).count() as u32;
        let mut held_back = HeldBack::default();
        for consumer in consumers {
            let Some(late) = self.consumers.get(consumer).invariant("consumer") else { continue };
            let (tag, queue) = (late.tag.clone(), late.queue);
            self.hold_back(&mut held_back, queue);
            if let Some(channel) = self.sessions.get_mut(id).and_then(|session| session.channel_mut(number)) {
                channel.consumers.remove(&tag);
            }
            self.send(id, number, &basic::Cancel { consumer_tag: &tag, nowait: true });
            self.remove_consumer(consumer);
        }
        self.work.leave(Task::Requeue(Requeue::of_lapsed(taken.into(), held_back)));
    }
}
