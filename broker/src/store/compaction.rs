//! Compaction: moves live messages from log files, and from segments that are mostly settled, to segments.
//!
//! Where a file is damaged, the live messages in the damaged part are moved as they are, because each has its own
//! checksum: a read finds those that are whole, and fails for the others, also after a restart. The damage is told
//! ([`Store::damages`](super::Store::damages)). What such a record said beside the content is lost: after a restart,
//! the message has no expiry and no priority.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::{self, Frames, HEADER, read_full};
use super::index::Place;
use super::log::Named;
use super::record::{self, Addressee, Operation, Reader};
use super::segment::{self, Block, Entry, Owner, Segment, Spot};
use super::shared::Shared;
use super::storage::File;
use super::writer::sync_error;
use super::{Damage, Error};

/// A queue with less than one `OWN_SEGMENT`th of a segment to move uses the shared segment.
const OWN_SEGMENT: u64 = 16;
/// Bytes that are buffered before they are written.
const SLICE: usize = 16 << 20;
/// Messages that are relocated while the lock is held once.
const BATCH: usize = 512;

/// A log file to which no more groups are added.
#[derive(Debug)]
pub(super) struct FullLog {
    pub(super) named: Named,
    /// The address of its first frame.
    pub(super) base: u64,
    /// The address after its last frame.
    pub(super) end: u64,
    /// The number of live messages in it.
    pub(super) live: u64,
}

/// A damaged part of a file.
struct Damaged<'a> {
    name: &'a str,
    offset: u64,
    /// The offset after it.
    end: u64,
    what: &'a str,
}

/// A message that is being moved.
#[derive(Debug)]
struct Moving {
    entry: Entry,
    /// Its place so far, for each target.
    from: Vec<Place>,
    /// The index of its parcel in [`Mover::parcels`].
    at: usize,
}

/// Buffers live messages and moves them, one slice at a time.
#[derive(Debug)]
pub(super) struct Mover<'a> {
    shared: &'a Shared,
    moving: Vec<Moving>,
    parcels: Vec<u8>,
}

/// A block that is safe in a segment, but not in the index yet.
#[derive(Debug)]
struct Written {
    id: u32,
    /// The segment with this block.
    grown: Segment,
    targets: u32,
    moved: Vec<(Moving, Spot)>,
}

