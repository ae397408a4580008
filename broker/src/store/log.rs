//! The log: all groups in one order, laid out in files before they are written.
//!
//! A group gets its address when it is appended, so the index knows at once where its messages will be. Until a group
//! is safe, its messages are read from memory.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, HEADER};
use super::group::Group;
use super::index::{Index, Span};
use super::settings::Settings;
use super::storage::File;

/// Bytes of the first log file after a start, at most. Each later one is twice as large, up to
/// [`Settings::log_file_size`], so that a broker with little traffic takes little space.
const FIRST_FILE: u64 = 1 << 20;
/// Bytes of a buffer that is kept for reuse, at most.
const KEPT_BUFFER: usize = 8 << 20;

/// A log file, open or not created yet.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) seq: u64,
    /// The address of its first frame.
    pub(super) base: u64,
    /// Its length in bytes, once it is created.
    pub(super) capacity: u64,
    pub(super) file: Option<Named>,
}

/// An open file with its name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
}

/// A log file that can be reused.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) named: Named,
    pub(super) capacity: u64,
    /// The address of its first frame in its last use.
    pub(super) base: Option<u64>,
}

/// Frames to write to one file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) seq: u64,
    /// The address of its first byte.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// Bodies that must be in their own files before this chunk is written.
    pub(super) bodies: Vec<(u64, Bytes)>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    /// The log files, oldest first; the last one is in use.
    pub(super) files: VecDeque<LogFile>,
    pub(super) spares: Vec<Spare>,
    /// The sequence number of the next file.
    pub(super) next_seq: u64,
    /// The address of the next frame.
    pub(super) end: u64,
    /// The address up to which the log is safe.
    pub(super) synced: u64,
    /// Chunks that the writer has not taken yet.
    pub(super) pending: VecDeque<Chunk>,
    /// Chunks that the writer is writing.
    pub(super) writing: VecDeque<Arc<Chunk>>,
    /// Bytes in `pending` and `writing`, bodies included.
    pub(super) waiting: usize,
    buffer: Vec<u8>,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.bodies.iter().map(|(_, body)| body.len()).sum::<usize>()
    }
}

impl Log {
    /// Adds a group to the pending chunks, applies it to the index, and returns the address after it.
    pub(super) fn append(&mut self, group: &mut Group, index: &mut Index, settings: &Settings) -> u64 {
        let len = frame::frame_len(group.bytes.len());
        self.make_room(len as u64, index, settings);
        let start = self.end + frame::FRAME as u64;
        for (at, _) in &group.large {
            // The address of a body's first mention is a unique id for its file.
            group.bytes[*at..*at + 8].copy_from_slice(&start.wrapping_add(*at as u64).to_le_bytes());
        }
        let seq = self.files.back().expect("make_room added a file").seq;
        if self.pending.back().is_none_or(|chunk| chunk.seq != seq) {
            let bytes = std::mem::take(&mut self.buffer);
            self.pending.push_back(Chunk { seq, at: self.end, bytes, bodies: Vec::new() });
        }
        let chunk = self.pending.back_mut().expect("a chunk was added above");
        frame::put_frame(&mut chunk.bytes, self.end, self.synced, &group.bytes);
        self.waiting += len;
        for (at, body) in group.large.drain(..) {
            self.waiting += body.len();
            chunk.bodies.push((start + at as u64, body));
        }
        self.end += len as u64;
        index.apply(&group.bytes, start, |_, _| {}).expect("groups are well formed");
        self.end
    }

    /// Begins another file if the one in use has fewer than `len` bytes left.
    fn make_room(&mut self, len: u64, index: &mut Index, settings: &Settings) {
        let last = self.files.back();
        if last.is_some_and(|file| HEADER + (self.end - file.base) + len <= file.capacity) {
            return;
        }
        self.begin_file(len, index, settings);
    }

