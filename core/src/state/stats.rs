//! The counters of a connection.

use std::time::Duration;

/// The counters of a connection: see [`Connection::stats`](crate::Connection::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes written to the transport.
    pub bytes_sent: u64,
    /// Bytes read from the transport.
    pub bytes_received: u64,
    /// Writes to the transport; `published / writes` shows how well publishes are batched.
    pub writes: u64,
    /// Reads from the transport that returned bytes.
    pub reads: u64,
    /// Methods, messages and heartbeats received; a message counts once, whatever its number of frames.
    pub received: u64,
    /// Messages published.
    pub published: u64,
    /// Publishes that the broker confirmed.
    pub confirmed: u64,
    /// Publishes that the broker refused (`basic.nack`).
    pub nacked: u64,
    /// Messages that the broker returned because no queue took them.
    pub returned: u64,
    /// Messages delivered to consumers or fetched by `get`.
    pub delivered: u64,
    /// Deliveries acknowledged; one `ack_multiple` counts once.
    pub acked: u64,
    /// Deliveries rejected.
    pub rejected: u64,
    /// Deliveries for unknown consumers, which were requeued.
    pub unknown_deliveries: u64,
    /// The total time in which the broker blocked publishing (`connection.blocked`).
    pub blocked: Duration,
}