impl<'a> Mover<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, moving: Vec::new(), parcels: Vec::new() }
    }

    /// Moves the live messages of a log file.
    pub(super) fn log(&mut self, log: &FullLog) -> Result<(), Error> {
        let shared = self.shared;
        let failed = |error| Error::io(format!("reading {}", log.named.name), error);
        let mut frames = Frames::new(log.named.file.as_ref(), log.base, Some(log.end)).map_err(failed)?;
        while frames.at() < log.end {
            let from = frames.at();
            let mut what = None;
            if let Some(frame) = frames.next().map_err(failed)? {
                let mut reader = Reader::new(frame.payload);
                let state = shared.lock();
                while !reader.is_empty() {
                    let publish = match Operation::read(&mut reader) {
                        Ok(Operation::Publish(publish)) => publish,
                        Ok(_) => continue,
                        Err(bad) => {
                            what = Some(bad.0);
                            break;
                        }
                    };
                    let from = Place::Log(frame.start + publish.at as u64);
                    let lives = |target: &Addressee| state.index.place(target.queue, target.position) == Some(from);
                    let entry = Entry {
                        priority: publish.priority,
                        parcel_len: publish.parcel.bytes.len(),
                        body_len: publish.parcel.body_len,
                        file: publish.parcel.file,
                        targets: publish.targets().filter(lives).collect(),
                    };
                    let from = vec![from; entry.targets.len()];
                    self.push(entry, from, publish.parcel.bytes);
                }
            } else {
                what = Some("a record can't be read");
                if frames.skip().map_err(failed)?.is_none() {
                    frames.seek(log.end);
                }
            }
            if let Some(what) = what {
                let until = frames.at();
                let place = |place| match place {
                    Place::Log(at) if from <= at && at < until => Some(HEADER + at - log.base),
                    _ => None,
                };
                let [offset, end] = [from, until].map(|at| HEADER + at - log.base);
                let damaged = Damaged { name: &log.named.name, offset, end, what };
                self.move_damaged(log.named.file.as_ref(), &damaged, place)?;
            }
            self.move_slice()?;
        }
        Ok(())
    }

    /// Moves the live messages of a damaged part of a file, as far as their lengths can be told. `place` returns the
    /// offset in the file of a message that is in the damaged part.
    fn move_damaged(
        &mut self,
        file: &dyn File,
        damaged: &Damaged<'_>,
        place: impl Fn(Place) -> Option<u64>,
    ) -> Result<(), Error> {
        let Damaged { name, offset, end, what } = *damaged;
        let live = self.shared.lock().index.live(&place);
        let what = format!("{what}; {} messages that are not settled are in it", live.len());
        self.shared.note_damage(Damage { file: name.to_owned(), offset, what });
        for live in live {
            let Some(at) = place(live.place) else { continue };
            let mut parcel = vec![0; record::PARCEL_PREFIX + 8];
            let failed = |error| Error::io(format!("reading {name}"), error);
            let read = read_full(file, &mut parcel, at).map_err(failed)?;
            parcel.truncate(read);
            match record::parcel_len(&mut Reader::new(&parcel)) {
                Ok((len, ..)) if at + len as u64 <= end => parcel.resize(len, 0),
                // Zeros fail the checksum of a read.
                _ => parcel = vec![0; record::PARCEL_PREFIX],
            }
            if parcel.len() > record::PARCEL_PREFIX {
                read_full(file, &mut parcel, at).map_err(failed)?;
            }
            let targets = vec![Addressee { queue: live.queue, position: live.position, expires: None }];
            let body_len = frame::u32_at(&parcel, 8);
            let entry = Entry { priority: 0, parcel_len: parcel.len(), body_len, file: live.body, targets };
            self.push(entry, vec![live.place], &parcel);
            self.move_slice()?;
        }
        Ok(())
    }

    /// Moves the live messages of a segment.
    pub(super) fn segment(&mut self, id: u32, segment: &Segment) -> Result<(), Error> {
        let shared = self.shared;
        let name = segment::file_name(id);
        let failed = |error| Error::io(format!("reading {name}"), error);
        let file = shared.segment(id).map_err(failed)?;
        let mut entries = Vec::new();
        let scanned = segment::scan(file.as_ref(), id, segment, |entry, spot| entries.push((entry, spot)));
        let bad = scanned.map_err(failed)?.err();
        for (mut entry, Spot { offset, ordinal }) in entries {
            let mut from = Vec::new();
            let mut places = (ordinal..).map(|ordinal| Place::Segment { segment: id, ordinal, offset });
            let state = shared.lock();
            entry.targets.retain(|target| {
                let place =
                    places.next().filter(|place| state.index.place(target.queue, target.position) == Some(*place));
                from.extend(place);
                place.is_some()
            });
            drop(state);
            if !from.is_empty() {
                let mut parcel = vec![0; entry.parcel_len];
                read_full(file.as_ref(), &mut parcel, u64::from(offset)).map_err(failed)?;
                self.push(entry, from, &parcel);
                self.move_slice()?;
            }
        }
        let Some(bad) = bad else { return Ok(()) };
        let place = |place| match place {
            Place::Segment { segment, offset, .. } if segment == id && u64::from(offset) >= bad.offset => {
                Some(u64::from(offset))
            }
            _ => None,
        };
        let damaged = Damaged { name: &name, offset: bad.offset, end: segment.len, what: bad.what };
        self.move_damaged(file.as_ref(), &damaged, place)
    }

    fn push(&mut self, entry: Entry, from: Vec<Place>, parcel: &[u8]) {
        if !entry.targets.is_empty() {
            self.moving.push(Moving { entry, from, at: self.parcels.len() });
            self.parcels.extend_from_slice(parcel);
        }
    }

    fn move_slice(&mut self) -> Result<(), Error> {
        if self.parcels.len() < SLICE { Ok(()) } else { self.finish() }
    }

    /// Moves the buffered messages: their new places are safe and in the index, but not in the manifest yet.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let moving = std::mem::take(&mut self.moving);
        for written in write(self.shared, moving, &self.parcels)? {
            relocate(self.shared, written);
        }
        self.parcels.clear();
        Ok(())
    }

    /// Sorts messages by the segment they belong to: that of their queue if it has at least `own` bytes to move, else
    /// the shared one.
    fn by_owner(moving: Vec<Moving>, own: u64) -> BTreeMap<Owner, Vec<Moving>> {
        let only = |moving: &Moving| match &moving.entry.targets[..] {
            [target] => Some(target.queue.0),
            _ => None,
        };
        let mut bytes: BTreeMap<u64, u64> = BTreeMap::new();
        for moving in &moving {
            if let Some(queue) = only(moving) {
                *bytes.entry(queue).or_default() += moving.entry.parcel_len as u64;
            }
        }
        let mut owners: BTreeMap<Owner, Vec<Moving>> = BTreeMap::new();
        for moving in moving {
            let queue = only(&moving).filter(|queue| bytes[queue] >= own);
            owners.entry(queue.map_or(Owner::Shared, Owner::Queue)).or_default().push(moving);
        }
        owners
    }
}

