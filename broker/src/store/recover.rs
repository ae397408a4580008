//! Recovery: reads the folder after a shutdown or a crash: the manifest, the indexes of the segments, and the log from
//! where the manifest says that it begins.
//!
//! A log file ends where the next one begins. The last one ends at the first unreadable frame, unless a later frame
//! says that this frame was safe. Anything else is damage. Recovery refuses to open a damaged folder, or with
//! [`Settings::salvage`] drops the damaged part, moves the live messages to segments and begins a new log.
//!
//! No file is deleted before all files are read. The end of a file was read, but may not be on the disk: it is written
//! again and synced before the store relies on it. A sync alone is not enough: after a failed sync, Linux still returns
//! data that it never wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, Frames, HEADER, Use};
use super::index::{Changed, Index, Place, Span};
use super::log::{self, LogFile, Named};
use super::manifest::{self, Known, Manifest};
use super::record::Addressee;
use super::segment::{self, Segment};
use super::shared::State;
use super::storage::{File, Storage};
use super::writer::sync_error;
use super::{
    Damage, Error, ErrorKind, Group, Position, QueueId, Recovered, RecoveredMessage, RecoveredQueue, Settings,
};

/// The result of a recovery.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    pub(super) recovered: Recovered,
    pub(super) manifest: Manifest,
    pub(super) names: Names,
}

type Messages = BTreeMap<QueueId, Vec<RecoveredMessage>>;

#[derive(Debug)]
struct Recovery<'a> {
    storage: &'a dyn Storage,
    settings: &'a Settings,
    names: Names,
    damages: Vec<Damage>,
}

/// The numbers in the names of the files.
#[derive(Debug, Default)]
pub(super) struct Names {
    logs: BTreeSet<u64>,
    segments: BTreeSet<u64>,
    bodies: BTreeSet<u64>,
    manifests: BTreeSet<u64>,
}

pub(super) fn recover(storage: &dyn Storage, settings: &Settings) -> Result<Found, Error> {
    let names = Names::read(storage.list().map_err(|error| Error::io("listing the folder", error))?);
    Recovery { storage, settings, names, damages: Vec::new() }.run()
}

impl Names {
    fn read(list: Vec<String>) -> Self {
        let mut names = Self::default();
        for name in list {
            let Some((kind, number)) = name.rsplit_once('-') else { continue };
            let Ok(number) = number.parse() else { continue };
            match kind {
                "log" => names.logs.insert(number),
                "segment" => names.segments.insert(number),
                "body" => names.bodies.insert(number),
                "manifest" => names.manifests.insert(number),
                _ => continue,
            };
        }
        names
    }
}

