//! The encoding of operations in the log and in the manifest. All numbers are little-endian.
//!
//! ```text
//! operation = tag u8, fields; numbers as varints, bytes with a length prefix
//! parcel    = crc32c u32 of the rest but the file's id, head length u32 (highest bit set: the body has its own file),
//!             body length u32, [id of the body's file u64,] head, [body]
//! ```
//! A parcel is a message's content. A checkpoint copies it unchanged from the log to a segment, and every read checks
//! its checksum, which covers the body even if that has its own file.

use bytes::Bytes;

use super::{Content, Position, QueueId};

/// Bytes of a parcel before the head, unless the body has its own file.
pub(super) const PARCEL_PREFIX: usize = 12;
const IN_FILE: u32 = 1 << 31;

/// The bytes are truncated or not a valid encoding. Says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends numbers as runs of consecutive numbers: the length of each run, then the distance of its first number from
/// the end of the run before; a zero ends the list.
pub(super) fn put_runs(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u64>) {
    let mut start = 0_u64;
    let mut count = 0_u64;
    let mut end = 0_u64;
    let mut put = |start: u64, count: u64| {
        if count > 0 {
            put_number(out, count);
            put_number(out, start.wrapping_sub(end));
            end = start.wrapping_add(count);
        }
    };
    for number in numbers {
        if count > 0 && start.checked_add(count) == Some(number) {
            count += 1;
        } else {
            put(start, count);
            (start, count) = (number, 1);
        }
    }
    put(start, count);
    out.push(0);
}

/// Decodes bytes that the `put_` functions encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Self {
        Self { whole, at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.whole.len()
    }

    /// Returns the number of bytes that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self
            .at
            .checked_add(count)
            .filter(|end| *end <= self.whole.len())
            .ok_or(Malformed("a record is truncated"))?;
        let bytes = &self.whole[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("a number has more than 64 bits"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.number()?;
        self.take(usize::try_from(len).map_err(|_| Malformed("a record is truncated"))?)
    }

    /// Calls `each` with the first number and the length of each run.
    pub(super) fn runs(&mut self, mut each: impl FnMut(u64, u64)) -> Result<(), Malformed> {
        let mut end = 0_u64;
        loop {
            let count = self.number()?;
            if count == 0 {
                return Ok(());
            }
            let start = end.wrapping_add(self.number()?);
            end = start.checked_add(count).ok_or(Malformed("a run of numbers overflows 64 bits"))?;
            each(start, count);
        }
    }
}

/// A message's content, encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parcel<'a> {
    /// The whole parcel.
    pub(super) bytes: &'a [u8],
    pub(super) body_len: u32,
    /// The id of the body's own file, if it has one.
    pub(super) file: Option<u64>,
}

/// Appends a parcel. With `in_file`, leaves out the body and returns the index at which the caller must put the id of
/// the body's file. The checksum does not cover the id.
pub(super) fn put_parcel(out: &mut Vec<u8>, head: &[u8], body: &[u8], in_file: bool) -> Option<usize> {
    let start = out.len();
    let flag = if in_file { IN_FILE } else { 0 };
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(head.len() as u32 | flag).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let mut id = None;
    if in_file {
        id = Some(out.len());
        out.extend_from_slice(&[0; 8]);
    }
    out.extend_from_slice(head);
    let mut crc = checksum(&out[start + 4..start + PARCEL_PREFIX], head);
    if !in_file {
        out.extend_from_slice(body);
    }
    crc = crc32c::crc32c_append(crc, body);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    id
}

fn checksum(lengths: &[u8], head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(lengths), head)
}

impl<'a> Parcel<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let mut ahead = *reader;
        let (len, body_len, file) = parcel_len(&mut ahead)?;
        Ok(Self { bytes: reader.take(len)?, body_len, file })
    }
}

/// Returns the length of the next parcel, the length of its body, and the id of the body's own file, if it has one.
pub(super) fn parcel_len(reader: &mut Reader<'_>) -> Result<(usize, u32, Option<u64>), Malformed> {
    reader.u32()?;
    let head = reader.u32()?;
    let body = reader.u32()?;
    let head_len = (head & !IN_FILE) as usize;
    if head & IN_FILE == 0 {
        let len = PARCEL_PREFIX.checked_add(head_len).and_then(|len| len.checked_add(body as usize));
        return Ok((len.ok_or(Malformed("the length of a message is too large"))?, body, None));
    }
    Ok((PARCEL_PREFIX + 8 + head_len, body, Some(reader.u64()?)))
}

/// Decodes a parcel and verifies its checksum. `body` reads a body that has its own file.
pub(super) fn unpack<E>(
    parcel: &Bytes,
    body: impl FnOnce(u64, u32) -> Result<Bytes, E>,
) -> Result<Result<Content, Malformed>, E> {
    let mut reader = Reader::new(parcel);
    let (len, body_len, file) = match parcel_len(&mut reader) {
        Ok(lengths) if lengths.0 == parcel.len() => lengths,
        Ok(_) => return Ok(Err(Malformed("the length of a message is wrong"))),
        Err(malformed) => return Ok(Err(malformed)),
    };
    let content = match file {
        None => Content {
            head: parcel.slice(PARCEL_PREFIX..len - body_len as usize),
            body: parcel.slice(len - body_len as usize..),
        },
        Some(id) => Content { head: parcel.slice(PARCEL_PREFIX + 8..), body: body(id, body_len)? },
    };
    let crc = crc32c::crc32c_append(checksum(&parcel[4..PARCEL_PREFIX], &content.head), &content.body);
    let expected = u32::from_le_bytes(parcel[..4].try_into().expect("four bytes"));
    Ok(if crc == expected { Ok(content) } else { Err(Malformed("the checksum of a message is wrong")) })
}

