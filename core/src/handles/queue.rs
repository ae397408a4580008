//! Queues: declaring, deleting, and handles to declared ones.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use hopmq_proto::method::{Method, queue};
use hopmq_proto::{Body, Elapsed, FieldTable, IntoValue, LONGEST_TTL, milliseconds};

use crate::handles::channel::Channel;
use crate::handles::consumer::Consume;
use crate::handles::publish::Publish;
use crate::state::ledger::Name;
use crate::{Delivery, Error, ErrorKind, Request, Result};

/// The declaration of a queue: created by [`Channel::queue`], sent by [`QueueDeclare::declare`].
///
/// Declaring an existing queue with the same settings has no effect. With other settings, it fails with 406 and closes
/// the channel. Names that begin with `amq.` are reserved for the broker (403).
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
#[must_use = "nothing is declared before declare() or declare_passive()"]
pub struct QueueDeclare<'a> {
    channel: &'a Channel,
    name: &'a str,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: FieldTable,
    /// Why the broker would refuse the declaration.
    refused: Option<Error>,
}

/// What a full queue does with a new message: see [`QueueDeclare::overflow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// Drops the oldest message, or dead-letters it. The broker's default.
    DropHead,
    /// Refuses the new message, with `basic.nack` if confirms are on.
    RejectPublish,
    /// Refuses the new message and dead-letters it. Not for quorum queues.
    RejectPublishDlx,
}

/// How reliably a quorum queue moves messages to its dead-letter exchange: see [`QueueDeclare::dead_letter_strategy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadLetterStrategy {
    /// A message may be lost while it is moved. The broker's default.
    AtMostOnce,
    /// No message is lost. Needs [`Overflow::RejectPublish`].
    AtLeastOnce,
}

/// Where the leader of a replicated queue is placed: see [`QueueDeclare::leader_locator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaderLocator {
    /// On the node that the client is connected to. The broker's default.
    ClientLocal,
    /// On the node with the fewest leaders.
    Balanced,
}

impl<'a> QueueDeclare<'a> {
    pub(crate) fn new(channel: &'a Channel, name: &'a str) -> Self {
        Self {
            channel,
            name,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
            refused: None,
        }
    }

    /// Keeps the queue and its persistent messages when the broker restarts.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Reserves the queue for this connection, and deletes it when the connection ends.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Deletes the queue when its last consumer is gone.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Makes this a classic queue, on one node (`x-queue-type`).
    pub fn classic(self) -> Self {
        self.argument("x-queue-type", "classic")
    }

    /// Makes this a replicated [quorum queue](https://www.rabbitmq.com/docs/quorum-queues), which must be durable
    /// (`x-queue-type`).
    pub fn quorum(self) -> Self {
        self.argument("x-queue-type", "quorum")
    }

    /// Makes this a [stream](https://www.rabbitmq.com/docs/streams), a log that consumers read without emptying it
    /// (`x-queue-type`). A stream must be durable, and its consumers need a prefetch and acks.
    pub fn stream(self) -> Self {
        self.argument("x-queue-type", "stream")
    }

    /// Sets how long a message may stay in the queue, rounded up to whole milliseconds (`x-message-ttl`). The longest
    /// time that RabbitMQ takes is 315,360,000,000 ms, ten years: declaring a queue with a longer one ends with
    /// [`ErrorKind::Usage`].
    pub fn message_ttl(self, time: Duration) -> Self {
        self.time("x-message-ttl", Duration::ZERO, time)
    }

    /// Deletes the queue after this time without use, rounded up to whole milliseconds (`x-expires`). RabbitMQ takes 1
    /// to 315,360,000,000 ms, ten years: declaring a queue with another time ends with
    /// [`ErrorKind::Usage`].
    pub fn expires(self, time: Duration) -> Self {
        self.time("x-expires", Duration::from_nanos(1), time)
    }

