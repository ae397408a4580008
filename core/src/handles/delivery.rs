//! Messages as they come: delivered, fetched or returned.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use hopmq_proto::{Content, ContentKind, FieldTable, Properties};

use crate::Result;
use crate::handles::channel::ChannelCore;

/// A message: where it was published to, its properties and its body.
///
/// Nothing is decoded before it is asked for. The body is a slice of the buffer that it was received in, up to 1 MiB
/// of which it keeps alive: copy what you keep for long.
#[derive(Clone)]
pub struct Message {
    content: Content,
}

impl Message {
    pub(crate) fn new(content: Content) -> Self {
        Self { content }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.content.body()
    }

    /// The body, shared: to be passed on without a copy.
    pub fn body_bytes(&self) -> Bytes {
        self.content.body_bytes()
    }

    /// The body, given away.
    pub fn into_body(self) -> Bytes {
        self.body_bytes()
    }

    /// The body as text; bytes that are no UTF-8 show as U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.body())
    }

    /// The exchange that it was published to; empty for the default exchange.
    pub fn exchange(&self) -> &str {
        text(self.content.arguments().exchange)
    }

    /// The routing key that it was published with.
    pub fn routing_key(&self) -> &str {
        text(self.content.arguments().routing_key)
    }

    /// The properties: content type, headers, delivery mode, …
    pub fn properties(&self) -> Properties<&[u8]> {
        self.content.properties()
    }

    /// The headers; empty if it has none.
    ///
    /// # Errors
    /// If the publisher wrote headers that are no field table: [`ErrorKind::Protocol`].
    pub fn headers(&self) -> Result<FieldTable<&[u8]>> {
        Ok(self.properties().headers()?)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("properties", &self.properties())
            .field("body_size", &self.body().len())
            .finish()
    }
}

/// Names are UTF-8 by AMQP, but a broker passes on whatever a publisher wrote.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("\u{fffd}")
}

/// A mandatory message that came back, because no queue took it.
#[derive(Clone, Debug)]
pub struct Returned {
    message: Message,
}

impl Returned {
    pub(crate) fn new(content: Content) -> Self {
        Self { message: Message::new(content) }
    }

    /// Why: 312 (`NO_ROUTE`), mostly.
    pub fn code(&self) -> u16 {
        self.message.content.arguments().reply_code
    }

    /// The same in words.
    pub fn reason(&self) -> &str {
        text(self.message.content.arguments().reply_text)
    }

    /// The message, given away.
    pub fn into_message(self) -> Message {
        self.message
    }
}

impl Deref for Returned {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// A message from a queue, to be acknowledged when its work is done.
///
/// Dropping it settles nothing: the broker keeps it as unacknowledged until the channel closes, then delivers it
/// again. Settling it twice does not compile:
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
    pub(crate) fn new(content: Content, channel: &Arc<ChannelCore>, tag: u64, epoch: u32, no_ack: bool) -> Self {
        let acker = Acker { channel: Arc::clone(channel), tag, epoch, no_ack, resumed: false };
        Self { message: Message::new(content), acker }
    }

    #[inline]
    pub(crate) fn mark(mut self, resumed: bool) -> Self {
        self.acker.resumed = resumed;
        self
    }

    /// Whether it is the first that its consumer got after the link to the broker had been lost and came back. What
    /// was not settled by then is delivered again, after it or with it.
    pub fn resumed(&self) -> bool {
        self.acker.resumed
    }

    /// The number of the delivery on its channel.
    pub fn delivery_tag(&self) -> u64 {
        self.acker.tag
    }

    /// Which of its channel's links it came by, counted since the channel was opened: a channel gets another one when
    /// its connection comes back.
    pub fn link(&self) -> u32 {
        self.acker.epoch
    }

    /// Whether the broker has delivered it before, to this consumer or another.
    pub fn redelivered(&self) -> bool {
        self.message.content.arguments().redelivered
    }

    /// The tag of the consumer that it was delivered to; empty if it was fetched by `get`.
    pub fn consumer_tag(&self) -> &str {
        text(self.message.content.arguments().consumer_tag)
    }