impl Recovery<'_> {
    fn run(mut self) -> Result<Found, Error> {
        let (mut known, manifest) = self.manifest()?;
        let mut messages = Messages::new();
        self.segments(&mut known.index, &mut messages)?;
        for ((id, position), count) in &known.counts {
            let queue = known.index.queues.get_mut(id).filter(|queue| queue.messages.contains_key(position));
            queue.map(|queue| queue.counts.insert(*position, *count));
        }
        known.index.changed = Changed::default();
        let mut state = self.log(&mut known, &mut messages)?;
        let mut index = known.index;
        self.bodies(&mut index)?;
        let due = index.segments.iter().filter(|(_, segment)| segment.is_due());
        index.due = due.map(|(id, _)| *id).collect();
        let recovered = recovered(&index, messages, self.damages);
        state.index = index;
        Ok(Found { state, recovered, manifest, names: self.names })
    }

    /// Records damage if [`Settings::salvage`] is set, fails otherwise.
    fn damaged(&mut self, file: &str, offset: u64, what: impl Into<String>) -> Result<(), Error> {
        let damage = Damage { file: file.to_owned(), offset, what: what.into() };
        if !self.settings.salvage {
            return Err(Error::refused(&damage));
        }
        self.damages.push(damage);
        Ok(())
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>, Error> {
        self.storage.open(name).map_err(|error| Error::io(format!("opening {name}"), error))
    }

    /// Reads the newest complete manifest. An incomplete one has an older one beside it, or is the folder's first.
    fn manifest(&mut self) -> Result<(Known, Manifest), Error> {
        let numbers: Vec<u64> = self.names.manifests.iter().rev().copied().collect();
        for number in &numbers {
            if let Some(found) = self.read_manifest(*number)? {
                return Ok(found);
            }
        }
        if !(self.names.logs.is_empty() && self.names.segments.is_empty() && self.names.bodies.is_empty()) {
            let what = "no readable manifest, but other files of a store; no file was changed; restore the folder from \
                        a backup (Settings::salvage needs a manifest)";
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        let known = Known::new();
        let number = numbers.first().map_or(1, |newest| newest + 1);
        let manifest = Manifest::create(self.storage, number, &manifest::whole(&known.index, known.start))?;
        Ok((known, manifest))
    }

    fn read_manifest(&mut self, number: u64) -> Result<Option<(Known, Manifest)>, Error> {
        let name = Manifest::name(number);
        let failed = |error| Error::io(format!("reading {name}"), error);
        let file = self.open(&name)?;
        let Ok(Some(header)) = Use::Manifest.read(file.as_ref()).map_err(failed)? else { return Ok(None) };
        let mut frames = Frames::new(file.as_ref(), header.base, None).map_err(failed)?;
        let mut known = Known::new();
        let mut whole = 0;
        let mut last = header.base;
        loop {
            let offset = frames.offset();
            if let Some(frame) = frames.next().map_err(failed)? {
                last = frame.start - frame::FRAME as u64;
                if let Err(malformed) = known.apply(frame.payload) {
                    self.damaged(&name, offset, malformed.0)?;
                }
                whole = if whole == 0 { frames.at() - header.base } else { whole };
            } else if whole == 0 {
                return Ok(None);
            } else if frames.skip().map_err(failed)?.is_some() {
                self.damaged(&name, offset, "a record is missing, but a later one exists")?;
            } else {
                break;
            }
        }
        let len = frames.at() - header.base;
        let named = Named { name, file: file.clone() };
        rewrite(&named, Use::Manifest, header, last, frames.at())?;
        self.storage.sync_dir().map_err(|error| sync_error("syncing the folder", error))?;
        Ok(Some((known, Manifest { number, file, whole, len })))
    }

    fn segments(&mut self, index: &mut Index, messages: &mut Messages) -> Result<(), Error> {
        for id in index.segments.keys().copied().collect::<Vec<_>>() {
            let name = segment::file_name(id);
            if !self.names.segments.contains(&u64::from(id)) {
                self.damaged(&name, 0, "the file is missing")?;
                index.segments.remove(&id);
                continue;
            }
            let segment = index.segments[&id].clone();
            let file = self.open(&name)?;
            let mut read = 0;
            let scanned = segment::scan(file.as_ref(), id, &segment, |entry, spot| {
                let priority = entry.priority;
                let body_len = entry.body_len;
                for (target, ordinal) in entry.targets.iter().zip(spot.ordinal..) {
                    read = ordinal + 1;
                    if segment.is_settled(ordinal) {
                        continue;
                    }
                    let place = Place::Segment { segment: id, ordinal, offset: spot.offset };
                    let Addressee { queue, position, expires } = *target;
                    if index.restore(target, place, entry.file) {
                        let message = RecoveredMessage { position, expires, body_len, deliveries: 0, priority };
                        messages.entry(queue).or_default().push(message);
                    } else if let Some(segment) = index.segments.get_mut(&id) {
                        segment.settle(ordinal);
                    }
                }
            });
            if let Err(bad) = scanned.map_err(|error| Error::io(format!("reading {name}"), error))? {
                self.damaged(&name, bad.offset, bad.what)?;
                index.segments.insert(id, truncated(&index.segments[&id], bad.offset, read));
            }
        }
        Ok(())
    }

    /// Reads the log and applies it to the index.
    fn log(&mut self, known: &mut Known, messages: &mut Messages) -> Result<State, Error> {
        let mut state = State { next_log: self.names.logs.last().map_or(0, |last| last + 1), ..State::default() };
        let files = self.log_files(known)?;
        let index = &mut known.index;
        let mut end = known.start.base;
        let mut safe = 0;
        for (nth, (named, header)) in files.iter().enumerate() {
            index.spans.push_back(Span { seq: header.seq, base: header.base, live: 0 });
            let next = files.get(nth + 1).map(|(_, header)| header.base);
            let published = |queue, message| messages.entry(queue).or_default().push(message);
            (end, safe) = self.replay(named, header.base, next, index, published)?;
            let len = named.file.size().map_err(|error| Error::io(format!("reading {}", named.name), error))?;
            let capacity = if next.is_some() { len } else { HEADER + end - header.base };
            let file = Some(named.clone());
            state.log.files.push_back(LogFile { seq: header.seq, base: header.base, capacity, file });
        }
        if let Some((named, header)) = files.last() {
            rewrite(named, Use::Log, *header, safe.max(header.base), end)?;
        }
        state.log.next_seq = files.last().map_or(known.start.seq, |(_, header)| header.seq + 1);
        state.log.end = end;
        state.log.synced = end;
        Ok(state)
    }

    /// Opens the files of the log, in order, from where it begins.
    fn log_files(&mut self, known: &Known) -> Result<Vec<(Named, frame::Header)>, Error> {
        let mut files: Vec<(Named, frame::Header)> = Vec::new();
        for number in self.names.logs.clone() {
            let name = log::file_name(number);
            let file = self.open(&name)?;
            match Use::Log.read(file.as_ref()).map_err(|error| Error::io(format!("reading {name}"), error))? {
                Ok(Some(header)) if header.seq >= known.start.seq => files.push((Named { name, file }, header)),
                Ok(_) => {}
                Err(what) => self.damaged(&name, 0, what)?,
            }
        }
        files.sort_by_key(|(_, header)| header.seq);
        let mut expected = known.start.seq;
        let mut base = known.start.base;
        for (Named { name, .. }, header) in &files {
            if header.seq != expected || header.base < base || (header.seq == known.start.seq && header.base != base) {
                let what = format!("this is file {} of the log, but file {expected} is missing", header.seq);
                self.damaged(name, 0, what)?;
            }
            (expected, base) = (header.seq + 1, header.base);
        }
        if files.is_empty() && known.start.exists {
            let name = Manifest::name(self.names.manifests.last().copied().unwrap_or_default());
            self.damaged(&name, 0, format!("file {expected} of the log is missing"))?;
        }
        Ok(files)
    }

    /// Applies a file of the log. Returns the address after its last frame, and the address up to which the log was
    /// safe when that frame was encoded.
    fn replay(
        &mut self,
        named: &Named,
        base: u64,
        next: Option<u64>,
        index: &mut Index,
        mut published: impl FnMut(QueueId, RecoveredMessage),
    ) -> Result<(u64, u64), Error> {
        let failed = |error| Error::io(format!("reading {}", named.name), error);
        let mut frames = Frames::new(named.file.as_ref(), base, next).map_err(failed)?;
        let mut safe = 0;
        loop {
            let at = frames.at();
            let offset = frames.offset();
            if let Some(frame) = frames.next().map_err(failed)? {
                safe = frame.synced;
                if let Err(malformed) = index.apply(frame.payload, frame.start, &mut published) {
                    self.damaged(&named.name, offset, malformed.0)?;
                }
                continue;
            }
            if next == Some(at) {
                return Ok((at, safe));
            }
            let later = frames.skip().map_err(failed)?;
            let was_safe = match next {
                Some(_) => true,
                None => later.is_some() && was_synced(&named.file, base, frames.at(), at).map_err(failed)?,
            };
            if !was_safe {
                return Ok((at, safe));
            }
            self.damaged(&named.name, offset, "a record that was safe is missing")?;
            if later.is_none() {
                return Ok((next.unwrap_or(at), safe));
            }
        }
    }

    /// Checks that every body file in use exists, and settles messages whose body is missing.
    fn bodies(&mut self, index: &mut Index) -> Result<(), Error> {
        let mut repairs = Group::new();
        let missing: Vec<u64> = index.bodies.keys().filter(|id| !self.names.bodies.contains(id)).copied().collect();
        for id in missing {
            self.damaged(&log::body_name(id), 0, "the file is missing")?;
            index.users_of(id).into_iter().for_each(|(queue, position)| repairs.settle(queue, [position]));
        }
        index.apply(&repairs.bytes, 0, |_, _| {}).expect("groups are well formed");
        Ok(())
    }
}

/// Removes files that a crash or an earlier use left. If that fails, the next start tries again.
pub(super) fn remove_useless(storage: &dyn Storage, names: &Names, state: &State, manifest: u64) {
    let index = &state.index;
    let segments = names.segments.iter().filter(|id| !index.segments.contains_key(&(**id as u32)));
    let bodies = names.bodies.iter().filter(|id| !index.bodies.contains_key(id));
    let in_use: BTreeSet<&str> =
        state.log.files.iter().flat_map(|file| &file.file).map(|named| named.name.as_str()).collect();
    let logs = names.logs.iter().map(|number| log::file_name(*number));
    let manifests = names.manifests.iter().filter(|number| **number != manifest);
    let useless = segments
        .map(|id| segment::file_name(*id as u32))
        .chain(bodies.map(|id| log::body_name(*id)))
        .chain(logs.filter(|name| !in_use.contains(name.as_str())))
        .chain(manifests.map(|number| Manifest::name(*number)));
    useless.for_each(|name| drop(storage.remove(&name)));
}

fn recovered(index: &Index, mut messages: Messages, damages: Vec<Damage>) -> Recovered {
    let queue = |(id, queue): (&QueueId, &super::index::Queue)| {
        let mut messages = messages.remove(id).unwrap_or_default();
        messages.retain(|message| queue.messages.contains_key(&message.position));
        if !messages.is_sorted_by_key(|message| message.position) {
            messages.sort_unstable_by_key(|message| message.position);
        }
        for (position, count) in &queue.counts {
            if let Ok(at) = messages.binary_search_by_key(position, |message| message.position) {
                messages[at].deliveries = *count;
            }
        }
        RecoveredQueue { id: *id, definition: queue.definition.clone(), next: Position(queue.next), messages }
    };
    Recovered {
        queues: index.queues.iter().map(queue).collect(),
        metadata: index
            .metadata
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Vec<(Bytes, Bytes)>>(),
        next_queue: QueueId(index.next_queue),
        damages,
    }
}

/// Returns the first `len` bytes and `targets` ordinals of a segment, as a full segment.
fn truncated(segment: &Segment, len: u64, targets: u32) -> Segment {
    let mut rest = Segment::new(segment.owner);
    rest.full = true;
    rest.grow(len, targets);
    (0..targets).filter(|ordinal| segment.is_settled(*ordinal)).for_each(|ordinal| rest.settle(ordinal));
    rest
}

/// Returns whether a frame at or after the address `from` says that the log was safe beyond `at`.
fn was_synced(file: &Arc<dyn File>, base: u64, from: u64, at: u64) -> std::io::Result<bool> {
    let mut frames = Frames::new(file.as_ref(), base, None)?;
    frames.seek(from);
    loop {
        while let Some(frame) = frames.next()? {
            if frame.synced > at {
                return Ok(true);
            }
        }
        if frames.skip()?.is_none() {
            return Ok(false);
        }
    }
}

/// Writes the header and the frames between two addresses again, and syncs them.
fn rewrite(named: &Named, purpose: Use, header: frame::Header, from: u64, until: u64) -> Result<(), Error> {
    let rewritten = || {
        let mut bytes = vec![0; (until - from) as usize];
        let offset = HEADER + from - header.base;
        frame::read_full(named.file.as_ref(), &mut bytes, offset)?;
        named.file.write_at(&purpose.encode(header), 0)?;
        named.file.write_at(&bytes, offset)
    };
    rewritten().map_err(|error| Error::io(format!("rewriting {}", named.name), error))?;
    named.file.sync().map_err(|error| sync_error(&format!("syncing {}", named.name), error))
}
