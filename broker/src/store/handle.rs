//! The handle that the broker holds.

use std::sync::Arc;

use super::recover::{self, Found};
use super::shared::Shared;
use super::{
    Checkpointer, Content, Error, ErrorKind, Group, Lsn, Position, QueueId, Recovered, Settings, Status, Storage,
    Writer, read,
};

/// Bytes of a group's operations, without the bodies that get files of their own.
const LARGEST_GROUP: usize = 1 << 30;

/// An open folder. Cheap to clone; all clones are the same. See the [module](super) for how it is used.
///
/// When the last one is dropped, the threads of [`Writer::spawn`] make safe what is pending, and end.
#[derive(Debug, Clone)]
pub struct Store(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Store {
    /// Recovers what is in the folder.
    ///
    /// Fails if a file is damaged, and says which and where; see [`Settings::salvage`].
    pub fn open(storage: impl Storage, settings: Settings) -> Result<(Self, Writer, Checkpointer, Recovered), Error> {
        let storage: Box<dyn Storage> = Box::new(storage);
        let Found { state, recovered, manifest, names } = recover::recover(storage.as_ref(), &settings)?;
        let shared = Arc::new(Shared::new(storage, settings, state));
        let writer = Writer::new(shared.clone());
        let mut checkpointer = Checkpointer::new(shared.clone(), manifest);
        if !recovered.damages.is_empty() {
            checkpointer.renew()?;
        }
        recover::remove_useless(shared.storage.as_ref(), &names, &shared.lock(), checkpointer.manifest());
        Ok((Self(Arc::new(Handle(shared))), writer, checkpointer, recovered))
    }

    /// Orders a group after all earlier ones and empties it. It is safe when [`Status::synced`] is not before the
    /// returned [`Lsn`]. Does not wait.
    ///
    /// Fails with [`ErrorKind::Full`] if the group publishes and far too much is pending, and with
    /// [`ErrorKind::TooLarge`] if it is larger than 1 GiB: the group is as it was. Fails for ever once the disk has
    /// failed, or the threads have ended.
    pub fn append(&self, group: &mut Group) -> Result<Lsn, Error> {
        let Shared { settings, to_write, .. } = &*self.0.0;
        let mut state = self.0.0.lock();
        state.check()?;
        let state = &mut *state;
        if group.is_empty() {
            return Ok(Lsn(state.log.end));
        }
        if state.closing {
            return Err(Error::new(ErrorKind::Io, "the store is closed: its threads have ended"));
        }
        if group.bytes.len() > LARGEST_GROUP {
            let what = format!("a group of {} bytes: {LARGEST_GROUP} is the most", group.bytes.len());
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        if group.publishes && state.log.waiting > settings.pending_limit.saturating_mul(2) {
            let why = format!("{} bytes wait for the disk already", state.log.waiting);
            return Err(Error::new(ErrorKind::Full, why));
        }
        let lsn = state.log.append(group, &mut state.index, settings);
        group.clear();
        if std::mem::take(&mut state.writer_sleeps) {
            to_write.notify_one();
        }
        Ok(Lsn(lsn))
    }

    /// Ends it as a crash would: what is pending is never written, and all that is asked of it fails. A write that is
    /// under way may be finished.
    pub fn abandon(&self) {
        let shared = &self.0.0;
        shared.lock().failed.get_or_insert_with(|| Error::new(ErrorKind::Io, "the store was abandoned"));
        shared.to_write.notify_all();
        shared.to_check.notify_all();
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        let shared = &self.0.0;
        shared.lock().status(&shared.settings)
    }

    /// The content of a message that was appended and not settled, from memory or from disk. So a body may be dropped
    /// from memory at any time; before it is safe, reading it costs no disk.
    ///
    /// Fails with [`ErrorKind::Unknown`] if there is no such message, and with [`ErrorKind::Damaged`] if what lies
    /// there is not what was written: that ends nothing, but the message is lost.
    pub fn read(&self, queue: QueueId, position: Position) -> Result<Content, Error> {
        self.read_many(queue, &[position]).remove(0)
    }

    /// [`Store::read`] for several, with one result for each position. What lies side by side is read at once, and the
    /// contents share that memory.
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
