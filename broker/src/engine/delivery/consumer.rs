//! A consumer, and whether it can get a message.
//!
//! Owns each consumer's settings and its count of unacked deliveries. It must never know what a message is.

use std::time::Duration;

use hopmq_proto::FieldTable;

use crate::engine::keys::{QueueKey, SessionKey};
use crate::engine::meter::Charge;
use crate::engine::name::Name;
use crate::engine::queue::turns::Place;

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) queue: QueueKey,
    pub(crate) session: SessionKey,
    pub(crate) channel: u16,
    pub(crate) tag: Name,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) priority: i32,
    /// The limit of unacked deliveries; 0 is none.
    pub(crate) prefetch: u16,
    /// Unacked deliveries.
    pub(crate) unacked: u32,
    /// Its own time limit for settling a delivery; zero is none.
    pub(crate) timeout: Option<Duration>,
    /// Where it is among the consumers of its queue.
    pub(crate) place: Option<Place>,
    /// Whether the consumer is out of its queue's turns until it has room.
    pub(crate) waiting: bool,
    pub(crate) arguments: FieldTable,
    #[allow(dead_code, reason = "dropping it gives the bytes back")]
    pub(crate) charge: Charge,
}

/// A connection with this many bytes to write gets no more deliveries until they are written.
const HIGH_WATER: usize = 256 * 1024;

/// Whether a consumer can get one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// Not until its connection has written some of its output.
    Later,
    /// Not until a delivery is settled: the prefetch limit is reached.
    No,
}

impl Consumer {
    /// Returns whether it can get one more message. `consuming` and `global_prefetch` are its channel's; `queued` is
    /// the output of its connection in bytes.
    #[inline]
    pub(crate) fn room(&self, consuming: u32, global_prefetch: u16, queued: usize) -> Room {
        let is_reached = |unacked: u32, limit: u16| limit > 0 && unacked >= u32::from(limit);
        // Deliveries without acks don't count towards the channel's limit, but wait for it, as in RabbitMQ.
        if !self.no_ack && is_reached(self.unacked, self.prefetch) || is_reached(consuming, global_prefetch) {
            return Room::No;
        }
        if queued >= HIGH_WATER { Room::Later } else { Room::Yes }
    }
}
