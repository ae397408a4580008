//! A received message: its method, header and body, as slices of the receive buffer.

use std::fmt;

use bytes::{BufMut, Bytes};

use crate::buffer::Slice;
use crate::error::{Error, Flaw, SHORT_STRING_MAX, code};
use crate::method_id::MethodId;
use crate::properties::Properties;
use crate::violation::{ShortString, Violation};
use crate::wire::put_id;

const CLASS_BASIC: u16 = 60;
const FIXED_HEADER: usize = 14;

/// A complete message: `basic.publish`, `basic.return`, `basic.deliver` or `basic.get-ok` with header and body.
///
/// Accessors decode on demand. Only messages whose body spans several frames, or is interleaved with other channels,
/// were copied. Debug output shows sizes and never the body.
#[derive(Clone)]
pub struct Content {
    kind: ContentKind,
    /// The payload of the method, that of the header, and the body, with gaps of [`Content::GAP`] bytes in between.
    bytes: Slice,
    body_at: u32,
    /// At most [`u16::MAX`], which is beyond the end of any well-formed method.
    header_at: u16,
}

/// The methods that carry a message (specification §1.8: class basic).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// `basic.publish`
    Publish,
    /// `basic.return`
    Return,
    /// `basic.deliver`
    Deliver,
    /// `basic.get-ok`
    GetOk,
}

impl ContentKind {
    /// Returns the kind of message that the payload of a method frame announces, if any.
    #[inline]
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        match payload {
            [0, 60, 0, 40, ..] => Some(Self::Publish),
            [0, 60, 0, 50, ..] => Some(Self::Return),
            [0, 60, 0, 60, ..] => Some(Self::Deliver),
            [0, 60, 0, 71, ..] => Some(Self::GetOk),
            _ => None,
        }
    }

    /// Returns the id of the method.
    pub fn method(self) -> MethodId {
        let method = match self {
            Self::Publish => 40,
            Self::Return => 50,
            Self::Deliver => 60,
            Self::GetOk => 71,
        };
        MethodId { class: CLASS_BASIC, method }
    }
}

/// The arguments of a method that carries a message. Arguments that the method lacks are empty or zero.
///
/// Names are bytes: RabbitMQ forwards the names of publishers unchecked, and a name that is not UTF-8 must not break
/// the connection of a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments<'a> {
    /// The consumer that receives the delivery.
    pub consumer_tag: &'a [u8],
    /// The number of a delivery on its channel.
    pub delivery_tag: u64,
    /// Whether the broker has delivered the message before.
    pub redelivered: bool,
    /// The exchange that the message was published to.
    pub exchange: &'a [u8],
    /// The routing key that the message was published with.
    pub routing_key: &'a [u8],
    /// How many messages are left in the queue (`basic.get-ok`).
    pub message_count: u32,
    /// Why the message was returned (`basic.return`).
    pub reply_code: u16,
    /// The reply code in words (`basic.return`).
    pub reply_text: &'a [u8],
    /// Whether the broker returns the message if no queue matches (`basic.publish`).
    pub mandatory: bool,
    /// Whether the broker returns the message if no consumer is ready (`basic.publish`; RabbitMQ refuses it).
    pub immediate: bool,
}

impl Content {
    /// The bytes between two payloads: the end of one frame and the head of the next.
    pub(crate) const GAP: usize = 8;

    /// Makes a message of `bytes` in the layout of `Content`: a method of `method_size` bytes at the front, the body
    /// from `body_at` on. Before an empty body, the gap may be missing.
    #[inline]
    pub(crate) fn new(kind: ContentKind, bytes: Slice, method_size: usize, body_at: usize) -> Self {
        let header_at = (method_size + Self::GAP).min(usize::from(u16::MAX)) as u16;
        Self { kind, bytes, header_at, body_at: body_at as u32 }
    }

