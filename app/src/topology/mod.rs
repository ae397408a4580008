//! Queues and exchanges as data: what an app declares before it consumes.
//!
//! Owns the declarations and how a refused one is explained. In come the settings of routes; out go declarations on a
//! channel. It must never know a handler.

mod declare;
mod exchange;
mod group;
mod limits;
mod queue;

pub(crate) use declare::{declare, unique_name};
pub use exchange::Exchange;
pub use group::Subscription;
pub use limits::{BatchLimits, Breaker, BreakerState, Rate};
pub(crate) use queue::Key;
pub use queue::{Binding, DeadLetter, Existing, Queue};
