//! A message in memory, shared by the queues that hold it.
//!
//! Owns the exchange and routing key that the message was published with, its encoded properties, and its body. A small
//! message is one allocation; a large body stays in the buffer that received it. It must never know queues.
//!
//! A message is charged to its broker's [`Meter`]: its content once, however many queues hold it, and [`PLACE`] for
//! each of them. A body that stays in its receive buffer is charged with that whole buffer, once for all bodies in it,
//! because any of them keeps all of it.

use std::sync::Arc;

use bytes::Bytes;
use hopmq_proto::{Body, Content, Properties};

use crate::engine::meter::{Charge, Meter, Purpose};

/// A body of at least this many bytes is not copied.
const UNCOPIED: usize = 4096;
/// The store reads several messages into one buffer. A body of at least this many bytes is not copied out of it.
const UNCOPIED_STORED: usize = 32 * 1024;
/// Size of the fixed part: flags, two lengths of names, the length of the properties.
const FIXED: usize = 8;
/// A flag that AMQP does not use: the header `BCC` named further queues, and clients must not see it.
const BLIND: u16 = 1 << 1;
/// A flag that AMQP uses for further flags, which no message has: the header `x-death` is the broker's.
const DEAD: u16 = 1;

/// What a place in a queue costs, in bytes: an entry in a list that may be half full, or in the store's index.
pub(crate) const PLACE: usize = 128;
/// What an allocation costs, in bytes: the counts of references, and the allocator's own.
const ALLOCATION: usize = 32;

/// A message. A clone shares its memory. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Message {
    /// The fixed part, exchange, routing key, properties, and the body unless it is large.
    head: Arc<[u8]>,
    large: Option<Arc<Large>>,
    meter: Meter,
}

/// A body that is not copied.
#[derive(Debug)]
pub(crate) struct Large {
    body: Bytes,
    block: Arc<Block>,
}

/// The receive buffer that bodies are slices of.
#[derive(Debug)]
pub(crate) struct Block {
    /// Its address and its size.
    memory: (usize, usize),
    #[allow(dead_code, reason = "dropping it gives the bytes back")]
    charge: Charge,
}

/// The body of a message that is made.
#[derive(Clone, Debug)]
pub(crate) enum Payload<'a> {
    Small(&'a [u8]),
    Large(Arc<Large>),
}

/// What is left in memory of a message that only the store has.
#[derive(Debug)]
pub(crate) struct Stub {
    /// The size of the body in bytes.
    size: u32,
    meter: Meter,
}

/// A reused buffer, in which messages are made, and the meter that counts them.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    pub(crate) meter: Meter,
}

/// The properties that a queue needs, parsed once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) persistent: bool,
    pub(crate) priority: Option<u8>,
    /// `expiration`, in milliseconds.
    pub(crate) expiration: Option<u64>,
}

impl Scratch {
    pub(crate) fn new(meter: Meter) -> Self {
        Self { bytes: Vec::new(), meter }
    }

    /// Frees the memory that a large message needed.
    pub(crate) fn shrink(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(16 * UNCOPIED);
    }
}

impl<'a> Payload<'a> {
    /// Returns the body of a received message. `last` is the block of the body before it on the same connection, which
    /// is mostly the same.
    #[inline]
    pub(crate) fn received(content: &'a Content, last: &mut Option<Arc<Block>>, meter: Meter) -> Self {
        let body = content.body();
        if body.len() < UNCOPIED {
            return Self::Small(body);
        }
        let memory = content.memory();
        let block = match last {
            Some(block) if block.memory == memory => Arc::clone(block),
            // Its memory is its own.
            _ if memory.1 == content.size() => Block::new(memory, meter),
            _ => Arc::clone(last.insert(Block::new(memory, meter))),
        };
        Self::Large(Arc::new(Large { body: content.body_bytes(), block }))
    }

