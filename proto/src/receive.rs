//! The receive path: bytes in, methods and whole messages out.
//!
//! Owns the receive buffer and the messages that are not complete. The bodies of messages are slices of the buffer.
//! This module knows frames and limits; it must never know what a method means, so that a driver can run it without
//! holding the lock of the connection.
//!
//! Call order: read into [`Receiver::space`], report the size with [`Receiver::filled`], then call [`Receiver::poll`]
//! until it yields `None`.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::buffer::{Buffer, Slice};
use crate::content::{Content, ContentKind, body_size};
use crate::error::{Error, code};
use crate::frame::{Front, HEAD, Head, Kind, OVERHEAD, PROTOCOL_HEADER, fault};
use crate::limits::ReceiveLimits;
use crate::method_id::MethodId;
use crate::sorted::SortedMap;
use crate::violation::Violation;

/// What the peer sent.
#[derive(Clone)]
pub enum Incoming {
    /// The header that opens a connection. Only servers receive it.
    ProtocolHeader([u8; 8]),
    /// A method without content, undecoded.
    Method {
        /// The channel number; 0 is the connection itself.
        channel: u16,
        /// The class, the method and its arguments.
        payload: Bytes,
    },
    /// A whole message.
    Content {
        /// The channel number.
        channel: u16,
        /// The message.
        content: Content,
    },
    /// A published message whose body is larger than the limit. All of it has arrived, and none of the body was kept.
    /// Only servers receive it.
    Oversized {
        /// The channel number.
        channel: u16,
        /// The size of the body in bytes.
        size: u64,
    },
    /// A heartbeat.
    Heartbeat,
}

/// Turns bytes into methods and messages. The [crate documentation](crate) shows the order of calls.
pub struct Receiver {
    buffer: Buffer,
    /// The size of the frame at the front of the buffer, once its head has arrived.
    wanted: usize,
    limits: ReceiveLimits,
    is_server: bool,
    expects_header: bool,
    partial: SortedMap<u16, Partial>,
    /// The memory of `partial`, in bytes.
    partial_size: usize,
    /// The error that every later poll returns.
    failed: Option<Error>,
}

/// A message whose method has arrived, and perhaps its header and a part of its body.
struct Partial {
    kind: ContentKind,
    method_size: usize,
    /// A copy of what has arrived, in the layout of [`Content`].
    bytes: Vec<u8>,
    /// Where the body begins, once the header has arrived.
    body_at: Option<usize>,
    missing: u64,
    /// The size of a body that is above the limit, and dropped.
    oversized: Option<u64>,
}

// Debug output shows sizes, because the bytes may hold credentials.

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProtocolHeader(header) => write!(f, "ProtocolHeader({})", header.escape_ascii()),
            Self::Method { channel, payload } => {
                write!(f, "Method({channel}, {})", MethodId::peek(payload).unwrap_or_default())
            }
            Self::Content { channel, content } => write!(f, "Content({channel}, {content:?})"),
            Self::Oversized { channel, size } => write!(f, "Oversized({channel}, {size} bytes)"),
            Self::Heartbeat => f.write_str("Heartbeat"),
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("unread", &self.buffer.unread().len())
            .field("limits", &self.limits)
            .field("partial", &self.partial.len())
            .finish_non_exhaustive()
    }
}

impl Receiver {
    /// Creates the receiver of a client, which expects a frame first.
    pub fn client(limits: ReceiveLimits) -> Self {
        Self::new(limits, false)
    }

    /// Creates the receiver of a server, which expects the protocol header first.
    pub fn server(limits: ReceiveLimits) -> Self {
        Self::new(limits, true)
    }

    fn new(limits: ReceiveLimits, is_server: bool) -> Self {
        Self {
            buffer: Buffer::new(),
            wanted: 0,
            limits,
            is_server,
            expects_header: is_server,
            partial: SortedMap::new(),
            partial_size: 0,
            failed: None,
        }
    }

    /// Sets the limits that the handshake agreed on.
    pub fn set_limits(&mut self, limits: ReceiveLimits) {
        self.limits = limits;
    }

    /// Returns the limits in force.
    pub fn limits(&self) -> ReceiveLimits {
        self.limits
    }

    /// Returns the space for the next read, which is never empty.
    pub fn space(&mut self) -> &mut [u8] {
        let missing = self.wanted.saturating_sub(self.buffer.unread().len());
        self.buffer.space(missing)
    }

