//! Reading the contents of messages, from memory or from disk.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::read_full;
use super::index::Place;
use super::record::{self, Reader};
use super::shared::Shared;
use super::storage::File;
use super::{Content, Damage, Error, ErrorKind, Position, QueueId, log, segment};

/// Bytes read at once for one message; most are smaller.
const SINGLE: usize = 4 << 10;
/// Bytes read at once for several messages, which may be adjacent.
const SEVERAL: usize = 128 << 10;
/// Bytes of a parcel's prefix, at most.
const PREFIX: usize = record::PARCEL_PREFIX + 8;
/// Attempts to find a message that a checkpoint moves meanwhile.
const TRIES: usize = 5;

/// Where to read a parcel from.
enum Source {
    Memory(Bytes),
    File { file: Arc<dyn File>, name: String, offset: u64 },
}

/// The part of a file that was read last.
struct Window {
    file: Arc<dyn File>,
    at: u64,
    bytes: Bytes,
}

/// Reads several messages of a queue.
pub(super) fn read_many(shared: &Shared, queue: QueueId, positions: &[Position]) -> Vec<Result<Content, Error>> {
    let ahead = if positions.len() > 1 { SEVERAL } else { SINGLE };
    let mut window = None;
    positions.iter().map(|position| read(shared, queue, *position, ahead, &mut window)).collect()
}

fn read(
    shared: &Shared,
    queue: QueueId,
    position: Position,
    ahead: usize,
    window: &mut Option<Window>,
) -> Result<Content, Error> {
    let lost = |file: &str, offset, what: &str| {
        let damage = Damage { file: file.to_owned(), offset, what: what.to_owned() };
        Error::lost(queue, position, &damage).located(&*shared.storage)
    };
    let unreadable = |file: &str, offset: u64, error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => lost(file, offset, "the file is too short"),
        io::ErrorKind::NotFound => lost(file, offset, "the file is missing"),
        _ => {
            let what = format!("reading message {} of queue {} from {file}", position.0, queue.0);
            Error::io(what, error).located(&*shared.storage)
        }
    };
    let found = source(shared, queue, position).map_err(|(file, error)| unreadable(&file, 0, error))?;
    let (parcel, name, offset) = match found {
        None => {
            let what = "it was never appended, or is settled already; read only unsettled messages";
            let what = format!("message {} is not in queue {}: {what}", position.0, queue.0);
            return Err(Error::new(ErrorKind::Unknown, what));
        }
        Some(Source::Memory(parcel)) => (parcel, "memory".to_owned(), 0),
        Some(Source::File { file, name, offset }) => {
            let parcel = parcel_at(file, offset, ahead, window).map_err(|error| unreadable(&name, offset, error))?;
            (parcel, name, offset)
        }
    };
    let content = record::unpack(&parcel, |id, len| {
        body(shared, id, len).map_err(|error| unreadable(&log::body_name(id), 0, error))
    })?;
    content.map_err(|malformed| lost(&name, offset, malformed.0))
}

/// Returns where a message is, or the file that can't be opened.
fn source(shared: &Shared, queue: QueueId, position: Position) -> Result<Option<Source>, (String, io::Error)> {
    let mut tries = TRIES;
    loop {
        let state = shared.lock();
        match state.index.place(queue, position) {
            None => return Ok(None),
            Some(Place::Log(at)) => {
                if let Some(bytes) = state.log.in_memory(at) {
                    let (len, ..) = record::parcel_len(&mut Reader::new(bytes)).expect("the store encoded it");
                    return Ok(Some(Source::Memory(Bytes::copy_from_slice(&bytes[..len]))));
                }
                let located = state.log.locate(at);
                let (named, offset) = located.ok_or_else(|| ("the log".to_owned(), io::ErrorKind::NotFound.into()))?;
                return Ok(Some(Source::File { file: named.file.clone(), name: named.name.clone(), offset }));
            }
            Some(Place::Segment { segment: id, offset, .. }) => {
                drop(state);
                tries -= 1;
                match shared.segment(id) {
                    Ok(file) => {
                        let name = segment::file_name(id);
                        return Ok(Some(Source::File { file, name, offset: u64::from(offset) }));
                    }
                    // A checkpoint has moved the message and removed the segment.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {}
                    Err(error) => return Err((segment::file_name(id), error)),
                }
            }
        }
    }
}

fn parcel_at(file: Arc<dyn File>, offset: u64, ahead: usize, window: &mut Option<Window>) -> io::Result<Bytes> {
    let known = window.take().filter(|window| Arc::ptr_eq(&window.file, &file));
    let mut view = match known {
        Some(window) if window.covers(offset, PREFIX) => window,
        _ => Window::read(file, offset, ahead)?,
    };
    let from = (offset - view.at) as usize;
    let (len, ..) =
        record::parcel_len(&mut Reader::new(&view.bytes[from..])).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    if !view.covers(offset, len) {
        view = Window::read(view.file, offset, len.max(ahead))?;
    }
    let from = (offset - view.at) as usize;
    let parcel = view.bytes.get(from..from + len).ok_or(io::ErrorKind::UnexpectedEof)?;
    let parcel = view.bytes.slice_ref(parcel);
    *window = Some(view);
    Ok(parcel)
}

impl Window {
    fn read(file: Arc<dyn File>, at: u64, len: usize) -> io::Result<Self> {
        // A damaged length must not allocate all memory.
        let rest = file.size()?.saturating_sub(at);
        let mut bytes = vec![0; len.min(usize::try_from(rest).unwrap_or(usize::MAX))];
        let count = read_full(file.as_ref(), &mut bytes, at)?;
        bytes.truncate(count);
        Ok(Self { file, at, bytes: bytes.into() })
    }

    fn covers(&self, offset: u64, len: usize) -> bool {
        offset >= self.at && offset + len as u64 <= self.at + self.bytes.len() as u64
    }
}

/// Reads a body that has its own file.
fn body(shared: &Shared, id: u64, len: u32) -> io::Result<Bytes> {
    if let Some(body) = shared.lock().log.body_in_memory(id) {
        return Ok(body);
    }
    let file = shared.storage.open(&log::body_name(id))?;
    if file.size()? < u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; len as usize];
    read_full(file.as_ref(), &mut bytes, 0)?;
    Ok(bytes.into())
}
