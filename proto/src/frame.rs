//! The frames of AMQP 0-9-1 (specification §2.3.5): `type: u8, channel: u16, size: u32, payload, 0xCE`.

use std::fmt;

use crate::content::body_size;
use crate::error::{Error, code};
use crate::limits::ReceiveLimits;
use crate::method_id::MethodId;
use crate::properties::Properties;
use crate::violation::Violation;

/// The 8 bytes that a client sends first: the name and version of the protocol.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The smallest frame-max in bytes that a peer may ask for (specification §4.2.3, "frame-min-size").
pub const MIN_FRAME_MAX: u32 = 4096;

/// The bytes of a frame that are not payload: the head and the end octet.
pub(crate) const OVERHEAD: usize = 8;

/// The bytes before the payload: type, channel and size.
pub(crate) const HEAD: usize = 7;
/// The last byte of each frame.
pub(crate) const END: u8 = 0xCE;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A method with its arguments.
    Method = 1,
    /// The size and the properties of a message.
    Header = 2,
    /// A part of the body of a message.
    Body = 3,
    /// A heartbeat.
    Heartbeat = 8,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Method => "Method",
            Self::Header => "Header",
            Self::Body => "Body",
            Self::Heartbeat => "Heartbeat",
        }
    }
}

/// One frame in a buffer, checked against limits, for proxies that forward frames.
///
/// The [`Receiver`](crate::Receiver) assembles frames into messages instead.
///
/// ```
/// use hopmq_proto::{Frame, Kind, ReceiveLimits, method::basic, put_method};
///
/// let limits = ReceiveLimits { frame_max: 4096, channel_max: 10, message_max: 1 << 20 };
/// let mut bytes = Vec::new();
/// put_method(&mut bytes, 4096, 1, &basic::Publish { routing_key: "orders", ..Default::default() })?;
/// let frame = Frame::parse(&bytes, &limits)?.expect("it is whole");
/// assert_eq!((frame.kind(), frame.channel(), frame.size()), (Kind::Method, 1, bytes.len()));
/// assert_eq!(frame.method()?.to_string(), "basic.publish");
/// assert!(Frame::parse(&bytes[..9], &limits)?.is_none());
/// # Ok::<(), hopmq_proto::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    head: Head,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Returns the frame that `bytes` begin with, or `None` if the frame is not complete.
    ///
    /// # Errors
    /// The peer's fault, as soon as the first 7 bytes show it: 501 if the bytes are no frame or the frame is larger
    /// than `limits.frame_max`, 504 if its channel is above `limits.channel_max`. 501 also for a wrong end octet.
    #[inline]
    pub fn parse(bytes: &'a [u8], limits: &ReceiveLimits) -> Result<Option<Self>, Error> {
        match Front::of(bytes, limits) {
            Front::Whole(head) => Ok(Some(Self { head, bytes: &bytes[..head.total()] })),
            Front::Part(_) | Front::Nothing => Ok(None),
            Front::Fault => Err(fault(bytes, limits)),
        }
    }

    /// Returns what the frame carries.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.head.kind
    }

    /// Returns the channel number; 0 is the connection itself.
    #[inline]
    pub fn channel(&self) -> u16 {
        self.head.channel
    }

    /// Returns the payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEAD..HEAD + self.head.size]
    }

    /// Returns the whole frame, as a proxy forwards it.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the size of the whole frame in bytes, including its 8 bytes of overhead.
    #[inline]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the method of a [`Kind::Method`] frame.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault, if the payload is too short.
    #[inline]
    pub fn method(&self) -> Result<MethodId, Error> {
        MethodId::peek(self.payload())
    }

    /// Returns what a [`Kind::Header`] frame announces: the size of the body in bytes, and the properties, undecoded.
    ///
    /// # Errors
    /// The peer's fault: 502 if the header is malformed, 505 if its class is not basic.
    pub fn header(&self) -> Result<(u64, Properties<&'a [u8]>), Error> {
        let payload = self.payload();
        let size = body_size(payload)?;
        let flags = u16::from_be_bytes([payload[12], payload[13]]);
        Ok((size, Properties::from_parts(flags, &payload[14..])))
    }
}

/// Hides the payload, which may hold credentials.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} frame on channel {}: {} bytes", self.head.kind, self.head.channel, self.head.size)
    }
}

/// The first seven bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) channel: u16,
    pub(crate) size: usize,
}

impl Head {
    /// Parses the head of a frame; `None` if the type is unknown.
    #[inline]
    fn parse(head: &[u8; HEAD]) -> Option<Self> {
        let kind = match head[0] {
            1 => Kind::Method,
            2 => Kind::Header,
            3 => Kind::Body,
            8 => Kind::Heartbeat,
            _ => return None,
        };
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        Some(Self { kind, channel, size })
    }

    /// Returns the size of the whole frame in bytes.
    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.size.saturating_add(OVERHEAD)
    }
}