    /// Returns a body that was read from the store.
    fn stored(body: &'a Bytes, meter: Meter) -> Self {
        if body.len() < UNCOPIED {
            return Self::Small(body);
        }
        let body = if body.len() < UNCOPIED_STORED { Bytes::copy_from_slice(body) } else { body.clone() };
        let block = Block::new((body.as_ptr() as usize, body.len()), meter);
        Self::Large(Arc::new(Large { body, block }))
    }
}

impl Block {
    fn new(memory: (usize, usize), meter: Meter) -> Arc<Self> {
        Arc::new(Self { memory, charge: Charge::new(meter, Purpose::Messages, memory.1) })
    }
}

impl Stub {
    pub(crate) fn new(size: u32, meter: Meter) -> Self {
        meter.add(Purpose::Messages, PLACE);
        Self { size, meter }
    }

    pub(crate) fn body_size(&self) -> u64 {
        u64::from(self.size)
    }

    /// Returns a stub of a message without a body.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(0, self.meter)
    }
}

impl Clone for Stub {
    fn clone(&self) -> Self {
        Self::new(self.size, self.meter)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.meter.subtract(Purpose::Messages, PLACE);
    }
}

impl Clone for Message {
    #[inline]
    fn clone(&self) -> Self {
        self.meter.add(Purpose::Messages, PLACE);
        Self { head: Arc::clone(&self.head), large: self.large.clone(), meter: self.meter }
    }
}

impl Drop for Message {
    #[inline]
    fn drop(&mut self) {
        // Messages are dropped under the engine's lock, so that no other thread drops a clone meanwhile.
        let content = if Arc::strong_count(&self.head) == 1 { self.head.len() + ALLOCATION } else { 0 };
        self.meter.subtract(Purpose::Messages, PLACE + content);
    }
}

impl Message {
    /// Returns a message.
    #[inline]
    pub(crate) fn new(
        scratch: &mut Scratch,
        exchange: &[u8],
        routing_key: &[u8],
        properties: Properties<&[u8]>,
        body: Payload<'_>,
    ) -> Self {
        Self::with_flags(scratch, exchange, routing_key, properties, body, 0)
    }

    /// Returns a message that died, whose header `x-death` is the broker's.
    pub(crate) fn dead(
        scratch: &mut Scratch,
        exchange: &[u8],
        routing_key: &[u8],
        properties: Properties<&[u8]>,
        body: Payload<'_>,
    ) -> Self {
        Self::with_flags(scratch, exchange, routing_key, properties, body, DEAD)
    }

    #[inline]
    fn with_flags(
        scratch: &mut Scratch,
        exchange: &[u8],
        routing_key: &[u8],
        properties: Properties<&[u8]>,
        body: Payload<'_>,
        own_flags: u16,
    ) -> Self {
        let Scratch { bytes, meter } = scratch;
        let list = properties.as_bytes();
        bytes.clear();
        let is_blind =
            properties.flags() & HEADERS != 0 && properties.headers().is_ok_and(|headers| headers.contains_key("BCC"));
        let flags = properties.flags() & !(BLIND | DEAD) | own_flags | if is_blind { BLIND } else { 0 };
        let [f0, f1] = flags.to_be_bytes();
        let [l0, l1, l2, l3] = (list.len() as u32).to_be_bytes();
        bytes.extend_from_slice(&[f0, f1, exchange.len() as u8, routing_key.len() as u8, l0, l1, l2, l3]);
        bytes.extend_from_slice(exchange);
        bytes.extend_from_slice(routing_key);
        bytes.extend_from_slice(list);
        let large = match body {
            Payload::Small(body) => {
                bytes.extend_from_slice(body);
                None
            }
            Payload::Large(large) => Some(large),
        };
        meter.add(Purpose::Messages, PLACE + bytes.len() + ALLOCATION);
        Self { head: Arc::from(&bytes[..]), large, meter: *meter }
    }

    /// Whether the header `x-death` is the broker's.
    pub(crate) fn is_dead(&self) -> bool {
        self.flags() & DEAD != 0
    }

