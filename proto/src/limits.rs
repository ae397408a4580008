//! The limits on what a peer may send.

/// Limits on what the peer may send, checked before memory is allocated.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveLimits {
    /// The largest frame in bytes, including its 8 bytes of overhead.
    pub frame_max: u32,
    /// The highest channel number.
    pub channel_max: u16,
    /// The largest body of a message in bytes.
    pub message_max: u64,
}
