//! Delivering: from a queue to the consumers whose turn it is, and what expires or overflows meanwhile.

use hopmq_proto::{Arguments, ContentKind};

use super::consumer::Consumer;
use super::dead_letter::Reason;
use super::queue::Queue;
use super::ready::Entry;
use super::session::Session;
use super::slots::Id;
use super::unacked::Held;
use super::{At, Engine};

/// A connection with so many bytes to write gets no more deliveries until they are written.
const HIGH_WATER: usize = 256 * 1024;

/// Whether a consumer can get one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Yes,
    /// Its connection has enough to write.
    Later,
    /// It holds as many as it may.
    No,
}

impl Engine {
    /// Delivers what can be delivered of a queue.
    pub(super) fn drive(&mut self, id: Id<Queue>) {
        loop {
            let Some(queue) = self.queues.get_mut(id) else { return };
            let Some(front) = queue.ready.front() else { return };
            if front.expires.is_some_and(|at| at <= self.now) {
                self.expire_ready(id);
                continue;
            }
            let single = queue.settings.single_active;
            let turn = if single { queue.consumers.single } else { queue.consumers.next() };
            let Some(consumer_id) = turn else { return };
            let Some(consumer) = self.consumers.get_mut(consumer_id) else { return };
            let Some(session) = self.sessions.get_mut(consumer.session) else { return };
            if single && consumer.waiting {
                return;
            }
            match room(consumer, session) {
                Room::Yes => {}
                other => {
                    consumer.waiting = true;
                    if other == Room::Later {
                        session.starved.push(consumer_id);
                    }
                    if single {
                        return;
                    }
                    queue.consumers.pause();
                    continue;
                }
            }
            let Some(entry) = queue.ready.pop() else { return };
            if !single {
                queue.consumers.rotate();
            }
            let Some(channel) = session.channel_mut(consumer.channel) else { return };
            channel.delivered += 1;
            let tag = channel.delivered;
            let arguments = Arguments {
                consumer_tag: consumer.tag.as_bytes(),
                delivery_tag: tag,
                redelivered: entry.redelivered,
                exchange: entry.message.exchange(),
                routing_key: entry.message.routing_key(),
                ..Arguments::default()
            };
            let message = &entry.message;
            let sent = session.proto.answer_message(
                consumer.channel,
                ContentKind::Deliver,
                &arguments,
                message.properties(),
                message.body(),
            );
            Self::wake(&mut self.woken, consumer.session, session);
            if sent.is_err() || consumer.no_ack {
                self.settled(id, entry);
                continue;
            }
            consumer.unacked += 1;
            queue.unacked += 1;
            if let Some(channel) = session.channel_mut(consumer.channel) {
                channel.consuming += 1;
                channel.unacked.push(Held { tag, queue: id, consumer: Some(consumer_id), entry });
            }
        }
    }

    /// Answers `basic.get` with a message.
    pub(super) fn send_got(&mut self, at: At, id: Id<Queue>, entry: Entry, no_ack: bool) {
        let left = self.queues.get(id).map_or(0, |queue| queue.ready.len());
        let Some(session) = self.sessions.get_mut(at.session) else { return };
        let Some(channel) = session.channel_mut(at.channel) else { return };
        channel.delivered += 1;
        let tag = channel.delivered;
        let message = &entry.message;
        let arguments = Arguments {
            delivery_tag: tag,
            redelivered: entry.redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            message_count: left as u32,
            ..Arguments::default()
        };
        let (properties, body) = (message.properties(), message.body());
        let sent = session.proto.answer_message(at.channel, ContentKind::GetOk, &arguments, properties, body);
        Self::wake(&mut self.woken, at.session, session);
        if sent.is_err() || no_ack {
            return self.settled(id, entry);
        }
        if let Some(channel) = session.channel_mut(at.channel) {
            channel.unacked.push(Held { tag, queue: id, consumer: None, entry });
        }
        if let Some(queue) = self.queues.get_mut(id) {
            queue.unacked += 1;
        }
    }

    /// A consumer may have room again: it takes its turns, if it had been out of them.
    pub(super) fn resume(&mut self, id: Id<Consumer>) {
        let Some(consumer) = self.consumers.get_mut(id) else { return };
        if !std::mem::take(&mut consumer.waiting) {
            return;
        }
        let (queue_id, priority) = (consumer.queue, consumer.priority);
        if let Some(queue) = self.queues.get_mut(queue_id)
            && !queue.settings.single_active
        {
            queue.consumers.resume(id, priority);
        }
        self.drive(queue_id);
    }

    /// A message is done with.
    pub(super) fn settled(&mut self, _queue: Id<Queue>, _entry: Entry) {}

    /// Takes the messages out that have expired and stand in front.
    pub(super) fn expire_ready(&mut self, id: Id<Queue>) {
        let now = self.now;
        while let Some(queue) = self.queues.get_mut(id)
            && let Some(entry) = queue.ready.pop_expired(now)
        {
            self.give_up(id, entry, Reason::Expired);
        }
    }

    /// Makes room in a queue that is longer than it may be.
    pub(super) fn drop_above_limit(&mut self, id: Id<Queue>) {
        while let Some(queue) = self.queues.get_mut(id)
            && queue.is_over()
            && let Some(entry) = queue.ready.pop()
        {
            self.give_up(id, entry, Reason::TooLong);
        }
    }

    /// A queue wants to do something by itself.
    pub(super) fn queue_alarm(&mut self, id: Id<Queue>) {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(id) else { return };
        queue.alarm = None;
        let unused = queue.consumers.is_empty() && queue.settings.expires.is_some_and(|time| queue.used + time <= now);
        if unused {
            self.delete_queue(id);
            return;
        }
        self.expire_ready(id);
        self.set_alarm(id);
    }

    /// Sets the alarm of a queue to when it wants to do something by itself.
    pub(super) fn set_alarm(&mut self, id: Id<Queue>) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        let deadline = queue.deadline();
        if queue.alarm == deadline {
            return;
        }
        if let Some(alarm) = std::mem::replace(&mut queue.alarm, deadline) {
            self.alarms.remove(&(alarm, id));
        }
        if let Some(deadline) = deadline {
            self.alarms.insert((deadline, id));
        }
    }
}

#[inline]
fn room(consumer: &Consumer, session: &Session) -> Room {
    let Some(channel) = session.channel(consumer.channel) else { return Room::No };
    let is_held = |held: u32, most: u16| most > 0 && held >= u32::from(most);
    if !consumer.no_ack
        && (is_held(consumer.unacked, consumer.prefetch) || is_held(channel.consuming, channel.global_prefetch))
    {
        return Room::No;
    }
    if session.proto.queued() >= HIGH_WATER { Room::Later } else { Room::Yes }
}