    fn time(mut self, name: &str, least: Duration, time: Duration) -> Self {
        match milliseconds(time).filter(|_| time >= least) {
            Some(millis) => self.argument(name, millis),
            None => {
                let (least, most) = (least.subsec_nanos(), LONGEST_TTL.as_secs() * 1000);
                let time = Elapsed(time);
                let text = format!("{name} is {time}; RabbitMQ takes {least} to {most} ms");
                self.refused.get_or_insert(Error::new(ErrorKind::Usage, text));
                self
            }
        }
    }

    /// Limits the number of messages in the queue (`x-max-length`).
    pub fn max_length(self, messages: u32) -> Self {
        self.argument("x-max-length", i64::from(messages))
    }

    /// Limits the total size of the bodies in the queue, in bytes (`x-max-length-bytes`).
    pub fn max_length_bytes(self, bytes: u64) -> Self {
        self.argument("x-max-length-bytes", saturated(bytes))
    }

    /// Sets what happens when the queue is full (`x-overflow`).
    pub fn overflow(self, overflow: Overflow) -> Self {
        let name = match overflow {
            Overflow::DropHead => "drop-head",
            Overflow::RejectPublish => "reject-publish",
            Overflow::RejectPublishDlx => "reject-publish-dlx",
        };
        self.argument("x-overflow", name)
    }

    /// Sets the exchange for messages that are rejected, expired or over the limit (`x-dead-letter-exchange`;
    /// RabbitMQ's page [Dead Letter Exchanges](https://www.rabbitmq.com/docs/dlx)).
    pub fn dead_letter_exchange(self, exchange: &str) -> Self {
        self.argument("x-dead-letter-exchange", exchange)
    }

    /// Sets the routing key of dead-lettered messages; the default is their own (`x-dead-letter-routing-key`).
    pub fn dead_letter_routing_key(self, key: &str) -> Self {
        self.argument("x-dead-letter-routing-key", key)
    }

    /// Sets how reliably a quorum queue dead-letters messages (`x-dead-letter-strategy`).
    pub fn dead_letter_strategy(self, strategy: DeadLetterStrategy) -> Self {
        let name = match strategy {
            DeadLetterStrategy::AtMostOnce => "at-most-once",
            DeadLetterStrategy::AtLeastOnce => "at-least-once",
        };
        self.argument("x-dead-letter-strategy", name)
    }

