//! Bytes in any slices to runs of whole frames.
//!
//! Owns the bytes of one direction that came and were not passed on yet. What is passed on stays where it lies: a run
//! of frames is one slice of the buffer, so neighbours cost no copy and one WebSocket message. What the frames mean is
//! the [`AmqpProxy`]'s to know, which sees each of them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use hopmq_proto::{Error, Frame};

use super::proxy::AmqpProxy;
use super::verdict::{Side, Verdict};

/// What one message to a browser holds at most, in bytes, unless a single frame is larger.
pub(crate) const MESSAGE: usize = 64 << 10;
/// The buffer of an idle connection, in bytes.
const IDLE: usize = 2 << 10;

/// The buffer of one direction.
#[derive(Debug)]
pub(crate) struct Framer {
    buffer: BytesMut,
    /// How much of the buffer a read filled lately.
    size: usize,
}

impl Framer {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), size: IDLE }
    }

    /// Where to read into. Has room, and more the more came lately.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * self.size {
            self.buffer = BytesMut::with_capacity(self.size);
        }
        self.buffer.reserve(self.size);
        &mut self.buffer
    }

    /// Says how many bytes a read got, to choose the size of the next.
    pub(crate) fn read(&mut self, count: usize) {
        if count >= self.size {
            self.size = (self.size * 2).min(MESSAGE);
        } else if count < self.size / 4 {
            self.size = (self.size / 2).max(IDLE);
        }
    }

    /// Takes bytes that came in a buffer of their own.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their frame.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes themselves.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Drops the first `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.buffer.advance(count);
    }

    /// Cuts what has come into pieces of whole frames, each at most 64 KiB unless one frame is larger, as the
    /// proxy wants them passed on.
    ///
    /// # Errors
    /// If `from` broke the protocol. `out` has what came before that.
    pub(crate) fn cut(&mut self, proxy: &mut AmqpProxy, from: Side, out: &mut VecDeque<Bytes>) -> Result<(), Error> {
        let mut passed = 0;
        let result = loop {
            let frame = match Frame::parse(&self.buffer[passed..], proxy.limits(from)) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let size = frame.size();
            match proxy.judge(from, &frame) {
                Ok(Verdict::Pass) => {
                    if passed > 0 && passed + size > MESSAGE {
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
