//! Segments: files of messages that outlived their log file.
//!
//! A segment holds messages of one queue. One shared segment holds the messages of queues that have little to move, and
//! messages of several queues. So each message is written once, and a checkpoint syncs few files. A segment grows by
//! one block at each checkpoint:
//!
//! ```text
//! block = header (32 bytes), index, parcels
//! header = crc32c u32 of the rest of header and index, segment u32, offset u32, index length u32,
//!          parcels' length u32, first ordinal u32, targets u32, messages u32
//! index  = for each message: priority u8, parcel length, body length, file of the body + 1 or 0, targets
//! ```
//! A start reads headers and indexes, not parcels. The manifest says how many bytes of a segment are valid and which
//! ordinals are settled. Ordinals number a segment's targets: a message has one ordinal for each of its targets.

use std::collections::BTreeMap;
use std::io;

use super::frame::{read_full, u32_at};
use super::record::{self, Addressee, Malformed, Reader};
use super::storage::File;

/// Bytes before the index of a block.
pub(super) const BLOCK_HEADER: usize = 32;

/// The queue whose messages a segment holds, or [`Owner::Shared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    Shared,
    Queue(u64),
}

/// The state of a segment, as the manifest records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) owner: Owner,
    /// The valid bytes of the file.
    pub(super) len: u64,
    /// The number of its ordinals.
    pub(super) targets: u32,
    /// The number of ordinals that are not settled.
    pub(super) live: u32,
    /// No more blocks will be added.
    pub(super) full: bool,
    /// One bit for each ordinal.
    settled: Vec<u64>,
}

impl Segment {
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner, len: 0, targets: 0, live: 0, full: false, settled: Vec::new() }
    }

    /// Adds a block: the segment's new length, and the number of the block's targets.
    pub(super) fn grow(&mut self, len: u64, targets: u32) {
        self.len = len;
        self.targets += targets;
        self.live += targets;
        self.settled.resize((self.targets as usize).div_ceil(64), 0);
    }

    pub(super) fn settle(&mut self, ordinal: u32) {
        let bit = 1 << (ordinal % 64);
        if let Some(word) = self.settled.get_mut(ordinal as usize / 64)
            && *word & bit == 0
        {
            *word |= bit;
            self.live -= 1;
        }
    }

    pub(super) fn is_settled(&self, ordinal: u32) -> bool {
        self.settled.get(ordinal as usize / 64).is_some_and(|word| word & (1 << (ordinal % 64)) != 0)
    }

    /// Returns whether no message is live, or so few that copying them is worth the freed space.
    pub(super) fn is_due(&self) -> bool {
        self.live == 0 || (self.full && self.live < self.targets / 4)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        record::put_number(
            out,
            match self.owner {
                Owner::Shared => 0,
                Owner::Queue(queue) => queue + 1,
            },
        );
        record::put_number(out, self.len);
        record::put_number(out, u64::from(self.targets));
        out.push(u8::from(self.full));
        record::put_runs(out, (0..self.targets).filter(|ordinal| self.is_settled(*ordinal)).map(u64::from));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let owner = reader.number()?.checked_sub(1).map_or(Owner::Shared, Owner::Queue);
        let len = reader.number()?;
        let targets = reader.number()? as u32;
        let mut segment = Self::new(owner);
        segment.full = reader.byte()? != 0;
        segment.grow(len, targets);
        reader.runs(|start, count| {
            let end = (start + count).min(u64::from(targets));
            (start..end).for_each(|ordinal| segment.settle(ordinal as u32));
        })?;
        Ok(segment)
    }
}

/// A message in the index of a block.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) priority: u8,
    pub(super) parcel_len: usize,
    pub(super) body_len: u32,
    pub(super) file: Option<u64>,
    pub(super) targets: Vec<Addressee>,
}

impl Entry {
    /// Returns about how many bytes of a segment the message takes.
    pub(super) fn weight(&self) -> usize {
        self.parcel_len + 32 + 16 * self.targets.len()
    }
}

/// A block to write.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) entries: Vec<Entry>,
    pub(super) parcels: Vec<u8>,
    pub(super) targets: u32,
}

/// The place of an entry in its segment: where in the file its parcel begins, and its first ordinal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) offset: u32,
    pub(super) ordinal: u32,
}

impl Block {
    pub(super) fn push(&mut self, entry: Entry, parcel: &[u8]) {
        self.targets += entry.targets.len() as u32;
        self.parcels.extend_from_slice(parcel);
        self.entries.push(entry);
    }