    /// Reports that `count` bytes were read into [`Receiver::space`].
    ///
    /// # Panics
    /// If `count` is larger than the space.
    pub fn filled(&mut self, count: usize) {
        self.buffer.filled(count);
    }

    /// Returns how many bytes of memory it holds that no message shares: the buffer, and incomplete messages.
    pub fn held(&self) -> usize {
        self.buffer.held() + self.partial_size
    }

    /// Returns how many bytes of memory are taken by messages that are not complete; 0 if there are none.
    pub fn incomplete(&self) -> usize {
        self.partial_size
    }

    /// Frees the memory that a burst needed. Call it when nothing has arrived for a while.
    pub fn shrink(&mut self) {
        self.buffer.shrink();
    }

    /// Returns the next method or message, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// The peer's fault: 501 malformed or too large frame, 502 malformed header, 504 channel number out of range, 505
    /// unexpected frame, 311 message too large for a client. The connection cannot continue: each later call returns
    /// the same error.
    pub fn poll(&mut self) -> Result<Option<Incoming>, Error> {
        let mut next = None;
        self.poll_next(|incoming| next = Some(incoming))?;
        Ok(next)
    }

    /// Appends the methods and messages that have arrived to `batch`, until `batch` holds `most` entries.
    ///
    /// # Errors
    /// The errors of [`Receiver::poll`]. `batch` then holds what arrived before the fault.
    pub fn poll_batch(&mut self, batch: &mut Vec<Incoming>, most: usize) -> Result<(), Error> {
        while batch.len() < most && self.poll_next(|incoming| batch.push(incoming))? {}
        Ok(())
    }

