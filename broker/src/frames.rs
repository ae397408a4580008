//! Finds the frames in a stream of bytes.
//!
//! Owns the position in the stream. A stream with broken framing is followed as far as possible: refusing it is up to
//! the connection.

/// Bytes of a frame before its payload.
const HEAD: usize = 7;
/// Bytes of a payload that are kept. Of a longer method, only the name is known.
const KEPT: usize = 4096;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its type; 0 for the protocol header.
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    /// The size of the payload in bytes.
    pub(crate) size: u32,
    /// The payload of a method or a content header, cut off if it is long.
    pub(crate) payload: Box<[u8]>,
}

/// The position in a stream. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Frames {
    count: u64,
    head: Vec<u8>,
    payload: Vec<u8>,
    /// Bytes of the current frame so far.
    inside: usize,
}

impl Frames {
    /// Returns how many frames are complete.
    #[cfg(feature = "testing")]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns how many bytes of the current frame there are so far.
    #[cfg(feature = "testing")]
    pub(crate) fn inside(&self) -> usize {
        self.inside
    }

    fn size(&self) -> Option<usize> {
        match &self.head[..] {
            [b'A', ..] if self.count == 0 => Some(0),
            [_, _, _, s0, s1, s2, s3] => Some(u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize),
            _ => None,
        }
    }

    /// Takes bytes, up to the given count of frames and bytes of the next frame. Returns how many bytes it took.
    pub(crate) fn feed(&mut self, bytes: &[u8], until: Option<(u64, usize)>, mut seen: impl FnMut(Frame)) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let most = match until {
                Some((frames, _)) if self.count > frames => return at,
                Some((frames, bytes)) if self.count == frames => match bytes.saturating_sub(self.inside) {
                    0 => return at,
                    left => left,
                },
                _ => usize::MAX,
            };
            let rest = &bytes[at..];
            let step = if self.head.len() < HEAD {
                let step = (HEAD - self.head.len()).min(rest.len()).min(most);
                self.head.extend_from_slice(&rest[..step]);
                step
            } else {
                // The payload and the octet after it.
                let left = HEAD + self.size().unwrap_or(0) + 1 - self.inside;
                let step = left.min(rest.len()).min(most);
                if matches!(self.head[0], 1 | 2) {
                    let room = KEPT.saturating_sub(self.payload.len());
                    self.payload.extend_from_slice(&rest[..step.min(room)]);
                }
                step
            };
            at += step;
            self.inside += step;
            if self.head.len() == HEAD
                && let Some(size) = self.size()
                && self.inside == HEAD + size + 1
            {
                self.end(size, &mut seen);
            }
        }
        at
    }

    fn end(&mut self, size: usize, seen: &mut impl FnMut(Frame)) {
        let is_header = self.count == 0 && self.head[0] == b'A';
        self.payload.truncate(size);
        let (kind, channel) = match is_header {
            true => (0, 0),
            false => (self.head[0], u16::from_be_bytes([self.head[1], self.head[2]])),
        };
        seen(Frame { kind, channel, size: size as u32, payload: std::mem::take(&mut self.payload).into() });
        self.head.clear();
        self.inside = 0;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"AMQP\0\0\x09\x01\x01\0\x05\0\0\0\x04abcd\xCE\x03\0\x05\0\0\0\x02xy\xCE\x08\0\0\0\0\0\0\xCE";

    #[test]
    fn frames_do_not_depend_on_how_the_bytes_are_split() {
        for size in 1..STREAM.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in STREAM.chunks(size) {
                assert_eq!(frames.feed(piece, None, |frame| seen.push(frame)), piece.len());
            }
            let kinds: Vec<_> = seen.iter().map(|frame| (frame.kind, frame.channel, frame.size)).collect();
            assert_eq!(kinds, [(0, 0, 0), (1, 5, 4), (3, 5, 2), (8, 0, 0)], "{size}");
            assert_eq!((&*seen[1].payload, &*seen[2].payload), (&b"abcd"[..], &b""[..]));
        }
    }

    #[test]
    fn feeding_stops_after_the_given_frames_and_bytes() {
        for (until, taken) in [((0, 3), 3), ((1, 0), 8), ((1, 5), 13), ((2, 0), 20), ((2, 9), 29), ((9, 0), 38)] {
            for size in 1..STREAM.len() {
                let mut frames = Frames::default();
                let fed: usize = STREAM.chunks(size).map(|piece| frames.feed(piece, Some(until), |_| {})).sum();
                assert_eq!(fed, taken, "{until:?} {size}");
            }
        }
    }
}