    /// Encodes the block as the next one of segment `id`. Returns its bytes and the place of each entry.
    pub(super) fn encode(&self, id: u32, segment: &Segment) -> (Vec<u8>, Vec<Spot>) {
        let mut bytes = vec![0; BLOCK_HEADER];
        for entry in &self.entries {
            bytes.push(entry.priority);
            record::put_number(&mut bytes, entry.parcel_len as u64);
            record::put_number(&mut bytes, u64::from(entry.body_len));
            record::put_number(&mut bytes, entry.file.map_or(0, |file| file + 1));
            record::put_number(&mut bytes, entry.targets.len() as u64);
            entry.targets.iter().for_each(|target| record::put_addressee(&mut bytes, target));
        }
        let index_len = (bytes.len() - BLOCK_HEADER) as u32;
        let fields = [
            id,
            segment.len as u32,
            index_len,
            self.parcels.len() as u32,
            segment.targets,
            self.targets,
            self.entries.len() as u32,
        ];
        for (at, field) in fields.iter().enumerate() {
            bytes[4 + at * 4..8 + at * 4].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let parcels = segment.len + bytes.len() as u64;
        bytes.extend_from_slice(&self.parcels);
        (bytes, spots(&self.entries, parcels as u32, segment.targets))
    }
}

fn spots(entries: &[Entry], mut offset: u32, mut ordinal: u32) -> Vec<Spot> {
    let spot = |entry: &Entry| {
        let spot = Spot { offset, ordinal };
        offset += entry.parcel_len as u32;
        ordinal += entry.targets.len() as u32;
        spot
    };
    entries.iter().map(spot).collect()
}

/// A block that does not hold what was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct BadBlock {
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

/// Reads a segment's headers and indexes, and calls `each` with every entry.
pub(super) fn scan(
    file: &dyn File,
    id: u32,
    segment: &Segment,
    mut each: impl FnMut(Entry, Spot),
) -> io::Result<Result<(), BadBlock>> {
    let size = file.size()?;
    let mut offset = 0;
    let mut ordinal = 0;
    while offset < segment.len {
        let bad = |what| Ok(Err(BadBlock { offset, what }));
        let mut bytes = vec![0; BLOCK_HEADER];
        if read_full(file, &mut bytes, offset)? < BLOCK_HEADER {
            return bad("the file is too short");
        }
        let field = |at: usize| u32_at(&bytes, 4 + at * 4);
        let index_len = field(2) as usize;
        let parcels_len = field(3);
        let targets = field(5);
        let count = field(6);
        let parcels = offset + (BLOCK_HEADER + index_len) as u64;
        let end = parcels + u64::from(parcels_len);
        if field(0) != id || u64::from(field(1)) != offset || field(4) != ordinal || end > segment.len {
            return bad("there is no valid block header");
        }
        if end > size {
            return bad("the file is too short");
        }
        bytes.resize(BLOCK_HEADER + index_len, 0);
        read_full(file, &mut bytes[BLOCK_HEADER..], offset + BLOCK_HEADER as u64)?;
        if crc32c::crc32c(&bytes[4..]) != u32_at(&bytes, 0) {
            return bad("the checksum of a block's index is wrong");
        }
        let Ok(entries) = read_entries(&bytes[BLOCK_HEADER..], count) else {
            return bad("a block's index is malformed");
        };
        let places = spots(&entries, parcels as u32, ordinal);
        entries.into_iter().zip(places).for_each(|(entry, spot)| each(entry, spot));
        ordinal += targets;
        offset = end;
    }
    Ok(Ok(()))
}

fn read_entries(index: &[u8], count: u32) -> Result<Vec<Entry>, Malformed> {
    let mut reader = Reader::new(index);
    let mut entries = Vec::new();
    for _ in 0..count {
        let priority = reader.byte()?;
        let parcel_len = reader.number()? as usize;
        let body_len = reader.number()? as u32;
        let file = reader.number()?.checked_sub(1);
        let targets = (0..reader.number()?).map(|_| record::read_addressee(&mut reader)).collect::<Result<_, _>>()?;
        entries.push(Entry { priority, parcel_len, body_len, file, targets });
    }
    Ok(entries)
}

pub(super) fn file_name(id: u32) -> String {
    format!("segment-{id}")
}

/// Returns the segment of each owner that is not full.
pub(super) fn growing(segments: &BTreeMap<u32, Segment>) -> BTreeMap<Owner, u32> {
    let growing = segments.iter().filter(|(_, segment)| !segment.full);
    growing.map(|(id, segment)| (segment.owner, *id)).collect()
}
