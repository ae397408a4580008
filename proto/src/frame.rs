//! The frame of AMQP 0-9-1 (specification, section 2.3.5): `type: u8, channel: u16, size: u32, payload, 0xCE`.

use std::fmt;

use crate::content::body_size;
use crate::method::MethodId;
use crate::receive::ReceiveLimits;
use crate::{Error, Properties, code};

/// The 8 bytes that a client sends first: the protocol's name and version.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// No peer may ask for a frame-max below this many bytes (section 4.2.3 of the specification, "frame-min-size").
pub const MIN_FRAME_MAX: u32 = 4096;

/// Bytes of a frame that are not payload: 7 before it and the end octet behind it.
pub(crate) const OVERHEAD: usize = 8;

pub(crate) const HEAD: usize = 7;
pub(crate) const END: u8 = 0xCE;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A method with its arguments.
    Method = 1,
    /// The size and the properties of a message.
    Header = 2,
    /// A part of a message's body.
    Body = 3,
    /// A sign of life.
    Heartbeat = 8,
}

/// One frame as it lies in a buffer, for those who pass frames on: checked against limits, and not put together to
/// messages as the [`Receiver`](crate::Receiver) does.
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
    /// The frame that `bytes` begin with, or `None` if it is not there to its end.
    ///
    /// # Errors
    /// If it can't be one (501), is larger than `limits.frame_max` (501), which shows as soon as its head is there, or
    /// is for a channel above `limits.channel_max` (504).
    #[inline]
    pub fn parse(bytes: &'a [u8], limits: &ReceiveLimits) -> Result<Option<Self>, Error> {
        match Front::of(bytes, limits) {
            Front::Whole(head) => Ok(Some(Self { head, bytes: &bytes[..head.total()] })),
            Front::Part(_) | Front::Nothing => Ok(None),
            Front::Fault => Err(fault(bytes, limits)),
        }
    }

    /// What it carries.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.head.kind
    }

    /// The channel's number; 0 is the connection itself.
    #[inline]
    pub fn channel(&self) -> u16 {
        self.head.channel
    }

    /// What it carries, in bytes as they are.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEAD..HEAD + self.head.size]
    }

    /// All of it, as it is to be passed on.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The whole frame in bytes, with its 8 bytes of overhead.
    #[inline]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Which method a [`Kind::Method`] carries.
    ///
    /// # Errors
    /// If the payload is too short for any: code 502.
    #[inline]
    pub fn method(&self) -> Result<MethodId, Error> {
        MethodId::peek(self.payload())
    }

    /// What a [`Kind::Header`] says of its message: the body's size in bytes, and the properties, undecoded.
    ///
    /// # Errors
    /// If it is malformed: code 502; 505 if it is of another class than basic.
    pub fn header(&self) -> Result<(u64, Properties<&'a [u8]>), Error> {
        let payload = self.payload();
        let size = body_size(payload)?;
        let flags = u16::from_be_bytes([payload[12], payload[13]]);
        Ok((size, Properties::from_parts(flags, &payload[14..])))
    }
}

/// Payloads are not shown: there are credentials among them.
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
    /// Reads the head of a frame, or `None` if it can't be one.
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

    /// The whole frame in bytes, with its end octet.
    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.size.saturating_add(OVERHEAD)
    }
}

/// What some bytes begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Front {
    /// A frame, which is there to its end.
    Whole(Head),
    /// A frame that is not there to its end.
    Part(Head),
    /// Less than the head of a frame.
    Nothing,
    /// No frame that may come: see [`fault`].
    Fault,
}

impl Front {
    /// Looks at what `bytes` begin with, and holds it against `limits`.
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

/// Why `bytes` begin with a [`Front::Fault`].
#[cold]
pub(crate) fn fault(bytes: &[u8], limits: &ReceiveLimits) -> Error {
    let Some(head) = bytes.first_chunk::<HEAD>().and_then(Head::parse) else { return not_a_frame(bytes) };
    let (total, Head { channel, .. }) = (head.total(), head);
    if total > limits.frame_max as usize {
        let text = format!("a frame of {total} bytes, where {} were agreed on", limits.frame_max);
        return Error::peer(code::FRAME_ERROR, text);
    }
    if channel > limits.channel_max {
        let text = format!("a frame for channel {channel}, where {} is the highest", limits.channel_max);
        return Error::peer(code::CHANNEL_ERROR, text);
    }
    let end = bytes.get(total - 1).copied().unwrap_or(END);
    Error::peer(code::FRAME_ERROR, format!("a frame that ends with {end:#04x}, not 0xce"))
}

/// Writes the head of a frame.
#[inline]
pub(crate) fn put_head(out: &mut Vec<u8>, kind: Kind, channel: u16, size: u32) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    out.extend_from_slice(&[kind as u8, c0, c1, s0, s1, s2, s3]);
}

/// Explains bytes that begin no frame: what else listens on that port?
fn not_a_frame(bytes: &[u8]) -> Error {
    let text = match bytes {
        [b'A', b'M', b'Q', b'P', 1, 1, major, minor, ..] | [b'A', b'M', b'Q', b'P', 0, major, minor, ..] => format!(
            "the peer answered with the protocol header of version {major}-{minor}: it doesn't speak AMQP 0-9-1 with us"
        ),
        [b'A', b'M', b'Q', b'P', ..] => "the peer answered with another protocol header of AMQP".to_owned(),
        [b'H', b'T', b'T', b'P', ..] => "the peer answered in HTTP: it's not an AMQP broker's port".to_owned(),
        [0x14..=0x17, 3, ..] => "the peer answered in TLS: use amqps:// for this port".to_owned(),
        [kind, ..] => format!("unknown frame type {kind}"),
        [] => "no frame".to_owned(),
    };
    Error::peer(code::FRAME_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReceiveLimits = ReceiveLimits { frame_max: 4096, channel_max: 7, message_max: 0 };

    #[test]
    fn a_frame_is_whole_or_absent_or_refused() {
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
    fn a_header_tells_size_and_properties() {
        let mut bytes = Vec::new();
        put_head(&mut bytes, Kind::Header, 1, 17);
        bytes.extend_from_slice(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\x80\0\x02ab\xce");
        let (size, properties) = Frame::parse(&bytes, &LIMITS).unwrap().unwrap().header().unwrap();
        assert_eq!((size, properties.content_type()), (5, Some("ab")));
        bytes[8] = 0x3d;
        assert_eq!(Frame::parse(&bytes, &LIMITS).unwrap().unwrap().header().unwrap_err().code(), 505);
    }
}