    /// Messages that were left in the queue, if it was fetched by `get`.
    pub fn message_count(&self) -> Option<u32> {
        let content = &self.message.content;
        (content.kind() == ContentKind::GetOk).then(|| content.arguments().message_count)
    }

    /// The message and the right to settle it, apart: for work that takes the body away.
    pub fn split(self) -> (Message, Acker) {
        (self.message, self.acker)
    }

    /// Tells the broker that the work is done. See [`Acker::ack`].
    ///
    /// # Errors
    /// As for [`Acker::ack`].
    pub fn ack(self) -> Result<Settled> {
        self.acker.ack()
    }

    /// The same for this delivery and all before it on its channel.
    ///
    /// # Errors
    /// As for [`Acker::ack`].
    pub fn ack_multiple(self) -> Result<Settled> {
        self.acker.ack_multiple()
    }

    /// Gives it back. See [`Acker::nack`].
    ///
    /// # Errors
    /// As for [`Acker::ack`].
    pub fn nack(self, requeue: bool) -> Result<Settled> {
        self.acker.nack(requeue)
    }

    /// The same for this delivery and all before it on its channel.
    ///
    /// # Errors
    /// As for [`Acker::ack`].
    pub fn nack_multiple(self, requeue: bool) -> Result<Settled> {
        self.acker.nack_multiple(requeue)
    }

    /// Gives it back by the method that every broker knows. See [`Acker::reject`].
    ///
    /// # Errors
    /// As for [`Acker::ack`].
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
/// All verbs only queue a few bytes and return at once. Acks that follow each other before they are written travel as
/// one where that says the same. They pass even while the broker blocks publishing. On a
/// delivery that needs no acknowledgement (`no_ack`) they do nothing.
#[must_use = "a delivery that is neither acked nor rejected stays with this channel until it closes"]
pub struct Acker {
    channel: Arc<ChannelCore>,
    tag: u64,
    /// The channel's, when it was delivered.
    epoch: u32,
    no_ack: bool,
    resumed: bool,
}

/// What became of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// It is on its way to the broker, or none is needed.
    Sent,
    /// The link that brought the delivery is gone, and with it the right to settle it: nothing was done. The broker
    /// delivers the message again, perhaps to another consumer.
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

    /// The number of the delivery on its channel.
    pub fn delivery_tag(&self) -> u64 {
        self.tag
    }

    /// Tells the broker that the work is done: it forgets the message (`basic.ack`, AMQP 0-9-1 section 1.8.3.13).
    ///
    /// # Errors
    /// If channel or connection are closed: the broker delivers the message again. If a later delivery was settled
    /// with `multiple` and this one with it, or by `recover`: [`ErrorKind::Usage`], and the channel goes on.
    #[inline]
    pub fn ack(self) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.ack(number, tag, false), true)
    }

    /// The same for this delivery and all before it on its channel.
    ///
    /// # Errors
    /// As for [`Acker::ack`].
    pub fn ack_multiple(self) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.ack(number, tag, true), true)
    }

    /// Gives it back: to its queue if `requeue`, else to the queue's dead-letter exchange or into nothing
    /// (`basic.nack`, RabbitMQ's extension).
    ///
    /// # Errors
    /// As for [`Acker::ack`].
    pub fn nack(self, requeue: bool) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.nack(number, tag, false, requeue), false)
    }

    /// The same for this delivery and all before it on its channel.
    ///
    /// # Errors
    /// As for [`Acker::ack`].
    pub fn nack_multiple(self, requeue: bool) -> Result<Settled> {
        self.settle(|proto, number, tag| proto.nack(number, tag, true, requeue), false)
    }

    /// As [`Acker::nack`], by the method that every broker knows (`basic.reject`, section 1.8.3.14). On RabbitMQ's
    /// quorum queues since 4.3 it counts towards the delivery limit, where `nack` does not.
    ///
    /// # Errors
    /// As for [`Acker::ack`].
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
            return Ok(Settled::Sent);
        }
        let id = &self.channel.id;
        let sent = self.channel.shared().settle(id, self.epoch, ack, |proto| action(proto, id.number, self.tag))?;
        Ok(if sent { Settled::Sent } else { Settled::Stale })
    }
}
