//! The state that the store, its writer and its checkpointer share, under one lock that is never held during disk I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::index::Index;
use super::log::Log;
use super::segment;
use super::storage::{File, Storage};
use super::{Damage, Error, ErrorKind, Lsn, Room, Settings, Status};

/// Damaged parts that are kept until they are told, at most.
const DAMAGES: usize = 64;
/// Segments that are kept open for reading, at most.
const OPEN_SEGMENTS: usize = 64;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Box<dyn Storage>,
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// Wakes the writer: groups are pending, or the store is closing.
    pub(super) to_write: Condvar,
    /// Wakes the checkpointer: there may be work, or the store is closing.
    pub(super) to_check: Condvar,
    segments: Mutex<BTreeMap<u32, Arc<dyn File>>>,
    pub(super) notify: OnceLock<Notify>,
}

/// The callback for changes of the status.
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
    /// The disk has no free space, or less than [`Settings::min_free`].
    pub(super) disk_full: bool,
    /// The free space when that was last looked at.
    pub(super) free: Option<u64>,
    pub(super) failed: Option<Error>,
    /// The writer is waiting on [`Shared::to_write`].
    pub(super) writer_sleeps: bool,
    /// The checkpointer is waiting until the log is safe up to this address.
    pub(super) awaited: Option<u64>,
    /// No group will be appended any more.
    pub(super) closing: bool,
    /// The number of the next log file.
    pub(super) next_log: u64,
    /// The damaged parts that checkpoints met, which [`Store::damages`](super::Store::damages) has not returned yet.
    pub(super) damages: Vec<Damage>,
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

    /// Handles an error of the disk: a full disk blocks publishers until there is space, any other error is final.
    pub(super) fn disk_error(&self, error: Error) -> Result<(), Error> {
        let error = error.located(&*self.storage);
        let free = if error.kind() == ErrorKind::Full { self.storage.free_space().ok() } else { None };
        let mut state = self.lock();
        if error.kind() == ErrorKind::Full {
            state.disk_full = true;
            state.free = free;
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

    /// Blocks or unblocks publishers by the free space on the disk.
    pub(super) fn check_space(&self) -> Result<(), Error> {
        let free = self.storage.free_space().map_err(|error| Error::io("asking for the free disk space", error));
        match free {
            Ok(free) => {
                let full = free < self.settings.min_free;
                let mut state = self.lock();
                state.free = Some(free);
                let was_full = std::mem::replace(&mut state.disk_full, full);
                drop(state);
                if was_full != full {
                    self.notify();
                }
                Ok(())
            }
            Err(error) => self.disk_error(error),
        }
    }

    /// Notes a damaged part of a file that is in use.
    pub(super) fn note_damage(&self, damage: Damage) {
        let mut state = self.lock();
        if state.damages.len() < DAMAGES {
            state.damages.push(damage);
        }
        drop(state);
        self.notify();
    }

    /// Opens a segment for reading, or returns it from the cache.
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

    /// Removes a deleted segment from the cache.
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
        let Self { free, failed, .. } = self;
        Status {
            synced,
            pending: self.log.waiting,
            room,
            free: *free,
            min_free: settings.min_free,
            failed: failed.clone(),
        }
    }

    /// Whether there may be work for the checkpointer.
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

    /// Fails if an error has ended the store.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}