    /// Passes the next method or message to `sink`, which builds it in its final place. Returns whether there was one.
    #[inline(always)]
    fn poll_next(&mut self, sink: impl FnOnce(Incoming)) -> Result<bool, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.poll_frames(sink).inspect_err(|error| self.failed = Some(error.clone()))
    }

    #[inline(always)]
    fn poll_frames(&mut self, sink: impl FnOnce(Incoming)) -> Result<bool, Error> {
        loop {
            if self.expects_header {
                return Ok(self.take_protocol_header().map(sink).is_some());
            }
            let head = match self.front(0) {
                Front::Whole(head) => head,
                Front::Part(_) | Front::Nothing => return Ok(false),
                Front::Fault => return Err(self.fault(0)),
            };
            let channel = head.channel;
            if !self.partial.is_empty() && self.partial.contains_key(&channel) && head.kind != Kind::Heartbeat {
                if let Some(incoming) = self.continue_partial(head)? {
                    sink(incoming);
                    return Ok(true);
                }
                continue;
            }
            match head.kind {
                Kind::Method => {
                    let Some(kind) = ContentKind::of(&self.buffer.unread()[HEAD..HEAD + head.size]) else {
                        sink(Incoming::Method { channel, payload: self.take_payload(head) });
                        return Ok(true);
                    };
                    match self.look_ahead(head)? {
                        Ahead::Whole { body_at, size } => {
                            sink(Incoming::Content { channel, content: self.take_content(head, kind, body_at, size) });
                            return Ok(true);
                        }
                        Ahead::Missing => return Ok(false),
                        Ahead::Spread => self.begin_partial(head, kind),
                    }
                }
                Kind::Heartbeat if channel != 0 || head.size != 0 => {
                    return Err(bad_heartbeat(head));
                }
                Kind::Heartbeat => {
                    self.take_payload(head);
                    sink(Incoming::Heartbeat);
                    return Ok(true);
                }
                Kind::Header | Kind::Body => {
                    return Err(unexpected(head, "without a method that announces a message"));
                }
            }
        }
    }

    fn take_protocol_header(&mut self) -> Option<Incoming> {
        let unread = self.buffer.unread();
        let matching = unread.iter().zip(&PROTOCOL_HEADER).take_while(|(a, b)| a == b).count();
        if matching == unread.len() && matching < PROTOCOL_HEADER.len() {
            return None;
        }
        // The first wrong byte is enough for the connection to refuse the client.
        let mut header = [0; 8];
        let size = unread.len().min(8);
        header[..size].copy_from_slice(&unread[..size]);
        self.take(size, 0..0);
        self.expects_header = false;
        Some(Incoming::ProtocolHeader(header))
    }

    /// Classifies the frame at `offset`. If the frame is not complete, notes how many bytes it needs.
    #[inline(always)]
    fn front(&mut self, offset: usize) -> Front {
        let front = Front::of(&self.buffer.unread()[offset..], &self.limits);
        if let Front::Part(head) = front {
            self.wanted = offset + head.total();
        }
        front
    }

    #[cold]
    fn fault(&self, offset: usize) -> Error {
        fault(&self.buffer.unread()[offset..], &self.limits)
    }

    /// Checks whether header and body follow the method at the front, as they nearly always do.
    #[inline(always)]
    fn look_ahead(&mut self, method: Head) -> Result<Ahead, Error> {
        let header_at = method.total();
        let header = match self.front(header_at) {
            Front::Whole(header) => header,
            Front::Part(_) | Front::Nothing => return Ok(Ahead::Missing),
            Front::Fault => return Err(self.fault(header_at)),
        };
        if header.kind != Kind::Header || header.channel != method.channel {
            return Ok(Ahead::Spread);
        }
        let size = body_size(&self.buffer.unread()[header_at + HEAD..][..header.size])?;
        let body_at = header_at + header.total();
        if size == 0 {
            return Ok(Ahead::Whole { body_at, size: 0 });
        }
        if size > self.limits.message_max || size + OVERHEAD as u64 > u64::from(self.limits.frame_max) {
            return Ok(Ahead::Spread);
        }
        let body = match self.front(body_at) {
            Front::Whole(body) => body,
            Front::Part(_) | Front::Nothing => return Ok(Ahead::Missing),
            Front::Fault => return Err(self.fault(body_at)),
        };
        if body.kind != Kind::Body || body.channel != method.channel || body.size as u64 != size {
            return Ok(Ahead::Spread);
        }
        Ok(Ahead::Whole { body_at, size: body.size })
    }

    #[inline(always)]
    fn take_content(&mut self, method: Head, kind: ContentKind, body_at: usize, size: usize) -> Content {
        let (total, end) = match size {
            0 => (body_at, body_at - 1),
            size => (body_at + size + OVERHEAD, body_at + HEAD + size),
        };
        self.wanted = 0;
        Content::new(kind, self.buffer.share(total, HEAD..end), method.size, body_at)
    }

    /// Copies the method out, and collects the rest of its message frame by frame.
    fn begin_partial(&mut self, method: Head, kind: ContentKind) {
        let bytes = self.take_payload(method).to_vec();
        let partial = Partial { kind, method_size: method.size, bytes, body_at: None, missing: 0, oversized: None };
        self.partial_size += partial.size();
        self.partial.insert(method.channel, partial);
    }

    fn continue_partial(&mut self, frame: Head) -> Result<Option<Incoming>, Error> {
        let channel = frame.channel;
        let payload = self.take_payload(frame);
        if frame.kind == Kind::Method {
            if !payload.starts_with(&CHANNEL_CLOSE) {
                return Err(unexpected(frame, "before the message on this channel was complete"));
            }
            self.remove_partial(channel);
            return Ok(Some(Incoming::Method { channel, payload }));
        }
        let Some(partial) = self.partial.get_mut(&channel) else { return Ok(None) };
        let before = partial.size();
        match (partial.body_at, frame.kind) {
            (None, Kind::Header) => {
                let size = body_size(&payload)?;
                let limit = self.limits.message_max;
                if size > limit {
                    if !self.is_server || partial.kind != ContentKind::Publish {
                        return Err(body_too_large(size, limit));
                    }
                    partial.oversized = Some(size);
                }
                partial.bytes.reserve_exact(2 * Content::GAP + payload.len());
                partial.bytes.extend_from_slice(&[0; Content::GAP]);
                partial.bytes.extend_from_slice(&payload);
                partial.bytes.extend_from_slice(&[0; Content::GAP]);
                partial.body_at = Some(partial.bytes.len());
                partial.missing = size;
            }
            (Some(_), Kind::Body) => {
                let Some(missing) = partial.missing.checked_sub(payload.len() as u64) else {
                    return Err(body_too_long(channel));
                };
                partial.missing = missing;
                if partial.oversized.is_none() {
                    grow(&mut partial.bytes, payload.len(), missing);
                    partial.bytes.extend_from_slice(&payload);
                }
            }
            _ => return Err(unexpected(frame, "before the message on this channel was complete")),
        }
        self.partial_size = self.partial_size - before + partial.size();
        if partial.missing > 0 {
            return Ok(None);
        }
        Ok(self.remove_partial(channel).map(|partial| {
            if let Some(size) = partial.oversized {
                return Incoming::Oversized { channel, size };
            }
            let body_at = partial.body_at.unwrap_or(partial.bytes.len());
            let content = Content::new(partial.kind, Slice::whole(partial.bytes.into()), partial.method_size, body_at);
            Incoming::Content { channel, content }
        }))
    }

    fn remove_partial(&mut self, channel: u16) -> Option<Partial> {
        let partial = self.partial.remove(&channel)?;
        self.partial_size -= partial.size();
        if self.partial.is_empty() {
            self.partial.shrink_to(KEPT_PARTIAL);
        }
        Some(partial)
    }

    #[inline]
    fn take_payload(&mut self, frame: Head) -> Bytes {
        self.take(frame.total(), HEAD..HEAD + frame.size)
    }

    #[inline]
    fn take(&mut self, count: usize, range: Range<usize>) -> Bytes {
        self.wanted = 0;
        self.buffer.take(count, range)
    }
}

