//! Delivers messages of a queue to its consumers.

use std::collections::HashSet;

use hopmq_proto::method::basic;
use hopmq_proto::{Arguments, ContentKind, Properties, printable};

use crate::engine::delivery::consumer::Room;
use crate::engine::delivery::unacked::Held;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ConsumerKey, QueueKey};
use crate::engine::profile::Profile;
use crate::engine::queue::Queue;
use crate::engine::queue::message::{Message, sort_headers};
use crate::engine::queue::ready::{Entry, Kept};
use crate::engine::work::Task;
use crate::engine::{At, Engine};

impl Engine {
    /// Delivers as many messages of a queue as its consumers can get.
    pub(in crate::engine) fn drive(&mut self, id: QueueKey) {
        while self.deliver_next(id) {
            if self.work.must_stop() {
                return self.work.leave(Task::Drive(id));
            }
        }
    }

    /// Delivers the next message of a queue. Returns whether there was one, and a consumer with room.
    #[inline]
    fn deliver_next(&mut self, id: QueueKey) -> bool {
        loop {
            let Some(queue) = self.queues.get(id).invariant("queue") else { return false };
            let Some(front) = queue.ready.front() else { return false };
            if front.expires.is_some_and(|at| at <= self.now) {
                if !self.expire_ready(id) {
                    self.work.leave(Task::Drive(id));
                    return false;
                }
                continue;
            }
            let is_here = matches!(front.content, Kept::Here(_));
            let Some(consumer) = self.next_consumer(id) else { return false };
            if !is_here && (self.failing.contains(&id) || self.fetch(id).is_err()) {
                self.note_failing(id);
                return false;
            }
            let Some(entry) = self.queues.get_mut(id).and_then(|queue| queue.ready.pop()).invariant("ready message")
            else {
                return false;
            };
            self.deliver(id, consumer, entry);
            return true;
        }
    }

    /// Returns the consumer that gets the next message. Consumers without room leave the turns until they have some.
    pub(in crate::engine) fn next_consumer(&mut self, id: QueueKey) -> Option<ConsumerKey> {
        let queue = self.queues.get_mut(id).invariant("queue")?;
        if queue.requeues > 0 {
            return None;
        }
        let single = queue.settings.single_active;
        if single && queue.settings.quorum && self.config.profile.single_active_gives_way() {
            let next = queue.consumers.next()?;
            if let Some(active) = queue.consumers.single.filter(|active| *active != next) {
                // It has a lower priority, and stays the active one until its deliveries are settled.
                let active = self.consumers.get_mut(active).invariant("consumer")?;
                if active.unacked > 0 {
                    active.waiting = true;
                    return None;
                }
            }
            queue.consumers.single = Some(next);
        }
        loop {
            let id = if single { queue.consumers.single? } else { queue.consumers.next()? };
            let consumer = self.consumers.get_mut(id).invariant("consumer")?;
            let session = self.sessions.get_mut(consumer.session).invariant("connection")?;
            if single && consumer.waiting {
                return None;
            }
            let room = match session.channel(consumer.channel) {
                Some(channel) if !session.released => {
                    consumer.room(channel.consuming, channel.global_prefetch, session.proto.queued())
                }
                // Its channel or connection is being closed, and it will be removed next.
                _ => Room::No,
            };
            if room == Room::Yes {
                if !single {
                    queue.consumers.rotate();
                }
                return Some(id);
            }
            consumer.waiting = true;
            if room == Room::Later {
                session.starved.push(id);
            } else if let Some(channel) = session.channel_mut(consumer.channel) {
                channel.pass_turn(&consumer.tag);
            }
            if single {
                return None;
            }
            queue.consumers.pause();
        }
    }

    /// Sends a message to a consumer that has room for it.
    pub(in crate::engine) fn deliver(&mut self, id: QueueKey, to: ConsumerKey, mut entry: Entry) {
        let is_low = entry.stored && self.is_paging();
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        let Some(consumer) = self.consumers.get_mut(to).invariant("consumer") else { return };
        let Some(session) = self.sessions.get_mut(consumer.session).invariant("connection") else { return };
        let Some(channel) = session.channel_mut(consumer.channel).invariant("channel") else { return };
        let Some(message) = entry.message().invariant("message in memory") else { return };
        self.work.count(1);
        channel.delivered += 1;
        let tag = channel.delivered;
        let arguments = Arguments {
            consumer_tag: consumer.tag.as_bytes(),
            delivery_tag: tag,
            redelivered: entry.redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            ..Arguments::default()
        };
        let shown = shown(queue, &entry, message, self.config.profile);
        let properties = shown.as_ref().map_or(message.properties(), Properties::as_ref_properties);
        let number = consumer.channel;
        let body = message.body();
        let sent = session.proto.answer_message(number, ContentKind::Deliver, &arguments, properties, body);
        session.keep_sent(message);
        Self::wake(&mut self.woken, consumer.session, session);
        if let Err(error) = &sent {
            let connection = consumer.session.number();
            let error = error.to_string();
            let (queue, error) = (&*printable(&queue.name), &*printable(&error));
            tracing::error!(queue, connection, error, "a message can't be sent to a consumer: dropped");
        }
        if sent.is_err() || consumer.no_ack {
            return self.settled(id, &entry);
        }
        let now = self.now;
        let holder = consumer.session;
        if is_low {
            entry.page_out();
        }
        consumer.unacked += 1;
        queue.unacked += 1;
        let is_counted = entry.stored && queue.settings.quorum;
        let counts = is_counted.then_some((entry.position, (entry.returned, entry.acquired)));
        if let Some(channel) = session.channel_mut(number) {
            channel.consuming += 1;
            channel.unacked.push(Held { tag, queue: id, consumer: Some(to), since: now, entry });
        }
        if let Some((position, returns)) = counts {
            self.note_delivered(id, position, returns);
        }
        self.note_delivery(holder, number, id, Some(to));
    }

