//! The writer: makes pending groups safe, and notes in the headers of the log files how far they are.
//!
//! Each frame says how far the log was safe before it, at no cost. The headers say what no later frame does: that a
//! file has a next one, before anything in that is confirmed; and where the log ends, once the writer has nothing to do
//! ([`Writer::rest`]) or is closed ([`Writer::close`]).

use std::sync::Arc;

use super::Error;
use super::frame::{HEADER, Header, Use};
use super::log::{self, Chunk, Named};
use super::shared::{Shared, State};
use super::storage::File;

/// Bytes written between two checks of the free disk space.
const CHECK_SPACE_EVERY: u64 = 8 << 20;

/// Writes and syncs pending groups: one write and one fdatasync for the whole batch. A store has one writer.
#[derive(Debug)]
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    current: Option<Current>,
    /// Bytes written since the last check of the free disk space.
    unchecked: u64,
}

/// The log file in use.
#[derive(Debug)]
struct Current {
    named: Named,
    header: Header,
    /// The file before it says that this one exists.
    linked: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, current: None, unchecked: CHECK_SPACE_EVERY }
    }

    /// Writes and syncs all pending groups. Returns whether any group became safe. If groups are pending and this
    /// returns false, the disk is full: try again later.
    ///
    /// # Errors
    /// If the disk fails; from then on every call fails with the same error.
    pub fn turn(&mut self) -> Result<bool, Error> {
        {
            let mut state = self.shared.lock();
            state.check()?;
            state.log.begin();
        }
        if self.unchecked >= CHECK_SPACE_EVERY || self.shared.lock().disk_full {
            self.unchecked = 0;
            self.shared.check_space()?;
        }
        let mut worked = false;
        loop {
            let Some(chunk) = self.shared.lock().log.writing.front().cloned() else { break };
            if let Err(error) = self.write(&chunk) {
                self.shared.disk_error(error)?;
                break;
            }
            self.unchecked += chunk.weight() as u64;
            drop(chunk);
            self.shared.lock().log.written();
            worked = true;
        }
        if worked {
            if self.shared.lock().is_due(&self.shared.settings) {
                self.shared.to_check.notify_one();
            }
            self.shared.notify();
        }
        Ok(worked)
    }

    /// Notes in the log that it is safe up to its end, without a sync: a process that is killed later leaves the note.
    /// Does nothing if that is noted already, or groups are pending.
    ///
    /// # Errors
    /// If the disk fails; from then on every call fails with the same error.
    pub fn rest(&mut self) -> Result<(), Error> {
        self.note_end().map(|_| ()).or_else(|error| self.shared.disk_error(error))
    }

    /// Notes in the log where it ends, and syncs that. After this, a start refuses a folder that lacks anything. If
    /// this fails, only that knowledge is lost.
    pub fn close(mut self) {
        if let Ok(Some(file)) = self.note_end() {
            let _ = file.sync();
        }
    }

    /// Returns the file whose header was written, if there was something to note.
    fn note_end(&mut self) -> Result<Option<Arc<dyn File>>, Error> {
        let safe = {
            let state = self.shared.lock();
            state.check()?;
            if state.log.waiting > 0 { 0 } else { state.log.synced }
        };
        let Some(current) = self.current.as_mut().filter(|current| current.header.safe < safe) else { return Ok(None) };
        current.header.safe = safe;
        write_header(&current.named, current.header)?;
        Ok(Some(current.named.file.clone()))
    }

    /// Begins a log file before there is a group for it: in a new folder, or after damage.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let seq = {
            let mut state = self.shared.lock();
            let State { log, index, .. } = &mut *state;
            log.begin_file(0, index, &self.shared.settings)
        };
        let named = self.file(seq)?.named.clone();
        named.file.sync().map_err(|error| sync_error(&format!("syncing {}", named.name), error))?;
        self.link()
    }

    fn write(&mut self, chunk: &Chunk) -> Result<(), Error> {
        self.write_bodies(chunk)?;
        let Current { named: Named { file, .. }, header, linked } = self.file(chunk.seq)?;
        let offset = HEADER + chunk.at - header.base;
        file.write_at(&chunk.bytes, offset).map_err(|error| Error::io("writing the log", error))?;
        file.sync().map_err(|error| sync_error("syncing the log", error))?;
        if *linked { Ok(()) } else { self.link() }
    }

    fn write_bodies(&self, chunk: &Chunk) -> Result<(), Error> {
        for (id, body) in &chunk.bodies {
            let name = log::body_name(*id);
            let written = self.shared.storage.create(&name).and_then(|file| file.write_at(body, 0).map(|()| file));
            let file = written.map_err(|error| Error::io(format!("writing {name}"), error))?;
            file.sync().map_err(|error| sync_error(&format!("syncing {name}"), error))?;
        }
        if !chunk.bodies.is_empty() {
            self.shared.storage.sync_dir().map_err(|error| sync_error("syncing the folder", error))?;
        }
        Ok(())
    }

    /// Returns the file with this sequence number. All earlier files are safe already.
    fn file(&mut self, seq: u64) -> Result<&Current, Error> {
        if self.current.as_ref().is_none_or(|current| current.header.seq != seq) {
            self.current = Some(self.create(seq)?);
        }
        Ok(self.current.as_ref().expect("set above"))
    }

    /// Creates or reuses a file, and writes its header. Neither that nor the file's first frames are safe yet.
    fn create(&self, seq: u64) -> Result<Current, Error> {
        let (spare, base, capacity) = {
            let mut state = self.shared.lock();
            let file = state.log.file_mut(seq).expect("a chunk's file is known");
            let base = file.base;
            let capacity = file.capacity;
            // A spare that began at the same address could hold old frames whose addresses look valid today.
            let usable = |base_before: Option<u64>| base_before.is_none_or(|before| before < base);
            let mut spares = state.log.spares.iter();
            let fit = spares.position(|spare| spare.capacity == capacity && usable(spare.base));
            (fit.map(|at| state.log.spares.swap_remove(at)), base, capacity)
        };
        let named = match spare {
            Some(spare) => spare.named,
            None => make(&self.shared, capacity)?,
        };
        let header = Header { seq, base, size: capacity, safe: base, next: 0 };
        write_header(&named, header)?;
        Ok(Current { named, header, linked: false })
    }

    /// Makes the file in use known: to a later start, by the header of the file before it, and to readers. It must be
    /// safe.
    fn link(&mut self) -> Result<(), Error> {
        let Some(Current { named, header, linked }) = &mut self.current else { return Ok(()) };
        let before = self.shared.lock().log.before(header.seq);
        if let Some((before, seq, base)) = before {
            link(&before, Header { seq, base, ..*header }, header)?;
        }
        *linked = true;
        if let Some(known) = self.shared.lock().log.file_mut(header.seq) {
            known.file = Some(named.clone());
        }
        Ok(())
    }
}

