//! What is to be made safe together.

use bytes::Bytes;

use super::record::{self, Addressee};
use super::{Position, QueueId};

/// From how many bytes on a body gets a file of its own.
const LARGE_BODY: usize = 1 << 20;

/// Operations that are safe together or not at all: a transaction, a message that is dead-lettered here and settled
/// there, or simply all that came in at once. Filled by whoever decides, and given to
/// [`Store::append`](super::Store::append), which empties it for the next.
///
/// A group may become a few hundred KiB without harm; a batch of small independent operations costs less in one group
/// than in many.
#[derive(Debug)]
pub struct Group {
    /// The operations.
    pub(super) bytes: Vec<u8>,
    /// Bodies that get files of their own, and where in `bytes` the ids of the files belong.
    pub(super) large: Vec<(usize, Bytes)>,
    pub(super) publishes: bool,
    large_body: usize,
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// A small number for [`RecoveredMessage::priority`](super::RecoveredMessage::priority).
    pub priority: u8,
    /// All but the body that the broker wants to see again: exchange, routing key, properties. Less than 16 MiB.
    pub head: &'a [u8],
    /// The body, less than 4 GiB. It is copied, unless it is 1 MiB long or longer.
    pub body: &'a Bytes,
}

/// A queue that a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// A queue that is declared. If it is not, nothing happens.
    pub queue: QueueId,
    /// The message's place in it.
    pub position: Position,
    /// A number for [`RecoveredMessage::expires`](super::RecoveredMessage::expires), say a wall clock's milliseconds.
    /// The store deletes nothing by it.
    pub expires: Option<u64>,
}

impl Group {
    /// An empty one. Bodies of 1 MiB and more get files of their own.
    pub fn new() -> Self {
        Self::with_large_body(LARGE_BODY)
    }

    /// An empty one, where bodies of `bytes` and more get files of their own: a test takes few.
    pub fn with_large_body(bytes: usize) -> Self {
        Self { bytes: Vec::new(), large: Vec::new(), publishes: false, large_body: bytes }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A message for each of `targets`, kept until it is settled in each. Its body is kept once. Nothing, if there are
    /// no targets.
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

    /// Messages that are done in `queue`: acked, expired, dropped, purged. Unknown positions are ignored. Rising
    /// positions without gaps take least space.
    pub fn settle(&mut self, queue: QueueId, positions: impl IntoIterator<Item = Position>) {
        let mut positions = positions.into_iter().peekable();
        if positions.peek().is_some() {
            self.queue(record::SETTLE, queue);
            record::put_runs(&mut self.bytes, positions.map(|position| position.0));
        }
    }

    /// How often a message was delivered in vain, for
    /// [`RecoveredMessage::deliveries`](super::RecoveredMessage::deliveries).
    pub fn delivered(&mut self, queue: QueueId, position: Position, count: u32) {
        self.queue(record::DELIVERED, queue);
        record::put_number(&mut self.bytes, position.0);
        record::put_number(&mut self.bytes, u64::from(count));
    }

    /// A durable queue, and what the broker wants to know of it after a restart. Again for a known queue: its new
    /// definition.
    pub fn declare_queue(&mut self, queue: QueueId, definition: &[u8]) {
        self.queue(record::DECLARE_QUEUE, queue);
        record::put_bytes(&mut self.bytes, definition);
    }

    /// Deletes a queue with its messages. Publishes for it are ignored from here on.
    pub fn remove_queue(&mut self, queue: QueueId) {
        self.queue(record::REMOVE_QUEUE, queue);
    }

    /// Keeps `value` under `key`: a vhost, a user, a permission, an exchange, a binding, a policy.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.push(record::PUT);
        record::put_bytes(&mut self.bytes, key);
        record::put_bytes(&mut self.bytes, value);
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &[u8]) {
        self.bytes.push(record::REMOVE);
        record::put_bytes(&mut self.bytes, key);
    }

    /// Empties it, and keeps its memory for the next, unless that is much.
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