    /// Answers `basic.get` with a message.
    pub(in crate::engine) fn send_got(&mut self, at: At, id: QueueKey, mut entry: Entry, no_ack: bool) {
        let is_low = entry.stored && self.is_paging();
        let left = self.queues.get(id).invariant("queue").map_or(0, |queue| queue.ready.len());
        let Some(message) = entry.message().invariant("message in memory") else {
            return self.answer(at, &basic::GetEmpty {});
        };
        let profile = self.config.profile;
        let shown = self.queues.get(id).and_then(|queue| match profile.shows_zero_returns() {
            true if queue.settings.quorum => {
                Some(with_count(message, message.shown(), "x-delivery-count", entry.returned))
            }
            _ => shown(queue, &entry, message, profile),
        });
        let Some(session) = self.sessions.get_mut(at.session).invariant("connection") else { return };
        let Some(channel) = session.channel_mut(at.channel).invariant("channel") else { return };
        channel.delivered += 1;
        let tag = channel.delivered;
        let arguments = Arguments {
            delivery_tag: tag,
            redelivered: entry.redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            message_count: left as u32,
            ..Arguments::default()
        };
        let properties = shown.as_ref().map_or(message.properties(), Properties::as_ref_properties);
        let body = message.body();
        let sent = session.proto.answer_message(at.channel, ContentKind::GetOk, &arguments, properties, body);
        session.keep_sent(message);
        Self::wake(&mut self.woken, at.session, session);
        if let Err(error) = &sent {
            let connection = at.session.number();
            let error = error.to_string();
            let error = &*printable(&error);
            tracing::error!(connection, error, "a message can't be sent in answer to basic.get: dropped");
        }
        if sent.is_err() || no_ack {
            return self.settled(id, &entry);
        }
        let now = self.now;
        let position = entry.position;
        let returns = (entry.returned, entry.acquired);
        let is_stored = entry.stored;
        if is_low {
            entry.page_out();
        }
        if let Some(channel) = session.channel_mut(at.channel) {
            channel.unacked.push(Held { tag, queue: id, consumer: None, since: now, entry });
        }
        if let Some(queue) = self.queues.get_mut(id) {
            queue.unacked += 1;
            if is_stored && queue.settings.quorum {
                self.note_delivered(id, position, returns);
            }
        }
        self.note_delivery(at.session, at.channel, id, None);
    }

    /// Puts a consumer that may have room again back into the turns.
    pub(in crate::engine) fn resume(&mut self, id: ConsumerKey) {
        if let Some(queue) = self.rejoin(id) {
            self.drive(queue);
        }
    }

    /// Resumes the consumers of a channel, after a change of the limit that they share. Their queues take turns.
    pub(in crate::engine) fn resume_all(&mut self, at: At) {
        let Some(channel) = self.channel_mut(at) else { return };
        let consumers: Vec<_> = channel.consumers.iter().collect();
        self.work.count(consumers.len() as u32);
        let (mut queues, mut known) = (Vec::new(), HashSet::new());
        for consumer in consumers {
            queues.extend(self.rejoin(consumer).filter(|queue| known.insert(*queue)));
        }
        while !queues.is_empty() {
            queues.retain(|queue| self.deliver_next(*queue));
        }
    }

    /// Puts a consumer back into the turns. Returns its queue, if the consumer was out of them.
    fn rejoin(&mut self, id: ConsumerKey) -> Option<QueueKey> {
        let consumer = self.consumers.get_mut(id)?;
        if !std::mem::take(&mut consumer.waiting) {
            return None;
        }
        let queue_id = consumer.queue;
        if let Some(queue) = self.queues.get_mut(queue_id)
            && let Some(place) = consumer.place
            && !queue.settings.single_active
        {
            queue.consumers.resume(place);
        }
        Some(queue_id)
    }
}

/// Returns the properties that clients get, where they differ from the publisher's: without blind copies, and with the
/// counts of returns to a quorum queue.
#[inline]
fn shown(queue: &Queue, entry: &Entry, message: &Message, profile: Profile) -> Option<Properties> {
    if !queue.settings.quorum || entry.acquired == 0 {
        return message.shown();
    }
    let mut shown = message.shown();
    if profile.shows_acquired() {
        shown = Some(with_count(message, shown, "x-acquired-count", entry.acquired));
    }
    if entry.returned > 0 {
        shown = Some(with_count(message, shown, "x-delivery-count", entry.returned));
    }
    if profile.sorts_headers() {
        let sorted = shown.as_ref().and_then(|shown| sort_headers(&shown.as_ref_properties()));
        shown = sorted.or(shown);
    }
    shown
}

/// Returns the properties that clients get, with a count as a header.
fn with_count(message: &Message, shown: Option<Properties>, name: &str, count: u32) -> Properties {
    let properties = shown.unwrap_or_else(|| message.properties().to_owned_properties());
    properties.with_header(name, i64::from(count))
}
