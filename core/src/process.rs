//! The process that a connection belongs to.
//!
//! A child process that was forked has a copy of every connection, but none of the threads that drive them, and its
//! copies of the sockets are those of its parent: whatever the child wrote would end up among the parent's frames. So
//! each place that would wake a driver, or wait for one, first asks whether it is still in the process that made the
//! connection. That is a system call, so each thread keeps the answer for a moment, which is shorter than a fork.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// How long a thread knows the id of its process. The only thread of a forked process is the one that forked, and a
/// fork takes longer: 40 microseconds at least.
const KNOWN: Duration = Duration::from_micros(10);

std::thread_local! {
    /// The id of the process, and when this thread asked for it.
    static ASKED: Cell<Option<(Instant, u32)>> = const { Cell::new(None) };
}

fn id() -> u32 {
    let now = Instant::now();
    match ASKED.get() {
        Some((asked, id)) if now.saturating_duration_since(asked) < KNOWN => id,
        _ => {
            let id = std::process::id();
            ASKED.set(Some((now, id)));
            id
        }
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// Returns the present process. Where no process can fork, all are the same.
    pub(crate) fn current() -> Self {
        Self(if cfg!(unix) { id() } else { 0 })
    }

    /// Whether the present process is a descendant of this one.
    pub(crate) fn is_other(self) -> bool {
        self != Self::current()
    }

    /// Returns the error of a call in a descendant of this process: `what` belongs to this process, and the descendant
    /// should do `instead`.
    pub(crate) fn error(self, what: &str, instead: &str) -> Error {
        let Self(owner) = self;
        let text = format!("{what} belongs to another process ({owner}), which forked this one: {instead} here");
        Error::new(ErrorKind::Usage, text)
    }
}
