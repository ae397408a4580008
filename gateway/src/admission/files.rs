//! File descriptors: how many connections they suffice for, and one in reserve.
//!
//! A connection of a page takes two: its socket and that to RabbitMQ. The number of connections is limited so that
//! the process does not run out of them, and `/healthz` can be answered while all connections are taken. If the
//! process runs out of them nevertheless, the [`Reserve`] closes its own one, so that a connection can be accepted
//! and answered.

use std::fs::File;
use std::io;

/// What the program itself opens: listeners, log, polling, checks of the hosts.
const OWN: usize = 32;

/// Returns how many connections of pages may be open, if that is known.
pub(crate) fn connections_max(pending_logins: usize) -> Option<usize> {
    open_files_max().map(|files| connections_for(files, pending_logins))
}

/// Returns how many sockets without a WebSocket may be open.
pub(crate) fn sockets_max(pending_logins: usize) -> usize {
    open_files_max().map_or(pending_logins, |files| sockets_for(files, pending_logins))
}

fn connections_for(files: usize, pending_logins: usize) -> usize {
    (files.saturating_sub(OWN + sockets_for(files, pending_logins)) / 2).max(1)
}

fn sockets_for(files: usize, pending_logins: usize) -> usize {
    pending_logins.min(files / 4).max(1)
}

/// Returns how many files the process may open (`ulimit -n`), where the system tells it in a file.
fn open_files_max() -> Option<usize> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn soft_limit(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

/// Whether an error says that the process, or the system, can open no more files.
pub(crate) fn are_exhausted(error: &io::Error) -> bool {
    // ENFILE, EMFILE and WSAEMFILE.
    matches!(error.raw_os_error(), Some(23 | 24 | 10_024))
}

/// A file that is open for nothing but to be given up.
#[derive(Debug)]
pub(crate) struct Reserve(Option<File>);

impl Reserve {
    pub(crate) fn new() -> Self {
        let mut reserve = Self(None);
        reserve.refill();
        reserve
    }

    /// Opens the file again, if that is possible.
    pub(crate) fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Gives the file up; returns whether there was one.
    pub(crate) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_connections_leaves_files_for_other_sockets() {
        for files in [1, 64, 256, 1024, 1 << 20] {
            let (sockets, connections) = (sockets_for(files, 1000), connections_for(files, 1000));
            assert!(sockets >= 1 && connections >= 1);
            assert!(files < 64 || OWN + sockets + 2 * connections <= files, "{files}: {sockets}, {connections}");
        }
        assert_eq!(connections_for(1 << 20, 1000), ((1 << 20) - OWN - 1000) / 2);
    }

    #[test]
    fn the_soft_limit_is_read_from_the_limits_of_the_process() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             100                  100                  processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit("Max open files            unlimited            unlimited            files"), None);
    }
}
