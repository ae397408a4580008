//! The receive buffer: where reads go, and whence messages are cut without a copy.
//!
//! Owns the memory. Bytes are read into it, and slices of it go out, which share it. What is shared can't be written
//! to, so reads go on in another piece of memory; once nobody shares the first any more it is used again, neither
//! allocated nor cleared anew. It knows no frames.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// The buffer of an idle connection, in bytes. It doubles while reads fill it.
const MIN: usize = 8 * 1024;
/// What it grows to.
const MAX: usize = 256 * 1024;
/// What it grows to where frames are large: so that few of them are cut by its end, for what is cut is copied.
const MAX_LARGE: usize = 1024 * 1024;
/// Frames that the buffer should hold.
const FRAMES: usize = 16;
/// A read into less room than this is not worth its system call.
const MIN_SPACE: usize = 2 * 1024;
/// Pieces of memory that are kept for later, while messages hold on to them.
const RETIRED: usize = 8;
/// If no more than this part of the memory was read, it is copied: so that a message that is held for long keeps no
/// more than this many times its own size alive.
const SPARSE: usize = 4;

/// The buffer. See the [module's documentation](self).
pub(crate) struct Buffer {
    /// Where reads go; initialised to its whole length.
    space: BytesMut,
    /// Bytes at the front of `space` that have come and belong behind `ready`.
    filled: usize,
    /// What is being cut, and shared by what was cut from it.
    ready: Arc<Bytes>,
    /// What is left of `ready`.
    unread: Range<usize>,
    retired: Vec<Arc<Bytes>>,
    /// The size of the next piece of memory.
    size: usize,
    largest: usize,
}

/// A part of the buffer's memory that shares it: smaller than [`Bytes`], and made and dropped with less work.
#[derive(Clone)]
pub(crate) struct Slice {
    memory: Arc<Bytes>,
    start: usize,
    end: usize,
}

impl Slice {
    /// All of `bytes`.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { start: 0, end: bytes.len(), memory: Arc::new(bytes) }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The part of it in `range`, or what there is of it.
    #[inline]
    pub(crate) fn get(&self, range: Range<usize>) -> &[u8] {
        let range = self.start + range.start..self.end.min(self.start.saturating_add(range.end));
        self.memory.get(range).unwrap_or_default()
    }

