//! Virtual hosts, and declaring and deleting the queues and exchanges in them.

mod declare_exchange;
mod declare_queue;
#[cfg(feature = "definitions")]
pub(super) mod define;
pub(super) mod delete;
mod equivalence;
pub(super) mod vhost;