    #[inline]
    fn names(&self) -> (usize, usize) {
        (usize::from(self.head[2]), usize::from(self.head[3]))
    }

    #[inline]
    fn list(&self) -> (usize, usize) {
        let (exchange, key) = self.names();
        let start = FIXED + exchange + key;
        let size = u32::from_be_bytes([self.head[4], self.head[5], self.head[6], self.head[7]]);
        (start, start + size as usize)
    }

    /// Returns the exchange that the message was published to.
    #[inline]
    pub(crate) fn exchange(&self) -> &[u8] {
        &self.head[FIXED..FIXED + self.names().0]
    }

    /// Returns the routing key that the message was published with.
    #[inline]
    pub(crate) fn routing_key(&self) -> &[u8] {
        let (exchange, key) = self.names();
        &self.head[FIXED + exchange..FIXED + exchange + key]
    }

    #[inline]
    fn flags(&self) -> u16 {
        u16::from_be_bytes([self.head[0], self.head[1]])
    }

    /// Returns the properties that the message was published with. Clients get those of [`Message::shown`], if there
    /// are any.
    #[inline]
    pub(crate) fn properties(&self) -> Properties<&[u8]> {
        let (start, end) = self.list();
        Properties::from_parts(self.flags() & !(BLIND | DEAD), &self.head[start..end])
    }

    /// Returns the properties for clients where they differ: without the header `BCC`, because blind copies must stay
    /// hidden.
    #[inline]
    pub(crate) fn shown(&self) -> Option<Properties> {
        (self.flags() & BLIND != 0).then(|| without_bcc(self.properties()))
    }

    /// Returns the body, to be sent.
    #[inline]
    pub(crate) fn body(&self) -> Body<'_> {
        match &self.large {
            Some(large) => Body::Shared(large.body.clone()),
            None => Body::Borrowed(&self.head[self.list().1..]),
        }
    }

    /// Returns the size of the body in bytes, which `x-max-length-bytes` counts.
    #[inline]
    pub(crate) fn body_size(&self) -> usize {
        self.large.as_ref().map_or_else(|| self.head.len() - self.list().1, |large| large.body.len())
    }

    /// Returns everything but the body, for [`Message::restore`].
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.list().1]
    }

    /// Restores a stored message. `None` if `head` is malformed.
    pub(crate) fn restore(scratch: &mut Scratch, head: &[u8], body: &Bytes) -> Option<Self> {
        let (fixed, rest) = head.split_first_chunk::<FIXED>()?;
        let [f0, f1, exchange, key, size @ ..] = *fixed;
        let (exchange, rest) = rest.split_at_checked(exchange.into())?;
        let (key, list) = rest.split_at_checked(key.into())?;
        let flags = u16::from_be_bytes([f0, f1]);
        let make = if flags & DEAD == 0 { Self::new } else { Self::dead };
        let properties = Properties::from_parts(flags & !(BLIND | DEAD), list);
        (u32::from_be_bytes(size) as usize == list.len()).then(|| {
            let body = Payload::stored(body, scratch.meter);
            make(scratch, exchange, key, properties, body)
        })
    }

    /// Returns the body, to be stored.
    pub(crate) fn to_body(&self) -> Bytes {
        match &self.large {
            Some(large) => large.body.clone(),
            None => Bytes::copy_from_slice(&self.head[self.list().1..]),
        }
    }

    /// Returns the body, for another message with it.
    pub(crate) fn payload(&self) -> Payload<'_> {
        match &self.large {
            Some(large) => Payload::Large(Arc::clone(large)),
            None => Payload::Small(&self.head[self.list().1..]),
        }
    }

    /// Returns the receive buffer that a body which is not copied keeps.
    #[inline]
    pub(crate) fn block(&self) -> Option<&Arc<Block>> {
        self.large.as_ref().map(|large| &large.block)
    }

    /// Returns what stays in memory once only the store has the message.
    pub(crate) fn to_stub(&self) -> Stub {
        Stub::new(self.body_size() as u32, self.meter)
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts::of(&self.properties())
    }
}