/// The table of messages that are not complete keeps room for this many.
const KEPT_PARTIAL: usize = 16;

impl Partial {
    /// Returns what it takes, in bytes.
    fn size(&self) -> usize {
        size_of::<(u16, Self)>() + self.bytes.capacity()
    }
}

/// What follows the method of a message in the buffer.
enum Ahead {
    /// The whole message, in three frames (two if the body is empty).
    Whole { body_at: usize, size: usize },
    /// More bytes are needed.
    Missing,
    /// A body of several frames, or frames of other channels in between.
    Spread,
}

/// The class and method of `channel.close`, which may arrive in the middle of a message.
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];

/// Makes room for `count` bytes of a body, of which `missing` more must follow. Reserves at most as much again as has
/// arrived, so that the size that a peer announces allocates nothing.
fn grow(body: &mut Vec<u8>, count: usize, missing: u64) {
    let needed = body.len() + count;
    if needed > body.capacity() {
        let ahead = usize::try_from(missing).unwrap_or(usize::MAX).min(needed);
        body.reserve_exact(count + ahead);
    }
}

#[cold]
fn unexpected(frame: Head, why: &str) -> Error {
    let channel = frame.channel;
    let text = format!("received a {} frame on channel {channel} {why}", frame.kind.name());
    Violation::UnexpectedFrame { channel }.by_peer(code::UNEXPECTED_FRAME, text)
}

#[cold]
fn bad_heartbeat(frame: Head) -> Error {
    let text = format!("received a heartbeat on channel {} with {} bytes of payload", frame.channel, frame.size);
    let code = if frame.size == 0 { code::UNEXPECTED_FRAME } else { code::FRAME_ERROR };
    Violation::MalformedFrame.by_peer(code, text)
}

#[cold]
fn body_too_large(size: u64, limit: u64) -> Error {
    let text = format!("received a message of {size} bytes, above the limit of {limit}");
    Violation::BodyTooLarge { size, limit }.by_peer(code::CONTENT_TOO_LARGE, text)
}

#[cold]
fn body_too_long(channel: u16) -> Error {
    let text = format!("received a body on channel {channel} that is longer than its header announced");
    Violation::BodyTooLong { channel }.by_peer(code::FRAME_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn contents_and_incoming_items_are_small() {
        assert_eq!((size_of::<Content>(), size_of::<Incoming>()), (32, 40));
    }

    #[test]
    fn a_batch_holds_what_arrived_before_a_fault() {
        let limits = ReceiveLimits { frame_max: 4096, channel_max: 7, message_max: 100 };
        let heartbeat = [8, 0, 0, 0, 0, 0, 0, 0xCE];
        let mut bytes = heartbeat.repeat(5);
        bytes.extend_from_slice(&[1, 0, 7, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE, 9]);
        bytes.resize(bytes.len() + HEAD, 0);
        let mut receiver = Receiver::client(limits);
        receiver.space()[..bytes.len()].copy_from_slice(&bytes);
        receiver.filled(bytes.len());
        let mut batch = Vec::new();
        receiver.poll_batch(&mut batch, 2).unwrap();
        assert!(matches!(batch[..], [Incoming::Heartbeat, Incoming::Heartbeat]), "{batch:?}");
        receiver.poll_batch(&mut batch, 2).unwrap();
        assert_eq!(batch.len(), 2, "the batch is full");
        assert!(matches!(receiver.poll(), Ok(Some(Incoming::Heartbeat))));
        assert_eq!(receiver.poll_batch(&mut batch, 100).unwrap_err().code(), code::FRAME_ERROR);
        assert!(matches!(batch[4..], [Incoming::Method { channel: 7, .. }]), "{batch:?}");
        assert_eq!(receiver.poll().unwrap_err().code(), code::FRAME_ERROR, "the error is permanent");
    }
}
