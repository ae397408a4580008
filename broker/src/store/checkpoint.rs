//! The checkpointer: what still lives in the oldest log files moves to segments, the manifest says so, and the files
//! can be used again. It also removes what nobody needs: segments, bodies.
//!
//! ```text
//! gather ──► write segments, sync ──► relocate, note what changed ──► (log safe so far) ──► manifest, sync ──► free
//! ```
//! Until the manifest is safe, a crash finds everything in the log as it was. What the manifest says must not be newer
//! than what is safe in the log, for a group is there as a whole or not at all: so it waits for the writer.

use std::sync::Arc;

use super::Error;
use super::compaction::{FullLog, Mover};
use super::index::{Index, Span};
use super::log::{self, LogFile, Spare};
use super::manifest::{self, LogStart, Manifest};
use super::segment::{self, Segment};
use super::shared::{Shared, State};
use super::writer::make;

/// How many segments are copied at once.
const COPIES: usize = 4;
/// How many log files are kept for later.
const SPARES: usize = 2;
/// A manifest that is longer than this, and several times as long as when it was new, is written anew.
const MANIFEST: u64 = 1 << 20;
const MANIFEST_GROWTH: u64 = 4;

/// Makes log files free for use, and removes what nobody needs. One for a store.
#[derive(Debug)]
pub struct Checkpointer {
    shared: Arc<Shared>,
    manifest: Manifest,
    commit: Option<Commit>,
    /// Up to where the log was safe when the last turn began.
    seen: u64,
}

/// What the manifest is to say next.
#[derive(Debug)]
struct Commit {
    payload: Vec<u8>,
    whole: bool,
    /// The address up to which the log must be safe before.
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

    /// The number of the manifest in use.
    pub(super) fn manifest(&self) -> u64 {
        self.manifest.number
    }

    /// Whether the writer did nothing since the last turn began.
    pub(super) fn has_seen(&self, state: &State) -> bool {
        state.log.synced == self.seen
    }

    /// Does one piece of work, if there is any, and returns whether there was. If it waits for the writer, that is
    /// none.
    ///
    /// Fails once the disk has failed, and from then on.
    pub fn turn(&mut self) -> Result<bool, Error> {
        self.turn_for(false)
    }

    /// The same, but the log files need not be many: all that are full are made free.
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

    /// Removes bodies that nobody needs, and reserves space for the next log file.
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
            // Whoever is left over is found by the next start.
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
            mover.log(log, false)?;
        }
        for (id, segment) in &sparse {
            mover.segment(*id, segment)?;
        }
        mover.finish()?;
        self.commit = Some(self.prepare(logs.len(), false));
        Ok(true)
    }

    /// Moves all that lives in a damaged log to segments, and begins a new log and a new manifest.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        let logs = all_logs(&self.shared.lock());
        let mut mover = Mover::new(&self.shared);
        for log in &logs {
            mover.log(log, true)?;
        }
        mover.finish()?;
        let commit = self.prepare(logs.len(), true);
        self.commit(commit)
    }

    /// Notes what the manifest is to say: that the log begins behind the first `retired` files.
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
        let payload = if whole { manifest::whole(index, start) } else { manifest::changed(index, &changed, start) };
        Commit { payload, whole, after: log.end, start, dead_segments }
    }

    /// Lets the manifest say it, and frees what is free then. If there is no space, it is for a later turn.
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

    /// Takes the files before this one out of the log, and returns those that are not kept for later.
    fn free_logs(&self, first: u64) -> Vec<String> {
        let mut useless = Vec::new();
        let mut state = self.shared.lock();
        let State { index, log, .. } = &mut *state;
        index.spans.retain(|span| span.seq >= first);
        while log.files.front().is_some_and(|file| file.seq < first) {
            let Some(LogFile { base, capacity, file: Some(named), .. }) = log.files.pop_front() else { continue };
            // Nobody may be reading it when it is written to again.
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

/// All log files, the one in use included.
fn all_logs(state: &State) -> Vec<FullLog> {
    let ends = state.log.files.iter().skip(1).map(|file| file.base).chain([state.log.end]);
    let logs = state.log.files.iter().zip(ends).zip(&state.index.spans);
    let log = |((file, end), span): ((&LogFile, u64), &Span)| {
        let named = file.file.clone()?;
        Some(FullLog { named, base: file.base, end, live: span.live })
    };
    logs.filter_map(log).collect()
}

/// The oldest log files that are due.
fn due_logs(state: &State, limit: u64, at_once: u64) -> Vec<FullLog> {
    let mut due = Vec::new();
    let (mut left, mut taken) = (state.log.full_bytes(), 0);
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
