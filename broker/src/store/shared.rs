//! What the store, its writer and its checkpointer share: one state under one lock, in which nobody waits for a disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::index::Index;
use super::log::Log;
use super::segment;
use super::storage::{File, Storage};
use super::{Error, ErrorKind, Lsn, Room, Settings, Status};

/// How many segments are kept open for reading.
const OPEN_SEGMENTS: usize = 64;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Box<dyn Storage>,
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// Wakes the writer: something is pending, or it is over.
    pub(super) to_write: Condvar,
    /// Wakes the checkpointer: there may be something for it, or it is over.
    pub(super) to_check: Condvar,
    segments: Mutex<BTreeMap<u32, Arc<dyn File>>>,
    pub(super) notify: OnceLock<Notify>,
}

/// Whom to tell that the status has changed.
pub(super) struct Notify(pub(super) Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notify")
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) log: Log,
    /// The disk has no space.
    pub(super) disk_full: bool,
    pub(super) failed: Option<Error>,
    /// The writer waits to be woken.
    pub(super) writer_sleeps: bool,
    /// The checkpointer waits until the log is safe up to this address.
    pub(super) awaited: Option<u64>,
    /// Nobody will append any more.
    pub(super) closing: bool,
    /// The next number for a file of the log.
    pub(super) next_log: u64,
}

impl Shared {
    pub(super) fn new(storage: Box<dyn Storage>, settings: Settings, state: State) -> Self {
        Self {
            storage,
            settings,
            state: Mutex::new(state),
            to_write: Condvar::new(),
            to_check: Condvar::new(),
            segments: Mutex::default(),
            notify: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        if let Some(Notify(notify)) = self.notify.get() {
            notify();
        }
    }

    /// What an error of the disk means: a full one blocks publishers until there is space, any other is the end.
    pub(super) fn disk_error(&self, error: Error) -> Result<(), Error> {
        let mut state = self.lock();
        if error.kind() == ErrorKind::Full {
            state.disk_full = true;
            drop(state);
            self.notify();
            return Ok(());
        }
        let first = state.failed.get_or_insert(error).clone();
        drop(state);
        self.to_check.notify_all();
        self.to_write.notify_all();
        self.notify();
        Err(first)
    }

    /// Looks how much space there is, and lets publishers go on or stops them.
    pub(super) fn look_at_space(&self) -> Result<(), Error> {
        let free = self.storage.free_space().map_err(|error| Error::io("asking for the free space", error));
        match free {
            Ok(free) => {
                let full = free < self.settings.min_free;
                if std::mem::replace(&mut self.lock().disk_full, full) != full {
                    self.notify();
                }
                Ok(())
            }
            Err(error) => self.disk_error(error),
        }
    }

    /// A segment's file, for reading.
    pub(super) fn segment(&self, id: u32) -> io::Result<Arc<dyn File>> {
        let mut open = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&id) {
            return Ok(file.clone());
        }
        if open.len() >= OPEN_SEGMENTS {
            open.clear();
        }
        let file = self.storage.open(&segment::file_name(id))?;
        open.insert(id, file.clone());
        Ok(file)
    }

    /// Forgets a segment that is removed.
    pub(super) fn close_segment(&self, id: u32) {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl State {
    pub(super) fn status(&self, settings: &Settings) -> Status {
        let room = match self.log.waiting {
            _ if self.disk_full => Room::DiskFull,
            waiting if waiting > settings.pending_limit => Room::Behind,
            _ => Room::Open,
        };
        let synced = Lsn(self.log.synced);
        Status { synced, pending: self.log.waiting, room, failed: self.failed.clone() }
    }

    /// Whether there may be something for the checkpointer.
    pub(super) fn is_due(&self, settings: &Settings) -> bool {
        match self.awaited {
            Some(awaited) => awaited <= self.log.synced,
            None => {
                self.log.full_bytes() > settings.log_limit
                    || !self.index.due.is_empty()
                    || !self.index.dead_bodies.is_empty()
                    || self.log.wanted_spare(settings.log_file_size).is_some()
            }
        }
    }

    /// The error that ended the store, if one did.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}
