//! The part of AMQP 0-9-1 that the counterpart and the bare loop need. Frames are written into one `Vec`; reading one
//! looks at the seven bytes of its header. It shares no code with HopMQ's codec, so neither hides a bug of the other.

/// The largest frame, in bytes, header and end included.
pub const FRAME_MAX: usize = 131_072;
/// The size of a frame's header, in bytes: type, channel, payload size.
pub const HEAD: usize = 7;
/// The bytes that a frame adds to its payload.
pub const OVERHEAD: usize = HEAD + 1;
/// The byte that ends each frame.
pub const END: u8 = 0xCE;
/// Frame types.
pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;
/// The first bytes of a client.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: u8,
    pub channel: u16,
    pub size: usize,
}

impl Head {
    /// Parses the header at the start of `bytes`; `None` if there are fewer than seven.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b = bytes.first_chunk::<HEAD>()?;
        Some(Self {
            kind: b[0],
            channel: u16::from_be_bytes([b[1], b[2]]),
            size: u32::from_be_bytes([b[3], b[4], b[5], b[6]]) as usize,
        })
    }

    /// The size of the frame, in bytes.
    pub fn total(&self) -> usize {
        self.size + OVERHEAD
    }
}

/// Reads the arguments of a method. Missing bytes read as zero or empty: only known peers connect.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n.min(self.0.len()));
        self.0 = tail;
        head
    }

    fn number(&mut self, n: usize) -> u64 {
        self.take(n).iter().fold(0, |sum, b| sum << 8 | u64::from(*b))
    }

    pub fn u8(&mut self) -> u8 {
        self.number(1) as u8
    }

    pub fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    pub fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }

    pub fn u64(&mut self) -> u64 {
        self.number(8)
    }

    pub fn short(&mut self) -> &'a str {
        let n = self.u8();
        std::str::from_utf8(self.take(n.into())).unwrap_or("")
    }
}

/// Encoded frames, one after the other.
#[derive(Default)]
pub struct Frames(pub Vec<u8>);

impl Frames {
    /// Appends a method frame. `arguments` appends the arguments.
    pub fn method(&mut self, channel: u16, class: u16, method: u16, arguments: impl FnOnce(&mut Self)) -> &mut Self {
        self.frame(METHOD, channel, |out| {
            out.u16(class).u16(method);
            arguments(out);
        })
    }

    /// Appends a content header without properties, and the body in frames of at most [`FRAME_MAX`] bytes.
    pub fn content(&mut self, channel: u16, body: &[u8]) -> &mut Self {
        self.content_in(channel, body, FRAME_MAX)
    }

    /// Appends a content header without properties, and the body in frames of at most `frame_max` bytes.
    pub fn content_in(&mut self, channel: u16, body: &[u8], frame_max: usize) -> &mut Self {
        self.frame(HEADER, channel, |out| {
            out.u16(60).u16(0).u64(body.len() as u64).u16(0);
        });
        for part in body.chunks(frame_max - OVERHEAD) {
            self.frame(BODY, channel, |out| out.0.extend_from_slice(part));
        }
        self
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: impl FnOnce(&mut Self)) -> &mut Self {
        self.u8(kind).u16(channel).u32(0);
        let start = self.0.len();
        payload(self);
        let size = (self.0.len() - start) as u32;
        self.0[start - 4..start].copy_from_slice(&size.to_be_bytes());
        self.u8(END)
    }

    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn short(&mut self, text: &str) -> &mut Self {
        assert!(text.len() < 256, "a short string holds 255 bytes");
        self.u8(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_method_is_parsed() {
        let mut out = Frames::default();
        out.method(3, 50, 10, |f| {
            f.u16(0).short("orders").u8(1);
        });
        let head = Head::parse(&out.0).unwrap();
        assert_eq!((head.kind, head.channel, head.total()), (METHOD, 3, out.0.len()));
        let mut fields = Fields(&out.0[HEAD..HEAD + head.size]);
        assert_eq!((fields.u16(), fields.u16(), fields.u16()), (50, 10, 0));
        assert_eq!((fields.short(), fields.u8(), fields.u64()), ("orders", 1, 0));
        assert_eq!(out.0.last(), Some(&END));
    }

    #[test]
    fn a_body_is_split_at_the_frame_limit() {
        let mut out = Frames::default();
        out.content(1, &vec![7; FRAME_MAX]);
        let sizes = std::iter::successors(Some(0), |at| Some(at + Head::parse(&out.0[*at..])?.total()))
            .filter_map(|at| Head::parse(&out.0[at..]))
            .map(|head| (head.kind, head.size));
        assert_eq!(sizes.collect::<Vec<_>>(), [(HEADER, 14), (BODY, FRAME_MAX - 8), (BODY, 8)]);
    }
}
