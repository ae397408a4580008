//! Starts and cancels consumers.

use std::time::Duration;

use hopmq_proto::Value;
use hopmq_proto::method::basic;

use crate::engine::access::{Permission, Resource};
use crate::engine::delivery::consumer::Consumer;
use crate::engine::invariant::Invariant;
use crate::engine::keys::ConsumerKey;
use crate::engine::meter::{Charge, Purpose, TABLES};
use crate::engine::queue::arguments::{QueueType, check_consumer};
use crate::engine::refusal::Refusal;
use crate::engine::session::channel::Cancelled;
use crate::engine::{At, Engine};

fn milliseconds(value: Value<'_>) -> Option<Duration> {
    value.as_i64().and_then(|time| time.try_into().ok()).map(Duration::from_millis)
}

impl Engine {
    pub(in crate::engine) fn consume(&mut self, at: At, consume: &basic::Consume<'_>) -> Result<(), Refusal> {
        self.check_consumer_limit(at)?;
        let name = self.queue_name(at, consume.queue)?;
        self.check(at, Permission::Read, Resource::Queue(&name))?;
        if self.consumer_tagged(at, consume.consumer_tag).is_some() {
            return Err(Refusal::not_allowed(format_args!("attempt to reuse consumer tag '{}'", consume.consumer_tag)));
        }
        let id = self.find_queue(at.vhost, &name)?;
        self.check_owner(at.session, id)?;
        let is_shared = self.channel_mut(at).is_some_and(|channel| channel.global_prefetch > 0);
        if is_shared && self.queues.get(id).is_some_and(|queue| queue.settings.quorum) {
            let vhost = self.vhost_name(at.vhost);
            return Err(Refusal::not_implemented(format_args!(
                "queue '{name}' in vhost '{vhost}' does not support global qos"
            )));
        }
        // Quorum queues have no exclusive consumers: RabbitMQ takes the flag, and ignores it.
        let in_exclusive_use = self.queues.get(id).is_some_and(|queue| {
            if queue.settings.quorum {
                return false;
            }
            let is_exclusive = |id| self.consumers.get(id).is_some_and(|consumer| consumer.exclusive);
            queue.consumers.iter().any(is_exclusive)
                || consume.exclusive && (!queue.consumers.is_empty() || queue.settings.single_active)
        });
        if in_exclusive_use {
            let vhost = self.vhost_name(at.vhost);
            return Err(Refusal::access(format_args!("queue '{name}' in vhost '{vhost}' in exclusive use")));
        }
        let kind = self.queues.get(id).map_or(QueueType::Classic, |queue| queue.kind());
        check_consumer(consume.arguments, kind, self.config.profile)
            .map_err(|invalid| Refusal::precondition(invalid.text(&name, &self.vhost_name(at.vhost))))?;
        let priority = consume.arguments.get("x-priority").and_then(|value| value.as_i64()).unwrap_or(0);
        let priority = priority.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        let tag = match consume.consumer_tag {
            "" => self.generate_name("amq.ctag-"),
            tag => tag.to_owned(),
        };
        let meter = self.meter_of(at.vhost);
        let size = TABLES + size_of::<Consumer>() + 2 * tag.len() + consume.arguments.as_bytes().len();
        let channel = self.sessions.get_mut(at.session).and_then(|session| session.channel_mut(at.channel));
        let Some(channel) = channel.invariant("channel") else { return Ok(()) };
        let consumer = Consumer {
            queue: id,
            session: at.session,
            channel: at.channel,
            tag: tag.into(),
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority,
            prefetch: channel.prefetch,
            unacked: 0,
            waiting: false,
            timeout: consume.arguments.get("x-consumer-timeout").and_then(milliseconds),
            arguments: consume.arguments.into(),
            charge: Charge::new(meter, Purpose::Consumers, size),
        };
        let tag = consumer.tag.clone();
        let priority = consumer.priority;
        let consumer = self.consumers.insert(Box::new(consumer));
        channel.consumers.push(consumer);
        let inherited = channel.inherit(&tag, id, consumer);
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            consumer.unacked = inherited;
        }
        if !consume.nowait {
            self.answer(at, &basic::ConsumeOk { consumer_tag: &tag });
        }
        if let Some(queue) = self.queues.get_mut(id).invariant("queue") {
            queue.consumers.add(consumer, priority);
            if queue.settings.single_active {
                queue.consumers.single.get_or_insert(consumer);
            }
        }
        self.drive(id);
        Ok(())
    }

    fn consumer_tagged(&self, at: At, tag: &str) -> Option<ConsumerKey> {
        let channel = self.sessions.get(at.session)?.channel(at.channel)?;
        let tagged = |id: &ConsumerKey| self.consumers.get(*id).is_some_and(|consumer| *consumer.tag == *tag);
        channel.consumers.iter().copied().find(tagged)
    }

    pub(in crate::engine) fn cancel(&mut self, at: At, cancel: &basic::Cancel<'_>) -> Result<(), Refusal> {
        let consumer = self.consumer_tagged(at, cancel.consumer_tag);
        if let Some(consumer) = consumer
            && let Some(channel) = self.sessions.get_mut(at.session).and_then(|session| session.channel_mut(at.channel))
        {
            channel.consumers.retain(|other| *other != consumer);
            if let Some(gone) = self.consumers.get(consumer)
                && gone.unacked > 0
                && self.queues.get(gone.queue).is_some_and(|queue| queue.settings.quorum)
            {
                let (tag, queue) = (gone.tag.clone(), gone.queue);
                channel.note_cancelled(Cancelled { tag, queue, consumer });
            }
        }
        self.cancel_replies(at, cancel.consumer_tag);
        // It is no error if the consumer does not exist.
        if !cancel.nowait {
            self.answer(at, &basic::CancelOk { consumer_tag: cancel.consumer_tag });
        }
        if let Some(consumer) = consumer {
            self.remove_consumer(consumer);
        }
        Ok(())
    }

    /// Removes a consumer from its queue, which deletes an auto-delete queue with its last one.
    pub(in crate::engine) fn remove_consumer(&mut self, id: ConsumerKey) {
        let Some(consumer) = self.consumers.remove(id).invariant("consumer") else { return };
        let now = self.now;
        let Some(queue) = self.queues.get_mut(consumer.queue).invariant("queue") else { return };
        queue.consumers.remove(id);
        if queue.settings.single_active && queue.consumers.single.is_none() {
            queue.consumers.single = queue.consumers.next();
        }
        if queue.consumers.is_empty() {
            queue.used = now;
            if queue.spec.auto_delete {
                self.delete_queue(consumer.queue);
                return;
            }
            self.set_queue_timer(consumer.queue);
        } else {
            self.drive(consumer.queue);
        }
    }

    pub(in crate::engine) fn get(&mut self, at: At, get: &basic::Get<'_>) -> Result<(), Refusal> {
        let name = self.queue_name(at, get.queue)?;
        self.check(at, Permission::Read, Resource::Queue(&name))?;
        let id = self.find_queue(at.vhost, &name)?;
        self.check_owner(at.session, id)?;
        if self.queues.get(id).is_some_and(|queue| queue.settings.quorum && queue.settings.single_active) {
            return Err(Refusal::no_get(&name, &self.vhost_name(at.vhost)));
        }
        self.expire_ready(id);
        let now = self.now;
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return Ok(()) };
        queue.used = now;
        self.fetch(id);
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return Ok(()) };
        match queue.ready.pop() {
            Some(entry) => self.send_got(at, id, entry, get.no_ack),
            None => self.answer(at, &basic::GetEmpty {}),
        }
        self.set_queue_timer(id);
        Ok(())
    }
}
