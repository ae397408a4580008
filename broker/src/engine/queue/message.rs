//! A message in memory, shared by the queues that hold it.
//!
//! Owns the exchange and routing key that the message was published with, its encoded properties, and its body. A small
//! message is one allocation; a large body stays in the buffer that received it. It must never know queues.

use std::sync::Arc;

use bytes::Bytes;
use hopmq_proto::{Body, Properties};

/// A body of at least this many bytes is not copied.
const UNCOPIED: usize = 4096;
/// Size of the fixed part: flags, two lengths of names, the length of the properties.
const FIXED: usize = 8;
/// A flag that AMQP does not use: the header `BCC` named further queues, and clients must not see it.
const BLIND: u16 = 1 << 1;
/// A flag that AMQP uses for further flags, which no message has: the header `x-death` is the broker's.
const DEAD: u16 = 1;

/// A message. A clone shares its memory. See the [module's documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The fixed part, exchange, routing key, properties, and the body unless it is large.
    head: Arc<[u8]>,
    large: Option<Bytes>,
}

/// The properties that a queue needs, parsed once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) persistent: bool,
    pub(crate) priority: Option<u8>,
    /// `expiration`, in milliseconds.
    pub(crate) expiration: Option<u64>,
}

impl Message {
    /// Returns a message. `scratch` is a reused buffer.
    #[inline]
    pub(crate) fn new(
        scratch: &mut Vec<u8>,
        exchange: &[u8],
        routing_key: &[u8],
        properties: Properties<&[u8]>,
        body: Bytes,
    ) -> Self {
        let list = properties.as_bytes();
        scratch.clear();
        let is_blind =
            properties.flags() & HEADERS != 0 && properties.headers().is_ok_and(|headers| headers.contains_key("BCC"));
        let flags = properties.flags() & !(BLIND | DEAD) | if is_blind { BLIND } else { 0 };
        let [f0, f1] = flags.to_be_bytes();
        let [l0, l1, l2, l3] = (list.len() as u32).to_be_bytes();
        scratch.extend_from_slice(&[f0, f1, exchange.len() as u8, routing_key.len() as u8, l0, l1, l2, l3]);
        scratch.extend_from_slice(exchange);
        scratch.extend_from_slice(routing_key);
        scratch.extend_from_slice(list);
        let large = body.len() >= UNCOPIED;
        if !large {
            scratch.extend_from_slice(&body);
        }
        Self { head: Arc::from(&scratch[..]), large: large.then_some(body) }
    }

    /// Returns a message that died, whose header `x-death` is the broker's. `scratch` is a reused buffer.
    pub(crate) fn dead(
        scratch: &mut Vec<u8>,
        exchange: &[u8],
        routing_key: &[u8],
        properties: Properties<&[u8]>,
        body: Bytes,
    ) -> Self {
        let message = Self::new(scratch, exchange, routing_key, properties, body);
        let mut head = message.head.to_vec();
        head[1] |= DEAD as u8;
        Self { head: head.into(), ..message }
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
            Some(body) => Body::Shared(body.clone()),
            None => Body::Borrowed(&self.head[self.list().1..]),
        }
    }

    /// Returns the size of the body in bytes, which `x-max-length-bytes` counts.
    #[inline]
    pub(crate) fn body_size(&self) -> usize {
        self.large.as_ref().map_or_else(|| self.head.len() - self.list().1, Bytes::len)
    }

    /// Returns everything but the body, for [`Message::restore`].
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.list().1]
    }

    /// Restores a stored message. `scratch` is a reused buffer. `None` if `head` is malformed.
    pub(crate) fn restore(scratch: &mut Vec<u8>, head: &[u8], body: &Bytes) -> Option<Self> {
        let (fixed, rest) = head.split_first_chunk::<FIXED>()?;
        let [f0, f1, exchange, key, size @ ..] = *fixed;
        let (exchange, rest) = rest.split_at_checked(exchange.into())?;
        let (key, list) = rest.split_at_checked(key.into())?;
        let flags = u16::from_be_bytes([f0, f1]);
        let make = if flags & DEAD == 0 { Self::new } else { Self::dead };
        let properties = Properties::from_parts(flags & !(BLIND | DEAD), list);
        (u32::from_be_bytes(size) as usize == list.len())
            .then(|| make(scratch, exchange, key, properties, body.clone()))
    }

    /// Returns the body, to be stored.
    pub(crate) fn to_body(&self) -> Bytes {
        match &self.large {
            Some(body) => body.clone(),
            None => Bytes::copy_from_slice(&self.head[self.list().1..]),
        }
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

    #[test]
    fn a_message_and_its_stored_copy_keep_all_parts() {
        let properties = Properties::new().with_persistent().with_priority(3).with_expiration("60000");
        for size in [0, 1, UNCOPIED - 1, UNCOPIED, UNCOPIED * 3] {
            let body = Bytes::from(vec![7; size]);
            let mut scratch = vec![1, 2, 3];
            let message = Message::new(&mut scratch, b"exchange", b"key", properties.as_ref_properties(), body.clone());
            assert_eq!((message.exchange(), message.routing_key()), (&b"exchange"[..], &b"key"[..]));
            assert_eq!(message.properties(), properties);
            assert_eq!((message.body_size(), message.to_body()), (size, body.clone()));
            let again = Message::restore(&mut scratch, message.head(), &body).unwrap();
            assert_eq!((again.exchange(), again.properties()), (message.exchange(), message.properties()));
            assert_eq!((again.routing_key(), again.to_body()), (&b"key"[..], body.clone()));
            assert!(Message::restore(&mut scratch, &message.head()[1..], &body).is_none());
            let dead = Message::dead(&mut scratch, b"", b"key", properties.as_ref_properties(), body.clone());
            let again = Message::restore(&mut scratch, dead.head(), &body).unwrap();
            assert!(dead.is_dead() && again.is_dead() && !message.is_dead());
            assert_eq!((again.properties(), again.to_body()), (message.properties(), body.clone()));
            let facts = Facts { persistent: true, priority: Some(3), expiration: Some(60_000) };
            assert_eq!(message.facts(), facts);
        }
    }
}
