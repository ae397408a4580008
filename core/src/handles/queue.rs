//! Queues: declaring, deleting, and the handles that name them.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use hopmq_proto::method::{Method, queue};
use hopmq_proto::{Body, FieldTable, Value};

use crate::handles::channel::Channel;
use crate::handles::consumer::Consume;
use crate::handles::publish::Publish;
use crate::state::ledger::Name;
use crate::{Delivery, Request, Result};

/// A queue to be declared: made by [`Channel::queue`], declared by [`QueueDeclare::declare`].
///
/// Declaring a queue that exists with the same settings does nothing; with others, it fails with 406 and closes the
/// channel. Names that begin with `amq.` are the broker's (403).
///
/// ```no_run
/// # async fn example(channel: hopmq::Channel) -> hopmq::Result<()> {
/// use std::time::Duration;
///
/// let orders = channel.queue("orders").durable().quorum().delivery_limit(5);
/// let orders = orders.dead_letter_exchange("dead").declare().await?;
/// let replies = channel.queue("").exclusive().expires(Duration::from_secs(600)).declare().await?;
/// println!("{} has {} messages; the broker named {}", orders.name(), orders.message_count(), replies.name());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is declared before declare() or passive()"]
pub struct QueueDeclare<'a> {
    channel: &'a Channel,
    name: &'a str,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: FieldTable,
}

/// What a queue does with a message that is too many: see [`QueueDeclare::overflow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// Drops the oldest message, or dead-letters it. The broker's default.
    DropHead,
    /// Refuses the new message, with `basic.nack` where confirms are on.
    RejectPublish,
    /// Refuses the new message and dead-letters it. Not for quorum queues.
    RejectPublishDlx,
}

/// How a quorum queue hands messages to its dead-letter exchange: see [`QueueDeclare::dead_letter_strategy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadLetterStrategy {
    /// A message may be lost on the way. The broker's default.
    AtMostOnce,
    /// None is lost; needs [`Overflow::RejectPublish`].
    AtLeastOnce,
}

/// Where the leader of a replicated queue is put: see [`QueueDeclare::leader_locator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaderLocator {
    /// On the node that the client is connected to. The broker's default.
    ClientLocal,
    /// Where the fewest leaders are.
    Balanced,
}

impl<'a> QueueDeclare<'a> {
    pub(crate) fn new(channel: &'a Channel, name: &'a str) -> Self {
        Self { channel, name, durable: false, exclusive: false, auto_delete: false, arguments: FieldTable::new() }
    }

    /// The queue survives a restart of the broker, with the messages in it that are persistent.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Only this connection may use the queue, and it is deleted with the connection.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// The queue is deleted when its last consumer is gone.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// A classic queue, on one node (`x-queue-type`).
    pub fn classic(self) -> Self {
        self.argument("x-queue-type", "classic")
    }

    /// A [quorum queue](https://www.rabbitmq.com/docs/quorum-queues), replicated; it must be durable
    /// (`x-queue-type`).
    pub fn quorum(self) -> Self {
        self.argument("x-queue-type", "quorum")
    }

    /// A [stream](https://www.rabbitmq.com/docs/streams): a log that consumers read without emptying it. It must be
    /// durable, and its consumers need a prefetch and acks (`x-queue-type`).
    pub fn stream(self) -> Self {
        self.argument("x-queue-type", "stream")
    }

    /// How long a message may wait, in whole milliseconds (`x-message-ttl`).
    pub fn message_ttl(self, time: Duration) -> Self {
        self.argument("x-message-ttl", milliseconds(time))
    }

    /// After how long without any use the queue is deleted, in whole milliseconds (`x-expires`).
    pub fn expires(self, time: Duration) -> Self {
        self.argument("x-expires", milliseconds(time))
    }

    /// How many messages it holds (`x-max-length`).
    pub fn max_length(self, messages: u32) -> Self {
        self.argument("x-max-length", i64::from(messages))
    }

    /// How many bytes of bodies it holds (`x-max-length-bytes`).
    pub fn max_length_bytes(self, bytes: u64) -> Self {
        self.argument("x-max-length-bytes", saturated(bytes))
    }

