//! Queues and exchanges as data: what an app declares before it consumes.
//!
//! Owns the declarations and how a refused one is explained. In come the settings of routes; out go declarations on a
//! channel. It must never know a handler.

mod declare;
mod exchange;
mod queue;

pub(crate) use declare::declare;
pub use exchange::Exchange;
pub use queue::{Binding, DeadLetter, Existing, Queue};
