//! Faults between a client and a broker, on a virtual clock.

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod assisting;
mod backpressure;
mod batching;
mod closing;
mod confirms;
mod connecting;
mod deadlines;
mod dropping;
mod explaining;
mod foreign_bytes;
mod growth;
mod links;
mod reconnecting;
mod republishing;
mod restoring;
mod secrets;
mod sequences;
mod shutting_down;
mod stale;
mod times;
mod violations;
mod waiting;
mod wakers;
