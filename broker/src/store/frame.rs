//! Frames: the groups in a file, one after the other, each with its length, its checksum and its address.
//!
//! ```text
//! file  = header (512 bytes: its own sector), frames
//! frame = payload length u32, crc32c u32 of the rest, address u64, synced u64, payload, zeros to a multiple of 8 bytes
//! ```
//! A header holds the format's version, the file's number in the order of use, the address of its first frame, its
//! size, how far it is known to be safe, and the size of the next file of the log once that exists. It is written again
//! when one of the last two changes, which a crash leaves undone or done: a sector is written as a whole. So a log that
//! lacks its newest file, or a part of it that was safe, is not mistaken for one that ended there.
//!
//! An address counts bytes since the log began; a file's header holds the address of its first frame. A frame that
//! holds another address than its own is left over from the file's earlier use: the frames end before it. `synced` is
//! the address up to which the log was safe when the frame was encoded. So an unreadable frame was damaged after it was
//! safe if a later frame's `synced` lies beyond it; otherwise the frame never reached the disk.

use std::io;

use super::storage::File;

/// Bytes before the first frame.
pub(super) const HEADER: u64 = 512;
/// Bytes of a frame before its payload.
pub(super) const FRAME: usize = 24;
const ALIGN: usize = 8;
/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// The purpose of a file of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Log,
    Manifest,
}

/// The version of the format that is written. Version 1 is read as well: its headers say nothing but `seq` and `base`.
const VERSION: u8 = 2;

/// The header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// Rises with each use of a file.
    pub(super) seq: u64,
    /// The address of the first frame.
    pub(super) base: u64,
    /// The length of the file in bytes; 0 if unknown.
    pub(super) size: u64,
    /// The address up to which the frames were safe when the header was written; 0 if unknown.
    pub(super) safe: u64,
    /// The length of the next file of the log, once its header is safe; before that 0.
    pub(super) next: u64,
}

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// A later version of the format.
    Later(u8),
    Damaged(&'static str),
}

impl Use {
    /// The first bytes of a file. The version follows as a digit.
    fn magic(self) -> &'static [u8; 7] {
        match self {
            Self::Log => b"HOPMQlg",
            Self::Manifest => b"HOPMQmf",
        }
    }

    pub(super) fn encode(self, header: Header) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..7].copy_from_slice(self.magic());
        bytes[7] = b'0' + VERSION;
        let Header { seq, base, size, safe, next } = header;
        for (at, field) in [seq, base, size, safe, next].iter().enumerate() {
            bytes[12 + at * 8..20 + at * 8].copy_from_slice(&field.to_le_bytes());
        }
        let crc = header_checksum(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of a file: `None` if the file was never used, an error that says what is wrong with it.
    pub(super) fn read(self, file: &dyn File) -> io::Result<Result<Option<Header>, BadHeader>> {
        let mut bytes = [0; HEADER as usize];
        read_full(file, &mut bytes, 0)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Ok(None));
        }
        if bytes[..7] != *self.magic() {
            return Ok(Err(BadHeader::Damaged("it has another format, or was written by another version")));
        }
        let version = bytes[7].wrapping_sub(b'0');
        let expected = if version == 1 { crc32c::crc32c(&bytes[12..]) } else { header_checksum(&bytes) };
        if u32_at(&bytes, 8) != expected || version == 0 {
            return Ok(Err(BadHeader::Damaged("the checksum of its header is wrong")));
        }
        if version > VERSION {
            return Ok(Err(BadHeader::Later(version)));
        }
        let [seq, base, size, safe, next] = [12, 20, 28, 36, 44].map(|at| u64_at(&bytes, at));
        Ok(Ok(Some(Header { seq, base, size, safe, next })))
    }
}

/// Returns the checksum of a header, of this version and of all later ones.
fn header_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..])
}

/// Returns the bytes of a frame with a payload of `len` bytes.
pub(super) fn frame_len(len: usize) -> usize {
    (FRAME + len).next_multiple_of(ALIGN)
}

/// Appends a frame with the given address and payload.
pub(super) fn put_frame(out: &mut Vec<u8>, address: u64, synced: u64, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&address.to_le_bytes());
    out.extend_from_slice(&synced.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + frame_len(payload.len()), 0);
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..])
}

/// Reads the frames of a file in order.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    file: &'a dyn File,
    base: u64,
    /// The address of the next frame.
    next: u64,
    /// The address at which the frames end, at the latest.
    limit: u64,
    window: Vec<u8>,
    /// The address at which the window begins.
    window_at: u64,
}

