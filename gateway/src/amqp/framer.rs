//! Splits the bytes of one direction into runs of whole frames.
//!
//! Buffers the bytes that were received and not passed on yet. A run of frames is one slice of the buffer, so it is
//! passed on without a copy and as one WebSocket message. The [`AmqpProxy`] decides about each frame.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use hopmq_proto::{Error, Frame};

use super::proxy::AmqpProxy;
use super::verdict::{Side, Verdict};
use crate::admission::account::Batch;

/// The largest message to a browser, in bytes, unless a single frame is larger.
pub(crate) const MESSAGE_MAX: usize = 64 << 10;
/// The buffer of an idle connection, in bytes.
const IDLE: usize = 2 << 10;

/// How far [`Framer::split`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// No whole frame is left.
    Done,
    /// The batch is full, or the proxy is saturated. Whole frames may be left.
    Stopped,
}

/// The buffer of one direction.
#[derive(Debug)]
pub(crate) struct Framer {
    buffer: BytesMut,
    /// The number of bytes to read at once, adapted to the latest reads.
    size: usize,
}

impl Framer {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), size: IDLE }
    }

    /// Returns the buffer to read into, with room that grows with the latest reads.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * self.size {
            self.buffer = BytesMut::with_capacity(self.size);
        }
        self.buffer.reserve(self.size);
        &mut self.buffer
    }

    /// Adapts the size of the next read to the number of bytes that were read.
    pub(crate) fn note_read(&mut self, count: usize) {
        if count >= self.size {
            self.size = (self.size * 2).min(MESSAGE_MAX);
        } else if count < self.size / 4 {
            self.size = (self.size / 2).max(IDLE);
        }
    }

    /// Appends a copy of the bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the number of buffered bytes.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the buffered bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Drops the first `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.buffer.advance(count);
    }

    /// Appends to `out` what must be passed on: runs of whole frames, each at most 64 KiB unless one frame is larger.
    /// Takes frames from the browser until `batch` is full or the proxy is saturated.
    ///
    /// # Errors
    /// [`Error`] if `from` broke the protocol. `out` then has the frames before the fault.
    pub(crate) fn split(
        &mut self,
        proxy: &mut AmqpProxy,
        from: Side,
        batch: Batch,
        out: &mut VecDeque<Bytes>,
    ) -> Result<Split, Error> {
        let mut passed = 0;
        let mut taken = 0;
        let published_max = proxy.counts.published.saturating_add(batch.messages);
        let result = loop {
            if taken >= batch.bytes
                || proxy.counts.published >= published_max
                || from == Side::Browser && proxy.is_saturated()
            {
                break Ok(Split::Stopped);
            }
            let frame = match Frame::parse(&self.buffer[passed..], proxy.limits(from)) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(Split::Done),
                Err(error) => break Err(error),
            };
            let size = frame.size();
            taken += size;
            match proxy.handle_frame(from, &frame) {
                Ok(Verdict::Pass) => {
                    if passed > 0 && passed + size > MESSAGE_MAX {
                        self.take(passed, out);
                        passed = 0;
                    }
                    passed += size;
                }
                Ok(Verdict::Drop) => {
                    self.take(passed, out);
                    passed = 0;
                    self.buffer.advance(size);
                }
                Ok(Verdict::Replace(bytes) | Verdict::Refuse(bytes)) => {
                    self.take(passed, out);
                    passed = 0;
                    self.buffer.advance(size);
                    out.push_back(bytes.into());
                }
                Err(error) => break Err(error),
            }
        };
        self.take(passed, out);
        result
    }

    fn take(&mut self, count: usize, out: &mut VecDeque<Bytes>) {
        if count > 0 {
            out.push_back(self.buffer.split_to(count).freeze());
        }
    }
}
