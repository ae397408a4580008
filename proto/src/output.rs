//! The way out: what waits to be written.
//!
//! Owns the encoded frames in order. Small things are appended to one growing buffer, large bodies stand between two
//! buffers as they are, uncopied. A driver swaps everything out into its own [`Transmit`] in one short step, and writes
//! it without holding anything.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::Bytes;

/// A body of at least this many bytes that the caller gives away is written from where it lies.
pub(crate) const UNCOPIED: usize = 8 * 1024;
/// A buffer that is kept for the next frames although it is empty, in bytes.
const KEPT: usize = 2 * 1024 * 1024;

/// Frames that wait to be written.
#[derive(Default)]
pub(crate) struct Output {
    done: VecDeque<Segment>,
    /// Bytes in `done`.
    done_size: usize,
    tail: Vec<u8>,
    spare: Vec<u8>,
    /// Tails that were sealed.
    sealed: u64,
}

/// A place in the output.
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
    /// The buffer to append frames to.
    #[inline]
    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Where the next frame begins.
    #[inline]
    pub(crate) fn position(&self) -> Position {
        Position { sealed: self.sealed, offset: self.tail.len() }
    }

    /// Takes the last `count` bytes back, which nobody has taken to write them.
    #[inline]
    pub(crate) fn take_back(&mut self, count: usize) {
        self.tail.truncate(self.tail.len() - count);
    }

    /// Bytes that wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.done_size + self.tail.len()
    }

    /// Queues a body behind the frames so far.
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

    /// Moves all of it into `transmit`. Returns whether there was anything.
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

    /// Gives memory back that a burst had needed.
    pub(crate) fn shrink(&mut self) {
        self.spare = Vec::new();
        if self.tail.is_empty() {
            self.tail = Vec::new();
        }
    }
}

// There are credentials among the frames: what is shown of them is their size.

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

/// What a driver writes at the moment: the frames that it took from a connection, in order.
///
/// Write the bytes of [`Transmit::slices`], then [`Transmit::advance`] by as many as the transport took.
#[derive(Default)]
pub struct Transmit {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are written already.
    written: usize,
    size: usize,
    spare: Option<Vec<u8>>,
}

impl Transmit {
    /// Nothing to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that are left to write.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Fills `slices` with what is to be written next, for a vectored write, and returns those that are filled.
    pub fn slices<'a, 'b>(&'a self, slices: &'b mut [IoSlice<'a>]) -> &'b [IoSlice<'a>] {
        let mut count = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            let skip = if count == 0 { self.written } else { 0 };
            *slot = IoSlice::new(&segment.bytes()[skip..]);
            count += 1;
        }
        &slices[..count]
    }

    /// The next bytes to write, for transports without vectored writes.
    pub fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| &segment.bytes()[self.written..])
    }

    /// Whether more than one slice is left.
    pub fn is_vectored(&self) -> bool {
        self.segments.len() > 1
    }

    /// Says that the transport took `count` bytes.
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

    /// Gives memory back that a burst had needed.
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
    fn order_holds_for_every_step() {
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
    fn buffers_are_used_again() {
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
