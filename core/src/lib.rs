//! The AMQP 0-9-1 client.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod auth;
mod builder;
mod channel;
mod confirms;
mod connection;
mod consumer;
mod declare;
#[cfg(any(feature = "net", feature = "tokio"))]
mod dial;
mod dispatch;
mod driver;
#[cfg(test)]
mod duplex;
mod error;
mod events;
mod message;
#[cfg(feature = "net")]
mod net;
mod publish;
mod refresh;
mod request;
pub mod sasl;
mod shared;
mod slots;
mod stats;
mod timer;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tokio")]
mod tokio_io;
#[cfg(feature = "tokio")]
mod tokio_net;
#[cfg(any(feature = "net", feature = "tokio"))]
mod uri;
#[cfg(feature = "websocket")]
mod websocket;

pub use builder::Builder;
pub use channel::{Channel, Returns};
pub use connection::Connection;
pub use consumer::{Consume, Consumer};
pub use declare::{
    DeadLetterStrategy, Exchange, ExchangeDeclare, ExchangeDelete, LeaderLocator, Overflow, Queue, QueueDeclare,
    QueueDelete,
};
#[cfg(any(feature = "net", feature = "tokio"))]
pub use dial::{AnyTransport, SendTransport};
pub use driver::{Driver, Transport};
pub use error::{Error, ErrorKind, Result};
pub use events::{Event, Events};
pub use hopmq_proto::{Body, FieldArray, FieldTable, Properties, Time, Value};
pub use message::{Acker, Delivery, Message, Returned};
#[cfg(feature = "net")]
pub use net::IoTimer;
pub use publish::{Confirm, Publish};
pub use request::Request;
pub use stats::Stats;
pub use timer::{Clock, Timer};
#[cfg(feature = "tokio")]
pub use tokio_net::TokioTimer;
