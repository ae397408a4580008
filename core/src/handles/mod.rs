//! The public handles and futures, one subject per file.
//!
//! Each handle locks the [state](crate::state) for the length of one encode. No handle does I/O or needs a timer.

pub(crate) mod batches;
pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod consumer;
pub(crate) mod delivery;
pub(crate) mod events;
pub(crate) mod exchange;
pub(crate) mod pool;
pub(crate) mod publish;
pub(crate) mod publish_many;
pub(crate) mod publisher;
pub(crate) mod queue;
pub(crate) mod request;
mod shutdown;
