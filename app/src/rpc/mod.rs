//! Calls of methods in other programs, by the macro [`rpc`](macro@crate::rpc).
//!
//! Owns what a call looks like on the wire, the client that all calls share, and the handler that answers them. In come
//! arguments; out go results, faults and streams of answers. It must never spawn, and knows no service by its type.
//!
//! # On the wire
//! A service has one queue. A call is a mandatory message with the method in the property `type`, the arguments in its
//! body (one argument as it is, several as an array), the `reply-to` of RabbitMQ's
//! [direct reply-to](https://www.rabbitmq.com/docs/direct-reply-to), a `correlation-id`, an `expiration`, and the header
//! `x-hopmq-deadline` (milliseconds since 1970). The reply has the same `correlation-id`. A reply that is no result has
//! the header `x-hopmq-fault`: `failed` if the method returned the error in the body, or another class with a text.
//!
//! A call that asks for a stream has the header `x-hopmq-credit`, the number of answers that the server may send ahead.
//! The server replies with messages of the types `open`, `item` and `end`, whose `reply-to` and `message-id` lead back
//! to it, for the client's `credit` and `cancel`.

mod client;
mod codec;
mod error;
mod link;
mod server;
mod streaming;
mod table;
mod ticker;
mod wire;

pub use client::{Client, Written};
pub use codec::{Codec, JsonCodec};
pub use error::{Fault, Never, RpcError};
pub use server::{Caught, Rpc, Service, argument, arguments, method, queue, reply, reply_result, unknown_method};
pub use streaming::{Answers, Opening, open_stream};