#[cold]
fn without_bcc(properties: Properties<&[u8]>) -> Properties {
    let mut headers = properties.headers().unwrap_or_default().to_owned_table();
    headers.remove("BCC");
    properties.to_owned_properties().with_headers(&headers)
}

/// Returns the properties with their headers sorted by key, unless they are.
pub(crate) fn sort_headers(properties: &Properties<&[u8]>) -> Option<Properties> {
    let sorted = properties.headers().ok()?.sorted()?;
    Some(properties.to_owned_properties().with_headers(&sorted))
}

// Flags of the properties that are set.
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const EXPIRATION: u16 = 1 << 8;

impl Facts {
    /// Parses them. A malformed `expiration` is `None`; the publisher was refused for it.
    #[inline]
    pub(crate) fn of(properties: &Properties<&[u8]>) -> Self {
        if properties.flags() & (DELIVERY_MODE | PRIORITY | EXPIRATION) == 0 {
            return Self::default();
        }
        Self {
            persistent: properties.is_persistent(),
            priority: properties.priority(),
            expiration: properties.expiration().and_then(|text| text.trim_start_matches('-').parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::meter::MeterOwner;

    #[test]
    fn a_message_and_its_stored_copy_keep_all_parts() {
        let owner = MeterOwner::new();
        let properties = Properties::new().with_persistent().with_priority(3).with_expiration("60000");
        for size in [0, 1, UNCOPIED - 1, UNCOPIED, UNCOPIED * 3, UNCOPIED_STORED] {
            let body = Bytes::from(vec![7; size]);
            let mut scratch = Scratch::new(owner.meter());
            let given = Payload::stored(&body, owner.meter());
            let message = Message::new(&mut scratch, b"exchange", b"key", properties.as_ref_properties(), given);
            assert_eq!((message.exchange(), message.routing_key()), (&b"exchange"[..], &b"key"[..]));
            assert_eq!(message.properties(), properties);
            assert_eq!((message.body_size(), message.to_body()), (size, body.clone()));
            let again = Message::restore(&mut scratch, message.head(), &body).unwrap();
            assert_eq!((again.exchange(), again.properties()), (message.exchange(), message.properties()));
            assert_eq!((again.routing_key(), again.to_body()), (&b"key"[..], body.clone()));
            assert!(Message::restore(&mut scratch, &message.head()[1..], &body).is_none());
            let dead = Message::dead(&mut scratch, b"", b"key", properties.as_ref_properties(), message.payload());
            let again = Message::restore(&mut scratch, dead.head(), &body).unwrap();
            assert!(dead.is_dead() && again.is_dead() && !message.is_dead());
            assert_eq!((again.properties(), again.to_body()), (message.properties(), body.clone()));
            let facts = Facts { persistent: true, priority: Some(3), expiration: Some(60_000) };
            assert_eq!(message.facts(), facts);
        }
        assert_eq!(owner.meter().total(), 0);
    }

    #[test]
    fn a_body_is_charged_once_and_each_place_in_a_queue_as_well() {
        let owner = MeterOwner::new();
        let count = || owner.meter().bytes(Purpose::Messages) as usize;
        let mut scratch = Scratch::new(owner.meter());
        let message = Message::new(&mut scratch, b"", b"q", Properties::EMPTY, Payload::Small(&[7; 1000]));
        assert_eq!(count(), PLACE + ALLOCATION + FIXED + 1 + 1000);
        let others = vec![message.clone(); 99];
        assert_eq!(count(), 100 * PLACE + ALLOCATION + FIXED + 1 + 1000);
        let stub = message.to_stub();
        drop((message, others));
        assert_eq!(count(), PLACE);
        drop(stub);
        assert_eq!(count(), 0);
    }
}
