//! Storage that survives a crash: durable queues, persistent messages and the broker's metadata.
//!
//! The store owns all files of one folder. Its input is [`Group`]s of operations: publish a message to some queues,
//! settle positions, declare a queue, put a value under a key. Its output is the point up to which groups are safe
//! ([`Status::synced`]), the contents of messages ([`Store::read`]), and, at the next start, the state it recovered
//! ([`Recovered`]). "Safe" means: survives a crash. The store does not interpret heads, definitions or values, and
//! knows nothing of consumers, of ready and unacked messages, of time or of confirms.
//!
//! ```text
//!  Group ── append ──► pending ── Writer ──► log files ── Checkpointer ──► segments, manifest
//!                         │         │ fdatasync, synced                       │
//!                       index ◄─────┴─────────────────────────────────────────┘
//!                         └── read(queue, position) ──► Content
//! ```
//!
//! 1. [`Store::open`] recovers, and returns the [`Store`], its [`Writer`], its [`Checkpointer`] and the recovered
//!    state.
//! 2. [`Store::append`] encodes a group into memory, orders it after all earlier groups, and returns the [`Lsn`] at
//!    which the group will be safe. It never waits. From then on [`Store::read`] finds the group's messages.
//! 3. [`Writer::turn`] writes all pending groups with one write and one fdatasync. The next batch gathers meanwhile;
//!    no timer delays it. Then [`Status::synced`] has risen, and every publish with an [`Lsn`] up to it may be
//!    confirmed. In production a thread does this and then calls your callback; a simulation calls it directly.
//! 4. [`Checkpointer::turn`] moves the live messages of the oldest log file to segments, so that the file can be
//!    reused.
//!
//! # Guarantees
//!
//! After a crash at any moment the folder holds exactly the groups `1..=n` in the order in which they were appended,
//! where `n` is not before [`Status::synced`]. A group is recovered as a whole or not at all.
//!
//! Damage on the disk is never returned as data: the next [`Store::open`] fails and says where the damage is, or
//! [`Store::read`] of the damaged message fails. What was safe is known from later records, from the headers of the log
//! files and from the manifest: of all files, of the log up to its end if the store was closed or had nothing to do for
//! a moment, and of all but the last batch of groups otherwise. Only damage to that batch looks like a crash: it is
//! dropped, and [`Recovered::torn`] tells.
//!
//! After a disk error nothing is confirmed any more: [`Status::failed`] stays set, and the broker must be restarted.
//! A full disk is not such an error: see [`Room`].
//!
//! # Files
//!
//! | name | content | source file |
//! | --- | --- | --- |
//! | `log-N` | all groups in order, in files that are reused in turn | `log.rs`, `frame.rs`, `record.rs` |
//! | `segment-N` | messages that outlived their log file, 16 MiB each | `segment.rs` |
//! | `body-N` | a body of 1 MiB or more | `log.rs` |
//! | `manifest-N` | where the log begins; metadata, segments and their settled messages | `manifest.rs` |
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
//! assert!(store.status().synced >= lsn); // Now the broker may confirm the publish.
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
mod replay;
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

/// The id of a durable queue. The broker chooses it and must never reuse it, not even after a restart
/// ([`Recovered::next_queue`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// A message's place in its queue: messages are recovered in the order of their positions. The broker chooses it and
/// must never reuse it in that queue, not even after a restart ([`RecoveredQueue::next`]). A requeued message keeps
/// its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A log sequence number: a point in the order of all appended groups, counted in bytes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// The state of a store at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// All groups with an [`Lsn`] up to this one are safe: they survive a crash.
    pub synced: Lsn,
    /// Bytes that are appended but not yet safe.
    pub pending: usize,
    /// Whether publishers may continue.
    pub room: Room,
    /// Bytes of free disk space when that was last looked at; `None` before that.
    pub free: Option<u64>,
    /// [`Settings::min_free`]
    pub min_free: u64,
    /// The error that ended this store, if one did.
    pub failed: Option<Error>,
}

/// Whether publishers may continue. Unless it is [`Room::Open`], stop reading from them (`connection.blocked`): further
/// appends are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Publishers may continue.
    Open,
    /// The disk is slower than the publishers: more than [`Settings::pending_limit`] bytes are pending. This ends
    /// once the writer has caught up.
    Behind,
    /// The disk has no free space, or less than [`Settings::min_free`]. This ends when there is space again.
    DiskFull,
}

/// The content of a message, as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The [`Message::head`] of the publish.
    pub head: Bytes,
    /// The [`Message::body`] of the publish.
    pub body: Bytes,
}

/// The state that was in the folder when the store was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All keys and values, in the order of the keys.
    pub metadata: Vec<(Bytes, Bytes)>,
    /// All queues, in the order of their ids.
    pub queues: Vec<RecoveredQueue>,
    /// An unused queue id: no queue ever had it or a larger one.
    pub next_queue: QueueId,
    /// The damaged parts that were dropped because [`Settings::salvage`] was set.
    pub damages: Vec<Damage>,
    /// The end of the log that was dropped, if it was incomplete.
    pub torn: Option<Torn>,
}

/// A queue that was declared and not removed.
#[derive(Debug)]
pub struct RecoveredQueue {
    /// Its id.
    pub id: QueueId,
    /// The definition from [`Group::declare_queue`].
    pub definition: Bytes,
    /// An unused position: no message of this queue has it or a larger one.
    pub next: Position,
    /// Its messages, in the order of their positions. All of them are ready: their consumers are gone.
    pub messages: Vec<RecoveredMessage>,
}

/// A message that was published and not settled. [`Store::read`] reads its content from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Its place in its queue.
    pub position: Position,
    /// The [`Target::expires`] of the publish.
    pub expires: Option<u64>,
    /// The length of its body, in bytes.
    pub body_len: u32,
    /// The latest count from [`Group::delivered`], or 0.
    pub deliveries: u32,
    /// The [`Message::priority`] of the publish.
    pub priority: u8,
}

/// The end of the log that a crash left incomplete. None of its groups was known to be safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file's name in the folder.
    pub file: String,
    /// The byte in the file at which the end begins.
    pub offset: u64,
    /// The number of bytes that were dropped, as far as they can be told from what the file held before.
    pub bytes: u64,
}

/// A damaged part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file's name in the folder.
    pub file: String,
    /// The byte in the file at which the damage begins.
    pub offset: u64,
    /// What is wrong, such as "the checksum of its header is wrong".
    pub what: String,
}

impl Default for QueueId {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file, self.offset, self.what)
    }
}
