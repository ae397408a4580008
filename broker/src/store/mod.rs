//! What survives a crash: durable messages, and all that a broker was told to keep.
//!
//! The store owns the files of one folder, and every byte in them. In come [`Group`]s of operations: a message for some
//! queues, positions that are settled, a queue that is declared, a value that is to be kept under a key. Out go the
//! moment at which a group is safe ([`Status::synced`]), the contents of messages ([`Store::read`]), and after a start
//! what was there ([`Recovered`]). It never knows what a head, a definition or a value means, who consumes, which
//! message is ready and which is out, what time it is, or who waits for a confirm.
//!
//! ```text
//!  Group ── append ──► pending ── Writer ──► log files ── Checkpointer ──► segments, manifest
//!                         │         │ fdatasync, synced                       │
//!                       index ◄─────┴─────────────────────────────────────────┘
//!                         └── read(queue, position) ──► Content
//! ```
//!
//! 1. [`Store::open`] recovers, and gives the [`Store`], its [`Writer`], its [`Checkpointer`] and what was there.
//! 2. [`Store::append`] encodes a group into memory, orders it after all earlier ones, and returns the [`Lsn`] at which
//!    it will be safe. It never waits, and [`Store::read`] finds its messages from then on.
//! 3. [`Writer::turn`] writes all that is pending with one write, and one fdatasync. The next batch gathers meanwhile;
//!    no timer delays anything. Then [`Status::synced`] has risen, and what waited for an [`Lsn`] up to it may be
//!    confirmed. In production a thread does this and then calls a function of yours; a simulation calls it by hand.
//! 4. [`Checkpointer::turn`] moves what still lives in the oldest log file to segments, so that the file can be used
//!    again.
//!
//! # What holds
//!
//! After a crash at any moment the folder holds exactly the groups `1..=n` in the order in which they were appended,
//! for an `n` that is not before [`Status::synced`]. A group is there as a whole or not at all.
//!
//! What rots on the disk is refused at the next start, which says where, or met by the [`Store::read`] of the message
//! that lies there. One thing can't be told from a crash: damage to the very last record, or the loss of the whole last
//! file.
//!
//! After an error of the disk nothing is confirmed any more: [`Status::failed`] stays, and the broker has to start
//! again. A disk without space is no such error: see [`Room`].
//!
//! # Files
//!
//! | name | what | file |
//! | --- | --- | --- |
//! | `log-N` | all groups in order, in files that are used in turn | `log.rs`, `frame.rs`, `record.rs` |
//! | `segment-N` | messages that outlived their log file, 16 MiB each | `segment.rs` |
//! | `body-N` | a body of 1 MiB or more | `log.rs` |
//! | `manifest-N` | where the log begins; metadata, segments and what of them is settled | `manifest.rs` |
//!
//! ```
//! use hopmq_broker::store::*;
//!
//! let storage = MemoryStorage::new();
//! let orders = QueueId(1);
//! let (store, mut writer, _, _) = Store::open(storage.clone(), Settings::default())?;
//! let mut group = Group::new();
//! group.declare_queue(orders, b"durable, named orders");
//! let body = bytes::Bytes::from_static(b"hello");
//! let target = Target { queue: orders, position: Position(1), expires: None };
//! group.publish(&Message { priority: 0, head: b"properties", body: &body }, &[target]);
//! let lsn = store.append(&mut group)?;
//! writer.turn()?;
//! assert!(store.status().synced >= lsn); // Now the publisher gets its confirm.
//! drop((store, writer));
//!
//! let (store, _, _, recovered) = Store::open(storage, Settings::default())?;
//! assert_eq!(recovered.queues[0].messages[0].position, Position(1));
//! assert_eq!(store.read(orders, Position(1))?.body, "hello");
//! # Ok::<(), Error>(())
//! ```

mod checkpoint;
mod compaction;
#[cfg(feature = "disk")]
mod disk;
mod error;
mod frame;
mod group;
mod handle;
mod index;
mod log;
mod manifest;
pub(crate) mod memory;
mod read;
mod record;
mod recover;
mod segment;
mod settings;
mod shared;
mod storage;
mod threads;
mod writer;

use std::fmt;

use bytes::Bytes;

pub use checkpoint::Checkpointer;
#[cfg(feature = "disk")]
pub use disk::DiskStorage;
pub use error::{Error, ErrorKind};
pub use group::{Group, Message, Target};
pub use handle::Store;
pub use memory::MemoryStorage;
pub use settings::Settings;
pub use storage::{File, Storage};
pub use threads::Threads;
pub use writer::Writer;

/// A durable queue, for the store. The broker chooses it, and never uses one twice, not even after a restart
/// ([`Recovered::next_queue`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// A message's place in its queue: messages are recovered in the order of their positions. The broker chooses it, and
/// uses one for one message of a queue only, not even for another after a restart ([`RecoveredQueue::next`]). A message
/// that is put back keeps its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A point in the order of all that was appended, counted in bytes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// What the store can tell at any moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// All groups whose [`Lsn`] is not later are safe: they survive a crash.
    pub synced: Lsn,
    /// Bytes that are appended, but not yet safe.
    pub pending: usize,
    /// Whether publishers may go on.
    pub room: Room,
    /// The error that ended this store, if one did.
    pub failed: Option<Error>,
}

/// Whether publishers may go on. If not, stop reading from them (`connection.blocked`): what is appended all the same
/// is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// They may.
    Open,
    /// The disk is slower than they are: more than [`Settings::pending_limit`] bytes wait. This passes by itself.
    Behind,
    /// The disk has no space, or less than [`Settings::min_free`]. This passes when there is space again.
    DiskFull,
}

/// A message as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What [`Message::head`] was.
    pub head: Bytes,
    /// What [`Message::body`] was.
    pub body: Bytes,
}

/// What was there when the store was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All keys and values, in the order of the keys.
    pub metadata: Vec<(Bytes, Bytes)>,
    /// All queues, in the order of their ids.
    pub queues: Vec<RecoveredQueue>,
    /// An id that no queue ever had, nor any later one.
    pub next_queue: QueueId,
    /// What was given up, where [`Settings::salvage`] allowed it.
    pub damages: Vec<Damage>,
}

/// A queue that was declared and not removed.
#[derive(Debug)]
pub struct RecoveredQueue {
    /// Its id.
    pub id: QueueId,
    /// What [`Group::declare_queue`] was given.
    pub definition: Bytes,
    /// A position that no message of it has, nor any later one.
    pub next: Position,
    /// Its messages, in the order of their positions. All of them are ready: who held them is gone.
    pub messages: Vec<RecoveredMessage>,
}

/// A message that was published and not settled. Its content is on disk: see [`Store::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Its place in its queue.
    pub position: Position,
    /// What [`Target::expires`] was.
    pub expires: Option<u64>,
    /// How long its body is, in bytes.
    pub body_len: u32,
    /// The latest count that [`Group::delivered`] gave, or 0.
    pub deliveries: u32,
    /// What [`Message::priority`] was.
    pub priority: u8,
}

/// A piece of a file that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file's name in the folder.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl Default for QueueId {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}
