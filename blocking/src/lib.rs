//! A blocking AMQP 0-9-1 client for RabbitMQ and other brokers that speak its protocol, for programs without async.
//!
//! Calls wait for their result, consumers are iterators, and the caller needs no runtime. A connection
//! [reconnects automatically](#reconnecting), every wait [has a time limit](#timeouts), and errors
//! [say what to do](#errors). The engine is the asynchronous crate [`hopmq`], which has the same names.
//!
//! A whole program, which moves the messages of one queue to another and loses none:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use hopmq_blocking::{Connection, Result};
//!
//! fn main() -> Result<()> {
//!     let uri = std::env::var("AMQP_URL").unwrap_or("amqp://guest:guest@localhost/%2f".to_owned());
//!     let mut names = std::env::args().skip(1);
//!     let (Some(from), Some(to)) = (names.next(), names.next()) else {
//!         eprintln!("usage: shovel FROM TO");
//!         std::process::exit(2);
//!     };
//!
//!     let connection = Connection::open(&uri)?;
//!     let channel = connection.channel()?;
//!     let target = channel.queue(&to).durable().declare()?;
//!     let mut consumer = channel.consume(&from).prefetch(100).start()?;
//!
//!     let mut moved = 0;
//!     for delivery in consumer.iter_within(Duration::from_secs(2)) {
//!         let delivery = delivery?;
//!         // `confirm` waits until the broker has stored the copy; only then is the original acknowledged.
//!         target.publish(delivery.body()).properties(&delivery.properties()).mandatory().confirm()?;
//!         delivery.ack()?;
//!         moved += 1;
//!     }
//!     println!("moved {moved} messages from {from} to {to}");
//!     connection.close()
//! }
//! ```
//!
//! # Where to find what
//!
//! | | |
//! | --- | --- |
//! | [`Connection`], [`Builder`] | connecting, settings, closing, [`Events`], [`Stats`] |
//! | [`Channel`] | every operation on a connection |
//! | [`QueueDeclare`], [`ExchangeDeclare`], [`Channel::queue_bind`] | queues, exchanges and bindings, with typed arguments |
//! | [`Publish`], [`Confirm`], [`Publisher`], [`Channel::returns`] | publishing, confirms, returned messages |
//! | [`Consume`], [`Consumer`], [`Delivery`], [`Channel::get`] | consuming, and acknowledging deliveries |
//! | [`Recovery`] | reconnecting |
//! | [`sasl`] | credentials, tokens that expire, login mechanisms |
#![cfg_attr(feature = "tls", doc = "| [`tls`] | trusted certificates, client certificates |")]
//! | [`Error`], [`ErrorKind`] | what failed, and what to do |
//!
//! # Reconnecting
//!
//! When the link to the broker is lost, the connection reconnects: it tries its hosts in turn, at once and then with
//! growing random delays, without limit. It declares exchanges, queues and bindings again, restarts consumers, and
//! publishes unconfirmed messages again, so a message may arrive twice, but is not lost. Handles and iterators stay
//! valid; calls wait for the new link up to their [timeout](#timeouts). [`Delivery::resumed`] marks a consumer's first
//! delivery over a new link, and acks of deliveries of the lost link do nothing ([`Settled::Stale`]).
//! [`Connection::events`] reports each loss and recovery.
//!
//! The *first* connect is not retried unless [`Builder::wait_for_broker`] asks for it.
//!
//! A short-lived command-line tool mostly wants the opposite: fail at once, with the reason, and let the caller run the
//! tool again. [`Recovery::off`] ends the connection when its link is lost, and every call then returns the error:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use hopmq_blocking::{Connection, Recovery};
//!
//! let connection = Connection::builder()
//!     .uri("amqp://localhost")
//!     .connect_timeout(Duration::from_secs(3))
//!     .recovery(Recovery::off())
//!     .open()?;
//! # Ok::<(), hopmq_blocking::Error>(())
//! ```
//!
//! # Threads and sharing
//!
//! Each connection has a thread of its own, named `hopmq-blocking`, which reads, writes and sends heartbeats while the
//! program does other work. A thread that waits for the broker reads its answer itself, and serves the other threads
//! that wait on the same connection. All handles are `Send` and `Sync`: threads share them by reference or as clones.
//! One connection serves many threads; give each thread a [channel](Connection::channel) of its own where a failed
//! request of one thread must not disturb another, since AMQP closes the channel then. Calls may be made on a thread of
//! an async runtime; they block that thread.
//!
//! # How a program ends
//!
//! - [`Connection::close`] sends all accepted messages, waits for their confirms, closes the connection, and returns
//!   whether all of that succeeded. End a program with it.
//! - [`Connection::shutdown`] cancels the consumers first and waits until other threads have settled their deliveries.
//! - Dropping the last handle waits until accepted messages are written, so a program may end after [`Publish::send`]
//!   and lose nothing over a network that works. Whether the broker has the messages is not known then.
//!
//! A call that waits in another thread ends with [`ErrorKind::Closed`] when the connection is closed.
//!
//! # Timeouts
//!
//! Every wait has a default and a setting, and ends with [`ErrorKind::Timeout`]:
//!
//! | wait | default | setting |
//! | --- | --- | --- |
//! | for a connection, for each host | 10 s | [`Builder::connect_timeout`] |
//! | for a reply, and for room to publish | 30 s | [`Builder::request_timeout`], [`Connection::within`], [`Channel::within`] |
//! | for a confirm, from the call that waits for it | 60 s | [`Builder::confirm_timeout`], [`Channel::within`], [`Confirm::wait_timeout`] |
//! | for confirms when closing | 10 s | [`Builder::close_timeout`], [`Connection::within`] |
//! | for the next delivery, event or return | none | `next_within`, `iter_within` |
//!
//! An iterator without a limit ends when its consumer, channel or connection ends, or when another thread closes one of
//! them. Heartbeats detect a broker that has gone silent: the connection reconnects then, or ends with
//! [`Recovery::off`].
//!
//! # Fork
//!
//! A connection belongs to the process that opened it. In a process that was forked later, its calls fail at once with
//! [`ErrorKind::Usage`], and dropping its handles does nothing; the parent's connection is not affected. The forked
//! process opens connections of its own.
//!
//! # Errors
//!
//! Every call returns one type, [`Error`]: a message for people, a [`kind`](Error::kind) and the broker's reply
//! [`code`](Error::code) for programs. No error shows a password.
//!
//! | [`ErrorKind`] | what happened | what to do |
//! | --- | --- | --- |
//! | `Config`, `Usage` | a setting or an argument is invalid; nothing was sent | fix the program; the channel stays open |
//! | `Authentication`, `Tls` | the broker or the TLS handshake refused the settings | fix the settings that the message names |
//! | `Io`, `WebSocket`, `Heartbeat` | the network failed, and the connection does not reconnect | connect again; an unconfirmed message may or may not have been stored |
//! | `Timeout` | the time limit passed; the connection stays open | try again; the request or message may have reached the broker |
//! | `ChannelClosed` | the broker refused a request (404 not found, 406 precondition failed, …) and closed its channel | fix the request and call [`Channel::reopen`]; other channels stay open |
//! | `ConnectionClosed` | the broker closed the connection: see `code()` | as the message says |
//! | `Nacked` | the broker could not store the message | publish it again |
//! | `Returned` | no queue took a mandatory message: see [`Error::returned`] | bind a queue, or publish elsewhere |
//! | `ConsumerCancelled` | the queue was deleted or moved | declare the queue, and consume again |
//! | `OutcomeUnknown` | the link was lost before the reply came | repeat what may happen twice |
//! | `Recovering` | there is no link, and [`WhileLost::Fail`] was set | try again later |
//! | `Closed` | this program closed the channel or connection earlier | |
//! | `Protocol` | the peer is no AMQP 0-9-1 broker, or has a bug | check host and port |
//!
//! ```no_run
//! # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
//! use hopmq_blocking::ErrorKind;
//!
//! match channel.publish("", "orders", "a pizza").mandatory().confirm() {
//!     Err(error) if error.kind() == ErrorKind::Returned => println!("the queue does not exist: {error}"),
//!     result => result?,
//! }
//! # Ok::<(), hopmq_blocking::Error>(())
//! ```
//!
//! # What differs from `hopmq`
//!
//! | `hopmq` | here |
//! | --- | --- |
//! | a future, a `Request` | a call that waits, and returns its `Result` |
//! | `consumer.next().await`, a stream | an iterator: [`Consumer`], [`Events`], [`Returns`] |
//! | a stream combined with a timer | `next_within`, `next_now`, `iter_within`; [`Next`] distinguishes a pause from the end |
//! | awaiting a [`Confirm`] | [`Confirm::wait`], [`Confirm::wait_timeout`] |
//! | a future that returns credentials | a closure that returns them: [`Builder::credentials_from`] |
//! | several requests in flight | one per thread; several publishes in flight with [`Publish::confirm_later`] |
//!
//! # Features
//!
//! | feature | brings |
//! | --- | --- |
//! | `tls` (default) | `amqps://`, by rustls with ring and the platform's trust store; module `tls` |
//! | `unix` | `amqp+unix://`, Unix sockets |
//! | `websocket` | `ws://`, and `wss://` with `tls` |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod builder;
mod channel;
mod connection;
mod consumer;
mod events;
mod exchange;
mod forward;
mod next;
mod pool;
mod publish;
mod publisher;
mod queue;
mod thread;

pub use builder::Builder;
pub use channel::Channel;
pub use connection::Connection;
pub use consumer::{Batches, Consume, Consumer};
pub use events::{Events, Returns};
pub use exchange::{Exchange, ExchangeDeclare, ExchangeDelete};
#[cfg(feature = "tls")]
pub use hopmq::tls;
pub use hopmq::{
    Acker, Body, DeadLetterStrategy, Deliveries, DeliveriesIntoIter, DeliveriesIter, Delivery, DeliveryRef, Entity,
    Error, ErrorKind, Event, FieldArray, FieldTable, IntoValue, LeaderLocator, Message, OnFailure, Overflow,
    Properties, PublishManyError, Recovery, Replayed, Result, Returned, Settled, Stats, Time, Unconfirmed, Value,
    WhileLost, sasl,
};
pub use next::Next;
pub use pool::{Pool, Pooled};
pub use publish::{Confirm, Publish};
pub use publisher::{Confirms, PublishMany, Publisher};
pub use queue::{Queue, QueueDeclare, QueueDelete};