/// Writes messages to segments and syncs these.
fn write(shared: &Shared, moving: Vec<Moving>, parcels: &[u8]) -> Result<Vec<Written>, Error> {
    let own = shared.settings.segment_size / OWN_SEGMENT;
    let growing = segment::growing(&shared.lock().index.segments);
    let mut writer = SegmentWriter { shared, open: BTreeMap::new(), created: Vec::new(), written: Vec::new() };
    let all = || {
        for (owner, moving) in Mover::by_owner(moving, own) {
            writer.write(owner, growing.get(&owner).copied(), moving, parcels)?;
        }
        writer.sync()
    };
    match all() {
        Ok(()) => Ok(writer.written),
        Err(error) => {
            // Blocks that were added to older segments lie after their recorded ends, and will be overwritten.
            writer.created.iter().for_each(|id| drop(shared.storage.remove(&segment::file_name(*id))));
            Err(error)
        }
    }
}

/// Writes blocks to segments.
struct SegmentWriter<'a> {
    shared: &'a Shared,
    open: BTreeMap<u32, Arc<dyn File>>,
    created: Vec<u32>,
    written: Vec<Written>,
}

impl SegmentWriter<'_> {
    fn write(&mut self, owner: Owner, growing: Option<u32>, moving: Vec<Moving>, parcels: &[u8]) -> Result<(), Error> {
        let size = self.shared.settings.segment_size;
        let mut moving = moving.into_iter().peekable();
        let mut growing = growing;
        while moving.peek().is_some() {
            let (id, mut grown) = self.segment(owner, growing.take())?;
            let mut block = Block::default();
            let mut moved = Vec::new();
            let mut len = grown.len + segment::BLOCK_HEADER as u64;
            while let Some(Moving { entry, at, .. }) = moving.peek() {
                len += entry.weight() as u64;
                if len > size && (grown.len > 0 || !moved.is_empty()) {
                    grown.full = true;
                    break;
                }
                block.push(entry.clone(), &parcels[*at..*at + entry.parcel_len]);
                moved.extend(moving.next());
            }
            let (bytes, spots) = block.encode(id, &grown);
            if !moved.is_empty() {
                let written = self.open[&id].write_at(&bytes, grown.len);
                written.map_err(|error| Error::io(format!("writing {}", segment::file_name(id)), error))?;
                let len = grown.len + bytes.len() as u64;
                grown.grow(len, block.targets);
            }
            self.written.push(Written {
                id,
                grown,
                targets: block.targets,
                moved: moved.into_iter().zip(spots).collect(),
            });
        }
        Ok(())
    }

    /// Returns the segment `growing`, or a new one.
    fn segment(&mut self, owner: Owner, growing: Option<u32>) -> Result<(u32, Segment), Error> {
        let failed = |id| move |error| Error::io(format!("opening {}", segment::file_name(id)), error);
        if let Some(id) = growing
            && let Some(segment) = self.shared.lock().index.segments.get(&id).cloned()
        {
            self.open.insert(id, self.shared.segment(id).map_err(failed(id))?);
            return Ok((id, segment));
        }
        let id = {
            let mut state = self.shared.lock();
            state.index.next_segment += 1;
            state.index.next_segment - 1
        };
        self.created.push(id);
        self.open.insert(id, self.shared.storage.create(&segment::file_name(id)).map_err(failed(id))?);
        Ok((id, Segment::new(owner)))
    }

    fn sync(&mut self) -> Result<(), Error> {
        for (id, file) in &self.open {
            file.sync().map_err(|error| sync_error(&format!("syncing {}", segment::file_name(*id)), error))?;
        }
        if self.created.is_empty() {
            return Ok(());
        }
        self.shared.storage.sync_dir().map_err(|error| sync_error("syncing the folder", error))
    }
}

/// Updates the index with the new places of messages.
fn relocate(shared: &Shared, written: Written) {
    let Written { id, grown, targets, moved } = written;
    {
        let index = &mut shared.lock().index;
        let known = index.segments.entry(id).or_insert_with(|| Segment::new(grown.owner));
        known.grow(grown.len, targets);
        known.full = grown.full;
        if known.is_due() {
            index.due.insert(id);
        }
        index.changed.segments.insert(id);
    }
    for batch in moved.chunks(BATCH) {
        let index = &mut shared.lock().index;
        for (Moving { entry, from, .. }, spot) in batch {
            for ((target, from), ordinal) in entry.targets.iter().zip(from).zip(spot.ordinal..) {
                let to = Place::Segment { segment: id, ordinal, offset: spot.offset };
                index.relocate(target.queue, target.position, *from, to);
            }
        }
    }
}
