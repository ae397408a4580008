//! The AMQP 0-9-1 client for programs without async: [`hopmq`] with the same names, and calls that wait.
//!
//! A tool that moves what lies in one queue to another, and is sure that nothing is lost:
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
//!         target.publish(delivery.body()).properties(&delivery.properties()).mandatory().confirm()?;
//!         delivery.ack()?;
//!         moved += 1;
//!     }
//!     println!("moved {moved} messages from {from} to {to}");
//!     connection.close()
//! }
//! ```
//!
//! # What differs from `hopmq`
//!
//! | there | here |
//! | --- | --- |
//! | a future, a `Request` | a call that waits, and returns its `Result` |
//! | `consumer.next().await`, a stream | an iterator: [`Consumer`], [`Events`], [`Returns`] |
//! | a timer beside a stream | `next_within`, `next_now`, `iter_within`; [`Next`] tells a pause from the end |
//! | awaiting a [`Confirm`] | [`Confirm::wait`], [`Confirm::wait_timeout`] |
//! | a future that returns credentials | a closure that does: [`Builder::credentials_from`] |
//! | requests under way at once | one per thread; publishes under way at once by [`Publish::confirm_later`] |
//!
//! # Threads
//!
//! Each connection has a thread of its own, `hopmq-blocking`, that reads, writes and keeps the heartbeats, whatever
//! the program does meanwhile. All handles are `Send` and `Sync`: threads share them by reference or as clones. Calls
//! may be made on the thread of an async runtime too; they block it.
//!
//! When the last handle is dropped, it waits until what was accepted is written, so a program may end after
//! [`Publish::send`] and lose nothing that it has sent over a network that works. To know that the broker has it, wait
//! for its confirm, or call [`Connection::close`].
//!
//! # Deadlines
//!
//! Every wait has a default and a setting, and ends with [`ErrorKind::Timeout`]:
//!
//! | wait | default | setting |
//! | --- | --- | --- |
//! | for a connection, for each host | 10 s | [`Builder::connect_timeout`] |
//! | for an answer, and for room to publish | 30 s | [`Builder::request_timeout`], [`Connection::within`], [`Channel::within`] |
//! | for a confirm, from when it is waited for | 60 s | [`Builder::confirm_timeout`], [`Channel::within`], [`Confirm::wait_timeout`] |
//! | for confirms when closing | 10 s | [`Builder::close_timeout`], [`Connection::within`] |
//! | for the next delivery, event or return | none | `next_within`, `iter_within` |
//!
//! An iterator without a limit ends when its consumer, channel or connection does: by the heartbeats at the latest, or
//! when another thread closes one of them.
//!
//! # Errors
//!
//! One type, [`Error`], with a [`kind`](Error::kind) and the broker's [`code`](Error::code). The error of a request
//! (404 not found, 406 precondition failed, …) closes its channel, as AMQP has it; other channels go on.
//!
//! # Features
//!
//! | feature | brings |
//! | --- | --- |
//! | `tls` (default) | `amqps://`, by rustls with ring and the platform's trust; module `tls` |
//! | `unix` | `amqp+unix://`, Unix sockets |
//! | `websocket` | `ws://`, and `wss://` with `tls` |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod builder;
mod channel;
mod connection;
mod consumer;
mod exchange;
mod forward;
mod news;
mod next;
mod pool;
mod publish;
mod publisher;
mod queue;
mod thread;
mod wait;

pub use builder::Builder;
pub use channel::Channel;
pub use connection::Connection;
pub use consumer::{Consume, Consumer};
pub use exchange::{Exchange, ExchangeDeclare, ExchangeDelete};
#[cfg(feature = "tls")]
pub use hopmq::tls;
pub use hopmq::{
    Acker, Body, DeadLetterStrategy, Delivery, Entity, Error, ErrorKind, Event, FieldArray, FieldTable, LeaderLocator,
    Message, OnFailure, Overflow, Properties, Recovery, Replayed, Result, Returned, Settled, Stats, Time, Value,
    WhileLost, sasl,
};
pub use news::{Events, Returns};
pub use next::Next;
pub use pool::{Pool, Pooled};
pub use publish::{Confirm, Publish};
pub use publisher::Publisher;
pub use queue::{Queue, QueueDeclare, QueueDelete};
