//! An async AMQP 0-9-1 client for RabbitMQ and compatible brokers, on any async runtime.
//!
//! A connection reconnects automatically when its link to the broker is lost, restores its queues, exchanges, bindings
//! and consumers, and publishes unconfirmed messages again. [Recovery](#recovery) describes it; `Recovery::off()` turns
//! it off.
//!
//! ```no_run
//! # #[cfg(feature = "net")]
//! fn main() -> hopmq::Result<()> {
//!     // Any executor will do: smol, tokio, or this one.
//!     futures_lite::future::block_on(run())
//! }
//! # #[cfg(not(feature = "net"))]
//! # fn main() {}
//!
//! # #[cfg(feature = "net")]
//! async fn run() -> hopmq::Result<()> {
//!     use futures_lite::StreamExt;
//!
//!     let connection = hopmq::Connection::open("amqp://guest:guest@localhost/%2f").await?;
//!     let channel = connection.channel().await?;
//!     let orders = channel.queue("orders").durable().declare().await?;
//!
//!     orders.publish("a pizza").persistent().confirm().await?; // the broker has stored it
//!
//!     let mut consumer = orders.consume().prefetch(100).await?; // a Stream
//!     while let Some(order) = consumer.try_next().await? {
//!         println!("cooking {}", order.text());
//!         order.ack()?;
//!     }
//!     connection.close().await
//! }
//! ```
//!
//! # Where to find what
//!
//! | | |
//! | --- | --- |
//! | [`Connection`], [`Builder`] | connecting, closing, [`Events`], [`Stats`] |
//! | [`Channel`] | all operations on queues, exchanges and messages |
//! | [`QueueDeclare`], [`ExchangeDeclare`], [`Channel::queue_bind`] | topology, with typed arguments |
//! | [`Publish`], [`Confirm`], [`Channel::returns`] | publishing, confirms, returned messages |
//! | [`Consume`], [`Consumer`], [`Delivery`], [`Acker`], [`Channel::get`] | consuming and acknowledging |
//! | [`Message`], [`Properties`], [`FieldTable`] | bodies, properties and headers |
//! | [`sasl`] | credentials, tokens that expire, mechanisms |
#![cfg_attr(feature = "tls", doc = "| [`tls`] | trusted roots and client certificates |")]
//! | [`Recovery`], [`Connector`] | what happens when the link to the broker is lost |
//! | [`Publisher`], [`Pool`], [`Connection::shutdown`] | building blocks for whole programs |
//! | [`Error`], [`ErrorKind`] | what went wrong, and what to do about it |
//! | [`Driver`], [`Timer`], [`Transport`] | custom runtimes, transports and clocks |
//!
//! The [guide](https://github.com/hopmq/hopmq/blob/main/docs/guide.md) explains each topic in order, the
//! [cookbook](https://github.com/hopmq/hopmq/blob/main/docs/cookbook.md) solves common tasks, and the
//! [examples](https://github.com/hopmq/hopmq/tree/main/examples) include RabbitMQ's tutorials.
//! [ARCHITECTURE.md](https://github.com/hopmq/hopmq/blob/main/ARCHITECTURE.md) is a map of the code.
//!
//! # Requests
//!
//! A method that returns a [`Request`] sends the request when it is called; awaiting the `Request` only waits for the
//! reply. To have several requests in flight at once, call all the methods before awaiting the first `Request`. The
//! broker carries requests of one channel out in order.
//!
//! Acknowledgements have no reply: [`Delivery::ack`] and its siblings return at once.
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | none | the client over a custom transport and timer ([`Builder::handshake`]); also on WebAssembly |
//! | `net` (default) | TCP and timers on async-io; `Connection::open`, which works on every runtime |
//! | `tls` (default) | `amqps://`, with rustls, ring and the platform's trusted roots; module `tls` |
//! | `tokio` | TCP and timers on tokio, driven by a tokio task: `Builder::open_tokio` |
//! | `unix` | `amqp+unix://`, Unix sockets |
//! | `websocket` | `ws://`, and `wss://` with `tls` |
//!
//! Enabling a feature never changes the behaviour of another one.
//!
//! # Runtimes
//!
//! Handles encode requests into a buffer. A [`Driver`] writes that buffer to the broker and dispatches what the broker
//! sends. The driver is a future; runtimes differ only in what polls it:
//!
//! - `Connection::open` and `Builder::open`: the thread `hopmq-driver`, which all such connections of the program
//!   share.
//! - `Builder::open_tokio`: a tokio task, on tokio's sockets and timers.
//! - `Builder::connect` and `Builder::connect_tokio`: the caller. Both return the connection and its driver; spawn the
//!   driver, or poll it beside your work.
//! - `Builder::connect_on`: the caller, on a `Reactor` of the calling thread; the fastest for round trips.
//! - [`Builder::handshake`]: the caller, over any `AsyncRead + AsyncWrite`, with any [`Timer`].
//!
//! While the driver is not polled, nothing is sent or received, not even heartbeats. The handles are the same on all
//! runtimes: `Send`, `Sync`, cheap to clone, and usable from any task and thread.
//!
//! # Cancellation
//!
//! Any future of this crate may be dropped at any time, by a timeout, by `select!`, or by the end of a task. Channel
//! and connection stay usable and in step with the broker.
//!
//! | dropped | effect |
//! | --- | --- |
//! | a future that connects | the attempt ends |
//! | a [`Request`] | the request is still carried out, and its result released: a channel is closed, a consumer cancelled, a fetched message requeued. A queue stays declared. |
//! | [`Publish::send`], [`confirm`](Publish::confirm), [`confirm_later`](Publish::confirm_later) | the message is sent either completely or not at all |
//! | a [`Confirm`] | the message is still sent; its outcome is not known |
//! | the `next` of a [`Consumer`] | none: no delivery is lost |
//! | a [`Consumer`] | the consumer is cancelled; undelivered messages go back to the queue |
//! | a [`Delivery`] | nothing is settled: the broker keeps the message until the channel closes, then redelivers it |
//! | [`Connection::close`] | the connection continues to close |
//! | the last handle of a [`Channel`] or [`Connection`] | accepted messages are sent, then it is closed in the background; end a program with [`Connection::close`] |
//! | the [`Driver`] | the connection ends at once, and every pending future gets an error |
//!
//! # Timeouts
//!
//! Every wait has a timeout with a default and a setting, and ends with [`ErrorKind::Timeout`]:
//!
//! | wait | default | setting |
//! | --- | --- | --- |
//! | for a connection, per host: name resolution, TCP, TLS and handshake together | 10 s | [`Builder::connect_timeout`] |
//! | for a reply, and for buffer space to publish | 30 s | [`Builder::request_timeout`], [`Channel::within`] |
//! | for a confirm, from the moment it is awaited | 60 s | [`Builder::confirm_timeout`], [`Channel::within`] |
//! | for outstanding confirms when closing | 10 s | [`Builder::close_timeout`], [`Connection::within`] |
//! | for a full socket to accept bytes | 60 s | [`Builder::write_timeout`] |
//! | for the peer's TCP to acknowledge sent bytes (Linux) | the system's, many minutes | [`Builder::tcp_user_timeout`] |
//! | for any bytes from the broker: two heartbeat intervals, then [`ErrorKind::Heartbeat`] | the broker's interval, 60 s | [`Builder::heartbeat`] |
//!
//! The `next` of a [`Consumer`] has no timeout: it waits until a message arrives or the consumer ends, and heartbeats
//! ensure that a dead link is noticed.
//!
//! # Backpressure
//!
//! Publishing waits while more than 1 MiB ([`Builder::high_water_mark`]) is waiting to be written, while the broker
//! blocks publishing ([`Event::Blocked`]), and while the broker has stopped the channel's flow. Acknowledgements,
//! requests and heartbeats are still sent.
//!
//! A consumer holds at most 256 unacknowledged deliveries ([`Consume::prefetch`]). Reading stops while consumers have
//! more than 8 MiB of undelivered messages ([`Builder::receive_limit`]), so neither a consumer without acknowledgements
//! nor a large prefetch exhausts the memory.
//!
//! # Errors
//!
//! The crate has one error type, [`Error`]: a message for people, [`kind`](Error::kind) and [`code`](Error::code) for
//! programs. An error has one of four origins:
//!
//! - **The caller**: [`Usage`](ErrorKind::Usage), [`Config`](ErrorKind::Config), [`Closed`](ErrorKind::Closed). Nothing
//!   was sent; channel and connection stay usable.
//! - **The broker refused** the request: [`ChannelClosed`](ErrorKind::ChannelClosed) ends one channel,
//!   [`ConnectionClosed`](ErrorKind::ConnectionClosed) and [`Authentication`](ErrorKind::Authentication) the
//!   connection; [`Nacked`](ErrorKind::Nacked) and [`Returned`](ErrorKind::Returned) concern one message,
//!   [`ConsumerCancelled`](ErrorKind::ConsumerCancelled) one consumer.
//! - **The network** failed: [`Io`](ErrorKind::Io), [`Tls`](ErrorKind::Tls), [`WebSocket`](ErrorKind::WebSocket),
//!   [`Heartbeat`](ErrorKind::Heartbeat), [`Timeout`](ErrorKind::Timeout).
//! - **The peer violated the protocol**: [`Protocol`](ErrorKind::Protocol). The connection ends.
//!
//! When a channel or connection ends, its error is reported by every pending future and every later call on it.
//! [`Channel::reopen`] replaces a channel that the broker closed.
//!
//! # Recovery
//!
//! When the link to the broker is lost, the connection does not end: its driver reconnects and replays the
//! declarations, and handles, consumers and publishers stay usable ([`Recovery`], [`Event`]). Operations in flight
//! either continue on the next link or fail with [`OutcomeUnknown`](ErrorKind::OutcomeUnknown):
//!
//! | in flight when the link is lost | |
//! | --- | --- |
//! | a declaration, a binding, `get`, opening a channel, starting a consumer | is sent again |
//! | a publish with confirm | is published again, in order ([`Recovery::unconfirmed`]) |
//! | a publish without confirm | is lost if it had not been written |
//! | a transaction | its commit fails |
//! | `get_no_ack`, `update_secret` | fails |
//! | an unsettled delivery | is redelivered; settling the old delivery returns [`Settled::Stale`] |
//!
//! # Fork
//!
//! A connection belongs to the process that opened it. In a process that was forked later, a call that writes or waits
//! fails with [`Usage`](ErrorKind::Usage), nothing is written to the parent's socket, and dropping the handles does
//! nothing. Only a publish without a confirm may return without an error, if the parent's driver was busy when the
//! process was forked; its message is dropped.
//!
//! The forked process opens connections of its own, with [`Connection::open`] on a driver thread of its own, with
//! [`Builder::connect_on`] on a new [`Reactor`], or with `hopmq-blocking`. [`Builder::connect`] fails there if the
//! parent had used it, because async-io's reactor does not survive a fork. Neither does a tokio runtime.
//!
//! # Tracing
//!
//! The crate emits [`tracing`](https://docs.rs/tracing) events: lost links, refusals and blocked publishing at `WARN`,
//! reconnects at `INFO`, the steps of connecting at `DEBUG`. The target `hopmq::wire` traces each method in both
//! directions at `TRACE`: the channel, the name and the size of the body, but no arguments. No event shows credentials.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

