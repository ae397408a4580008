//! Groups: operations that become safe together.

use bytes::Bytes;

use super::record::{self, Addressee};
use super::{Position, QueueId};

/// Bytes from which on a body gets its own file.
const LARGE_BODY: usize = 1 << 20;

/// Operations that become safe together or not at all: a transaction, a dead-lettered message (published to one queue,
/// settled in another), or a batch of independent operations. [`Store::append`](super::Store::append) takes the
/// operations and leaves the group empty for reuse.
///
/// Groups of a few hundred KiB are fine; many small independent operations cost less in one group than in many.
#[derive(Debug)]
pub struct Group {
    /// The operations.
    pub(super) bytes: Vec<u8>,
    /// Bodies that get their own files, each with the index in `bytes` at which the file's id belongs.
    pub(super) large: Vec<(usize, Bytes)>,
    pub(super) publishes: bool,
    large_body: usize,
}

/// A message to publish.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The priority, returned in [`RecoveredMessage::priority`](super::RecoveredMessage::priority).
    pub priority: u8,
    /// Everything but the body that the broker needs again: exchange, routing key, properties. Less than 16 MiB.
    pub head: &'a [u8],
    /// The body, less than 4 GiB. Bodies shorter than 1 MiB are copied.
    pub body: &'a Bytes,
}

/// A queue to which a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The queue. If it is not declared, this target is ignored.
    pub queue: QueueId,
    /// The message's place in the queue.
    pub position: Position,
    /// When the message expires, in a unit of the broker's choice; returned in
    /// [`RecoveredMessage::expires`](super::RecoveredMessage::expires). The store does not expire messages.
    pub expires: Option<u64>,
}

impl Group {
    /// Creates an empty group. Bodies of 1 MiB and more get their own files.
    pub fn new() -> Self {
        Self::with_large_body(LARGE_BODY)
    }

    /// Creates an empty group in which bodies of `bytes` and more get their own files: a test chooses few.
    pub fn with_large_body(bytes: usize) -> Self {
        Self { bytes: Vec::new(), large: Vec::new(), publishes: false, large_body: bytes }
    }

    /// Returns whether the group has no operations.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Publishes a message to each of `targets`, and keeps it until it is settled in each of them. Its body is stored
    /// once. Does nothing without targets.
    pub fn publish(&mut self, message: &Message<'_>, targets: &[Target]) {
        if targets.is_empty() {
            return;
        }
        self.publishes = true;
        let out = &mut self.bytes;
        out.extend_from_slice(&[record::PUBLISH, message.priority]);
        record::put_number(out, targets.len() as u64);
        for target in targets {
            let Target { queue, position, expires } = *target;
            record::put_addressee(out, &Addressee { queue, position, expires });
        }
        let in_file = message.body.len() >= self.large_body;
        if let Some(id) = record::put_parcel(out, message.head, message.body, in_file) {
            self.large.push((id, message.body.clone()));
        }
    }

    /// Settles messages of `queue`: they were acked, expired, dropped or purged. Unknown positions are ignored.
    /// Ascending positions without gaps take the least space.
    pub fn settle(&mut self, queue: QueueId, positions: impl IntoIterator<Item = Position>) {
        let mut positions = positions.into_iter().peekable();
        if positions.peek().is_some() {
            self.queue(record::SETTLE, queue);
            record::put_runs(&mut self.bytes, positions.map(|position| position.0));
        }
    }

    /// Sets how many deliveries of a message failed, returned in
    /// [`RecoveredMessage::deliveries`](super::RecoveredMessage::deliveries).
    pub fn delivered(&mut self, queue: QueueId, position: Position, count: u32) {
        self.queue(record::DELIVERED, queue);
        record::put_number(&mut self.bytes, position.0);
        record::put_number(&mut self.bytes, u64::from(count));
    }

    /// Declares a durable queue with the definition that the broker needs after a restart. For a known queue, replaces
    /// its definition.
    pub fn declare_queue(&mut self, queue: QueueId, definition: &[u8]) {
        self.queue(record::DECLARE_QUEUE, queue);
        record::put_bytes(&mut self.bytes, definition);
    }

    /// Deletes a queue with its messages. Later publishes to it are ignored.
    pub fn remove_queue(&mut self, queue: QueueId) {
        self.queue(record::REMOVE_QUEUE, queue);
    }

    /// Stores `value` under `key`: a vhost, a user, a permission, an exchange, a binding, a policy.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.push(record::PUT);
        record::put_bytes(&mut self.bytes, key);
        record::put_bytes(&mut self.bytes, value);
    }

    /// Removes `key` and its value.
    pub fn remove(&mut self, key: &[u8]) {
        self.bytes.push(record::REMOVE);
        record::put_bytes(&mut self.bytes, key);
    }

    /// Empties the group. Keeps its memory for reuse, up to 1 MiB.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
        self.large.clear();
        self.publishes = false;
    }

    fn queue(&mut self, tag: u8, queue: QueueId) {
        self.bytes.push(tag);
        record::put_number(&mut self.bytes, queue.0);
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}
