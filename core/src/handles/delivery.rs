//! Deliveries, and the right to settle them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use hopmq_proto::ContentKind;

#[cfg(doc)]
use crate::ErrorKind;
use crate::Result;
use crate::handles::channel::ChannelCore;
use crate::message::{Message, text};

/// A message from a queue, to be acknowledged when it is processed.
///
/// Dropping a delivery settles nothing: the broker keeps the message unacknowledged until the channel closes, then
/// redelivers it. Settling a delivery twice does not compile:
///
/// ```compile_fail
/// fn twice(delivery: hopmq::Delivery) {
///     delivery.ack().unwrap();
///     delivery.ack().unwrap();
/// }
/// ```
#[derive(Debug)]
#[must_use = "a delivery that is neither acked nor rejected stays with this channel until it closes"]
pub struct Delivery {
    message: Message,
    acker: Acker,
}

impl Delivery {
    #[inline]
    pub(crate) fn new(message: Message, channel: &Arc<ChannelCore>, tag: u64, epoch: u32, no_ack: bool) -> Self {
        let acker = Acker { channel: Arc::clone(channel), tag, epoch, no_ack, resumed: false };
        Self { message, acker }
    }

    #[inline]
    pub(crate) fn mark(mut self, resumed: bool) -> Self {
        self.acker.resumed = resumed;
        self
    }

    /// Returns whether this is the first delivery of its consumer after the link to the broker was restored. The broker
    /// redelivers the messages that were unsettled when the link was lost.
    pub fn resumed(&self) -> bool {
        self.acker.resumed
    }

    /// Returns the delivery tag: the number of the delivery on its channel.
    pub fn delivery_tag(&self) -> u64 {
        self.acker.tag
    }

    /// Returns the number of the link that the delivery arrived on, counted since the channel was opened. The number
    /// grows each time the connection reconnects.
    pub fn link(&self) -> u32 {
        self.acker.epoch
    }

    /// Returns whether the broker has delivered the message before, to this consumer or another.
    #[inline]
    pub fn redelivered(&self) -> bool {
        self.message.content.redelivered()
    }

    /// Returns the tag of the consumer; empty if the message was fetched by `get`.
    pub fn consumer_tag(&self) -> &str {
        text(self.message.content.arguments().consumer_tag)
    }

    /// Returns the number of messages left in the queue, if the message was fetched by `get`.
    pub fn message_count(&self) -> Option<u32> {
        let content = &self.message.content;
        (content.kind() == ContentKind::GetOk).then(|| content.arguments().message_count)
    }

    /// Splits the delivery into the message and the [`Acker`] that settles it, for work that consumes the body.
    pub fn split(self) -> (Message, Acker) {
        (self.message, self.acker)
    }

    /// Joins the message and the right to settle it that [`split`](Self::split) returned.
    pub fn join(message: Message, acker: Acker) -> Self {
        Self { message, acker }
    }

    /// Acknowledges the delivery. See [`Acker::ack`].
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn ack(self) -> Result<Settled> {
        self.acker.ack()
    }

    /// Acknowledges this delivery and all earlier ones of its channel. See [`Acker::ack_multiple`].
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn ack_multiple(self) -> Result<Settled> {
        self.acker.ack_multiple()
    }

    /// Rejects the delivery (`basic.nack`). See [`Acker::nack`].
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn nack(self, requeue: bool) -> Result<Settled> {
        self.acker.nack(requeue)
    }

    /// Rejects this delivery and all earlier ones of its channel. See [`Acker::nack_multiple`].
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn nack_multiple(self, requeue: bool) -> Result<Settled> {
        self.acker.nack_multiple(requeue)
    }

    /// Rejects the delivery by the standard method (`basic.reject`). See [`Acker::reject`].
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn reject(self, requeue: bool) -> Result<Settled> {
        self.acker.reject(requeue)
    }
}

impl Deref for Delivery {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// The right to settle one delivery, once.
///
/// All methods only buffer a few bytes and return at once, even while the broker blocks publishing. Consecutive acks
/// that are still in the buffer are merged into one where that has the same effect. For a delivery that needs no
/// acknowledgement (`no_ack`) the methods do nothing, and return [`Settled::NotNeeded`].
#[must_use = "a delivery that is neither acked nor rejected stays with this channel until it closes"]
pub struct Acker {
    channel: Arc<ChannelCore>,
    tag: u64,
    /// The epoch of the channel when the message was delivered.
    epoch: u32,
    no_ack: bool,
    resumed: bool,
}

/// The outcome of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The acknowledgement was buffered for the broker.
    Sent,
    /// The delivery needs no acknowledgement, because its consumer or `get` was started with `no_ack`: nothing was
    /// sent.
    NotNeeded,
    /// The link that brought the delivery is gone, so the acknowledgement was not sent. The broker redelivers the
    /// message, perhaps to another consumer.
    Stale,
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acker").field("delivery_tag", &self.tag).finish_non_exhaustive()
    }
}

impl Acker {
    pub(crate) fn new(channel: &Arc<ChannelCore>, tag: u64, epoch: u32) -> Self {
        Self { channel: Arc::clone(channel), tag, epoch, no_ack: false, resumed: false }
    }

    /// Returns the delivery tag: the number of the delivery on its channel.
    pub fn delivery_tag(&self) -> u64 {
        self.tag
    }

    /// Acknowledges the delivery, so that the broker deletes the message (`basic.ack`, AMQP 0-9-1 section 1.8.3.13).
    ///
    /// # Errors
    /// If channel or connection are closed, their error: the broker redelivers the message. [`ErrorKind::Usage`] if the
    /// delivery was already settled, by a `multiple` call on a later delivery or by `recover`; the channel stays open.
    #[inline]
    pub fn ack(self) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.ack(number, tag, false), true)
    }

    /// Acknowledges this delivery and all earlier ones of its channel.
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn ack_multiple(self) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.ack(number, tag, true), true)
    }

    /// Rejects the delivery: the message goes back to its queue if `requeue` is set; otherwise it goes to the queue's
    /// dead-letter exchange, or is dropped if there is none (`basic.nack`, RabbitMQ's extension).
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn nack(self, requeue: bool) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.nack(number, tag, false, requeue), false)
    }

    /// Rejects this delivery and all earlier ones of its channel: see [`Acker::nack`].
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn nack_multiple(self, requeue: bool) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.nack(number, tag, true, requeue), false)
    }

    /// Rejects the delivery like [`Acker::nack`], by the standard method (`basic.reject`, section 1.8.3.14). On
    /// RabbitMQ's quorum queues since 4.3, `reject` counts towards the delivery limit and `nack` does not.
    ///
    /// # Errors
    /// The errors of [`Acker::ack`].
    pub fn reject(self, requeue: bool) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.reject(number, tag, requeue), false)
    }

    #[inline]
    fn settle(
        self,
        action: impl FnOnce(&mut hopmq_proto::Connection, u16, u64) -> Result<(), hopmq_proto::Error>,
        ack: bool,
    ) -> Result<Settled> {
        if self.no_ack {
            return Ok(Settled::NotNeeded);
        }
        let id = &self.channel.id;
        let sent = self.channel.shared().settle(id, self.epoch, ack, |proto| action(proto, id.number, self.tag))?;
        Ok(if sent { Settled::Sent } else { Settled::Stale })
    }
}
