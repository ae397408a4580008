//! Frames: the groups in a file, one after the other, each with its length, its checksum and its address.
//!
//! ```text
//! file  = header (512 bytes: its own sector), frames
//! frame = payload length u32, crc32c u32 of the rest, address u64, synced u64, payload, zeros to a multiple of 8 bytes
//! ```
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

/// The header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Rises with each use of a file.
    pub(super) seq: u64,
    /// The address of the first frame.
    pub(super) base: u64,
}

impl Use {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Log => b"HOPMQlg1",
            Self::Manifest => b"HOPMQmf1",
        }
    }

    pub(super) fn encode(self, header: Header) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(self.magic());
        bytes[12..20].copy_from_slice(&header.seq.to_le_bytes());
        bytes[20..28].copy_from_slice(&header.base.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of a file: `None` if the file was never used, an error that says what is wrong with it.
    pub(super) fn read(self, file: &dyn File) -> io::Result<Result<Option<Header>, &'static str>> {
        let mut bytes = [0; HEADER as usize];
        read_full(file, &mut bytes, 0)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Ok(None));
        }
        if bytes[..8] != *self.magic() {
            return Ok(Err("it has another format, or was written by another version"));
        }
        if u32_at(&bytes, 8) != crc32c::crc32c(&bytes[12..]) {
            return Ok(Err("the checksum of its header is wrong"));
        }
        Ok(Ok(Some(Header { seq: u64_at(&bytes, 12), base: u64_at(&bytes, 20) })))
    }
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