    /// Makes a message as if it had arrived: `arguments` are encoded as `kind` has them.
    ///
    /// # Errors
    /// The caller's fault, if a name is longer than 255 bytes, or the properties can't be encoded.
    pub fn build<B: AsRef<[u8]>>(
        kind: ContentKind,
        arguments: &Arguments<'_>,
        properties: &Properties<B>,
        body: &[u8],
    ) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(64 + properties.as_bytes().len() + body.len());
        arguments.put(kind, &mut bytes)?;
        let method_size = bytes.len();
        bytes.put_bytes(0, Self::GAP);
        bytes.put_u16(CLASS_BASIC);
        bytes.put_u16(0);
        bytes.put_u64(body.len() as u64);
        properties.encode(&mut bytes)?;
        bytes.put_bytes(0, Self::GAP);
        let body_at = bytes.len();
        bytes.extend_from_slice(body);
        Ok(Self::new(kind, Slice::whole(bytes.into()), method_size, body_at))
    }

    /// Returns which method announced the message.
    #[inline]
    pub fn kind(&self) -> ContentKind {
        self.kind
    }

    /// Returns the body.
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body_at as usize..usize::MAX)
    }

    /// Returns the body, sharing the memory of the receive buffer.
    pub fn body_bytes(&self) -> Bytes {
        self.bytes.bytes_from(self.body_at as usize)
    }

    /// Returns the address and the size of the memory that [`Content::body_bytes`] keeps: that of the receive buffer,
    /// unless the message was copied. Messages of one buffer have the same.
    pub fn memory(&self) -> (usize, usize) {
        self.bytes.memory()
    }

    /// Returns the bytes that the message occupies, headers and overhead included.
    #[inline]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the properties, undecoded.
    pub fn properties(&self) -> Properties<&[u8]> {
        let header = self.bytes.get(self.header_at.into()..(self.body_at as usize).saturating_sub(Self::GAP));
        let Some((fixed, list)) = header.split_first_chunk::<FIXED_HEADER>() else {
            return Properties::from_parts(0, &[]);
        };
        Properties::from_parts(u16::from_be_bytes([fixed[12], fixed[13]]), list)
    }

    /// Returns the arguments of the method. Malformed arguments read as empty; the connection refuses such messages.
    pub fn arguments(&self) -> Arguments<'_> {
        self.try_arguments().unwrap_or_default()
    }

    /// Returns whether the broker has delivered the message before, without reading the names among the
    /// [`arguments`](Self::arguments).
    #[inline]
    pub fn redelivered(&self) -> bool {
        let method = self.bytes.get(4..usize::from(self.header_at) - Self::GAP);
        let delivery_tag = match self.kind {
            ContentKind::Deliver => 1 + method.first().map_or(0, |size| usize::from(*size)),
            ContentKind::GetOk => 0,
            ContentKind::Return | ContentKind::Publish => return false,
        };
        method.get(delivery_tag + 8).is_some_and(|bits| bits & 1 != 0)
    }

    /// Returns the arguments of the method; 502 (syntax error) if they are malformed.
    #[inline]
    pub(crate) fn try_arguments(&self) -> Result<Arguments<'_>, Error> {
        let method = self.bytes.get(4..usize::from(self.header_at) - Self::GAP);
        Arguments::parse(self.kind, method).ok_or_else(|| malformed(self.kind))
    }

    /// Returns the consumer tag and the delivery tag of a delivery; 502 (syntax error) if its method is malformed.
    #[inline]
    pub(crate) fn delivery(&self) -> Result<(&[u8], u64), Error> {
        let method = self.bytes.get(4..usize::from(self.header_at) - Self::GAP);
        tags(method).ok_or_else(|| malformed(self.kind))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.kind.method(), self.body().len())
    }
}

impl<'a> Arguments<'a> {
    #[inline]
    fn parse(kind: ContentKind, bytes: &'a [u8]) -> Option<Self> {
        let mut arguments = Self::default();
        let rest = match kind {
            ContentKind::Deliver => {
                let (consumer_tag, rest) = short(bytes)?;
                let rest = arguments.delivery(rest)?;
                arguments.consumer_tag = consumer_tag;
                rest
            }
            ContentKind::GetOk => {
                let rest = arguments.delivery(bytes)?;
                let (count, rest) = rest.split_first_chunk()?;
                arguments.message_count = u32::from_be_bytes(*count);
                rest
            }
            ContentKind::Return => {
                let (reply_code, rest) = bytes.split_first_chunk()?;
                arguments.reply_code = u16::from_be_bytes(*reply_code);
                let (reply_text, rest) = short(rest)?;
                arguments.reply_text = reply_text;
                arguments.names(rest)?
            }
            ContentKind::Publish => {
                let rest = arguments.names(bytes.get(2..)?)?;
                let (bits, rest) = rest.split_first()?;
                arguments.mandatory = bits & 1 != 0;
                arguments.immediate = bits & 2 != 0;
                rest
            }
        };
        rest.is_empty().then_some(arguments)
    }

    /// Appends the payload of the method. The structs of `method` do so for names that are text.
    #[inline]
    pub(crate) fn put(&self, kind: ContentKind, out: &mut Vec<u8>) -> Result<(), Error> {
        let names = [
            (ShortString::ConsumerTag, self.consumer_tag),
            (ShortString::ReplyText, self.reply_text),
            (ShortString::Exchange, self.exchange),
            (ShortString::RoutingKey, self.routing_key),
        ];
        for (string, name) in names {
            if name.len() > SHORT_STRING_MAX {
                return Err(Flaw::short_string(string, name.len()).into());
            }
        }
        put_id(out, kind.method());
        match kind {
            ContentKind::Deliver | ContentKind::GetOk => {
                if kind == ContentKind::Deliver {
                    put_short(out, self.consumer_tag);
                }
                out.put_u64(self.delivery_tag);
                out.put_u8(self.redelivered.into());
            }
            ContentKind::Return => {
                out.put_u16(self.reply_code);
                put_short(out, self.reply_text);
            }
            ContentKind::Publish => out.put_u16(0),
        }
        put_short(out, self.exchange);
        put_short(out, self.routing_key);
        match kind {
            ContentKind::GetOk => out.put_u32(self.message_count),
            ContentKind::Publish => out.put_u8(u8::from(self.mandatory) | u8::from(self.immediate) << 1),
            ContentKind::Deliver | ContentKind::Return => {}
        }
        Ok(())
    }