/// A frame whose address and checksum are right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// The address of its payload.
    pub(super) start: u64,
    /// The address up to which the log was safe when the frame was encoded.
    pub(super) synced: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Starts at `base`, the address of the first frame. Ends at `limit` if given, else at the end of the file.
    pub(super) fn new(file: &'a dyn File, base: u64, limit: Option<u64>) -> io::Result<Self> {
        let end = base + file.size()?.saturating_sub(HEADER);
        let limit = limit.map_or(end, |limit| limit.min(end));
        Ok(Self { file, base, next: base, limit, window: Vec::new(), window_at: base })
    }

    /// Reads the next frame. Returns `None` if there is no valid frame at that address.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame<'_>>> {
        let Some((len, synced)) = self.check(self.next)? else { return Ok(None) };
        let start = self.next + FRAME as u64;
        self.next += frame_len(len) as u64;
        let from = (start - self.window_at) as usize;
        Ok(Some(Frame { start, synced, payload: &self.window[from..from + len] }))
    }

    /// Returns the address after the last frame that was read.
    pub(super) fn at(&self) -> u64 {
        self.next
    }

    /// Returns the offset in the file of the next frame.
    pub(super) fn offset(&self) -> u64 {
        HEADER + self.next - self.base
    }

    /// Continues at this address.
    pub(super) fn seek(&mut self, address: u64) {
        self.next = address;
    }

    /// Returns the size of an unreadable frame at this address in bytes, if its address is right or would make its
    /// checksum right. Zero otherwise: the bytes may be from the file's earlier use.
    pub(super) fn remains(&mut self) -> io::Result<u64> {
        let at = self.next;
        if at + FRAME as u64 > self.limit {
            return Ok(0);
        }
        self.fill(at, FRAME)?;
        let from = (at - self.window_at) as usize;
        let Some(head) = self.window.get(from..from + FRAME) else { return Ok(0) };
        let len = u32_at(head, 0) as usize;
        let whole = (frame_len(len) as u64).min(self.limit - at);
        if u64_at(head, 8) == at {
            return Ok(whole);
        }
        if at + frame_len(len) as u64 > self.limit {
            return Ok(0);
        }
        self.fill(at, FRAME + len)?;
        let from = (at - self.window_at) as usize;
        let Some(mut frame) = self.window.get(from..from + FRAME + len).map(<[u8]>::to_vec) else { return Ok(0) };
        frame[8..16].copy_from_slice(&at.to_le_bytes());
        Ok(if u32_at(&frame, 4) == checksum(&frame) { whole } else { 0 })
    }

    /// Continues at the next valid frame after an unreadable one. Returns `None` if there is none.
    pub(super) fn skip(&mut self) -> io::Result<Option<()>> {
        let mut at = self.next + ALIGN as u64;
        while at + FRAME as u64 <= self.limit {
            self.fill(at, FRAME)?;
            let from = (at - self.window_at) as usize;
            let has = self.window.get(from..from + FRAME).is_some_and(|frame| u64_at(frame, 8) == at);
            if has && self.check(at)?.is_some() {
                self.next = at;
                return Ok(Some(()));
            }
            at += ALIGN as u64;
        }
        Ok(None)
    }

    /// Checks the frame at this address. Returns the length of its payload and its `synced`, or `None` if it is
    /// invalid.
    fn check(&mut self, at: u64) -> io::Result<Option<(usize, u64)>> {
        if at + FRAME as u64 > self.limit {
            return Ok(None);
        }
        self.fill(at, FRAME)?;
        let from = (at - self.window_at) as usize;
        let Some(head) = self.window.get(from..from + FRAME) else { return Ok(None) };
        let len = u32_at(head, 0) as usize;
        let address = u64_at(head, 8);
        let synced = u64_at(head, 16);
        if address != at || at + frame_len(len) as u64 > self.limit {
            return Ok(None);
        }
        self.fill(at, FRAME + len)?;
        let from = (at - self.window_at) as usize;
        let Some(frame) = self.window.get(from..from + FRAME + len) else { return Ok(None) };
        Ok((u32_at(frame, 4) == checksum(frame)).then_some((len, synced)))
    }

    /// Reads these bytes into the window, as far as the file has them.
    fn fill(&mut self, at: u64, len: usize) -> io::Result<()> {
        let end = self.window_at + self.window.len() as u64;
        if at >= self.window_at && at + len as u64 <= end {
            return Ok(());
        }
        let rest = (self.limit - at) as usize;
        self.window.resize(len.max(WINDOW).min(rest), 0);
        let read = read_full(self.file, &mut self.window, HEADER + at - self.base)?;
        self.window.truncate(read);
        self.window_at = at;
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends. Returns the number of bytes read.
pub(super) fn read_full(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], offset + count as u64)? {
            0 => break,
            read => count += read,
        }
    }
    Ok(count)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
