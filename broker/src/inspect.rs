//! What a broker shows of itself: for a test that asserts, and for whoever operates it.
//!
//! Everything here is a copy, made under the broker's lock in one go: it does not change any more, and holding on to it
//! holds nothing up. Lists are in the same order in each run: queues, exchanges and consumers in that of their coming.

use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::{FieldTable, Properties};

/// A message, where somebody looks at it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// The exchange that it was published to.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Its properties and headers.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
    /// Whether a consumer had it before.
    pub redelivered: bool,
    /// How long it has still to live.
    pub time_to_live: Option<Duration>,
}

impl Message {
    /// The body as text. What is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A message that somebody got and has not settled.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Held {
    /// Its queue.
    pub queue: String,
    /// The connection that holds it: [`Connection::id`].
    pub connection: u64,
    /// The number of the channel that holds it.
    pub channel: u16,
    /// The consumer's tag; `None` if it was fetched by `basic.get`.
    pub consumer: Option<String>,
    /// What it is to be acknowledged by.
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
    /// Whether it outlives the broker.
    pub durable: bool,
    /// Whether it ends with its last consumer.
    pub auto_delete: bool,
    /// The connection that it ends with, and that alone may use it.
    pub exclusive: Option<u64>,
    /// What it was declared with.
    pub arguments: FieldTable,
    /// Messages that wait.
    pub ready: usize,
    /// Bytes of the bodies that wait.
    pub ready_bytes: u64,
    /// Messages that somebody holds.
    pub unacked: usize,
    /// How many consumers it has.
    pub consumers: usize,
}

/// An exchange.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
    /// `direct`, `fanout`, `topic` or `headers`.
    pub kind: &'static str,
    /// Whether it outlives the broker.
    pub durable: bool,
    /// Whether it ends with its last binding.
    pub auto_delete: bool,
    /// Whether nobody may publish to it.
    pub internal: bool,
    /// What it was declared with.
    pub arguments: FieldTable,
}

/// Where a binding ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Destination {
    /// At a queue of this name.
    Queue(String),
    /// At an exchange of this name.
    Exchange(String),
}

/// A binding. Those of the default exchange are not shown: each queue is bound to it by its name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Binding {
    /// The virtual host.
    pub vhost: String,
    /// The exchange where it begins.
    pub source: String,
    /// Where it ends.
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
    /// What it is called as long as the broker runs. None is used twice.
    pub id: u64,
    /// Who is logged in; empty before the login.
    pub user: String,
    /// Its virtual host; empty before it is open.
    pub vhost: String,
    /// What the client calls itself: `connection_name` of its properties.
    pub name: Option<String>,
    /// Who the client is and what it can do.
    pub client_properties: FieldTable,
    /// Whether it may not publish at the moment.
    pub blocked: bool,
    /// How many channels are open.
    pub channels: usize,
    /// Bytes that wait to be written to it.
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
    /// How many consumers it has.
    pub consumers: usize,
    /// Deliveries that it has not settled.
    pub unacked: usize,
    /// Whether its publishes are confirmed.
    pub confirms: bool,
    /// Publishes that are not confirmed yet.
    pub unconfirmed: u64,
    /// What `basic.qos` set for each consumer to come; 0 is no limit.
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
    /// Whether it need not acknowledge.
    pub no_ack: bool,
    /// Whether it is the only one that its queue may have.
    pub exclusive: bool,
    /// Deliveries that it may hold; 0 is no limit.
    pub prefetch: u16,
    /// Deliveries that it holds.
    pub unacked: u32,
    /// `x-priority`
    pub priority: i32,
    /// Whether it may get messages: false while another one is its queue's single active consumer.
    pub active: bool,
    /// What it was started with.
    pub arguments: FieldTable,
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Virtual hosts.
    pub vhosts: usize,
    /// Connections.
    pub connections: usize,
    /// Channels.
    pub channels: usize,
    /// Exchanges, those that each virtual host has from the start included.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
    /// Consumers.
    pub consumers: usize,
    /// Messages that wait.
    pub ready: usize,
    /// Messages that somebody holds.
    pub unacked: usize,
}