#[cfg(test)]
extern crate self as hopmq;

mod auth;
mod builder;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod driver;
mod error;
mod handles;
#[cfg(all(test, hopmq_shuttle))]
mod interleavings;
mod io;
mod message;
mod policy;
mod process;
mod recovery;
mod refusal;
mod state;
mod sync;
#[cfg(any(feature = "net", feature = "tokio"))]
mod uri;

pub use auth::sasl;
pub use builder::Builder;
pub use driver::Driver;
pub use driver::inline::{Assistable, AssistedDriver};
pub use driver::lead::{wait, wait_within};
pub use error::{Error, ErrorKind, Result};
pub use handles::batches::{Batches, Deliveries, DeliveriesIntoIter, DeliveriesIter, DeliveryRef};
pub use handles::channel::{Channel, Returns};
pub use handles::connection::Connection;
pub use handles::consumer::{Consume, Consumer};
pub use handles::delivery::{Acker, Delivery, Settled};
pub use handles::events::Events;
pub use handles::exchange::{Exchange, ExchangeDeclare, ExchangeDelete};
pub use handles::pool::{Pool, Pooled};
pub use handles::publish::{Confirm, Publish};
pub use handles::publish_many::{Confirms, PublishMany, PublishManyError};
pub use handles::publisher::Publisher;
pub use handles::queue::{DeadLetterStrategy, LeaderLocator, Overflow, Queue, QueueDeclare, QueueDelete};
pub use handles::request::Request;
pub use hopmq_proto::{Body, FieldArray, FieldTable, IntoValue, Properties, Time, Value};
pub use io::Transport;
pub use io::connector::{Connector, Once};
#[cfg(any(feature = "net", feature = "tokio"))]
pub use io::dial::{AnyTransport, HostConnector, SendTransport};
#[cfg(feature = "net")]
pub use io::net::IoTimer;
#[cfg(feature = "net")]
pub use io::reactor::{Reactor, ReactorHandle, ReactorTimer};
pub use io::timer::{Clock, Timer};
#[cfg(all(feature = "tls", any(feature = "net", feature = "tokio")))]
pub use io::tls;
#[cfg(feature = "tokio")]
pub use io::tokio::TokioTimer;
#[cfg(feature = "net")]
#[doc(hidden)]
pub use io::unblock::unblock;
pub use message::{Message, Returned};
pub use policy::{Entity, OnFailure, Recovery, Replayed, Unconfirmed, WhileLost};
pub use state::events::Event;
pub use state::stats::Stats;
