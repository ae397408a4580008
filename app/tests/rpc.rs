//! Calls on the embedded broker, or on that of `AMQP_URL`.

#[path = "rpc/calls.rs"]
mod calls;
#[path = "rpc/common.rs"]
mod common;
#[path = "rpc/streams.rs"]
mod streams;
