//! The process that a connection belongs to.
//!
//! A child process that was forked has a copy of every connection, but none of the threads that drive them, and its
//! copies of the sockets are those of its parent: whatever the child wrote would end up among the parent's frames. So
//! each place that would wake a driver, or wait for one, first asks whether it is still in the process that made the
//! connection. That is a system call, and these places make others anyway.

use crate::error::{Error, ErrorKind};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// Returns the present process. Where no process can fork, all are the same.
    pub(crate) fn current() -> Self {
        Self(if cfg!(unix) { std::process::id() } else { 0 })
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