    /// Sets after how many unsuccessful deliveries a quorum queue drops or dead-letters a message (`x-delivery-limit`).
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        self.argument("x-delivery-limit", i64::from(deliveries))
    }

    /// Makes a classic queue a priority queue with this highest priority, 1 to 255 (`x-max-priority`).
    pub fn max_priority(self, priority: u8) -> Self {
        self.argument("x-max-priority", i32::from(priority))
    }

    /// Delivers to one consumer only; another one takes over when that consumer is gone (`x-single-active-consumer`).
    pub fn single_active_consumer(self) -> Self {
        self.argument("x-single-active-consumer", true)
    }

    /// Keeps messages on disk as far as possible (`x-queue-mode`; RabbitMQ since 3.12 always does).
    pub fn lazy(self) -> Self {
        self.argument("x-queue-mode", "lazy")
    }

    /// Sets how long a stream keeps its messages: `7D`, `12h`, … (`x-max-age`).
    pub fn max_age(self, age: &str) -> Self {
        self.argument("x-max-age", age)
    }

    /// Sets the size of a stream's segment files, in bytes (`x-stream-max-segment-size-bytes`).
    pub fn max_segment_size(self, bytes: u64) -> Self {
        self.argument("x-stream-max-segment-size-bytes", saturated(bytes))
    }

    /// Sets the initial number of nodes of a quorum queue (`x-quorum-initial-group-size`).
    pub fn initial_group_size(self, nodes: u8) -> Self {
        self.argument("x-quorum-initial-group-size", i32::from(nodes))
    }

    /// Sets where the leader of a replicated queue is placed (`x-queue-leader-locator`).
    pub fn leader_locator(self, locator: LeaderLocator) -> Self {
        let name = match locator {
            LeaderLocator::ClientLocal => "client-local",
            LeaderLocator::Balanced => "balanced",
        };
        self.argument("x-queue-leader-locator", name)
    }

    /// Adds any argument.
    pub fn argument(mut self, key: &str, value: impl IntoValue) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Adds all arguments of a table.
    pub fn arguments(mut self, table: &FieldTable) -> Self {
        for (key, value) in table.iter() {
            self.arguments.insert(key, value);
        }
        self
    }

    /// Declares the queue (AMQP 0-9-1 section 1.7.2.1).
    ///
    /// # Errors
    /// 406 if the queue exists with other settings, 405 if it is another connection's exclusive queue, 403 if the user
    /// may not declare it: each closes the channel. [`ErrorKind::Usage`] if a name or an
    /// argument can't be encoded: the channel stays open.
    pub fn declare(self) -> Request<Queue> {
        self.send(false)
    }

    /// Checks that the queue exists, ignoring all settings.
    ///
    /// # Errors
    /// 404 if the queue does not exist. The broker then closes the channel.
    pub fn declare_passive(self) -> Request<Queue> {
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
        let channel = self.channel.clone();
        let named_by_broker = self.name.is_empty();
        if let Some(error) = self.refused {
            return Request::failed(error);
        }
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

/// A declared queue, on the channel that declared it.
#[derive(Clone, Debug)]
pub struct Queue {
    channel: Channel,
    name: Arc<Name>,
    message_count: u32,
    consumer_count: u32,
}

impl Queue {
    /// Returns the name of the queue, which the broker chose if it was declared with an empty name. When the connection
    /// reconnects, the broker may choose a new name; all handles of the queue follow.
    pub fn name(&self) -> &str {
        self.name.text()
    }

    /// Returns the number of ready messages when the queue was declared.
    pub fn message_count(&self) -> u32 {
        self.message_count
    }

    /// Returns the number of consumers when the queue was declared.
    pub fn consumer_count(&self) -> u32 {
        self.consumer_count
    }

    /// Binds the queue to an exchange. For arguments, see [`Channel::queue_bind`].
    pub fn bind(&self, exchange: &str, routing_key: &str) -> Request<()> {
        self.channel.queue_bind(self.name(), exchange, routing_key, ())
    }

    /// Removes a binding of the queue. For arguments, see [`Channel::queue_unbind`].
    pub fn unbind(&self, exchange: &str, routing_key: &str) -> Request<()> {
        self.channel.queue_unbind(self.name(), exchange, routing_key, ())
    }

    /// Consumes from the queue: see [`Consume`].
    pub fn consume(&self) -> Consume<'_> {
        self.channel.consume(self.name())
    }

    /// Fetches one message: see [`Channel::get`].
    pub fn get(&self) -> Request<Option<Delivery>> {
        self.channel.get(self.name())
    }

    /// Publishes a message to the queue through the default exchange: see [`Publish`].
    pub fn publish<'a>(&'a self, body: impl Into<Body<'a>>) -> Publish<'a> {
        self.channel.publish("", self.name(), body)
    }

    /// Deletes the ready messages of the queue: see [`Channel::queue_purge`].
    pub fn purge(&self) -> Request<u32> {
        self.channel.queue_purge(self.name())
    }

    /// Deletes the queue: see [`QueueDelete`].
    pub fn delete(&self) -> QueueDelete<'_> {
        self.channel.queue_delete(self.name())
    }
}

/// The deletion of a queue, sent by [`QueueDelete::delete`] or by awaiting it.
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

    /// Deletes the queue only if it has no consumers.
    pub fn if_unused(mut self) -> Self {
        self.if_unused = true;
        self
    }

    /// Deletes the queue only if it has no messages.
    pub fn if_empty(mut self) -> Self {
        self.if_empty = true;
        self
    }

    /// Deletes the queue, and returns the number of its messages: 0 if the queue does not exist.
    ///
    /// # Errors
    /// 406 if the queue is in use or not empty and that was a condition. The broker then closes the channel.
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

fn saturated(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
