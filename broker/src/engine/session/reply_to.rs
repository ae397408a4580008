//! Direct reply-to: replies without a queue (RabbitMQ's page "Direct Reply-to").
//!
//! Owns which name leads to which channel.

use std::borrow::Cow;

use hopmq_proto::method::basic;
use hopmq_proto::{Arguments, ContentKind, Properties};

use crate::engine::invariant::Invariant;
use crate::engine::name::Name;
use crate::engine::queue::message::Message;
use crate::engine::refusal::Refusal;
use crate::engine::{At, Engine};

/// The pseudo-queue that clients consume from, and name in `reply-to`.
pub(in crate::engine) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// The length of the generated part of a name.
const GENERATED: usize = 22;

/// A connection with this many bytes of unread output gets no more replies, which are delivered at most once anyway.
const MOST_UNREAD: usize = 64 * 1024 * 1024;

/// The reply consumer of a channel.
#[derive(Clone, Debug)]
pub(crate) struct Replies {
    pub(crate) tag: Name,
    /// The name that replies are published to.
    pub(crate) name: Name,
}

impl Engine {
    pub(in crate::engine) fn consume_replies(&mut self, at: At, consume: &basic::Consume<'_>) -> Result<(), Refusal> {
        if !consume.no_ack {
            return Err(Refusal::precondition("reply consumer cannot acknowledge"));
        }
        if self.channel_mut(at).is_some_and(|channel| channel.replies.is_some()) {
            return Err(Refusal::precondition("reply consumer already set"));
        }
        let tag: Name = match consume.consumer_tag {
            "" => self.generate_name("amq.ctag-").into(),
            tag => tag.into(),
        };
        let name: Name = self.generate_name("amq.rabbitmq.reply-to.").into();
        self.reply_names.insert(name.clone(), (at.session, at.channel));
        if let Some(channel) = self.channel_mut(at) {
            channel.replies = Some(Replies { tag: tag.clone(), name });
        }
        if !consume.nowait {
            self.answer(at, &basic::ConsumeOk { consumer_tag: &tag });
        }
        Ok(())
    }

    /// Cancels the reply consumer of a channel, if it has this tag.
    pub(in crate::engine) fn cancel_replies(&mut self, at: At, tag: &str) {
        let replies = self.channel_mut(at).and_then(|channel| channel.replies.take_if(|replies| *replies.tag == *tag));
        if let Some(replies) = replies {
            self.reply_names.remove(&replies.name);
        }
    }

    /// Returns the properties of a request, with the name that leads back to its channel as `reply-to`.
    pub(in crate::engine) fn name_reply<'a>(
        &mut self,
        at: At,
        properties: Properties<&'a [u8]>,
    ) -> Result<Properties<Cow<'a, [u8]>>, Refusal> {
        if properties.reply_to() != Some(REPLY_TO) {
            return Ok(properties.into());
        }
        match self.channel_mut(at).and_then(|channel| channel.replies.as_ref()) {
            Some(replies) => Ok(Properties::<Cow<'a, [u8]>>::from(properties).with_reply_to(&replies.name)),
            None => Err(Refusal::precondition("fast reply consumer does not exist")),
        }
    }

    /// Whether a name is the pseudo-queue, or leads to a reply consumer.
    pub(in crate::engine) fn takes_replies(&self, name: &str) -> bool {
        name == REPLY_TO || self.reply_names.contains_key(name)
    }

    /// Whether a name may have led to a reply consumer that is gone.
    pub(in crate::engine) fn may_have_taken_replies(name: &[u8]) -> bool {
        name.strip_prefix(b"amq.rabbitmq.reply-to.").is_some_and(|rest| rest.len() == GENERATED)
    }

    /// Sends a reply to the channel that its routing key names.
    pub(in crate::engine) fn deliver_reply(&mut self, message: &Message) {
        let key = message.routing_key();
        let Some(name) = std::str::from_utf8(key).ok() else { return };
        let Some(&(id, number)) = self.reply_names.get(name) else { return };
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        let queued = session.proto.queued();
        let Some(channel) = session.channel_mut(number).invariant("channel") else { return };
        let tag = channel.replies.as_ref().map(|replies| replies.tag.clone());
        let Some(tag) = tag.invariant("reply consumer") else { return };
        if queued > MOST_UNREAD {
            return;
        }
        // Replies can't be acknowledged. Before RabbitMQ 4.3, they leave their tag to the next delivery.
        let delivery_tag = channel.delivered + 1;
        if self.config.profile.counts_replies() {
            channel.delivered = delivery_tag;
        }
        let arguments =
            Arguments { consumer_tag: tag.as_bytes(), delivery_tag, routing_key: key, ..Arguments::default() };
        let shown = message.shown();
        let body = message.body();
        let properties = shown.as_ref().map_or(message.properties(), Properties::as_ref_properties);
        let _ = session.proto.answer_message(number, ContentKind::Deliver, &arguments, properties, body);
        Self::wake(&mut self.woken, id, session);
    }
}
