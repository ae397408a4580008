//! Queues: declaring, using and deleting them.

use std::time::Duration;

use hopmq::{Body, DeadLetterStrategy, Delivery, FieldTable, IntoValue, LeaderLocator, Overflow, wait};

use crate::forward::{getters, requests, settings};
use crate::{Consume, Publish, Result};

/// The declaration of a queue, made by [`Channel::queue`](crate::Channel::queue), sent by [`QueueDeclare::declare`].
///
/// Declaring a queue that exists with the same settings does nothing; with other settings, it fails with 406 and closes
/// the channel. Names that begin with `amq.` are reserved for the broker (403).
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// use std::time::Duration;
///
/// let orders = channel.queue("orders").durable().quorum().delivery_limit(5).dead_letter_exchange("dead").declare()?;
/// let replies = channel.queue("").exclusive().expires(Duration::from_secs(600)).declare()?;
/// println!("{} has {} messages; the broker named {}", orders.name(), orders.message_count(), replies.name());
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is declared before declare() or declare_passive()"]
pub struct QueueDeclare<'a> {
    pub(crate) core: hopmq::QueueDeclare<'a>,
}

impl QueueDeclare<'_> {
    settings! {
        /// Makes the queue, with its persistent messages, survive a restart of the broker.
        durable();
        /// Reserves the queue for this connection, and has the broker delete it with the connection.
        exclusive();
        /// Has the broker delete the queue when its last consumer is gone.
        auto_delete();
        /// Makes it a classic queue, on one node (`x-queue-type`).
        classic();
        /// Makes it a replicated [quorum queue](https://www.rabbitmq.com/docs/quorum-queues), which must be durable.
        quorum();
        /// Makes it a [stream](https://www.rabbitmq.com/docs/streams): a log that consumers read without emptying it.
        /// A stream must be durable, and its consumers need a prefetch and acks.
        stream();
        /// Sets how long a message may wait, in whole milliseconds (`x-message-ttl`).
        message_ttl(time: Duration);
        /// Sets after how long without use the queue is deleted, in whole milliseconds (`x-expires`).
        expires(time: Duration);
        /// Sets how many messages the queue holds (`x-max-length`).
        max_length(messages: u32);
        /// Sets how many bytes of bodies the queue holds (`x-max-length-bytes`).
        max_length_bytes(bytes: u64);
        /// Sets what the queue does above its maximum length (`x-overflow`).
        overflow(overflow: Overflow);
        /// Sets the exchange for rejected, expired and surplus messages (`x-dead-letter-exchange`).
        dead_letter_exchange(exchange: &str);
        /// Sets the routing key of dead-lettered messages; by default their own (`x-dead-letter-routing-key`).
        dead_letter_routing_key(key: &str);
        /// Sets how safely a quorum queue dead-letters messages (`x-dead-letter-strategy`).
        dead_letter_strategy(strategy: DeadLetterStrategy);
        /// Sets after how many failed deliveries a quorum queue drops or dead-letters a message (`x-delivery-limit`).
        delivery_limit(deliveries: u32);
        /// Sets the highest priority of a classic queue, 1 to 255 (`x-max-priority`).
        max_priority(priority: u8);
        /// Delivers to one consumer at a time; another takes over when that one is gone (`x-single-active-consumer`).
        single_active_consumer();
        /// Moves messages to disk as soon as possible (`x-queue-mode`; RabbitMQ since 3.12 always does).
        lazy();
        /// Sets how long a stream keeps its messages: `7D`, `12h`, … (`x-max-age`).
        max_age(age: &str);
        /// Sets how large the files of a stream are, in bytes (`x-stream-max-segment-size-bytes`).
        max_segment_size(bytes: u64);
        /// Sets on how many nodes a quorum queue starts (`x-quorum-initial-group-size`).
        initial_group_size(nodes: u8);
        /// Sets where the leader of a replicated queue is placed (`x-queue-leader-locator`).
        leader_locator(locator: LeaderLocator);
        /// Adds an argument.
        argument(key: &str, value: impl IntoValue);
        /// Adds all entries of a table.
        arguments(table: &FieldTable);
    }

    /// Declares the queue (AMQP 0-9-1 section 1.7.2.1).
    ///
    /// # Errors
    /// 406 if the queue exists with other settings, 405 if it is another connection's exclusive queue, 403 if declaring
    /// it is not permitted: each closes the channel. [`Usage`](crate::ErrorKind::Usage) if a name or an argument can't
    /// be encoded; the channel stays open.
    pub fn declare(self) -> Result<Queue> {
        wait(self.core.declare()).map(|core| Queue { core })
    }

    /// Checks that the queue exists, whatever its settings, without declaring it.
    ///
    /// # Errors
    /// 404 if the queue does not exist, which closes the channel.
    pub fn declare_passive(self) -> Result<Queue> {
        wait(self.core.declare_passive()).map(|core| Queue { core })
    }
}

/// A declared queue, on the channel that declared it.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let orders = channel.queue("orders").durable().declare()?;
/// orders.bind("shop", "order.*")?;
/// orders.publish("an order").persistent().confirm()?;
/// println!("{:?}", orders.get()?.expect("the message was confirmed").body());
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    core: hopmq::Queue,
}

impl Queue {
    getters! {
        /// Returns the queue's name; the broker's choice if it was declared without one.
        name() -> &str;
        /// Returns how many messages were ready in the queue when it was declared.
        message_count() -> u32;
        /// Returns how many consumers the queue had when it was declared.
        consumer_count() -> u32;
    }

    requests! {
        /// Binds the queue to an exchange. For arguments, see [`Channel::queue_bind`](crate::Channel::queue_bind).
        bind(exchange: &str, routing_key: &str) -> ();
        /// Removes a binding of the queue. For arguments, see [`Channel::queue_unbind`](crate::Channel::queue_unbind).
        unbind(exchange: &str, routing_key: &str) -> ();
        /// Fetches one message, if the queue has one: see [`Channel::get`](crate::Channel::get).
        get() -> Option<Delivery>;
        /// Deletes the queue's messages: see [`Channel::queue_purge`](crate::Channel::queue_purge).
        purge() -> u32;
    }

    /// Prepares to consume from the queue: see [`Consume`].
    pub fn consume(&self) -> Consume<'_> {
        Consume { core: self.core.consume() }
    }

    /// Prepares to publish a message to the queue, through the default exchange: see [`Publish`].
    pub fn publish<'a>(&'a self, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish(body) }
    }

    /// Prepares to delete the queue: see [`QueueDelete`].
    pub fn delete(&self) -> QueueDelete<'_> {
        QueueDelete { core: self.core.delete() }
    }
}

/// The deletion of a queue, sent by [`QueueDelete::delete`].
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let lost = channel.queue_delete("orders").if_unused().delete()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is deleted before delete()"]
pub struct QueueDelete<'a> {
    pub(crate) core: hopmq::QueueDelete<'a>,
}

impl QueueDelete<'_> {
    settings! {
        /// Deletes the queue only if it has no consumers.
        if_unused();
        /// Deletes the queue only if it has no messages.
        if_empty();
    }

    /// Deletes the queue. Returns how many messages were in it; deleting a queue that doesn't exist returns 0.
    ///
    /// # Errors
    /// 406 if the queue is in use or not empty and `if_unused` or `if_empty` was set, which closes the channel.
    pub fn delete(self) -> Result<u32> {
        wait(self.core.delete())
    }
}