/// One operation of a group.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<'a> {
    Publish(Publish<'a>),
    Settle { queue: QueueId, positions: Reader<'a> },
    Delivered { queue: QueueId, position: Position, count: u32 },
    DeclareQueue { queue: QueueId, definition: &'a [u8] },
    RemoveQueue { queue: QueueId },
    Put { key: &'a [u8], value: &'a [u8] },
    Remove { key: &'a [u8] },
}

/// A message that is published to some queues.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publish<'a> {
    pub(super) priority: u8,
    targets: Reader<'a>,
    count: u64,
    /// The index in the group at which the parcel begins.
    pub(super) at: usize,
    pub(super) parcel: Parcel<'a>,
}

/// A decoded [`super::Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addressee {
    pub(super) queue: QueueId,
    pub(super) position: Position,
    pub(super) expires: Option<u64>,
}

pub(super) const PUBLISH: u8 = 1;
pub(super) const SETTLE: u8 = 2;
pub(super) const DELIVERED: u8 = 3;
pub(super) const DECLARE_QUEUE: u8 = 4;
pub(super) const REMOVE_QUEUE: u8 = 5;
pub(super) const PUT: u8 = 6;
pub(super) const REMOVE: u8 = 7;

impl<'a> Operation<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let tag = reader.byte()?;
        let operation = match tag {
            PUBLISH => Self::Publish(Publish::read(reader)?),
            SETTLE => {
                let queue = QueueId(reader.number()?);
                let positions = *reader;
                reader.runs(|_, _| {})?;
                Self::Settle { queue, positions }
            }
            DELIVERED => Self::Delivered {
                queue: QueueId(reader.number()?),
                position: Position(reader.number()?),
                count: reader.number()? as u32,
            },
            DECLARE_QUEUE => Self::DeclareQueue { queue: QueueId(reader.number()?), definition: reader.bytes()? },
            REMOVE_QUEUE => Self::RemoveQueue { queue: QueueId(reader.number()?) },
            PUT => Self::Put { key: reader.bytes()?, value: reader.bytes()? },
            REMOVE => Self::Remove { key: reader.bytes()? },
            _ => return Err(Malformed("an operation has an unknown tag")),
        };
        Ok(operation)
    }
}

impl<'a> Publish<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let priority = reader.byte()?;
        let count = reader.number()?;
        let targets = *reader;
        for _ in 0..count {
            read_addressee(reader)?;
        }
        let at = reader.at();
        Ok(Self { priority, targets, count, at, parcel: Parcel::read(reader)? })
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = Addressee> + use<'a> {
        let mut reader = self.targets;
        (0..self.count).map_while(move |_| read_addressee(&mut reader).ok())
    }
}

pub(super) fn put_addressee(out: &mut Vec<u8>, target: &Addressee) {
    put_number(out, target.queue.0);
    put_number(out, target.position.0);
    put_number(out, target.expires.map_or(0, |expires| expires.saturating_add(1)));
}

pub(super) fn read_addressee(reader: &mut Reader<'_>) -> Result<Addressee, Malformed> {
    Ok(Addressee {
        queue: QueueId(reader.number()?),
        position: Position(reader.number()?),
        expires: reader.number()?.checked_sub(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_encoding() {
        for number in (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, u64::MAX >> bit]) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.number(), Ok(number));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn runs_survive_encoding_in_any_order() {
        let cases: [&[u64]; 5] = [&[], &[0], &[5, 6, 7, 9], &[9, 3, 4, 1], &[u64::MAX - 1, 0, 1]];
        for numbers in cases {
            let mut bytes = Vec::new();
            put_runs(&mut bytes, numbers.iter().copied());
            let mut found = Vec::new();
            Reader::new(&bytes)
                .runs(|start, count| found.extend(start..start + count))
                .expect("the runs are well formed");
            assert_eq!(found, numbers);
        }
    }

    #[test]
    fn a_million_consecutive_positions_take_five_bytes() {
        let mut bytes = Vec::new();
        put_runs(&mut bytes, 7..1_000_007);
        assert_eq!(bytes.len(), 5);
    }

    #[test]
    fn a_truncated_operation_is_an_error() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[PUBLISH, 3]);
        put_number(&mut bytes, 1);
        put_addressee(&mut bytes, &Addressee { queue: QueueId(300), position: Position(70_000), expires: Some(0) });
        put_parcel(&mut bytes, b"head", b"body", false);
        assert!(matches!(Operation::read(&mut Reader::new(&bytes)), Ok(Operation::Publish(_))));
        for len in 0..bytes.len() {
            assert!(Operation::read(&mut Reader::new(&bytes[..len])).is_err());
        }
    }
}
