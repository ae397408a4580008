//! Consumers, the deliveries they get, and how those are settled.

pub(super) mod acks;
pub(super) mod consume;
pub(super) mod consumer;
mod deliver;
pub(super) mod requeue;
pub(super) mod timeouts;
pub(super) mod unacked;
