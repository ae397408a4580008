//! Counters of a connection.

use std::time::Duration;

/// What a connection has done so far: see [`Connection::stats`](crate::Connection::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that the transport took.
    pub bytes_sent: u64,
    /// Bytes that came.
    pub bytes_received: u64,
    /// Writes to the transport: `published / writes` tells how well publishes are gathered.
    pub writes: u64,
    /// Reads from the transport that brought something.
    pub reads: u64,
    /// Methods, messages and heartbeats that came; a message counts once, however many frames it took.
    pub received: u64,
    /// Messages published.
    pub published: u64,
    /// Publishes that the broker confirmed.
    pub confirmed: u64,
    /// Publishes that the broker refused (`basic.nack`).
    pub nacked: u64,
    /// Messages that came back, because no queue took them.
    pub returned: u64,
    /// Messages delivered to consumers or fetched by `get`.
    pub delivered: u64,
    /// Deliveries acknowledged by one call each; `ack_multiple` counts once.
    pub acked: u64,
    /// Deliveries given back.
    pub rejected: u64,
    /// Deliveries for consumers that don't exist, which were requeued.
    pub unknown_deliveries: u64,
    /// Time for which the broker blocked publishing (`connection.blocked`).
    pub blocked: Duration,
}
