//! What can go wrong, and what helps.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why the store can't do what it was asked for. Cheap to clone: a failed store gives the same to everybody.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<io::Error>,
}

/// The families of [`Error`], by what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The disk failed. Final: what was not safe before may be lost. Mend the disk, and start again.
    Io,
    /// There is no room for a publish: nothing of its group was appended. Settle, or wait for space.
    Full,
    /// A group that no file can take. The caller is at fault: make smaller ones.
    TooLarge,
    /// A file is not as it was written. Restore the folder from a copy, or start with
    /// [`Settings::salvage`](super::Settings::salvage) and lose what is damaged.
    Damaged,
    /// Another broker has the folder open.
    Locked,
    /// There is no such queue or message in the store. The caller is at fault.
    Unknown,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An error of the operating system while doing `what`.
    pub(crate) fn io(what: impl fmt::Display, source: io::Error) -> Self {
        let kind = if is_full(&source) { ErrorKind::Full } else { ErrorKind::Io };
        Self::with_source(kind, what, source)
    }

    pub(crate) fn with_source(kind: ErrorKind, what: impl fmt::Display, source: io::Error) -> Self {
        Self(Arc::new(Inner { kind, message: format!("{what}: {source}"), source: Some(source) }))
    }

    pub(crate) fn damaged(file: &str, offset: u64, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Damaged, format!("{file} is damaged at byte {offset}: {what}"))
    }

    /// What helps.
    ///
    /// ```
    /// use hopmq_broker::store::{ErrorKind, MemoryStorage, Position, QueueId, Settings, Store};
    /// let (store, ..) = Store::open(MemoryStorage::new(), Settings::default())?;
    /// let error = store.read(QueueId(1), Position(1)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Unknown);
    /// # Ok::<(), hopmq_broker::store::Error>(())
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

/// Whether space on the disk would help.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("message", &self.0.message).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}
