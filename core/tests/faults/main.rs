//! What can go wrong between a client and a broker, on a virtual clock.

#[path = "../common/mod.rs"]
mod common;

mod connecting;
