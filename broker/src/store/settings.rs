//! How large things are.

/// How large files and buffers are. The defaults suit a disk; a test takes small ones, to see files change often.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a log file (64 MiB). It is filled with zeros once, and used again and again.
    pub log_file_size: u64,
    /// Bytes of full log files that may wait for the checkpointer (192 MiB). A message that is settled before its
    /// file's turn comes is never written a second time.
    pub log_limit: u64,
    /// Bytes of a segment (16 MiB): its file is deleted when all in it is settled.
    pub segment_size: u64,
    /// Bytes that may be appended and not yet safe (256 MiB), before [`Room::Behind`](super::Room::Behind). At twice as
    /// many, publishes are refused with [`ErrorKind::Full`](super::ErrorKind::Full).
    pub pending_limit: usize,
    /// Bytes of free space on the disk (50 MB, as RabbitMQ's `disk_free_limit`), below which there is
    /// [`Room::DiskFull`](super::Room::DiskFull).
    pub min_free: u64,
    /// Whether to give up what is damaged, and to start with the rest (no). What was given up is in
    /// [`Recovered::damages`](super::Recovered::damages). Copy the folder before.
    pub salvage: bool,
}

impl Settings {
    /// Small files, for a store in memory that lives as long as a test: it takes a few MiB at most for what is settled.
    pub fn small() -> Self {
        let [log_file_size, log_limit, segment_size] = [256 << 10, 512 << 10, 256 << 10];
        Self { log_file_size, log_limit, segment_size, ..Self::default() }
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
