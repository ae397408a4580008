//! The checkpointer: moves live messages from the oldest log files to segments, records that in the manifest, and frees
//! the files for reuse. It also removes segments and bodies that are no longer needed.
//!
//! ```text
//! read ──► write segments, sync ──► update index ──► wait until the log is safe ──► write manifest, sync ──► free
//! ```
//! Until the manifest is safe, recovery uses the log files as they were. The manifest must not be newer than the safe
//! part of the log, or a crash could leave half of a group: so the checkpointer waits for the writer.

use std::sync::Arc;

use super::Error;
use super::compaction::{FullLog, Mover};
use super::index::{Index, Span};
use super::log::{self, LogFile, Spare};
use super::manifest::{self, LogStart, Manifest};
use super::segment::{self, Segment};
use super::shared::{Shared, State};
use super::writer::make;

/// Segments that one checkpoint copies, at most.
const COPIES: usize = 4;
/// Log files that are kept for reuse, at most.
const SPARES: usize = 2;
/// A manifest is rewritten when it is longer than this many bytes and than [`MANIFEST_GROWTH`] times its first frame.
const MANIFEST: u64 = 1 << 20;
const MANIFEST_GROWTH: u64 = 4;

/// Frees log files for reuse, and removes files that are no longer needed. A store has one checkpointer.
#[derive(Debug)]
pub struct Checkpointer {
    shared: Arc<Shared>,
    manifest: Manifest,
    commit: Option<Commit>,
    /// The address up to which the log was safe when the last turn began.
    seen: u64,
}

/// The next write of the manifest.
#[derive(Debug)]
struct Commit {
    payload: Vec<u8>,
    whole: bool,
    /// The address up to which the log must be safe first.
    after: u64,
    start: LogStart,
    dead_segments: Vec<u32>,
}

impl Checkpointer {
    pub(super) fn new(shared: Arc<Shared>, manifest: Manifest) -> Self {
        Self { shared, manifest, commit: None, seen: 0 }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Returns the number of the manifest in use.
    pub(super) fn manifest(&self) -> u64 {
        self.manifest.number
    }

    /// Returns whether the writer has synced nothing since the last turn began.
    pub(super) fn has_seen(&self, state: &State) -> bool {
        state.log.synced == self.seen
    }

    /// Does one step of work. Returns whether there was any; while the checkpointer waits for the writer there is none.
    ///
    /// # Errors
    /// If the disk fails; from then on every call fails with the same error.
    pub fn turn(&mut self) -> Result<bool, Error> {
        self.turn_for(false)
    }

    /// Does one step of work as [`Checkpointer::turn`] does, but frees every full log file, even below
    /// [`Settings::log_limit`](super::Settings::log_limit).
    ///
    /// # Errors
    /// The errors of [`Checkpointer::turn`].
    pub fn turn_eagerly(&mut self) -> Result<bool, Error> {
        self.turn_for(true)
    }

    fn turn_for(&mut self, eager: bool) -> Result<bool, Error> {
        {
            let state = self.shared.lock();
            state.check()?;
            self.seen = state.log.synced;
            if self.commit.as_ref().is_some_and(|commit| state.log.synced < commit.after) {
                return Ok(false);
            }
        }
        let turned = match self.commit.take() {
            Some(commit) => self.commit(commit).map(|()| true),
            None => self.tidy().and_then(|tidied| Ok(self.checkpoint(eager)? || tidied)),
        };
        self.shared.lock().awaited = self.commit.as_ref().map(|commit| commit.after);
        turned.or_else(|error| self.shared.disk_error(error).map(|()| false))
    }

    /// Removes unused bodies and spare files, and reserves space for the next log file.
    fn tidy(&self) -> Result<bool, Error> {
        let largest = self.shared.settings.log_file_size;
        let (useless, capacity) = {
            let mut state = self.shared.lock();
            let synced = state.log.synced;
            let dead = state.index.dead_bodies.extract_if(.., |(end, _)| *end <= synced);
            let mut useless: Vec<String> = dead.map(|(_, id)| log::body_name(id)).collect();
            useless.extend(state.log.outgrown(largest).into_iter().map(|spare| spare.named.name));
            (useless, state.log.wanted_spare(largest).filter(|_| !state.disk_full))
        };
        for name in &useless {
            // If this fails, the next start removes the file.
            let _ = self.shared.storage.remove(name);
        }
        if let Some(capacity) = capacity {
            let named = make(&self.shared, capacity)?;
            self.shared.lock().log.spares.push(Spare { named, capacity, base: None });
        }
        Ok(!useless.is_empty() || capacity.is_some())
    }

    fn checkpoint(&mut self, eager: bool) -> Result<bool, Error> {
        let (logs, sparse, dead) = {
            let mut state = self.shared.lock();
            let limit = if eager || state.disk_full { 0 } else { self.shared.settings.log_limit };
            let Index { due, segments, .. } = &mut state.index;
            due.retain(|id| segments.get(id).is_some_and(Segment::is_due));
            let due = state.index.due.iter().filter_map(|id| Some((*id, state.index.segments.get(id)?)));
            let (dead, sparse): (Vec<_>, Vec<_>) = due.partition(|(_, segment)| segment.live == 0);
            let sparse: Vec<_> = sparse.into_iter().take(COPIES).map(|(id, segment)| (id, segment.clone())).collect();
            let dead = !dead.is_empty();
            (due_logs(&state, limit, self.shared.settings.log_file_size), sparse, dead)
        };
        if logs.is_empty() && sparse.is_empty() && !dead {
            return Ok(false);
        }
        let mut mover = Mover::new(&self.shared);
        for log in logs.iter().filter(|log| log.live > 0) {
            mover.log(log)?;
        }
        for (id, segment) in &sparse {
            mover.segment(*id, segment)?;
        }
        mover.finish()?;
        self.commit = Some(self.prepare(logs.len(), false));
        Ok(true)
    }

    /// Notes in the manifest that the first file of the log exists.
    pub(super) fn note_first(&mut self) -> Result<(), Error> {
        let commit = self.prepare(0, false);
        self.commit(commit)
    }

    /// Moves all live messages of a damaged log to segments. The log then begins with its last file, which is empty,
    /// and the manifest is new.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        let mut logs = all_logs(&self.shared.lock());
        logs.pop();
        let mut mover = Mover::new(&self.shared);
        for log in &logs {
            mover.log(log)?;
        }
        mover.finish()?;
        let commit = self.prepare(logs.len(), true);
        self.commit(commit)
    }

