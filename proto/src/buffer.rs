//! The receive buffer: reads fill it, and messages are slices of it, without a copy.
//!
//! Shared memory cannot be written to, so reads continue in another block of memory. A block that is no longer shared
//! is reused, neither allocated nor cleared again. This module knows no frames.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// The buffer of an idle connection in bytes. It doubles while reads fill it.
const MIN: usize = 8 * 1024;
/// The limit of its growth.
const MAX: usize = 256 * 1024;
/// The limit of its growth with large frames. A frame that crosses the end of the buffer is copied, so few should.
const MAX_LARGE: usize = 1024 * 1024;
/// How many frames the buffer should hold.
const FRAMES: usize = 16;
/// A read into less space than this is not worth its system call.
const MIN_SPACE: usize = 2 * 1024;
/// How many blocks of memory are kept for reuse while messages still share them.
const RETIRED: usize = 8;
/// A block filled to at most one part in `SPARSE` is copied, so that a message that is held for long keeps at most
/// `SPARSE` times its own size alive.
const SPARSE: usize = 4;

/// The buffer. See the [module documentation](self).
pub(crate) struct Buffer {
    /// The block that reads fill; initialized to its whole length.
    space: BytesMut,
    /// How many bytes at the front of `space` have arrived. They follow those of `ready`.
    filled: usize,
    /// The block that messages are sliced from and share.
    ready: Arc<Bytes>,
    /// The part of `ready` that is not consumed.
    unread: Range<usize>,
    retired: Vec<Arc<Bytes>>,
    /// The size of the next block.
    size: usize,
    largest: usize,
}

/// A slice that shares the memory of the buffer: smaller than [`Bytes`], and cheaper to create and drop.
#[derive(Clone)]
pub(crate) struct Slice {
    memory: Arc<Bytes>,
    start: usize,
    end: usize,
}

impl Slice {
    /// Wraps all of `bytes`.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { start: 0, end: bytes.len(), memory: Arc::new(bytes) }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns the address and the size of the memory that the slice shares.
    pub(crate) fn memory(&self) -> (usize, usize) {
        (self.memory.as_ptr() as usize, self.memory.len())
    }

    /// Returns the bytes in `range`, clamped to the slice.
    #[inline]
    pub(crate) fn get(&self, range: Range<usize>) -> &[u8] {
        let range = self.start + range.start..self.end.min(self.start.saturating_add(range.end));
        self.memory.get(range).unwrap_or_default()
    }

    /// Returns the bytes from `start` on, sharing the memory.
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

    /// Returns the space for the next read: at least `missing` bytes, and never empty.
    pub(crate) fn space(&mut self, missing: usize) -> &mut [u8] {
        let wanted = missing.max(MIN_SPACE);
        let rest = self.unread.len();
        if rest > 0 || self.space.len() - self.filled < wanted {
            self.make_room(wanted, missing + rest.max(self.filled));
        }
        &mut self.space[self.filled..]
    }

    /// Reports that `count` bytes were read into [`Buffer::space`].
    pub(crate) fn filled(&mut self, count: usize) {
        assert!(count <= self.space.len() - self.filled, "more bytes than the space holds");
        self.filled += count;
        if self.filled == self.space.len() && self.size < self.largest {
            self.size *= 2;
        }
    }

    /// Returns the bytes that have arrived and are not consumed.
    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        // Both hold bytes only until `space` brings them together.
        if self.unread.is_empty() { &self.space[..self.filled] } else { &self.ready[self.unread.clone()] }
    }

    /// Consumes `count` bytes, and returns `range` of them.
    #[inline]
    pub(crate) fn take(&mut self, count: usize, range: Range<usize>) -> Bytes {
        let start = self.consume(count);
        self.ready.slice(start + range.start..start + range.end)
    }

    /// Consumes `count` bytes, and returns `range` of them in the cheapest form.
    #[inline(always)]
    pub(crate) fn share(&mut self, count: usize, range: Range<usize>) -> Slice {
        let start = self.consume(count);
        Slice { memory: Arc::clone(&self.ready), start: start + range.start, end: start + range.end }
    }

    /// Consumes `count` bytes, and returns where in `ready` they begin.
    #[inline(always)]
    fn consume(&mut self, count: usize) -> usize {
        if self.unread.is_empty() {
            self.freeze();
        }
        let start = self.unread.start;
        self.unread.start += count;
        start
    }

    /// Returns how many bytes of memory it holds that no slice shares.
    pub(crate) fn held(&self) -> usize {
        let unshared = |block: &&Arc<Bytes>| Arc::strong_count(block) == 1 && block.is_unique();
        let blocks = self.retired.iter().chain([&self.ready]).filter(unshared);
        self.space.len() + blocks.map(|block| block.len()).sum::<usize>()
    }

    /// Frees the memory that a burst needed.
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

    /// Makes the bytes that were read ready to be sliced.
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

    /// Moves the unread bytes to the front of a block with space for `wanted` more. `frame` is the size of the frame
    /// that they begin.
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

    /// Returns a block of at least `size` bytes: a retired block that is no longer shared, or a new one.
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

    /// Keeps the sliced block for reuse, if it is large enough.
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
    fn bytes_keep_their_order() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        for step in [1, 7, 1000, 65_536] {
            let mut buffer = Buffer::new();
            let mut out = Vec::new();
            let mut fed = 0;
            let mut held = Vec::new();
            while out.len() < bytes.len().min(step * 5000) {
                let space = buffer.space(0);
                let count = space.len().min(bytes.len() - fed).min(step);
                space[..count].copy_from_slice(&bytes[fed..fed + count]);
                buffer.filled(count);
                fed += count;
                while buffer.unread().len() > 3 || fed == bytes.len() && !buffer.unread().is_empty() {
                    let count = buffer.unread().len().min(1 + out.len() % 5000);
                    let slice = buffer.take(count, 0..count);
                    out.extend_from_slice(&slice);
                    held.push(slice);
                    if held.len() > 100 {
                        held.clear();
                    }
                }
            }
            assert!(out == bytes[..out.len()], "steps of {step}");
        }
    }

    #[test]
    fn memory_is_reused_once_it_is_no_longer_shared() {
        let mut buffer = Buffer::new();
        let message = vec![7; 60_000];
        let mut pointers = std::collections::HashSet::new();
        for _ in 0..200 {
            read(&mut buffer, message.len(), &message);
            let slice = buffer.take(message.len(), 0..message.len());
            pointers.insert(slice.as_ptr());
        }
        assert!(buffer.retired.len() <= 2, "{} blocks", buffer.retired.len());
        assert!(pointers.len() < 64, "{} blocks for 200 messages", pointers.len());
    }

    #[test]
    fn a_held_message_keeps_little_memory_alive() {
        let mut buffer = Buffer::new();
        let mut held = Vec::new();
        for _ in 0..100 {
            read(&mut buffer, 0, b"a small message");
            held.push(buffer.take(15, 0..15));
        }
        assert_eq!((buffer.space.len(), buffer.retired.len()), (MIN, 0));
        assert!(held.iter().all(|slice| slice == b"a small message".as_slice()));
    }

    #[test]
    fn shrinking_frees_the_memory_of_a_burst() {
        let mut buffer = Buffer::new();
        let message = vec![7; 300_000];
        read(&mut buffer, message.len(), &message);
        assert_eq!(buffer.take(message.len(), 0..message.len()), message);
        buffer.shrink();
        assert_eq!((buffer.space(0).len(), buffer.ready.len()), (MIN, 0));
    }
}