/// Notes in the header of a full log file that there is a next one, and syncs that.
pub(super) fn link(full: &Named, header: Header, next: &Header) -> Result<(), Error> {
    let Named { name, file } = full;
    let size = file.size().map_err(|error| Error::io(format!("reading {name}"), error))?;
    write_header(full, Header { size, safe: next.base, next: next.size, ..header })?;
    file.sync().map_err(|error| sync_error(&format!("syncing {name}"), error))
}

fn write_header(Named { name, file }: &Named, header: Header) -> Result<(), Error> {
    let written = file.write_at(&Use::Log.encode(header), 0);
    written.map_err(|error| Error::io(format!("writing the header of {name}"), error))
}

/// Creates a log file with reserved space.
pub(super) fn make(shared: &Shared, capacity: u64) -> Result<Named, Error> {
    let number = {
        let mut state = shared.lock();
        state.next_log += 1;
        state.next_log - 1
    };
    let name = log::file_name(number);
    let made = || {
        let file = shared.storage.create(&name)?;
        file.allocate(capacity).map(|()| file)
    };
    let file = made().map_err(|error| {
        // The partial file would take space that other files need.
        let _ = shared.storage.remove(&name);
        Error::io(format!("creating {name}"), error)
    })?;
    file.sync().map_err(|error| sync_error(&format!("syncing {name}"), error))?;
    shared.storage.sync_dir().map_err(|error| sync_error("syncing the folder", error))?;
    Ok(Named { name, file })
}

/// Returns the error of a failed sync. It is final, even for a full disk: the system may have dropped what it could not
/// write.
pub(super) fn sync_error(what: &str, error: std::io::Error) -> Error {
    Error::disk(what, error)
}