    /// Encodes the next write of the manifest: the log begins after its first `retired` files.
    fn prepare(&self, retired: usize, whole: bool) -> Commit {
        let mut state = self.shared.lock();
        let State { index, log, .. } = &mut *state;
        let is_dead = |id: &u32| index.segments.get(id).is_some_and(|segment| segment.live == 0);
        let dead_segments: Vec<u32> = index.due.iter().copied().filter(is_dead).collect();
        index.due.retain(|id| !dead_segments.contains(id));
        for id in &dead_segments {
            index.segments.remove(id);
            index.changed.segments.insert(*id);
        }
        let start = match log.files.get(retired) {
            Some(file) => LogStart { seq: file.seq, base: file.base, exists: file.file.is_some() },
            None => LogStart { seq: log.next_seq, base: log.end, exists: false },
        };
        let changed = std::mem::take(&mut index.changed);
        let whole = whole || self.manifest.len > MANIFEST.max(self.manifest.whole * MANIFEST_GROWTH);
        let payload = if whole {
            manifest::whole(index, start, log.end)
        } else {
            manifest::changed(index, &changed, start, log.end)
        };
        Commit { payload, whole, after: log.end, start, dead_segments }
    }

    /// Writes the manifest, then frees the files that it no longer needs. After an error a later turn tries again.
    fn commit(&mut self, commit: Commit) -> Result<(), Error> {
        let written = if commit.whole {
            Manifest::create(&*self.shared.storage, self.manifest.number + 1, &commit.payload).map(|manifest| {
                let old = std::mem::replace(&mut self.manifest, manifest);
                let _ = self.shared.storage.remove(&Manifest::name(old.number));
            })
        } else {
            self.manifest.append(&commit.payload)
        };
        if let Err(error) = written {
            self.commit = Some(commit);
            return Err(error);
        }
        for id in commit.dead_segments {
            self.shared.close_segment(id);
            let _ = self.shared.storage.remove(&segment::file_name(id));
        }
        let useless = self.free_logs(commit.start.seq);
        for name in useless {
            let _ = self.shared.storage.remove(&name);
        }
        Ok(())
    }

    /// Removes the files before `first` from the log. Keeps some as spares and returns the names of the others.
    fn free_logs(&self, first: u64) -> Vec<String> {
        let mut useless = Vec::new();
        let mut state = self.shared.lock();
        let State { index, log, .. } = &mut *state;
        index.spans.retain(|span| span.seq >= first);
        while log.files.front().is_some_and(|file| file.seq < first) {
            let Some(LogFile { base, capacity, file: Some(named), .. }) = log.files.pop_front() else { continue };
            // A file with an open reader must not be overwritten.
            let free = Arc::strong_count(&named.file) == 1;
            if free && log.spares.len() < SPARES && capacity == self.shared.settings.log_file_size {
                log.spares.push(Spare { named, capacity, base: Some(base) });
            } else {
                useless.push(named.name);
            }
        }
        useless
    }
}

/// Returns all log files, including the one in use.
fn all_logs(state: &State) -> Vec<FullLog> {
    let ends = state.log.files.iter().skip(1).map(|file| file.base).chain([state.log.end]);
    let logs = state.log.files.iter().zip(ends).zip(&state.index.spans);
    let log = |((file, end), span): ((&LogFile, u64), &Span)| {
        let named = file.file.clone()?;
        Some(FullLog { named, base: file.base, end, live: span.live })
    };
    logs.filter_map(log).collect()
}

/// Returns the oldest log files that must be freed to get down to `limit` bytes. Stops when files with live messages
/// add up to `at_once` bytes.
fn due_logs(state: &State, limit: u64, at_once: u64) -> Vec<FullLog> {
    let mut due = Vec::new();
    let mut left = state.log.full_bytes();
    let mut taken = 0;
    for ((file, next), span) in state.log.files.iter().zip(state.log.files.iter().skip(1)).zip(&state.index.spans) {
        let Some(named) = &file.file else { break };
        if left <= limit || (taken >= at_once && span.live > 0) || next.base > state.log.synced || next.file.is_none() {
            break;
        }
        left -= file.capacity;
        taken += if span.live > 0 { file.capacity } else { 0 };
        due.push(FullLog { named: named.clone(), base: file.base, end: next.base, live: span.live });
    }
    due
}
