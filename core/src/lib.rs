//! The AMQP 0-9-1 client: for RabbitMQ and every broker that speaks its protocol, on any async runtime.
//!
//! ```no_run
//! # #[cfg(feature = "net")]
//! fn main() -> hopmq::Result<()> {
//!     // Any executor will do: smol's, tokio's, this one.
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
//!     orders.publish("a pizza").persistent().confirm().await?; // the broker has it
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
//! | [`Channel`] | everything that happens on a connection |
//! | [`QueueDeclare`], [`ExchangeDeclare`], [`Channel::queue_bind`] | the topology, with typed arguments |
//! | [`Publish`], [`Confirm`], [`Channel::returns`] | publishing, and what became of it |
//! | [`Consume`], [`Consumer`], [`Delivery`], [`Acker`], [`Channel::get`] | consuming, and settling what came |
//! | [`Message`], [`Properties`], [`FieldTable`] | what a message carries |
//! | [`sasl`] | credentials, tokens that expire, mechanisms |
#![cfg_attr(feature = "tls", doc = "| [`tls`] | whom to trust, and client certificates |")]
//! | [`Recovery`], [`Connector`] | what happens when the link to the broker is lost |
//! | [`Publisher`], [`Pool`], [`Connection::shutdown`] | for whole programs |
//! | [`Error`], [`ErrorKind`] | what went wrong, and what to do about it |
//! | [`Driver`], [`Timer`], [`Transport`] | runtimes, transports and clocks of your own |
//!
//! Guides: the [README](https://github.com/hopmq/hopmq#readme) goes through all of it in five minutes, the
//! [examples](https://github.com/hopmq/hopmq/tree/main/examples) are RabbitMQ's tutorials and more, and
//! [ARCHITECTURE.md](https://github.com/hopmq/hopmq/blob/main/ARCHITECTURE.md) is the map of the code.
//!
//! # Requests
//!
//! A method that returns a [`Request`] sends it when it is called; awaiting it only waits for the answer. So several
//! requests are under way at once if they are made before the first is awaited. The broker carries them out in order.
//!
//! Acknowledgements have no answer: [`Delivery::ack`] and its siblings return at once.
//!
//! # Features
//!
//! | feature | brings |
//! | --- | --- |
//! | none | the client, over a transport and a timer of your own ([`Builder::handshake`]); also on WebAssembly |
//! | `net` (default) | TCP and timers on async-io; `Connection::open`, which needs nothing of the caller's runtime |
//! | `tls` (default) | `amqps://`, by rustls with ring and the platform's trust; module `tls` |
//! | `tokio` | TCP and timers on tokio, and tokio's tasks: `Builder::open_tokio` |
//! | `unix` | `amqp+unix://`, Unix sockets |
//! | `websocket` | `ws://`, and `wss://` with `tls` |
//!
//! A feature never changes what another one does.
//!
//! # Runtimes
//!
//! Handles encode what you ask for into a buffer; a [`Driver`] carries it to the broker, and brings back what the
//! broker says. It is a future, and all that differs between runtimes is who polls it:
//!
//! - `Connection::open` and `Builder::open`: one thread of this crate's, `hopmq-driver`, for all such connections.
//! - `Builder::open_tokio`: a task of tokio's, on tokio's sockets and timers.
//! - `Builder::connect` and `Builder::connect_tokio`: you. They return the connection and its driver: spawn it, or poll
//!   it beside your work.
//! - [`Builder::handshake`]: you, over anything that is `AsyncRead + AsyncWrite`, with any [`Timer`].
//!
//! Nothing moves while the driver is not polled, heartbeats neither. The handles are the same for all: `Send`, `Sync`,
//! cheap to clone, to be used from any task and thread.
//!
//! # Cancellation
//!
//! Any future of this crate may be dropped at any time, by a timeout, by `select!`, by the end of a task. Channel and
//! connection go on, in step with the broker.
//!
//! | dropped | means |
//! | --- | --- |
//! | connecting | the attempt ends |
//! | a [`Request`] | it is carried out all the same, and its answer undone: a channel is closed, a consumer cancelled, a fetched message goes back to its queue. A queue stays declared. |
//! | [`Publish::send`], [`confirm`](Publish::confirm), [`confirm_later`](Publish::confirm_later) | either nothing of the message was taken or all of it is sent, never half |
//! | a [`Confirm`] | the message is sent all the same, and its fate is not known |
//! | the `next` of a [`Consumer`] | nothing: no delivery is lost |
//! | a [`Consumer`] | it is cancelled; what it had not handed out goes back to the queue |
//! | a [`Delivery`] | nothing is settled: the broker keeps it until the channel ends, then delivers it again |
//! | [`Connection::close`] | the closing goes on |
//! | the last handle of a [`Channel`] or [`Connection`] | what was accepted is sent, then it is closed; nobody waits for it, so end a program with [`Connection::close`] |
//! | the [`Driver`] | the connection ends at once, and everybody who waits on it gets an error |
//!
//! # Deadlines
//!
//! Nothing waits for ever. Every wait has a default and a setting, and ends with [`ErrorKind::Timeout`]:
//!
//! | wait | default | setting |
//! | --- | --- | --- |
//! | for a connection: name, socket, TLS and handshake together, for each host | 10 s | [`Builder::connect_timeout`] |
//! | for an answer, and for room to publish | 30 s | [`Builder::request_timeout`], [`Channel::within`] |
//! | for a confirm, from when it is awaited on | 60 s | [`Builder::confirm_timeout`], [`Channel::within`] |
//! | for confirms when closing | 10 s | [`Builder::close_timeout`], [`Connection::within`] |
//! | for a full socket to take a byte | 60 s | [`Builder::write_timeout`] |
//! | for the peer's TCP to acknowledge what was sent, on Linux | the system's, many minutes | [`Builder::tcp_user_timeout`] |
//! | for a sign of life from the broker: two intervals, then [`ErrorKind::Heartbeat`] | the broker's 60 s | [`Builder::heartbeat`] |
//!
//! The `next` of a [`Consumer`] waits until a message comes or the consumer ends, which the heartbeats see to.
//!
//! # Backpressure
//!
//! Outwards, publishing waits while more than 1 MiB ([`Builder::high_water_mark`]) waits to be written, while the
//! broker blocks publishing ([`Event::Blocked`]), and while it stopped the channel's flow. Acknowledgements, requests
//! and heartbeats pass.
//!
//! Inwards, a consumer gets 256 deliveries at most before it acknowledges some ([`Consume::prefetch`]); and reading
//! stops while consumers have not taken 8 MiB ([`Builder::receive_limit`]), so that neither a consumer without
//! acknowledgements nor a large prefetch fills the memory.
//!
//! # Errors
//!
//! There is one type, [`Error`]: a message for people, [`kind`](Error::kind) and [`code`](Error::code) for programs. It
//! comes from one of four:
//!
//! - **You**: [`Usage`](ErrorKind::Usage), [`Config`](ErrorKind::Config), [`Closed`](ErrorKind::Closed). Nothing was
//!   sent, and channel and connection go on.
//! - **The broker refused** what you asked for: [`ChannelClosed`](ErrorKind::ChannelClosed) ends one channel,
//!   [`ConnectionClosed`](ErrorKind::ConnectionClosed) and [`Authentication`](ErrorKind::Authentication) the
//!   connection; [`Nacked`](ErrorKind::Nacked) and [`Returned`](ErrorKind::Returned) concern one message,
//!   [`ConsumerCancelled`](ErrorKind::ConsumerCancelled) one consumer.
//! - **The way to it** failed: [`Io`](ErrorKind::Io), [`Tls`](ErrorKind::Tls), [`WebSocket`](ErrorKind::WebSocket),
//!   [`Heartbeat`](ErrorKind::Heartbeat), [`Timeout`](ErrorKind::Timeout).
//! - **The peer broke the protocol**: [`Protocol`](ErrorKind::Protocol). The connection ends.
//!
//! What ends a channel or a connection is the error of everything that waits on it, and of everything asked of it
//! later. A channel that the broker closed is replaced by [`Channel::reopen`].
//!
//! # Recovery
//!
//! When the link to the broker is lost, the connection does not end: its driver connects again and declares what was
//! declared, and handles, consumers and publishers go on ([`Recovery`], [`Event`]). What was under way either goes on
//! over the next link or ends with [`OutcomeUnknown`](ErrorKind::OutcomeUnknown):
//!
//! | under way when the link is lost | |
//! | --- | --- |
//! | a declaration, a binding, `get`, a channel or a consumer being started | is asked for again |
//! | a publish with confirm | is made again, in order ([`Recovery::unconfirmed`]) |
//! | a publish without | is lost if it had not left; nobody waits for it |
//! | a transaction | its commit fails |
//! | `get_no_ack`, `update_secret` | fails |
//! | a delivery that is not settled | comes again; settling it then says [`Settled::Stale`] |
#![cfg_attr(docsrs, feature(doc_cfg))]

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
mod io;
mod policy;
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
pub use error::{Error, ErrorKind, Result};
pub use handles::channel::{Channel, Returns};
pub use handles::connection::Connection;
pub use handles::consumer::{Consume, Consumer};
pub use handles::delivery::{Acker, Delivery, Message, Returned, Settled};
pub use handles::events::Events;
pub use handles::exchange::{Exchange, ExchangeDeclare, ExchangeDelete};
pub use handles::pool::{Pool, Pooled};
pub use handles::publish::{Confirm, Publish};
pub use handles::publisher::Publisher;
pub use handles::queue::{DeadLetterStrategy, LeaderLocator, Overflow, Queue, QueueDeclare, QueueDelete};
pub use handles::request::Request;
pub use hopmq_proto::{Body, FieldArray, FieldTable, Properties, Time, Value};
pub use io::Transport;
pub use io::connector::{Connector, Once};
#[cfg(any(feature = "net", feature = "tokio"))]
pub use io::dial::{AnyTransport, SendTransport};
#[cfg(feature = "net")]
pub use io::net::{IoConnector, IoTimer, ReactorConnector};
#[cfg(feature = "net")]
pub use io::reactor::{Reactor, ReactorHandle, ReactorTimer};
pub use io::timer::{Clock, Timer};
#[cfg(all(feature = "tls", any(feature = "net", feature = "tokio")))]
pub use io::tls;
#[cfg(feature = "tokio")]
pub use io::tokio::{TokioConnector, TokioTimer};
pub use policy::{Entity, OnFailure, Recovery, Replayed, Unconfirmed, WhileLost};
pub use state::events::Event;
pub use state::stats::Stats;
