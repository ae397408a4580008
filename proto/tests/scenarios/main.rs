//! Both ends of a connection that keep the rules, one scenario per file.

#[path = "../common/mod.rs"]
mod common;

mod channels;
mod closing;
mod confirms;
mod consuming;
mod contents;
mod getting;
mod handshake;
mod heartbeats;
mod pausing;
mod requests;
mod returns;
mod secrets;
mod transactions;
mod tuning;
mod unacked;