    #[inline]
    fn delivery(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, rest) = bytes.split_first_chunk()?;
        let (bits, rest) = rest.split_first()?;
        self.delivery_tag = u64::from_be_bytes(*tag);
        self.redelivered = bits & 1 != 0;
        self.names(rest)
    }

    #[inline]
    fn names(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (exchange, rest) = short(bytes)?;
        let (routing_key, rest) = short(rest)?;
        self.exchange = exchange;
        self.routing_key = routing_key;
        Some(rest)
    }
}

/// Reads the tags of a delivery, and checks its other arguments.
#[inline]
fn tags(method: &[u8]) -> Option<(&[u8], u64)> {
    let (consumer_tag, rest) = short(method)?;
    let (delivery_tag, rest) = rest.split_first_chunk()?;
    let (_exchange, rest) = short(rest.get(1..)?)?;
    let (_routing_key, rest) = short(rest)?;
    rest.is_empty().then_some((consumer_tag, u64::from_be_bytes(*delivery_tag)))
}

/// Appends a short string, whose length the caller has checked.
#[inline]
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u8(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

#[inline]
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&size, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(size))
}

/// Returns the size of the body from the payload of a header frame, after checking the header.
#[inline(always)]
pub(crate) fn body_size(header: &[u8]) -> Result<u64, Error> {
    match header.first_chunk::<FIXED_HEADER>() {
        Some(fixed) if class_of(fixed) == CLASS_BASIC && !has_more_flags(fixed) => {
            let [_, _, _, _, size @ .., _, _] = *fixed;
            Ok(u64::from_be_bytes(size))
        }
        fixed => Err(bad_header(fixed, header.len())),
    }
}

#[inline]
fn class_of(header: &[u8; FIXED_HEADER]) -> u16 {
    u16::from_be_bytes([header[0], header[1]])
}

/// Returns whether the lowest flag announces more flags, which no property of class basic needs.
#[inline]
fn has_more_flags(header: &[u8; FIXED_HEADER]) -> bool {
    header[13] & 1 != 0
}

#[cold]
fn bad_header(fixed: Option<&[u8; FIXED_HEADER]>, size: usize) -> Error {
    let (code, fault) = match fixed {
        None => (code::SYNTAX_ERROR, format!("of {size} bytes; at least {FIXED_HEADER} are required")),
        Some(fixed) if has_more_flags(fixed) && class_of(fixed) == CLASS_BASIC => {
            (code::SYNTAX_ERROR, "with more property flags than class basic defines".to_owned())
        }
        Some(fixed) => (code::UNEXPECTED_FRAME, format!("of class {}, not {CLASS_BASIC} (basic)", class_of(fixed))),
    };
    Violation::Malformed.by_peer(code, format!("received a content header {fault}"))
}

#[cold]
fn malformed(kind: ContentKind) -> Error {
    let text = format!("the arguments of {} are malformed", kind.method());
    Violation::Malformed.by_peer(code::SYNTAX_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_arguments_parse_to_the_same_values() {
        let all = Arguments {
            consumer_tag: b"c",
            delivery_tag: 7,
            redelivered: true,
            exchange: b"e\xff",
            routing_key: b"k",
            message_count: 3,
            reply_code: 312,
            reply_text: b"NO_ROUTE",
            mandatory: true,
            immediate: false,
        };
        let names = Arguments { exchange: all.exchange, routing_key: all.routing_key, ..Arguments::default() };
        let of_delivery = Arguments { delivery_tag: 7, redelivered: true, ..names };
        for (kind, expected) in [
            (ContentKind::Publish, Arguments { mandatory: true, ..names }),
            (ContentKind::Return, Arguments { reply_code: 312, reply_text: b"NO_ROUTE", ..names }),
            (ContentKind::Deliver, Arguments { consumer_tag: b"c", ..of_delivery }),
            (ContentKind::GetOk, Arguments { message_count: 3, ..of_delivery }),
        ] {
            let mut out = Vec::new();
            all.put(kind, &mut out).unwrap();
            assert_eq!(ContentKind::of(&out), Some(kind));
            assert_eq!(Arguments::parse(kind, &out[4..]), Some(expected));
            for redelivered in [false, true] {
                let arguments = Arguments { redelivered, ..all };
                let content = Content::build(kind, &arguments, &Properties::from_parts(0, &[]), b"body").unwrap();
                assert_eq!(content.redelivered(), content.arguments().redelivered, "{kind:?}");
            }
        }
        let long = [b'x'; 256];
        let mut out = Vec::new();
        let error = Arguments { exchange: &long, ..all }.put(ContentKind::Deliver, &mut out).unwrap_err();
        let violation = Violation::ShortStringTooLong { string: ShortString::Exchange, size: 256 };
        assert_eq!(error.violation(), violation);
        assert!(out.is_empty());
    }
}
