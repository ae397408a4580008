//! The store's errors.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::storage::Storage;
use super::{Damage, Position, QueueId};

/// The next step after [`ErrorKind::Damaged`].
const RESTORE: &str = "restore the folder from a backup, or copy it and start once with --salvage (in Rust, \
                       store::Settings::salvage), which drops the damaged part";

/// Why an operation of the store failed. Cheap to clone: a failed store returns clones of one error.
///
/// `{error}` says what happened and what to do, without its [`source`](StdError::source); `{error:#}` adds the source.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    /// Where the store is, if the storage says so.
    location: Option<String>,
    source: Option<io::Error>,
    /// What to do, unless the message says so.
    advice: Option<&'static str>,
}

/// The kinds of [`Error`], by what fixes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The disk failed. Final: groups that were not safe may be lost. Repair the disk, then restart the broker.
    Io,
    /// There is no space for a publish: nothing of its group was appended. Settle messages, or wait for space.
    Full,
    /// A group exceeds the size limit. A mistake of the caller: append smaller groups.
    TooLarge,
    /// A file does not hold what was written. Restore the folder from a backup, or open it with
    /// [`Settings::salvage`](super::Settings::salvage), which drops the damaged part.
    Damaged,
    /// A later version of the broker wrote the folder. Open it with that version.
    Version,
    /// Another broker has the folder open.
    Locked,
    /// The store has no such queue or message. A mistake of the caller.
    Unknown,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), location: None, source: None, advice: None }))
    }

    /// An error of the operating system while doing `what`, such as "reading log-0".
    pub(crate) fn io(what: impl fmt::Display, source: io::Error) -> Self {
        if is_full(&source) {
            let advice = Some("free disk space, then try again");
            return Self::caused(ErrorKind::Full, what, source, advice);
        }
        Self::disk(what, source)
    }

    /// An error of the disk that is final, whatever its cause.
    pub(super) fn disk(what: impl fmt::Display, source: io::Error) -> Self {
        let advice = Some("check the disk and its permissions, then restart the broker");
        Self::caused(ErrorKind::Io, what, source, advice)
    }

    pub(crate) fn with_source(kind: ErrorKind, what: impl fmt::Display, source: io::Error) -> Self {
        Self::caused(kind, what, source, None)
    }

    fn caused(kind: ErrorKind, what: impl fmt::Display, source: io::Error, advice: Option<&'static str>) -> Self {
        Self(Arc::new(Inner { kind, message: format!("{what} failed"), location: None, source: Some(source), advice }))
    }

    /// Damage that made the store refuse to open.
    pub(super) fn refused(damage: &Damage) -> Self {
        Self::new(ErrorKind::Damaged, format!("{damage}; no file was changed; {RESTORE}"))
    }

    /// Damage in one message, which the store survives.
    pub(super) fn lost(queue: QueueId, position: Position, damage: &Damage) -> Self {
        let QueueId(queue) = queue;
        let Position(position) = position;
        let message = format!(
            "message {position} of queue {queue} can't be read: {damage}; purge or delete its queue, or restore the \
             folder from a backup"
        );
        Self::new(ErrorKind::Damaged, message)
    }

    /// Adds the location of the store, unless it has one or is shared already.
    pub(super) fn located(mut self, storage: &dyn Storage) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0)
            && inner.location.is_none()
        {
            inner.location = storage.location();
        }
        self
    }

    /// Returns the kind, which says what fixes the error.
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

/// Whether free disk space would fix the error.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.0.location {
            write!(f, "the store in {location}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source
            && f.alternate()
        {
            write!(f, ": {source}")?;
        }
        self.0.advice.map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("location", &self.0.location)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}
