//! The frame of AMQP 0-9-1 (specification, section 2.3.5): `type: u8, channel: u16, size: u32, payload, 0xCE`.

use crate::{Error, code};

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
pub(crate) enum Kind {
    Method = 1,
    Header = 2,
    Body = 3,
    Heartbeat = 8,
}

/// The first seven bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) channel: u16,
    pub(crate) size: usize,
}

impl Head {
    /// Reads the head of a frame, or `None` if fewer than seven bytes are there.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some(head) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
        let kind = match head[0] {
            1 => Kind::Method,
            2 => Kind::Header,
            3 => Kind::Body,
            8 => Kind::Heartbeat,
            _ => return Err(not_a_frame(bytes)),
        };
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        Ok(Some(Self { kind, channel, size }))
    }

    /// The whole frame in bytes, with its end octet.
    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.size.saturating_add(OVERHEAD)
    }
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