    /// What it does with more than that (`x-overflow`).
    pub fn overflow(self, overflow: Overflow) -> Self {
        let name = match overflow {
            Overflow::DropHead => "drop-head",
            Overflow::RejectPublish => "reject-publish",
            Overflow::RejectPublishDlx => "reject-publish-dlx",
        };
        self.argument("x-overflow", name)
    }

    /// Where messages go that are rejected, too old or too many (`x-dead-letter-exchange`; RabbitMQ's page
    /// [Dead Letter Exchanges](https://www.rabbitmq.com/docs/dlx)).
    pub fn dead_letter_exchange(self, exchange: &str) -> Self {
        self.argument("x-dead-letter-exchange", exchange)
    }

    /// With which routing key; by default with their own (`x-dead-letter-routing-key`).
    pub fn dead_letter_routing_key(self, key: &str) -> Self {
        self.argument("x-dead-letter-routing-key", key)
    }

    /// How safely, for quorum queues (`x-dead-letter-strategy`).
    pub fn dead_letter_strategy(self, strategy: DeadLetterStrategy) -> Self {
        let name = match strategy {
            DeadLetterStrategy::AtMostOnce => "at-most-once",
            DeadLetterStrategy::AtLeastOnce => "at-least-once",
        };
        self.argument("x-dead-letter-strategy", name)
    }

    /// After how many deliveries in vain a quorum queue gives a message up (`x-delivery-limit`).
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        self.argument("x-delivery-limit", i64::from(deliveries))
    }

    /// How many priorities a classic queue tells apart, 1 to 255 (`x-max-priority`).
    pub fn max_priority(self, priority: u8) -> Self {
        self.argument("x-max-priority", i32::from(priority))
    }

    /// Of all its consumers, one gets the messages; another takes over when it is gone (`x-single-active-consumer`).
    pub fn single_active_consumer(self) -> Self {
        self.argument("x-single-active-consumer", true)
    }

    /// Keeps messages on disk as soon as possible (`x-queue-mode`; RabbitMQ since 3.12 does that always).
    pub fn lazy(self) -> Self {
        self.argument("x-queue-mode", "lazy")
    }

    /// How long a stream keeps its messages: `7D`, `12h`, … (`x-max-age`).
    pub fn max_age(self, age: &str) -> Self {
        self.argument("x-max-age", age)
    }

    /// How large the files of a stream are, in bytes (`x-stream-max-segment-size-bytes`).
    pub fn max_segment_size(self, bytes: u64) -> Self {
        self.argument("x-stream-max-segment-size-bytes", saturated(bytes))
    }

    /// On how many nodes a quorum queue begins (`x-quorum-initial-group-size`).
    pub fn initial_group_size(self, nodes: u8) -> Self {
        self.argument("x-quorum-initial-group-size", i32::from(nodes))
    }

    /// Where the leader of a replicated queue is put (`x-queue-leader-locator`).
    pub fn leader_locator(self, locator: LeaderLocator) -> Self {
        let name = match locator {
            LeaderLocator::ClientLocal => "client-local",
            LeaderLocator::Balanced => "balanced",
        };
        self.argument("x-queue-leader-locator", name)
    }

    /// Adds any argument.
    pub fn argument<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Adds all entries of a table.
    pub fn arguments(mut self, table: &FieldTable) -> Self {
        for (key, value) in table.iter() {
            self.arguments.insert(key, value);
        }
        self
    }

    /// Declares it (AMQP 0-9-1 section 1.7.2.1).
    ///
    /// # Errors
    /// 406 if it exists with other settings, 405 if it is another connection's exclusive queue, 403 if it may not be
    /// declared: each closes the channel. [`ErrorKind::Usage`](crate::ErrorKind::Usage) if a name or an argument
    /// can't be encoded: the channel goes on.
    pub fn declare(self) -> Request<Queue> {
        self.send(false)
    }

    /// Only checks that it exists, whatever its settings.
    ///
    /// # Errors
    /// 404 if it doesn't, which closes the channel.
    pub fn passive(self) -> Request<Queue> {
        self.send(true)
    }

    fn send(self, passive: bool) -> Request<Queue> {
        let method = queue::Declare {
            queue: self.name,
            passive,
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            nowait: false,
            arguments: self.arguments.as_ref_table(),
        };
        let (channel, named_by_broker) = (self.channel.clone(), self.name.is_empty());
        self.channel.request_with(&self.arguments, &method, move |reply| match reply {
            Method::QueueDeclareOk(ok) => {
                let known = named_by_broker.then(|| channel.core().shared().queue_name_of_broker(ok.queue));
                Some(Queue {
                    channel: channel.clone(),
                    name: known.flatten().unwrap_or_else(|| Name::new(ok.queue)),
                    message_count: ok.message_count,
                    consumer_count: ok.consumer_count,
                })
            }
            _ => None,
        })
    }
}