/// What the bytes of a buffer begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Front {
    /// A complete frame.
    Whole(Head),
    /// A frame that is not complete.
    Part(Head),
    /// Less than the head of a frame.
    Nothing,
    /// No acceptable frame: see [`fault`].
    Fault,
}

impl Front {
    /// Classifies what `bytes` begin with, and checks it against `limits`.
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8], limits: &ReceiveLimits) -> Self {
        let Some(head) = bytes.first_chunk::<HEAD>() else { return Self::Nothing };
        let Some(head) = Head::parse(head) else { return Self::Fault };
        let total = head.total();
        if total > limits.frame_max as usize || head.channel > limits.channel_max {
            return Self::Fault;
        }
        match bytes.get(total - 1) {
            Some(&END) => Self::Whole(head),
            Some(_) => Self::Fault,
            None => Self::Part(head),
        }
    }
}

/// Returns why `bytes` begin with a [`Front::Fault`].
#[cold]
pub(crate) fn fault(bytes: &[u8], limits: &ReceiveLimits) -> Error {
    let Some(head) = bytes.first_chunk::<HEAD>().and_then(Head::parse) else { return not_a_frame(bytes) };
    let size = head.total();
    let limit = limits.frame_max as usize;
    if size > limit {
        let text = format!("received a frame of {size} bytes, above the limit of {limit}");
        return Violation::FrameTooLarge { size, limit }.by_peer(code::FRAME_ERROR, text);
    }
    let channel = head.channel;
    let limit = limits.channel_max;
    if channel > limit {
        let text = format!("frame received on channel {channel}, above the limit of {limit}");
        return Violation::ChannelOutOfRange { channel, limit }.by_peer(code::CHANNEL_ERROR, text);
    }
    let end = bytes.get(size - 1).copied().unwrap_or(END);
    let text = format!("received a frame that ends with {end:#04x} instead of 0xce");
    Violation::MalformedFrame.by_peer(code::FRAME_ERROR, text)
}

/// Writes the head of a frame.
#[inline]
pub(crate) fn put_head(out: &mut Vec<u8>, kind: Kind, channel: u16, size: u32) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    out.extend_from_slice(&[kind as u8, c0, c1, s0, s1, s2, s3]);
}

/// Names the protocol of bytes that begin no frame: the port may belong to another service.
fn not_a_frame(bytes: &[u8]) -> Error {
    let text = match bytes {
        [b'A', b'M', b'Q', b'P', 1, 1, major, minor, ..] | [b'A', b'M', b'Q', b'P', 0, major, minor, ..] => {
            format!("the peer answered with the protocol header of AMQP version {major}-{minor}, not 0-9-1")
        }
        [b'A', b'M', b'Q', b'P', ..] => "the peer answered with another protocol header of AMQP, not 0-9-1".to_owned(),
        [b'H', b'T', b'T', b'P', ..] => "the peer answered with HTTP; use the AMQP port of the broker".to_owned(),
        [0x14..=0x17, 3, ..] => "the peer answered with TLS; use amqps:// for this port".to_owned(),
        _ => {
            let kind = bytes.first().copied().unwrap_or_default();
            let text = format!("received unknown frame type {kind}");
            return Violation::MalformedFrame.by_peer(code::FRAME_ERROR, text);
        }
    };
    Violation::WrongProtocol.by_peer(code::FRAME_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReceiveLimits = ReceiveLimits { frame_max: 4096, channel_max: 7, message_max: 0 };

    #[test]
    fn a_frame_is_complete_or_incomplete_or_refused() {
        let mut bytes = Vec::new();
        put_head(&mut bytes, Kind::Body, 7, 3);
        bytes.extend_from_slice(b"abc\xcenext");
        for size in 0..11 {
            assert!(Frame::parse(&bytes[..size], &LIMITS).unwrap().is_none(), "{size}");
        }
        let frame = Frame::parse(&bytes, &LIMITS).unwrap().unwrap();
        assert_eq!((frame.kind(), frame.channel(), frame.payload(), frame.size()), (Kind::Body, 7, &b"abc"[..], 11));
        assert_eq!(format!("{frame:?}"), "Body frame on channel 7: 3 bytes");
        for (at, byte, code) in [(2, 8, 504), (3, 1, 501), (10, 0, 501), (0, 9, 501)] {
            let mut wrong = bytes.clone();
            wrong[at] = byte;
            assert_eq!(Frame::parse(&wrong, &LIMITS).unwrap_err().code(), code, "byte {at}");
        }
    }

    #[test]
    fn a_header_has_the_size_of_the_body_and_the_properties() {
        let mut bytes = Vec::new();
        put_head(&mut bytes, Kind::Header, 1, 17);
        bytes.extend_from_slice(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\x80\0\x02ab\xce");
        let (size, properties) = Frame::parse(&bytes, &LIMITS).unwrap().unwrap().header().unwrap();
        assert_eq!((size, properties.content_type()), (5, Some("ab")));
        bytes[8] = 0x3d;
        assert_eq!(Frame::parse(&bytes, &LIMITS).unwrap().unwrap().header().unwrap_err().code(), 505);
    }
}
