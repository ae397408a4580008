//! Snapshots of a broker's state, for tests and operators.
//!
//! Everything here is a copy, taken at one time under the broker's lock. It never changes, and keeping it blocks
//! nothing. Lists are in the same order in each run: queues, exchanges and consumers in the order of their creation.

use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::{FieldTable, Properties};

/// A message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// The exchange that the message was published to.
    pub exchange: String,
    /// The routing key that the message was published with.
    pub routing_key: String,
    /// Its properties and headers.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
    /// Whether the message may have been delivered before.
    pub redelivered: bool,
    /// The time until the message expires.
    pub time_to_live: Option<Duration>,
}

impl Message {
    /// Returns the body as text. Invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A message that was delivered and is not settled.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Held {
    /// The name of its queue.
    pub queue: String,
    /// The connection that got it: [`Connection::id`].
    pub connection: u64,
    /// The number of the channel that got it.
    pub channel: u16,
    /// The consumer's tag; `None` if it was fetched by `basic.get`.
    pub consumer: Option<String>,
    /// The tag that acknowledges it.
    pub delivery_tag: u64,
    /// The message.
    pub message: Message,
}

/// A queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
    /// Whether the queue survives a restart of the broker.
    pub durable: bool,
    /// Whether the queue is deleted with its last consumer.
    pub auto_delete: bool,
    /// The connection that the queue is exclusive to, and is deleted with.
    pub exclusive: Option<u64>,
    /// The arguments of its declaration.
    pub arguments: FieldTable,
    /// Messages that wait for delivery.
    pub ready: usize,
    /// The size of their bodies, in bytes.
    pub ready_bytes: u64,
    /// Messages that were returned, and wait for their delayed retry.
    pub delayed: usize,
    /// Messages that were delivered and are not settled.
    pub unacked: usize,
    /// The number of its consumers.
    pub consumers: usize,
    /// Whether a message of it can't be read from the store: the queue delivers nothing beyond it until it can be read,
    /// or the queue is purged. The log says why.
    pub unreadable: bool,
}

/// An exchange.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
    /// `direct`, `fanout`, `topic`, `headers`, or the name of another type, such as `x-consistent-hash`.
    pub kind: &'static str,
    /// Whether the exchange survives a restart of the broker.
    pub durable: bool,
    /// Whether the exchange is deleted with its last binding.
    pub auto_delete: bool,
    /// Whether clients may not publish to it.
    pub internal: bool,
    /// The arguments of its declaration.
    pub arguments: FieldTable,
}

/// The end of a binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Destination {
    /// The queue of this name.
    Queue(String),
    /// The exchange of this name.
    Exchange(String),
}

/// A binding. Those of the default exchange are left out: it binds each queue by its name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Binding {
    /// The virtual host.
    pub vhost: String,
    /// The name of the exchange that it starts at.
    pub source: String,
    /// The queue or exchange that it leads to.
    pub destination: Destination,
    /// Its routing key.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// A connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// Its id, which is never used again while the broker runs.
    pub id: u64,
    /// The name of its user; empty before the login.
    pub user: String,
    /// The name of its virtual host; empty until it is opened.
    pub vhost: String,
    /// The client's name for it: `connection_name` of its properties.
    pub name: Option<String>,
    /// The client's description of itself and its capabilities.
    pub client_properties: FieldTable,
    /// Whether the connection is blocked from publishing.
    pub blocked: bool,
    /// The number of open channels.
    pub channels: usize,
    /// Output that waits to be written, in bytes.
    pub queued: usize,
}

/// A channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Channel {
    /// Its connection: [`Connection::id`].
    pub connection: u64,
    /// Its number.
    pub number: u16,
    /// The number of its consumers.
    pub consumers: usize,
    /// Deliveries that are not settled.
    pub unacked: usize,
    /// Whether the channel is in confirm mode.
    pub confirms: bool,
    /// Publishes that are not confirmed.
    pub unconfirmed: u64,
    /// What `basic.qos` set for each later consumer; 0 is no limit.
    pub prefetch: u16,
    /// What `basic.qos` set for all consumers together; 0 is no limit.
    pub global_prefetch: u16,
}

/// A consumer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Consumer {
    /// Its tag.
    pub tag: String,
    /// Its queue.
    pub queue: String,
    /// The queue's virtual host.
    pub vhost: String,
    /// Its connection: [`Connection::id`].
    pub connection: u64,
    /// The number of its channel.
    pub channel: u16,
    /// Whether its deliveries need no acknowledgement.
    pub no_ack: bool,
    /// Whether no other consumer of its queue is allowed.
    pub exclusive: bool,
    /// The limit of unsettled deliveries; 0 is none.
    pub prefetch: u16,
    /// Deliveries that are not settled.
    pub unacked: u32,
    /// `x-priority`
    pub priority: i32,
    /// Whether the consumer may get messages. False while another one is the single active consumer of its queue.
    pub active: bool,
    /// The arguments of `basic.consume`.
    pub arguments: FieldTable,
}

/// The memory that a broker's state takes, in bytes, by the broker's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// All of it.
    pub used: u64,
    /// The limit above which publishers are blocked; `u64::MAX` is none.
    pub limit: u64,
    /// Whether publishers are blocked because of it.
    pub alarm: bool,
    /// Messages: ready, unacked, delayed, or in a transaction.
    pub messages: u64,
    /// Queues, exchanges, bindings, consumers and channels.
    pub declared: u64,
    /// Connections, with received parts of messages, and with output that is not read.
    pub connections: u64,
    /// What the store has yet to write.
    pub store: u64,
}

/// How many of each kind exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Virtual hosts.
    pub vhosts: usize,
    /// Connections.
    pub connections: usize,
    /// Channels.
    pub channels: usize,
    /// Exchanges, with the predeclared ones.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
    /// Consumers.
    pub consumers: usize,
    /// Messages that wait for delivery.
    pub ready: usize,
    /// Messages that were delivered and are not settled.
    pub unacked: usize,
    /// Queues with a message that can't be read from the store: an alarm.
    pub unreadable: usize,
    /// How often a message could not be read from the store since the start.
    pub failed_reads: u64,
}