    /// Begins a file with space for `len` bytes of frames at least. Returns its sequence number.
    pub(super) fn begin_file(&mut self, len: u64, index: &mut Index, settings: &Settings) -> u64 {
        let usual = self.files.back().map_or(FIRST_FILE.min(settings.log_file_size), |file| {
            next_capacity(file.capacity, settings.log_file_size)
        });
        let file = LogFile { seq: self.next_seq, base: self.end, capacity: usual.max(HEADER + len), file: None };
        index.spans.push_back(Span { seq: file.seq, base: file.base, live: 0 });
        self.files.push_back(file);
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// Returns the file before the one with this sequence number, with its own number and its first address.
    pub(super) fn before(&self, seq: u64) -> Option<(Named, u64, u64)> {
        let before = self.files.iter().take_while(|file| file.seq < seq).last()?;
        Some((before.file.clone()?, before.seq, before.base))
    }

    /// Returns the bytes from the address `at` to the end of its chunk, if that chunk is not safe yet.
    pub(super) fn in_memory(&self, at: u64) -> Option<&[u8]> {
        let chunks = self.writing.iter().map(Arc::as_ref).chain(&self.pending);
        let chunk = chunks.into_iter().find(|chunk| chunk.at <= at && at < chunk.end())?;
        Some(&chunk.bytes[(at - chunk.at) as usize..])
    }

    /// Returns a body whose file may not be written yet.
    pub(super) fn body_in_memory(&self, id: u64) -> Option<Bytes> {
        let mut chunks = self.writing.iter().map(Arc::as_ref).chain(&self.pending);
        chunks.find_map(|chunk| chunk.bodies.iter().find(|(body, _)| *body == id)).map(|(_, body)| body.clone())
    }

    /// Returns the file that holds an address, and the offset in that file.
    pub(super) fn locate(&self, at: u64) -> Option<(&Named, u64)> {
        let after = self.files.partition_point(|file| file.base <= at);
        let file = &self.files[after.checked_sub(1)?];
        Some((file.file.as_ref()?, HEADER + at - file.base))
    }

    pub(super) fn file_mut(&mut self, seq: u64) -> Option<&mut LogFile> {
        self.files.iter_mut().find(|file| file.seq == seq)
    }

    /// Hands the pending chunks to the writer.
    pub(super) fn begin(&mut self) {
        self.writing.extend(self.pending.drain(..).map(Arc::new));
    }

    /// Marks the first chunk in `writing` as safe.
    pub(super) fn written(&mut self) {
        let Some(chunk) = self.writing.pop_front() else { return };
        self.synced = chunk.end();
        self.waiting -= chunk.weight();
        if let Some(mut chunk) = Arc::into_inner(chunk)
            && chunk.bytes.capacity() <= KEPT_BUFFER
            && chunk.bytes.capacity() > self.buffer.capacity()
        {
            chunk.bytes.clear();
            self.buffer = chunk.bytes;
        }
    }

    /// Returns the size of the spare file to create, if one is needed: the file in use is half full and has no spare.
    pub(super) fn wanted_spare(&self, largest: u64) -> Option<u64> {
        let file = self.files.back()?;
        let capacity = next_capacity(file.capacity, largest);
        let has = || self.spares.iter().any(|spare| spare.capacity == capacity);
        (self.end - file.base > file.capacity / 2 && !has()).then_some(capacity)
    }

    /// Removes and returns the spare files that have become too small.
    pub(super) fn outgrown(&mut self, largest: u64) -> Vec<Spare> {
        let Some(file) = self.files.back() else { return Vec::new() };
        let capacity = next_capacity(file.capacity, largest);
        self.spares.extract_if(.., |spare| spare.capacity < capacity).collect()
    }

    /// Returns the bytes of all files before the one in use.
    pub(super) fn full_bytes(&self) -> u64 {
        self.files.iter().rev().skip(1).map(|file| file.capacity).sum()
    }
}

/// Returns the size of the file after one of size `capacity`.
fn next_capacity(capacity: u64, largest: u64) -> u64 {
    capacity.saturating_mul(2).max(FIRST_FILE).min(largest)
}

pub(super) fn file_name(number: u64) -> String {
    format!("log-{number}")
}

pub(super) fn body_name(id: u64) -> String {
    format!("body-{id}")
}
