//! The writer: makes pending groups safe.

use std::sync::Arc;

use super::Error;
use super::frame::{HEADER, Header, Use};
use super::log::{self, Chunk, Named};
use super::shared::Shared;
use super::storage::File;

/// Bytes written between two checks of the free disk space.
const CHECK_SPACE_EVERY: u64 = 8 << 20;

/// Writes and syncs pending groups: one write and one fdatasync for the whole batch. A store has one writer.
#[derive(Debug)]
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    /// The file in use: its sequence number, the file, its first address.
    current: Option<(u64, Arc<dyn File>, u64)>,
    /// Bytes written since the last check of the free disk space.
    unchecked: u64,
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

    fn write(&mut self, chunk: &Chunk) -> Result<(), Error> {
        self.write_bodies(chunk)?;
        let (file, base) = self.file(chunk.seq)?;
        file.write_at(&chunk.bytes, HEADER + chunk.at - base).map_err(|error| Error::io("writing the log", error))?;
        file.sync().map_err(|error| sync_error("syncing the log", error))
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

    /// Returns the file with this sequence number, and its first address. All earlier files are safe already.
    fn file(&mut self, seq: u64) -> Result<(Arc<dyn File>, u64), Error> {
        if let Some((known, file, base)) = &self.current
            && *known == seq
        {
            return Ok((file.clone(), *base));
        }
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
        let header = Use::Log.encode(Header { seq, base });
        named.file.write_at(&header, 0).map_err(|error| Error::io("writing the log", error))?;
        named.file.sync().map_err(|error| sync_error("syncing the log", error))?;
        self.current = Some((seq, named.file.clone(), base));
        let file = named.file.clone();
        if let Some(known) = self.shared.lock().log.file_mut(seq) {
            known.file = Some(named);
        }
        Ok((file, base))
    }
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
