//! Calls of methods in other programs, by the macro `#[rpc]`.
//!
//! Owns what a call looks like on the wire, the client that all calls share, and the handler that answers them. In come
//! arguments; out go results, faults and streams of answers. It must never spawn, and knows no service by its type.
//!
//! # A service
//! The trait says what travels: arguments, results and errors implement serde's traits. `#[rpc]` makes `PricingClient`
//! and `serve_pricing` of it.
//!
#![cfg_attr(all(feature = "macros", feature = "net"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "macros", feature = "net")), doc = "```ignore")]
//! use std::time::Duration;
//! use futures_lite::Stream;
//! use hopmq_app::{App, rpc, rpc::Client};
//!
//! #[rpc]
//! trait Pricing {
//!     async fn quote(&self, pizza: String, count: u32) -> Result<u32, String>;
//!     fn watch(&self, pizza: String) -> impl Stream<Item = Result<u32, String>>;
//! }
//!
//! struct Prices;
//!
//! impl Pricing for Prices {
//!     async fn quote(&self, pizza: String, count: u32) -> Result<u32, String> {
//!         if pizza == "margherita" { Ok(9 * count) } else { Err(format!("there is no pizza {pizza}")) }
//!     }
//!
//!     fn watch(&self, _: String) -> impl Stream<Item = Result<u32, String>> {
//!         futures_lite::stream::iter([Ok(9), Ok(10)])
//!     }
//! }
//!
//! async fn serve(connection: &hopmq::Connection) -> Result<(), hopmq_app::Error> {
//!     let (queue, pricing) = serve_pricing(Prices);
//!     App::new(()).route(queue.concurrency(100), pricing).run(connection).await
//! }
//!
//! async fn ask(connection: &hopmq::Connection) -> Result<(), Box<dyn std::error::Error>> {
//!     let pricing = PricingClient::new(Client::open(connection).await?).within(Duration::from_millis(300));
//!     println!("{} euros", pricing.quote("margherita".to_owned(), 2).await?);
//!     Ok(())
//! }
//! ```
//!
//! - `#[rpc(queue = "pricing.v2")]` names the queue; its default is the name of the trait in snake case.
//!   `#[rpc(codec = MsgPack)]` chooses a [`Codec`](crate::Codec) other than JSON; `#[rpc(local)]` serves futures that
//!   are not `Send`, in an app made by [`App::local`](crate::App::local).
//! - An argument marked `#[extract]` does not travel: it is an extractor, as in handlers. A generated client, taken
//!   like this or by a handler, calls on the app's connection and ends its calls at the deadline of the message: so
//!   deadlines are inherited. Elsewhere, take a [`Deadline`](crate::Deadline) and pass it to [`Client::until`].
//! - A call whose deadline has passed is dropped by the server. This compares the clocks of two machines; `expiration`,
//!   which drops it from the queue, does not.
//! - A method that panics, arguments that can't be read and unknown methods are answered with a [`Fault`].
//! - A stream may be 64 answers ahead of its caller. It ends with the method, when the caller drops it, and when either
//!   side goes away, which the other side notices within ten seconds. While a server stops, its streams go on until
//!   [`App::drain_timeout`](crate::App::drain_timeout), and end with the fault [`Fault::STOPPED`].
//!
//! # On the wire
//! A service has one queue. A call is a mandatory message with the method in the property `type`, the arguments in its
//! body (one argument as it is, several as an array), the `reply-to` of RabbitMQ's
//! [direct reply-to](https://www.rabbitmq.com/docs/direct-reply-to), a `correlation-id`, an `expiration`, and the header
//! `x-hopmq-deadline` (milliseconds since 1970). The reply has the same `correlation-id`. A reply that is no result has
//! the header `x-hopmq-fault`: `failed` if the method returned the error in the body, or another class with a text.
//!
//! A call that asks for a stream has the header `x-hopmq-credit`, the number of answers that the server may send
//! ahead. The server replies with messages of the types `open`, `item` and `end`, whose `reply-to` and `message-id`
//! lead back to it, for the client's `credit` and `cancel`.

mod client;
mod error;
mod link;
mod server;
mod streaming;
mod table;
mod ticker;
mod wire;

pub use client::{Client, Written};
pub use error::{Fault, Never, RpcError};
pub use server::{Rpc, Service, argument, arguments, method, queue, reply, reply_result, unknown_method};
pub use streaming::{Answers, Opening, open_stream};
