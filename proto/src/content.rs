//! A message on the wire: the method that announces it, its header and its body, as slices of the receive buffer.

use std::fmt;

use bytes::{BufMut, Bytes};

use crate::buffer::Slice;
use crate::error::Flaw;
use crate::method::MethodId;
use crate::{Error, Properties, code};

const CLASS_BASIC: u16 = 60;
const FIXED_HEADER: usize = 14;

/// A complete message: `basic.publish`, `basic.return`, `basic.deliver` or `basic.get-ok` with header and body.
///
/// Nothing is decoded until it is asked for, and nothing was copied unless the message spans several frames. Debug
/// output shows sizes, not what people write to each other.
#[derive(Clone)]
pub struct Content {
    kind: ContentKind,
    /// The payloads of method and header and the body, with gaps of [`Content::GAP`] bytes between them.
    bytes: Slice,
    body_at: u32,
    /// At the most [`u16::MAX`], which is beyond the end of any method that is well-formed.
    header_at: u16,
}

/// The methods that carry content (specification, section 1.8: class basic).
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
    /// The kind that the payload of a method frame announces, if it announces content.
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

    /// The method's id.
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

/// The arguments of a method that carries content. Those that the method doesn't have are empty or zero.
///
/// Names are bytes: RabbitMQ passes on what publishers wrote, UTF-8 or not, and a message must not be able to break
/// the connection of its consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments<'a> {
    /// The consumer that a delivery is for.
    pub consumer_tag: &'a [u8],
    /// The number of a delivery on its channel.
    pub delivery_tag: u64,
    /// Whether the broker has delivered the message before.
    pub redelivered: bool,
    /// The exchange that it was published to.
    pub exchange: &'a [u8],
    /// The routing key that it was published with.
    pub routing_key: &'a [u8],
    /// How many messages are left in the queue (`basic.get-ok`).
    pub message_count: u32,
    /// Why a message came back (`basic.return`).
    pub reply_code: u16,
    /// The same in words.
    pub reply_text: &'a [u8],
    /// Whether the publisher wants it back if no queue takes it (`basic.publish`).
    pub mandatory: bool,
    /// Whether the publisher wants it back if no consumer takes it (`basic.publish`; RabbitMQ refuses it).
    pub immediate: bool,
}

impl Content {
    /// Bytes between two payloads: the end of one frame and the head of the next.
    pub(crate) const GAP: usize = 8;

    /// `bytes` are what `Content` holds: a method of `method_size` bytes at the front, the body from `body_at` on. If
    /// there is none, the gap before it may be missing.
    #[inline]
    pub(crate) fn new(kind: ContentKind, bytes: Slice, method_size: usize, body_at: usize) -> Self {
        let header_at = (method_size + Self::GAP).min(usize::from(u16::MAX)) as u16;
        Self { kind, bytes, header_at, body_at: body_at as u32 }
    }

    /// Which method announced it.
    #[inline]
    pub fn kind(&self) -> ContentKind {
        self.kind
    }

    /// The body.
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body_at as usize..usize::MAX)
    }

    /// The body, sharing the receive buffer.
    pub fn body_bytes(&self) -> Bytes {
        self.bytes.bytes_from(self.body_at as usize)
    }

    /// Bytes that the message holds on to.
    #[inline]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The properties, undecoded.
    pub fn properties(&self) -> Properties<&[u8]> {
        let header = self.bytes.get(self.header_at.into()..(self.body_at as usize).saturating_sub(Self::GAP));
        let Some((fixed, list)) = header.split_first_chunk::<FIXED_HEADER>() else {
            return Properties::from_parts(0, &[]);
        };
        Properties::from_parts(u16::from_be_bytes([fixed[12], fixed[13]]), list)
    }

    /// The method's arguments. Empty if they are malformed, which the connection has ruled out for what it hands out.
    pub fn arguments(&self) -> Arguments<'_> {
        self.try_arguments().unwrap_or_default()
    }

    /// The method's arguments, checked: code 502 if they are malformed.
    #[inline]
    pub(crate) fn try_arguments(&self) -> Result<Arguments<'_>, Error> {
        let method = self.bytes.get(4..usize::from(self.header_at) - Self::GAP);
        Arguments::parse(self.kind, method).ok_or_else(|| {
            Error::peer(code::SYNTAX_ERROR, format!("malformed arguments of {}", self.kind.method().name()))
        })
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

    /// Appends the payload of the method, as [`Encode`](crate::method::Encode) does for those whose names are text.
    #[inline]
    pub(crate) fn put(&self, kind: ContentKind, out: &mut Vec<u8>) -> Result<(), Error> {
        let names = [self.consumer_tag, self.reply_text, self.exchange, self.routing_key];
        if names.iter().any(|name| name.len() > 255) {
            return Err(Flaw::ShortString.into());
        }
        let MethodId { class, method } = kind.method();
        out.put_u32(u32::from(class) << 16 | u32::from(method));
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

/// Appends a short string, which the caller has measured.
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

/// What the payload of a header frame says of the body, checked.
#[inline]
pub(crate) fn body_size(header: &[u8]) -> Result<u64, Error> {
    let Some(fixed) = header.first_chunk::<FIXED_HEADER>() else {
        return Err(Error::peer(code::SYNTAX_ERROR, "a content header shorter than 14 bytes"));
    };
    let class = u16::from_be_bytes([fixed[0], fixed[1]]);
    if class != CLASS_BASIC {
        return Err(Error::peer(code::UNEXPECTED_FRAME, format!("a content header of class {class} instead of basic")));
    }
    if fixed[13] & 1 != 0 {
        return Err(Error::peer(code::SYNTAX_ERROR, "a content header with more property flags than basic has"));
    }
    let [_, _, _, _, size @ .., _, _] = *fixed;
    Ok(u64::from_be_bytes(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_parsed_again() {
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
        }
        let long = [b'x'; 256];
        let mut out = Vec::new();
        assert!(Arguments { exchange: &long, ..all }.put(ContentKind::Deliver, &mut out).is_err());
        assert!(out.is_empty());
    }
}
