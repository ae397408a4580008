//! The manifest: where the log begins, and the state that the earlier part of the log produced, without the contents of
//! messages.
//!
//! It is a file of frames. The first frame holds the whole state, each later one what a checkpoint changed. When the
//! file has grown to a multiple of its first frame, a new file is written, and the old one is removed once the new one
//! is safe.
//!
//! The state may be newer than the beginning of the log: applying the log's groups to it again changes nothing. It is
//! never newer than the log's end: a frame names the address that the log had reached before the frame was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::{self, HEADER, Header, Use};
use super::index::{Changed, Index};
use super::record::{self, Malformed, Operation, Reader};
use super::segment::Segment;
use super::storage::{File, Storage};
use super::writer::sync_error;
use super::{Error, Position, QueueId};

const LOG_START: u8 = 101;
const NEXT: u8 = 102;
const SEGMENT: u8 = 103;
const SEGMENT_REMOVED: u8 = 104;
const REACHED: u8 = 105;

/// Where the log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogStart {
    /// The sequence number of the first file.
    pub(super) seq: u64,
    /// The first address of that file.
    pub(super) base: u64,
    /// The file has been created.
    pub(super) exists: bool,
}

/// The manifest in use.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    /// Bytes of its first frame.
    pub(super) whole: u64,
    /// Bytes of all its frames.
    pub(super) len: u64,
}

/// The beginning of the log in a new folder.
pub(super) const FIRST: LogStart = LogStart { seq: 1, base: 0, exists: false };

/// Encodes the whole state. The log is safe up to `reached`.
pub(super) fn whole(index: &Index, start: LogStart, reached: u64) -> Vec<u8> {
    let all = Changed {
        keys: index.metadata.keys().cloned().collect(),
        queues: index.queues.keys().copied().collect(),
        counts: index.queues.iter().flat_map(|(id, queue)| queue.counts.keys().map(|at| (*id, *at))).collect(),
        segments: index.segments.keys().copied().collect(),
    };
    changed(index, &all, start, reached)
}

/// Encodes what changed. The log is safe up to `reached`.
pub(super) fn changed(index: &Index, changed: &Changed, start: LogStart, reached: u64) -> Vec<u8> {
    let mut out = vec![LOG_START];
    record::put_number(&mut out, start.seq);
    record::put_number(&mut out, start.base);
    out.extend_from_slice(&[u8::from(start.exists), REACHED]);
    record::put_number(&mut out, reached);
    out.push(NEXT);
    record::put_number(&mut out, index.next_queue);
    record::put_number(&mut out, u64::from(index.next_segment));
    for key in &changed.keys {
        out.push(if index.metadata.contains_key(key) { record::PUT } else { record::REMOVE });
        record::put_bytes(&mut out, key);
        index.metadata.get(key).iter().for_each(|value| record::put_bytes(&mut out, value));
    }
    for id in &changed.queues {
        out.push(if index.queues.contains_key(id) { record::DECLARE_QUEUE } else { record::REMOVE_QUEUE });
        record::put_number(&mut out, id.0);
        index.queues.get(id).iter().for_each(|queue| record::put_bytes(&mut out, &queue.definition));
    }
    for (id, position) in &changed.counts {
        if let Some(count) = index.queues.get(id).and_then(|queue| queue.counts.get(position)) {
            out.push(record::DELIVERED);
            [id.0, position.0, u64::from(*count)].iter().for_each(|number| record::put_number(&mut out, *number));
        }
    }
    for id in &changed.segments {
        let segment = index.segments.get(id);
        out.push(if segment.is_some() { SEGMENT } else { SEGMENT_REMOVED });
        record::put_number(&mut out, u64::from(*id));
        segment.iter().for_each(|segment| segment.encode(&mut out));
    }
    out
}

/// The state that the frames of a manifest add up to.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) start: LogStart,
    /// The address up to which the log was safe.
    pub(super) reached: u64,
    /// Metadata, segments, and queues without messages.
    pub(super) index: Index,
    pub(super) counts: BTreeMap<(QueueId, Position), u32>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { start: FIRST, reached: 0, index: Index { next_queue: 1, ..Index::default() }, counts: BTreeMap::new() }
    }

    pub(super) fn apply(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            let mut ahead = reader;
            match ahead.byte()? {
                LOG_START => {
                    let seq = ahead.number()?;
                    let base = ahead.number()?;
                    self.start = LogStart { seq, base, exists: ahead.byte()? != 0 };
                }
                REACHED => self.reached = ahead.number()?,
                NEXT => {
                    self.index.next_queue = ahead.number()?;
                    self.index.next_segment = ahead.number()? as u32;
                }
                SEGMENT => {
                    let id = ahead.number()? as u32;
                    self.index.segments.insert(id, Segment::decode(&mut ahead)?);
                }
                SEGMENT_REMOVED => {
                    self.index.segments.remove(&(ahead.number()? as u32));
                }
                _ => {
                    let from = reader.at();
                    let operation = Operation::read(&mut reader)?;
                    ahead = reader;
                    if let Operation::Delivered { queue, position, count } = operation {
                        self.counts.insert((queue, position), count);
                    } else {
                        self.index.apply(&payload[from..reader.at()], 0, |_, _| {})?;
                    }
                }
            }
            reader = ahead;
        }
        Ok(())
    }
}

impl Manifest {
    pub(super) fn name(number: u64) -> String {
        format!("manifest-{number}")
    }

    /// Returns the address of its first frame, far from those of other manifests.
    pub(super) fn base(number: u64) -> u64 {
        number << 40
    }

    /// Writes and syncs a new manifest.
    pub(super) fn create(storage: &dyn Storage, number: u64, payload: &[u8]) -> Result<Self, Error> {
        let name = Self::name(number);
        let base = Self::base(number);
        let mut bytes = Use::Manifest.encode(Header { seq: number, base, ..Header::default() }).to_vec();
        frame::put_frame(&mut bytes, base, base, payload);
        let made = storage.create(&name).and_then(|file| file.write_at(&bytes, 0).map(|()| file));
        let file = made.map_err(|error| Error::io(format!("writing {name}"), error))?;
        file.sync().map_err(|error| sync_error(&format!("syncing {name}"), error))?;
        storage.sync_dir().map_err(|error| sync_error("syncing the folder", error))?;
        let len = bytes.len() as u64 - HEADER;
        Ok(Self { number, file, whole: len, len })
    }

    /// Appends a frame and syncs it. May be called again after an error.
    pub(super) fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        let name = Self::name(self.number);
        let address = Self::base(self.number) + self.len;
        let mut bytes = Vec::new();
        frame::put_frame(&mut bytes, address, address, payload);
        let written = self.file.write_at(&bytes, HEADER + self.len);
        written.map_err(|error| Error::io(format!("writing {name}"), error))?;
        self.file.sync().map_err(|error| sync_error(&format!("syncing {name}"), error))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}
