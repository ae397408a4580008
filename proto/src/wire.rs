//! Reads and writes the elementary types (specification §4.2).
//!
//! A [`Reader`] checks every length before it reads, and never allocates. Writers append to a `Vec<u8>`. Integers go
//! through `bytes::BufMut`, which is big-endian like AMQP.

use std::ops::Range;

use bytes::BufMut;

use crate::error::{Error, Flaw, SHORT_STRING_MAX, code};
use crate::method_id::MethodId;
use crate::violation::{ShortString, Violation};

/// A cursor over bytes from a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! integers {
    ($($name:ident)*) => {$(
        #[inline]
        pub(crate) fn $name(&mut self) -> Result<$name, Error> {
            self.array().map($name::from_be_bytes)
        }
    )*};
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns how many bytes are left.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(head)
    }

    integers!(u8 u16 u32 u64 i8 i16 i32 i64 f32 f64);

    #[inline]
    pub(crate) fn short_bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u8()?;
        self.take(len.into())
    }

    #[inline]
    pub(crate) fn short_str(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.short_bytes()?).map_err(|_| not_utf8())
    }

    /// Reads the longest valid prefix of a short string: RabbitMQ may truncate a reply text inside a character.
    #[inline]
    pub(crate) fn short_str_lossy(&mut self) -> Result<&'a str, Error> {
        Ok(valid_prefix(self.short_bytes()?))
    }

    #[inline]
    pub(crate) fn long_str(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| truncated())?)
    }

    /// Checks that nothing is left.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(trailing()) }
    }
}

impl MethodId {
    /// Returns the id that the payload of a method frame begins with.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault, if the payload is shorter than an id.
    #[inline]
    pub fn peek(payload: &[u8]) -> Result<Self, Error> {
        let Some(&[c0, c1, m0, m1]) = payload.first_chunk() else { return Err(no_id()) };
        Ok(Self { class: u16::from_be_bytes([c0, c1]), method: u16::from_be_bytes([m0, m1]) })
    }
}

#[cold]
fn no_id() -> Error {
    Violation::Malformed.by_peer(code::SYNTAX_ERROR, "a method frame is too short for the id of a method")
}

fn valid_prefix(bytes: &[u8]) -> &str {
    match bytes.utf8_chunks().next() {
        Some(chunk) => chunk.valid(),
        None => "",
    }
}

/// Returns bytes from a peer as text: U+FFFD if they are not UTF-8.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("\u{fffd}")
}

#[cold]
fn truncated() -> Error {
    Violation::Malformed.by_peer(code::SYNTAX_ERROR, "a value ends beyond its frame or table")
}

#[cold]
fn trailing() -> Error {
    Violation::Malformed.by_peer(code::SYNTAX_ERROR, "extra bytes follow the last value")
}

#[cold]
fn not_utf8() -> Error {
    Violation::Malformed.by_peer(code::SYNTAX_ERROR, "a short string is not valid UTF-8")
}

#[inline]
pub(crate) fn put_short_str(out: &mut Vec<u8>, string: ShortString, text: &str) -> Result<(), Flaw> {
    let len = u8::try_from(text.len()).map_err(|_| Flaw::short_string(string, text.len()))?;
    out.push(len);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Writes as many whole characters of `text` as fit: a close must not fail because its reason is long.
pub(crate) fn put_short_str_cut(out: &mut Vec<u8>, text: &str) {
    let cut = &text.as_bytes()[..text.len().min(SHORT_STRING_MAX)];
    let text = valid_prefix(cut);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

#[inline]
pub(crate) fn put_long_str(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Flaw> {
    let len = u32::try_from(bytes.len()).map_err(|_| Flaw::LongString)?;
    out.put_u32(len);
    out.extend_from_slice(bytes);
    Ok(())
}

#[inline]
pub(crate) fn put_id(out: &mut Vec<u8>, id: MethodId) {
    out.put_u32(u32::from(id.class) << 16 | u32::from(id.method));
}

/// Runs `write`, and removes what it wrote if it fails.
#[inline]
pub(crate) fn whole<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Replaces `range` with what `write` appends, and returns the new length of the range. A failure changes nothing.
pub(crate) fn replace<E>(
    out: &mut Vec<u8>,
    range: Range<usize>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<usize, E> {
    let end = out.len();
    whole(out, write)?;
    let written = out.len() - end;
    if range.start < end {
        out[range.start..].rotate_right(written);
        out.drain(range.start + written..range.end + written);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_never_reads_past_the_end() {
        let mut reader = Reader::new(&[0, 0, 0, 5, 1, 2]);
        assert_eq!(reader.long_str().unwrap_err().code(), code::SYNTAX_ERROR);
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff]);
        assert!(reader.clone().long_str().is_err());
        assert_eq!(reader.u32().unwrap(), u32::MAX);
        assert!(reader.u8().is_err());
        assert!(reader.finish().is_ok());
        assert!(Reader::new(&[0]).finish().is_err());
    }

    #[test]
    fn a_reply_text_that_ends_inside_a_character_is_read_up_to_it() {
        let text = Reader::new(b"\x04abc\xc3").short_str_lossy().unwrap();
        assert_eq!(text, "abc");
        assert_eq!(Reader::new(b"\x01\xff").short_str_lossy().unwrap(), "");
        assert_eq!(Reader::new(b"\x00").short_str_lossy().unwrap(), "");
        assert_eq!(Reader::new(b"\x01\xff").short_str().unwrap_err().code(), code::SYNTAX_ERROR);
    }

    #[test]
    fn a_long_reply_text_is_truncated_between_characters() {
        let mut out = Vec::new();
        put_short_str_cut(&mut out, &"é".repeat(200));
        assert_eq!(out[0], 254);
        assert_eq!(Reader::new(&out).short_str().unwrap(), "é".repeat(127));
    }

    #[test]
    fn a_short_string_of_256_bytes_is_refused_and_nothing_is_written() {
        let mut out = vec![7];
        let written = whole(&mut out, |out| {
            out.push(1);
            put_short_str(out, ShortString::Queue, &"x".repeat(256))
        });
        assert_eq!((written, out), (Err(Flaw::short_string(ShortString::Queue, 256)), vec![7]));
    }

    #[test]
    fn replacing_a_range_moves_the_rest() {
        for (range, expected) in [(1..3, "a--d"), (0..0, "--abcd"), (4..4, "abcd--"), (0..4, "--"), (3..4, "abc--")] {
            let mut out = b"abcd".to_vec();
            let written = replace(&mut out, range, |out| {
                out.extend_from_slice(b"--");
                Ok::<_, Flaw>(())
            });
            assert_eq!((written, &*out), (Ok(2), expected.as_bytes()));
        }
    }
}
