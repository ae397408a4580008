//! Consumers: who gets the next message of a queue.
//!
//! Owns each consumer's settings and what it holds, and the order in which those of one queue take turns. It must never
//! know what a message is.

use hopmq_proto::FieldTable;

use crate::engine::keys::{QueueKey, SessionKey};
use crate::engine::name::Name;

/// One consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) queue: QueueKey,
    pub(crate) session: SessionKey,
    pub(crate) channel: u16,
    pub(crate) tag: Name,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) priority: i32,
    /// Deliveries that it may hold; 0 is any number.
    pub(crate) prefetch: u16,
    /// Deliveries that it holds.
    pub(crate) unacked: u32,
    /// Whether it is out of the turns of its queue, until it has room again.
    pub(crate) waiting: bool,
    pub(crate) arguments: FieldTable,
}

/// A connection with this many bytes to write gets no more deliveries until they are written.
const HIGH_WATER: usize = 256 * 1024;

/// Whether a consumer can get one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// Its connection has enough to write.
    Later,
    /// The prefetch limit is reached.
    No,
}

impl Consumer {
    /// Whether it can get one more message. `consuming` and `global_prefetch` are its channel's; `queued` are bytes
    /// that its connection has to write.
    #[inline]
    pub(crate) fn room(&self, consuming: u32, global_prefetch: u16, queued: usize) -> Room {
        let is_reached = |unacked: u32, limit: u16| limit > 0 && unacked >= u32::from(limit);
        if !self.no_ack && (is_reached(self.unacked, self.prefetch) || is_reached(consuming, global_prefetch)) {
            return Room::No;
        }
        if queued >= HIGH_WATER { Room::Later } else { Room::Yes }
    }
}
