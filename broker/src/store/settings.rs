//! The store's sizes and limits.

/// Sizes and limits of a store. The defaults suit a disk; [`Settings::small`] suits tests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a log file (default: 64 MiB). The file is filled with zeros once, and then reused.
    pub log_file_size: u64,
    /// Bytes of full log files that may wait for the checkpointer (default: 192 MiB). A message that is settled before
    /// the checkpointer reaches its file is never written a second time.
    pub log_limit: u64,
    /// Bytes of a segment (default: 16 MiB). Its file is deleted when all its messages are settled.
    pub segment_size: u64,
    /// Bytes that may be appended but not yet safe (default: 256 MiB) before the store is
    /// [`Room::Behind`](super::Room::Behind). At twice as many bytes, publishes are refused with
    /// [`ErrorKind::Full`](super::ErrorKind::Full).
    pub pending_limit: usize,
    /// Bytes of free disk space below which the store is [`Room::DiskFull`](super::Room::DiskFull) (default: 50 MB, as
    /// RabbitMQ's `disk_free_limit`).
    pub min_free: u64,
    /// Whether to drop what is damaged and to start with the rest (default: false, which refuses to start).
    /// [`Recovered::damages`](super::Recovered::damages) lists what was dropped. Copy the folder first: the dropped
    /// parts can't be restored.
    pub salvage: bool,
}

impl Settings {
    /// Returns settings with small files, for a test's store in memory: settled messages take a few MiB at most.
    pub fn small() -> Self {
        Self { log_file_size: 256 << 10, log_limit: 512 << 10, segment_size: 256 << 10, ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log_file_size: 64 << 20,
            log_limit: 192 << 20,
            segment_size: 16 << 20,
            pending_limit: 256 << 20,
            min_free: 50_000_000,
            salvage: false,
        }
    }
}
