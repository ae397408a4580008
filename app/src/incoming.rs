//! A message on its way through a handler.
//!
//! Owns the delivery until it is settled. In come deliveries; out go the views that extractors read and the facts of
//! [`flow`](crate::flow). It must never settle a delivery by itself, and must know no handler.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use hopmq::{Acker, Delivery, DeliveryRef, Message, Settled};

use crate::codec;
use crate::context::Context;
use crate::flow::{Verdict, headers};

/// A message that a handler works on. It derefs to [`Message`].
///
/// For a message that came back from a retry queue, [`exchange`](Self::exchange) and
/// [`routing_key`](Self::routing_key) are those of its first publish.
pub struct Incoming {
    message: Message,
    acker: Option<Acker>,
    redelivered: bool,
    tag: u64,
    attempts_here: u32,
    /// The body after it was decompressed, if that was necessary.
    decoded: Option<Bytes>,
    context: Context,
}

impl Incoming {
    pub(crate) fn new(delivery: Delivery, context: Context) -> Self {
        let (redelivered, tag) = (delivery.redelivered(), delivery.delivery_tag());
        let (message, acker) = delivery.split();
        Self { message, acker: Some(acker), redelivered, tag, attempts_here: 0, decoded: None, context }
    }

    /// Drops the message, and returns the context for the next one.
    pub(crate) fn into_context(self) -> Context {
        self.context
    }

    /// A message of a batch, which is settled with the others unless it is [given](Self::give) its delivery.
    pub(crate) fn lent(delivery: DeliveryRef<'_>, context: &Context) -> Self {
        let (redelivered, tag) = (delivery.redelivered(), delivery.delivery_tag());
        let message = Message::clone(&delivery);
        let context = context.clone();
        Self { message, acker: None, redelivered, tag, attempts_here: 0, decoded: None, context }
    }

    pub(crate) fn give(&mut self, delivery: Delivery) {
        self.acker = Some(delivery.split().1);
    }

    /// Returns a message that no broker delivered.
    #[cfg(feature = "test")]
    pub(crate) fn of_message(message: &Message, context: &Context) -> Self {
        let (message, context) = (message.clone(), context.clone());
        Self { message, acker: None, redelivered: false, tag: 0, attempts_here: 0, decoded: None, context }
    }

    /// Returns the message as it arrived.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the body, decompressed if its content encoding is `gzip` or `zstd` (features of the same names). It is
    /// decompressed once for all arguments and attempts.
    ///
    /// # Errors
    /// What must happen with a message whose body is broken, longer than the [limit](crate::Queue::body_limit), or has
    /// another encoding: it goes to the dead letters.
    pub fn decoded_body(&mut self) -> Result<&[u8], Verdict> {
        self.decode()?;
        Ok(self.decoded.as_deref().unwrap_or_else(|| self.message.body()))
    }

    /// Returns the body as shared bytes: see [`decoded_body`](Self::decoded_body).
    ///
    /// # Errors
    /// Those of [`decoded_body`](Self::decoded_body).
    pub fn decoded_body_bytes(&mut self) -> Result<Bytes, Verdict> {
        self.decode()?;
        Ok(self.decoded.clone().unwrap_or_else(|| self.message.body_bytes()))
    }

    fn decode(&mut self) -> Result<(), Verdict> {
        if self.decoded.is_some() {
            return Ok(());
        }
        let limit = self.context.body_limit();
        if self.message.body().len() > limit {
            return Err(Verdict::Reject(codec::oversized(limit)));
        }
        if let Some(encoding) = self.message.properties().content_encoding() {
            let decoded = codec::decode(encoding, self.message.body(), limit).map_err(Verdict::Reject)?;
            self.decoded = decoded.map(Bytes::from);
        }
        Ok(())
    }

    /// Returns the attempt that this is, beginning with 1.
    pub fn attempt(&self) -> u32 {
        let earlier = self.message.header(headers::ATTEMPT).and_then(|value| value.as_i64()).unwrap_or(1);
        let counted = if self.context.is_retried_by_broker() { self.delivery_count() } else { 0 };
        u32::try_from(earlier).unwrap_or(1).max(1).saturating_add(self.attempts_here).saturating_add(counted)
    }

    /// Returns how often a quorum queue delivered the message before without an outcome; 0 on other queues.
    pub fn delivery_count(&self) -> u32 {
        if !self.redelivered {
            return 0;
        }
        let count = self.message.header("x-delivery-count").and_then(|value| value.as_i64());
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// Returns whether the broker delivered the message before.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Returns the delivery tag.
    pub fn delivery_tag(&self) -> u64 {
        self.tag
    }

    /// Returns the queue of the handler.
    pub fn queue(&self) -> &str {
        self.context.queue()
    }

    /// Returns the exchange that the message was first published to.
    pub fn exchange(&self) -> &str {
        self.origin(headers::EXCHANGE).unwrap_or_else(|| self.message.exchange())
    }

    /// Returns the routing key that the message was first published with.
    pub fn routing_key(&self) -> &str {
        self.origin(headers::ROUTING_KEY).unwrap_or_else(|| self.message.routing_key())
    }

    /// Returns the app around the handler: its clock, and its way to publish.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Takes the delivery away from the app, which then settles nothing. `None` if another extractor took it.
    pub fn take(&mut self) -> Option<Delivery> {
        let acker = self.acker.take()?;
        Some(Delivery::join(self.message.clone(), acker))
    }

    /// Returns the message without the right to settle it.
    pub(crate) fn share(&self) -> Self {
        let (message, decoded, context) = (self.message.clone(), self.decoded.clone(), self.context.clone());
        Self { message, acker: None, decoded, context, ..*self }
    }

    /// Only a message that came through the default exchange can have been forwarded.
    fn origin(&self, header: &str) -> Option<&str> {
        if !self.message.exchange_bytes().is_empty() {
            return None;
        }
        self.message.header(header).and_then(|value| value.as_str())
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.acker.is_none()
    }

    /// Returns whether this is a further attempt in the same slot.
    pub(crate) fn is_again(&self) -> bool {
        self.attempts_here > 0
    }

    pub(crate) fn count_attempt(&mut self) {
        self.attempts_here += 1;
    }

    pub(crate) fn settle(&mut self, how: impl FnOnce(Acker) -> hopmq::Result<Settled>) -> hopmq::Result<Settled> {
        self.acker.take().map_or(Ok(Settled::NotNeeded), how)
    }
}

impl Deref for Incoming {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Incoming");
        debug.field("queue", &self.queue()).field("attempt", &self.attempt()).field("message", &self.message).finish()
    }
}
