//! Recovery: reads the folder after a shutdown or a crash: the manifest, the indexes of the segments, and the log from
//! where the manifest says that it begins.
//!
//! Recovery refuses to open a damaged folder, or with [`Settings::salvage`] drops the damaged part, moves the live
//! messages to segments and begins a new log. No file is changed or deleted before all files are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, BadHeader, Frames, Use};
use super::index::{Changed, Index, Place};
use super::log::{self, Named};
use super::manifest::{self, Known, Manifest};
use super::record::Addressee;
use super::replay::End;
use super::segment::{self, Segment};
use super::shared::State;
use super::storage::{File, Storage};
use super::writer::sync_error;
use super::{
    Damage, Error, ErrorKind, Group, Position, QueueId, Recovered, RecoveredMessage, RecoveredQueue, Settings, Torn,
};

/// The result of a recovery.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    pub(super) recovered: Recovered,
    pub(super) manifest: Manifest,
    pub(super) names: Names,
    /// The manifest says that the first file of the log exists.
    pub(super) exists: bool,
}

pub(super) type Messages = BTreeMap<QueueId, Vec<RecoveredMessage>>;

#[derive(Debug)]
pub(super) struct Recovery<'a> {
    storage: &'a dyn Storage,
    settings: &'a Settings,
    pub(super) names: Names,
    pub(super) damages: Vec<Damage>,
    pub(super) torn: Option<Torn>,
}

/// The numbers in the names of the files.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) logs: BTreeSet<u64>,
    segments: BTreeSet<u64>,
    bodies: BTreeSet<u64>,
    pub(super) manifests: BTreeSet<u64>,
}

pub(super) fn recover(storage: &dyn Storage, settings: &Settings) -> Result<Found, Error> {
    let names = Names::read(storage.list().map_err(|error| Error::io("listing the folder", error))?);
    Recovery { storage, settings, names, damages: Vec::new(), torn: None }.run()
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
        let (mut known, manifest, manifest_end) = self.manifest()?;
        let mut messages = Messages::new();
        self.segments(&mut known.index, &mut messages)?;
        for ((id, position), count) in &known.counts {
            let queue = known.index.queues.get_mut(id).filter(|queue| queue.messages.contains_key(position));
            queue.map(|queue| queue.counts.insert(*position, *count));
        }
        known.index.changed = Changed::default();
        let files = self.log_files(&known)?;
        let (mut state, log_end) = self.log(&files, &mut known, &mut messages)?;
        let exists = known.start.exists;
        let mut index = known.index;
        self.bodies(&mut index)?;
        if let Some(end) = manifest_end {
            end.rewrite()?;
            self.storage.sync_dir().map_err(|error| sync_error("syncing the folder", error))?;
        }
        if let Some(end) = log_end {
            self.note_log(&files, &end)?;
        }
        let due = index.segments.iter().filter(|(_, segment)| segment.is_due());
        index.due = due.map(|(id, _)| *id).collect();
        let recovered = Recovered { damages: self.damages, torn: self.torn, ..recovered(&index, messages) };
        state.index = index;
        Ok(Found { state, recovered, manifest, names: self.names, exists })
    }

    /// Records damage if [`Settings::salvage`] is set, fails otherwise.
    pub(super) fn damaged(&mut self, file: &str, offset: u64, what: impl Into<String>) -> Result<(), Error> {
        let damage = Damage { file: file.to_owned(), offset, what: what.into() };
        if !self.settings.salvage {
            return Err(Error::refused(&damage));
        }
        self.damages.push(damage);
        Ok(())
    }

    pub(super) fn open(&self, name: &str) -> Result<Arc<dyn File>, Error> {
        self.storage.open(name).map_err(|error| Error::io(format!("opening {name}"), error))
    }

    /// Fails if a file was written by a later version, with `salvage` too: nothing of it can be read.
    pub(super) fn later(name: &str, version: u8) -> Error {
        let what = format!(
            "{name} has format {version}, which a later version of this broker wrote; no file was changed; open the \
             folder with that version"
        );
        Error::new(ErrorKind::Version, what)
    }

    /// Reads the newest complete manifest. An incomplete one has an older one beside it, or is the folder's first.
    fn manifest(&mut self) -> Result<(Known, Manifest, Option<End>), Error> {
        let numbers: Vec<u64> = self.names.manifests.iter().rev().copied().collect();
        for number in &numbers {
            if let Some(found) = self.read_manifest(*number)? {
                return Ok(found);
            }
        }
        if !(self.names.logs.is_empty() && self.names.segments.is_empty() && self.names.bodies.is_empty()) {
            let found = match numbers.first() {
                Some(number) => format!("{} is damaged", Manifest::name(*number)),
                None => "there is no file manifest-N".to_owned(),
            };
            let what = format!(
                "{found}, but there are other files of a store; no file was changed; restore the folder from a backup \
                 (Settings::salvage needs a manifest)"
            );
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        let known = Known::new();
        let number = numbers.first().map_or(1, |newest| newest + 1);
        let manifest = Manifest::create(self.storage, number, &manifest::whole(&known.index, known.start, 0))?;
        Ok((known, manifest, None))
    }

    fn read_manifest(&mut self, number: u64) -> Result<Option<(Known, Manifest, Option<End>)>, Error> {
        let name = Manifest::name(number);
        let failed = |error| Error::io(format!("reading {name}"), error);
        let file = self.open(&name)?;
        let header = match Use::Manifest.read(file.as_ref()).map_err(failed)? {
            Ok(Some(header)) => header,
            Ok(None) | Err(BadHeader::Damaged(_)) => return Ok(None),
            Err(BadHeader::Later(version)) => return Err(Self::later(&name, version)),
        };
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
        let end = End { named, purpose: Use::Manifest, header, from: last, until: frames.at() };
        Ok(Some((known, Manifest { number, file, whole, len }, Some(end))))
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

fn recovered(index: &Index, mut messages: Messages) -> Recovered {
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
        ..Recovered::default()
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