    /// What is left from `start` on, as bytes of their own right.
    pub(crate) fn bytes_from(&self, start: usize) -> Bytes {
        self.memory.slice(self.end.min(self.start + start)..self.end)
    }
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self {
            space: BytesMut::zeroed(MIN),
            filled: 0,
            ready: Arc::default(),
            unread: 0..0,
            retired: Vec::new(),
            size: MIN,
            largest: MAX,
        }
    }

    /// Room for the next read: for `missing` bytes at least, and never none.
    pub(crate) fn space(&mut self, missing: usize) -> &mut [u8] {
        let wanted = missing.max(MIN_SPACE);
        let rest = self.unread.len();
        if rest > 0 || self.space.len() - self.filled < wanted {
            self.make_room(wanted, missing + rest.max(self.filled));
        }
        &mut self.space[self.filled..]
    }

    /// Says that `count` bytes were read into [`Buffer::space`].
    pub(crate) fn filled(&mut self, count: usize) {
        assert!(count <= self.space.len() - self.filled, "more bytes than there was room for");
        self.filled += count;
        if self.filled == self.space.len() && self.size < self.largest {
            self.size *= 2;
        }
    }

    /// What has come and was not consumed.
    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        // What is in both is never asked for: `space` brings it together.
        if self.unread.is_empty() { &self.space[..self.filled] } else { &self.ready[self.unread.clone()] }
    }

    /// Consumes `count` bytes and cuts `range` out of them.
    #[inline]
    pub(crate) fn take(&mut self, count: usize, range: Range<usize>) -> Bytes {
        let start = self.consume(count);
        self.ready.slice(start + range.start..start + range.end)
    }

    /// The same, in the form that shares the memory with the least work.
    #[inline(always)]
    pub(crate) fn share(&mut self, count: usize, range: Range<usize>) -> Slice {
        let start = self.consume(count);
        Slice { memory: Arc::clone(&self.ready), start: start + range.start, end: start + range.end }
    }

    /// Consumes `count` bytes, and says where in `ready` they begin.
    #[inline(always)]
    fn consume(&mut self, count: usize) -> usize {
        if self.unread.is_empty() {
            self.freeze();
        }
        let start = self.unread.start;
        self.unread.start += count;
        start
    }

    /// Gives memory back that a burst had needed.
    pub(crate) fn shrink(&mut self) {
        self.size = MIN;
        self.largest = MAX;
        self.retired = Vec::new();
        if self.unread.is_empty() {
            self.ready = Arc::default();
            if self.filled == 0 && self.space.len() > MIN {
                self.space = BytesMut::zeroed(MIN);
            }
        }
    }

    /// Makes what was read ready to be cut.
    #[cold]
    fn freeze(&mut self) {
        self.retire();
        self.unread = 0..self.filled;
        self.ready = Arc::new(if self.filled <= self.space.len() / SPARSE {
            Bytes::copy_from_slice(&self.space[..self.filled])
        } else {
            std::mem::take(&mut self.space).freeze()
        });
        self.filled = 0;
    }

    /// Brings what is left to the front of memory in which there is room for `wanted` bytes more. The frame that it
    /// begins, if it does, has `frame` bytes.
    #[cold]
    fn make_room(&mut self, wanted: usize, frame: usize) {
        self.largest = (frame * FRAMES).clamp(self.largest, MAX_LARGE);
        let left = self.unread().len();
        if self.unread.is_empty() {
            self.retire();
        }
        let mut space = if left + wanted <= self.space.len() && !self.unread.is_empty() {
            std::mem::take(&mut self.space)
        } else {
            self.acquire((left + wanted).max(self.size))
        };
        space[..left].copy_from_slice(self.unread());
        if !self.unread.is_empty() {
            self.unread = 0..0;
            self.retire();
        }
        self.space = space;
        self.filled = left;
    }

    /// Memory of `size` bytes or more: what nobody shares any more, or else new.
    fn acquire(&mut self, size: usize) -> BytesMut {
        let mut index = self.retired.len();
        while index > 0 {
            index -= 1;
            if Arc::get_mut(&mut self.retired[index]).is_some_and(|free| free.is_unique()) {
                let free = Arc::into_inner(self.retired.swap_remove(index));
                if let Some(Ok(free)) = free.map(Bytes::try_into_mut)
                    && free.len() >= size
                {
                    return free;
                }
            }
        }
        BytesMut::zeroed(size)
    }

    /// Keeps what was cut up for later, if it is of the size that will be needed.
    fn retire(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        if ready.len() >= self.size && self.retired.len() < RETIRED {
            self.retired.push(ready);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut Buffer, missing: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let space = buffer.space(missing);
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            buffer.filled(count);
            rest = &rest[count..];
        }
    }

    #[test]
    fn bytes_come_out_in_the_order_in_which_they_came() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        for step in [1, 7, 1000, 65_536] {
            let (mut buffer, mut out, mut fed, mut held) = (Buffer::new(), Vec::new(), 0, Vec::new());
            while out.len() < bytes.len().min(step * 5000) {
                let space = buffer.space(0);
                let count = space.len().min(bytes.len() - fed).min(step);
                space[..count].copy_from_slice(&bytes[fed..fed + count]);
                buffer.filled(count);
                fed += count;
                while buffer.unread().len() > 3 || fed == bytes.len() && !buffer.unread().is_empty() {
                    let count = buffer.unread().len().min(1 + out.len() % 5000);
                    let cut = buffer.take(count, 0..count);
                    out.extend_from_slice(&cut);
                    held.push(cut);
                    if held.len() > 100 {
                        held.clear();
                    }
                }
            }
            assert!(out == bytes[..out.len()], "steps of {step}");
        }
    }

    #[test]
    fn memory_is_used_again_once_nobody_shares_it() {
        let mut buffer = Buffer::new();
        let message = vec![7; 60_000];
        let mut pointers = std::collections::HashSet::new();
        for _ in 0..200 {
            read(&mut buffer, message.len(), &message);
            let cut = buffer.take(message.len(), 0..message.len());
            pointers.insert(cut.as_ptr());
        }
        assert!(buffer.retired.len() <= 2, "{} pieces", buffer.retired.len());
        assert!(pointers.len() < 64, "{} places for 200 messages", pointers.len());
    }

    #[test]
    fn what_is_held_keeps_little_alive() {
        let mut buffer = Buffer::new();
        let mut held = Vec::new();
        for _ in 0..100 {
            read(&mut buffer, 0, b"a small message");
            held.push(buffer.take(15, 0..15));
        }
        assert_eq!((buffer.space.len(), buffer.retired.len()), (MIN, 0));
        assert!(held.iter().all(|cut| cut == b"a small message".as_slice()));
    }

    #[test]
    fn a_burst_is_forgotten() {
        let mut buffer = Buffer::new();
        let message = vec![7; 300_000];
        read(&mut buffer, message.len(), &message);
        assert_eq!(buffer.take(message.len(), 0..message.len()), message);
        buffer.shrink();
        assert_eq!((buffer.space(0).len(), buffer.ready.len()), (MIN, 0));
    }
}
