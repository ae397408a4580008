//! The broker's handle to an open store.

use std::sync::Arc;

use super::recover::{self, Found};
use super::shared::Shared;
use super::{
    Checkpointer, Content, Damage, Error, ErrorKind, Group, Lsn, Position, QueueId, Recovered, Settings, Status,
    Storage, Writer, read,
};

/// Bytes of a group's operations, at most, not counting bodies that get their own files.
const LARGEST_GROUP: usize = 1 << 30;

/// An open store. Cheap to clone; all clones share one store. See the [module](super) for how to use it.
///
/// When the last clone is dropped, the threads of [`Writer::spawn`] make all pending groups safe, and end.
#[derive(Debug, Clone)]
pub struct Store(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Store {
    /// Opens a folder and recovers the state in it.
    ///
    /// # Errors
    /// If the storage can't be read or written, or a file is damaged ([`ErrorKind::Damaged`]): the error names the file
    /// and the byte, and no file was changed. [`Settings::salvage`] drops the damaged part instead.
    pub fn open(storage: impl Storage, settings: Settings) -> Result<(Self, Writer, Checkpointer, Recovered), Error> {
        let storage: Box<dyn Storage> = Box::new(storage);
        let found = recover::recover(storage.as_ref(), &settings);
        let Found { state, recovered, manifest, names, exists } =
            found.map_err(|error| error.located(storage.as_ref()))?;
        let shared = Arc::new(Shared::new(storage, settings, state));
        let mut writer = Writer::new(shared.clone());
        let mut checkpointer = Checkpointer::new(shared.clone(), manifest);
        let damaged = !recovered.damages.is_empty();
        let mut begin = || {
            if damaged || shared.lock().log.files.is_empty() {
                writer.begin()?;
            }
            match (damaged, exists) {
                (true, _) => checkpointer.renew(),
                (false, true) => Ok(()),
                (false, false) => checkpointer.note_first(),
            }
        };
        begin().map_err(|error| error.located(shared.storage.as_ref()))?;
        recover::remove_useless(shared.storage.as_ref(), &names, &shared.lock(), checkpointer.manifest());
        Ok((Self(Arc::new(Handle(shared))), writer, checkpointer, recovered))
    }

    /// Appends a group after all earlier ones, and empties it. The group is safe once [`Status::synced`] has reached
    /// the returned [`Lsn`]. Does not wait.
    ///
    /// # Errors
    /// - [`ErrorKind::Full`] if the group publishes and more than twice [`Settings::pending_limit`] bytes are pending.
    /// - [`ErrorKind::TooLarge`] if it is larger than 1 GiB.
    /// - The error that ended the store, once the disk has failed or the threads have ended.
    ///
    /// After an error the group is unchanged.
    pub fn append(&self, group: &mut Group) -> Result<Lsn, Error> {
        let Shared { settings, to_write, .. } = &*self.0.0;
        let mut state = self.0.0.lock();
        state.check()?;
        let state = &mut *state;
        if group.is_empty() {
            return Ok(Lsn(state.log.end));
        }
        if state.closing {
            let what = "the store is closed because its threads were dropped; open the folder again";
            return Err(Error::new(ErrorKind::Io, what));
        }
        if group.bytes.len() > LARGEST_GROUP {
            let len = group.bytes.len();
            let what = format!("the group has {len} bytes, the limit is {LARGEST_GROUP}; append smaller groups");
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        if group.publishes && state.log.waiting > settings.pending_limit.saturating_mul(2) {
            let what = format!(
                "publish refused: {} bytes are pending, more than twice the pending_limit of {}; append the group \
                 again when the disk has caught up",
                state.log.waiting, settings.pending_limit
            );
            return Err(Error::new(ErrorKind::Full, what));
        }
        let lsn = state.log.append(group, &mut state.index, settings);
        group.clear();
        if std::mem::take(&mut state.writer_sleeps) {
            to_write.notify_one();
        }
        Ok(Lsn(lsn))
    }

    /// Ends the store as a crash would: pending groups are never written, and all later calls fail. A write in progress
    /// may still complete.
    pub fn abandon(&self) {
        let shared = &self.0.0;
        let ended = || Error::new(ErrorKind::Io, "the store was ended with Store::abandon(); open the folder again");
        shared.lock().failed.get_or_insert_with(ended);
        shared.to_write.notify_all();
        shared.to_check.notify_all();
    }

    /// Returns how far the store is, and whether it has failed.
    pub fn status(&self) -> Status {
        let shared = &self.0.0;
        shared.lock().status(&shared.settings)
    }

    /// Returns the damaged parts of files that checkpoints met since the last call, 64 at most. The messages in them
    /// are still there; a read of one that is damaged fails.
    pub fn damages(&self) -> Vec<Damage> {
        std::mem::take(&mut self.0.0.lock().damages)
    }

    /// Reads the content of a message that was appended and not settled. It comes from memory until it is safe, then
    /// from disk: the broker may drop a body from its own memory at any time.
    ///
    /// # Errors
    /// - [`ErrorKind::Unknown`] if there is no such message.
    /// - [`ErrorKind::Damaged`] if the disk no longer holds what was written. The message stays in the store, which
    ///   continues: settle it, or read it again once the file is restored.
    /// - [`ErrorKind::Io`] if the disk can't be read.
    pub fn read(&self, queue: QueueId, position: Position) -> Result<Content, Error> {
        self.read_many(queue, &[position]).remove(0)
    }

    /// Reads several messages as [`Store::read`] does, with one result for each position. Adjacent messages are read
    /// with one call, and their contents share one buffer.
    pub fn read_many(&self, queue: QueueId, positions: &[Position]) -> Vec<Result<Content, Error>> {
        read::read_many(&self.0.0, queue, positions)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.to_write.notify_all();
        self.0.to_check.notify_all();
    }
}
