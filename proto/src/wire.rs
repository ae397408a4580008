//! Reading and writing the elementary types of the wire (specification §4.2).
//!
//! A [`Reader`] checks every length before it reads, and never allocates. Writers append to a `Vec<u8>`;
//! integers go through `bytes::BufMut`, which is big-endian as AMQP is.

use std::ops::Range;

use bytes::BufMut;

use crate::Error;
use crate::error::{Flaw, code};
use crate::table::FieldTable;

/// A cursor over the bytes that a peer sent.
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

    /// How many bytes are left.
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

    /// The longest valid beginning of a short string: RabbitMQ may cut a reply text in the middle of a character.
    #[inline]
    pub(crate) fn short_str_lossy(&mut self) -> Result<&'a str, Error> {
        Ok(valid_prefix(self.short_bytes()?))
    }

    #[inline]
    pub(crate) fn long_str(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| truncated())?)
    }

    #[inline]
    pub(crate) fn table(&mut self) -> Result<FieldTable<&'a [u8]>, Error> {
        FieldTable::parse(self.long_str()?)
    }

    /// Everything must have been read.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(trailing()) }
    }
}

fn valid_prefix(bytes: &[u8]) -> &str {
    match bytes.utf8_chunks().next() {
        Some(chunk) => chunk.valid(),
        None => "",
    }
}

#[cold]
fn truncated() -> Error {
    Error::peer(code::SYNTAX_ERROR, "a value is longer than what holds it")
}

#[cold]
fn trailing() -> Error {
    Error::peer(code::SYNTAX_ERROR, "bytes follow the last argument")
}

#[cold]
fn not_utf8() -> Error {
    Error::peer(code::SYNTAX_ERROR, "a short string is not UTF-8")
}

#[inline]
pub(crate) fn put_short_str(out: &mut Vec<u8>, text: &str) -> Result<(), Flaw> {
    let len = u8::try_from(text.len()).map_err(|_| Flaw::ShortString)?;
    out.push(len);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Writes as much of `text` as fits, in whole characters: a close must not fail because its reason is long.
pub(crate) fn put_short_str_cut(out: &mut Vec<u8>, text: &str) {
    let cut = &text.as_bytes()[..text.len().min(255)];
    let text = valid_prefix(cut);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

#[inline]
pub(crate) fn put_long_str(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Flaw> {
    let len = u32::try_from(bytes.len()).map_err(|_| Flaw::Length)?;
    out.put_u32(len);
    out.extend_from_slice(bytes);
    Ok(())
}

#[inline]
pub(crate) fn put_table<B: AsRef<[u8]>>(out: &mut Vec<u8>, table: &FieldTable<B>) -> Result<(), Flaw> {
    match table.flaw() {
        None => put_long_str(out, table.as_bytes()),
        Some(flaw) => Err(flaw),
    }
}

/// Runs `write`, and takes back what it wrote if it fails.
#[inline]
pub(crate) fn whole<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Puts what `write` appends in the place of `range`, and says how long it is. A failure changes nothing.
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
        assert!(reader.clone().table().is_err());
        assert_eq!(reader.u32().unwrap(), u32::MAX);
        assert!(reader.u8().is_err());
        assert!(reader.finish().is_ok());
        assert!(Reader::new(&[0]).finish().is_err());
    }

    #[test]
    fn a_reply_text_may_be_cut_in_a_character() {
        let text = Reader::new(b"\x04abc\xc3").short_str_lossy().unwrap();
        assert_eq!(text, "abc");
        assert_eq!(Reader::new(b"\x01\xff").short_str_lossy().unwrap(), "");
        assert_eq!(Reader::new(b"\x00").short_str_lossy().unwrap(), "");
        assert_eq!(Reader::new(b"\x01\xff").short_str().unwrap_err().code(), code::SYNTAX_ERROR);
    }

    #[test]
    fn a_reply_text_is_cut_between_characters() {
        let mut out = Vec::new();
        put_short_str_cut(&mut out, &"é".repeat(200));
        assert_eq!(out[0], 254);
        assert_eq!(Reader::new(&out).short_str().unwrap(), "é".repeat(127));
    }

    #[test]
    fn a_string_of_256_bytes_is_refused_and_nothing_is_written() {
        let mut out = vec![7];
        let written = whole(&mut out, |out| {
            out.push(1);
            put_short_str(out, &"x".repeat(256))
        });
        assert_eq!((written, out), (Err(Flaw::ShortString), vec![7]));
    }

    #[test]
    fn replacing_moves_the_rest() {
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
