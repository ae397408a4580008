//! The send path: encoded frames that wait to be written.
//!
//! Owns the frames in order. Frames are appended to one growing buffer; a large body lies uncopied between two buffers.
//! A driver moves everything into its own [`Transmit`] in one short step, and writes that without holding a lock.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::Bytes;

/// A shared body of at least this many bytes is not copied.
pub(crate) const UNCOPIED: usize = 8 * 1024;
/// The largest empty buffer in bytes that is kept for reuse.
const KEPT: usize = 2 * 1024 * 1024;

/// Frames that wait to be written.
#[derive(Default)]
pub(crate) struct Output {
    done: VecDeque<Segment>,
    /// The bytes in `done`.
    done_size: usize,
    tail: Vec<u8>,
    spare: Vec<u8>,
    /// How many tails were moved to `done`.
    sealed: u64,
}

/// A position in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    sealed: u64,
    offset: usize,
}

enum Segment {
    Frames(Vec<u8>),
    Body(Bytes),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frames(frames) => frames,
            Self::Body(body) => body,
        }
    }
}

impl Output {
    /// Returns the buffer to append frames to.
    #[inline]
    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Returns where the next frame will begin.
    #[inline]
    pub(crate) fn position(&self) -> Position {
        Position { sealed: self.sealed, offset: self.tail.len() }
    }

    /// Returns how many bytes wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.done_size + self.tail.len()
    }

    /// Appends a body without a copy.
    pub(crate) fn push_body(&mut self, body: Bytes) {
        self.seal();
        self.done_size += body.len();
        self.done.push_back(Segment::Body(body));
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed += 1;
            let spare = std::mem::take(&mut self.spare);
            let frames = std::mem::replace(&mut self.tail, spare);
            self.done_size += frames.len();
            self.done.push_back(Segment::Frames(frames));
        }
    }

    /// Moves the whole output into `transmit`. Returns whether `transmit` holds anything.
    pub(crate) fn take(&mut self, transmit: &mut Transmit) -> bool {
        if let Some(spare) = transmit.spare.take()
            && spare.capacity() > self.spare.capacity()
        {
            self.spare = spare;
        }
        self.seal();
        transmit.size += std::mem::take(&mut self.done_size);
        if transmit.segments.is_empty() {
            std::mem::swap(&mut transmit.segments, &mut self.done);
        } else {
            transmit.segments.append(&mut self.done);
        }
        transmit.size > 0
    }

    /// Frees the memory that a burst needed.
    pub(crate) fn shrink(&mut self) {
        self.spare = Vec::new();
        if self.tail.is_empty() {
            self.tail = Vec::new();
        }
    }
}

// Debug output shows sizes, because the frames may hold credentials.

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("size", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmit").field("size", &self.size).finish_non_exhaustive()
    }
}

/// The frames that a driver is writing, in order.
///
/// Write the bytes of [`Transmit::slices`], then call [`Transmit::advance`] with the number of bytes written.
#[derive(Default)]
pub struct Transmit {
    segments: VecDeque<Segment>,
    /// How many bytes of the first segment are written.
    written: usize,
    size: usize,
    spare: Option<Vec<u8>>,
}

impl Transmit {
    /// Returns a `Transmit` without frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many bytes are left to write.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Returns whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Fills `slices` with the next bytes, for a vectored write, and returns the filled ones.
    pub fn slices<'a, 'b>(&'a self, slices: &'b mut [IoSlice<'a>]) -> &'b [IoSlice<'a>] {
        let mut count = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            let skip = if count == 0 { self.written } else { 0 };
            *slot = IoSlice::new(&segment.bytes()[skip..]);
            count += 1;
        }
        &slices[..count]
    }

    /// Returns the next bytes, for transports without vectored writes.
    pub fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| &segment.bytes()[self.written..])
    }

    /// Returns whether more than one slice is left.
    pub fn is_vectored(&self) -> bool {
        self.segments.len() > 1
    }

    /// Reports that the transport took `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.size = self.size.saturating_sub(count);
        self.written += count;
        while let Some(segment) = self.segments.front() {
            let size = segment.bytes().len();
            if self.written < size {
                break;
            }
            self.written -= size;
            if let Some(Segment::Frames(mut frames)) = self.segments.pop_front()
                && frames.capacity() <= KEPT
                && self.spare.as_ref().is_none_or(|spare| spare.capacity() < frames.capacity())
            {
                frames.clear();
                self.spare = Some(frames);
            }
        }
    }

    /// Returns how many bytes of memory it keeps for reuse.
    pub fn capacity(&self) -> usize {
        self.spare.as_ref().map_or(0, Vec::capacity)
    }

    /// Frees the memory that a burst needed.
    pub fn shrink(&mut self) {
        self.spare = None;
        self.segments.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(transmit: &mut Transmit, step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        while !transmit.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let all: Vec<u8> = transmit.slices(&mut slices).iter().flat_map(|slice| slice.iter().copied()).collect();
            let count = step.min(all.len());
            written.extend_from_slice(&all[..count]);
            transmit.advance(count);
        }
        written
    }

    #[test]
    fn partial_writes_keep_the_order() {
        for step in 1..40 {
            let mut output = Output::default();
            let mut transmit = Transmit::new();
            let mut expected = Vec::new();
            for round in 0..5_u8 {
                output.frames().extend_from_slice(&[round; 7]);
                output.push_body(Bytes::from(vec![round + 100; 11]));
                output.frames().extend_from_slice(&[round + 50; 3]);
                expected.extend_from_slice(&[round; 7]);
                expected.extend_from_slice(&[round + 100; 11]);
                expected.extend_from_slice(&[round + 50; 3]);
            }
            assert_eq!(output.len(), expected.len());
            assert!(output.take(&mut transmit));
            assert_eq!(output.len(), 0);
            assert_eq!(drain(&mut transmit, step), expected);
            assert!(!output.take(&mut transmit));
        }
    }

    #[test]
    fn buffers_are_reused() {
        let mut output = Output::default();
        let mut transmit = Transmit::new();
        let mut pointers = std::collections::HashSet::new();
        for _ in 0..100 {
            output.frames().extend_from_slice(&[1; 1000]);
            output.take(&mut transmit);
            pointers.insert(transmit.chunk().as_ptr());
            drain(&mut transmit, 1000);
        }
        assert!(pointers.len() <= 3, "{} buffers for 100 writes", pointers.len());
    }
}