/// A queue that was declared, on the channel that declared it.
#[derive(Clone, Debug)]
pub struct Queue {
    channel: Channel,
    name: Arc<Name>,
    message_count: u32,
    consumer_count: u32,
}

impl Queue {
    /// Its name; the broker's choice if it was declared without. The broker chooses another one when the queue is
    /// declared again after the link was lost: all handles of it follow.
    pub fn name(&self) -> &str {
        self.name.text()
    }

    /// Messages that were ready in it when it was declared.
    pub fn message_count(&self) -> u32 {
        self.message_count
    }

    /// Consumers that it had when it was declared.
    pub fn consumer_count(&self) -> u32 {
        self.consumer_count
    }

    /// Binds it to an exchange. For arguments, see [`Channel::queue_bind`].
    pub fn bind(&self, exchange: &str, routing_key: &str) -> Request<()> {
        self.channel.queue_bind(self.name(), exchange, routing_key, ())
    }

    /// Removes a binding. For arguments, see [`Channel::queue_unbind`].
    pub fn unbind(&self, exchange: &str, routing_key: &str) -> Request<()> {
        self.channel.queue_unbind(self.name(), exchange, routing_key, ())
    }

    /// Consumes from it: see [`Consume`].
    pub fn consume(&self) -> Consume<'_> {
        self.channel.consume(self.name())
    }

    /// Fetches one message: see [`Channel::get`].
    pub fn get(&self) -> Request<Option<Delivery>> {
        self.channel.get(self.name())
    }

    /// Publishes a message to it, by the default exchange: see [`Publish`].
    pub fn publish<'a>(&'a self, body: impl Into<Body<'a>>) -> Publish<'a> {
        self.channel.publish("", self.name(), body)
    }

    /// Deletes its messages: see [`Channel::queue_purge`].
    pub fn purge(&self) -> Request<u32> {
        self.channel.queue_purge(self.name())
    }

    /// Deletes it: see [`QueueDelete`].
    pub fn delete(&self) -> QueueDelete<'_> {
        self.channel.queue_delete(self.name())
    }
}

/// A queue to be deleted: by [`QueueDelete::delete`], or by awaiting it.
#[derive(Debug)]
#[must_use = "nothing is deleted before delete() or awaiting it"]
pub struct QueueDelete<'a> {
    channel: &'a Channel,
    name: &'a str,
    if_unused: bool,
    if_empty: bool,
}

impl<'a> QueueDelete<'a> {
    pub(crate) fn new(channel: &'a Channel, name: &'a str) -> Self {
        Self { channel, name, if_unused: false, if_empty: false }
    }

    /// Only if it has no consumers.
    pub fn if_unused(mut self) -> Self {
        self.if_unused = true;
        self
    }

    /// Only if it has no messages.
    pub fn if_empty(mut self) -> Self {
        self.if_empty = true;
        self
    }

    /// Deletes it. Returns how many messages were in it; a queue that doesn't exist had none.
    ///
    /// # Errors
    /// 406 if it is in use or not empty, and that was a condition: it closes the channel.
    pub fn delete(self) -> Request<u32> {
        let Self { channel, name: queue, if_unused, if_empty } = self;
        channel.request(&queue::Delete { queue, if_unused, if_empty, nowait: false }, |reply| match reply {
            Method::QueueDeleteOk(ok) => Some(ok.message_count),
            _ => None,
        })
    }
}

impl IntoFuture for QueueDelete<'_> {
    type Output = Result<u32>;
    type IntoFuture = Request<u32>;

    fn into_future(self) -> Request<u32> {
        self.delete()
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn saturated(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
