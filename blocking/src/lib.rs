//! The AMQP 0-9-1 client for programs without async.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod channel;
mod connection;
mod consumer;
mod exchange;
mod forward;
mod news;
mod next;
mod publish;
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
    Acker, Body, DeadLetterStrategy, Delivery, Error, ErrorKind, Event, FieldArray, FieldTable, LeaderLocator, Message,
    Overflow, Properties, Result, Returned, Stats, Time, Value, sasl,
};
pub use news::{Events, Returns};
pub use next::Next;
pub use publish::{Confirm, Publish};
pub use queue::{Queue, QueueDeclare, QueueDelete};
