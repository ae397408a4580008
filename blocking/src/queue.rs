//! Queues: declaring, using and deleting them.

use std::time::Duration;

use hopmq::{Body, DeadLetterStrategy, Delivery, FieldTable, LeaderLocator, Overflow, Value};

use crate::forward::{facts, requests, settings};
use crate::wait::wait;
use crate::{Consume, Publish, Result};

/// A queue to be declared: made by [`Channel::queue`](crate::Channel::queue), declared by [`QueueDeclare::declare`].
///
/// Declaring a queue that exists with the same settings does nothing; with others, it fails with 406 and closes the
/// channel. Names that begin with `amq.` are the broker's (403).
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
#[must_use = "nothing is declared before declare() or passive()"]
pub struct QueueDeclare<'a> {
    pub(crate) core: hopmq::QueueDeclare<'a>,
}

impl QueueDeclare<'_> {
    settings! {
        /// The queue survives a restart of the broker, with the messages in it that are persistent.
        durable();
        /// Only this connection may use the queue, and it is deleted with the connection.
        exclusive();
        /// The queue is deleted when its last consumer is gone.
        auto_delete();
        /// A classic queue, on one node (`x-queue-type`).
        classic();
        /// A [quorum queue](https://www.rabbitmq.com/docs/quorum-queues), replicated; it must be durable.
        quorum();
        /// A [stream](https://www.rabbitmq.com/docs/streams): a log that consumers read without emptying it. It must
        /// be durable, and its consumers need a prefetch and acks.
        stream();
        /// How long a message may wait, in whole milliseconds (`x-message-ttl`).
        message_ttl(time: Duration);
        /// After how long without any use the queue is deleted, in whole milliseconds (`x-expires`).
        expires(time: Duration);
        /// How many messages it holds (`x-max-length`).
        max_length(messages: u32);
        /// How many bytes of bodies it holds (`x-max-length-bytes`).
        max_length_bytes(bytes: u64);
        /// What it does with more than that (`x-overflow`).
        overflow(overflow: Overflow);
        /// Where messages go that are rejected, too old or too many (`x-dead-letter-exchange`).
        dead_letter_exchange(exchange: &str);
        /// With which routing key; by default with their own (`x-dead-letter-routing-key`).
        dead_letter_routing_key(key: &str);
        /// How safely, for quorum queues (`x-dead-letter-strategy`).
        dead_letter_strategy(strategy: DeadLetterStrategy);
        /// After how many deliveries in vain a quorum queue gives a message up (`x-delivery-limit`).
        delivery_limit(deliveries: u32);
        /// How many priorities a classic queue tells apart, 1 to 255 (`x-max-priority`).
        max_priority(priority: u8);
        /// Of all its consumers, one gets the messages; another takes over when it is gone
        /// (`x-single-active-consumer`).
        single_active_consumer();
        /// Keeps messages on disk as soon as possible (`x-queue-mode`; RabbitMQ since 3.12 does that always).
        lazy();
        /// How long a stream keeps its messages: `7D`, `12h`, … (`x-max-age`).
        max_age(age: &str);
        /// How large the files of a stream are, in bytes (`x-stream-max-segment-size-bytes`).
        max_segment_size(bytes: u64);
        /// On how many nodes a quorum queue begins (`x-quorum-initial-group-size`).
        initial_group_size(nodes: u8);
        /// Where the leader of a replicated queue is put (`x-queue-leader-locator`).
        leader_locator(locator: LeaderLocator);
        /// Adds any argument.
        argument<'v>(key: &str, value: impl Into<Value<'v>>);
        /// Adds all entries of a table.
        arguments(table: &FieldTable);
    }

    /// Declares it (AMQP 0-9-1 section 1.7.2.1).
    ///
    /// # Errors
    /// 406 if it exists with other settings, 405 if it is another connection's exclusive queue, 403 if it may not be
    /// declared: each closes the channel. [`Usage`](crate::ErrorKind::Usage) if a name or an argument can't be
    /// encoded: the channel goes on.
    pub fn declare(self) -> Result<Queue> {
        wait(self.core.declare()).map(|core| Queue { core })
    }

    /// Only checks that it exists, whatever its settings.
    ///
    /// # Errors
    /// 404 if it doesn't, which closes the channel.
    pub fn passive(self) -> Result<Queue> {
        wait(self.core.passive()).map(|core| Queue { core })
    }
}

/// A queue that was declared, on the channel that declared it.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let orders = channel.queue("orders").durable().declare()?;
/// orders.bind("shop", "order.*")?;
/// orders.publish("an order").persistent().confirm()?;
/// println!("{:?}", orders.get()?.expect("it is there").body());
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    core: hopmq::Queue,
}

impl Queue {
    facts! {
        /// Its name; the broker's choice if it was declared without.
        name() -> &str;
        /// Messages that were ready in it when it was declared.
        message_count() -> u32;
        /// Consumers that it had when it was declared.
        consumer_count() -> u32;
    }

    requests! {
        /// Binds it to an exchange. For arguments, see [`Channel::queue_bind`](crate::Channel::queue_bind).
        bind(exchange: &str, routing_key: &str) -> ();
        /// Removes a binding. For arguments, see [`Channel::queue_unbind`](crate::Channel::queue_unbind).
        unbind(exchange: &str, routing_key: &str) -> ();
        /// Fetches one message: see [`Channel::get`](crate::Channel::get).
        get() -> Option<Delivery>;
        /// Deletes its messages: see [`Channel::queue_purge`](crate::Channel::queue_purge).
        purge() -> u32;
    }

    /// Consumes from it: see [`Consume`].
    pub fn consume(&self) -> Consume<'_> {
        Consume { core: self.core.consume() }
    }

    /// Publishes a message to it, by the default exchange: see [`Publish`].
    pub fn publish<'a>(&'a self, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish(body) }
    }

    /// Deletes it: see [`QueueDelete`].
    pub fn delete(&self) -> QueueDelete<'_> {
        QueueDelete { core: self.core.delete() }
    }
}

/// A queue to be deleted, by [`QueueDelete::delete`].
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
        /// Only if it has no consumers.
        if_unused();
        /// Only if it has no messages.
        if_empty();
    }

    /// Deletes it. Returns how many messages were in it; a queue that doesn't exist had none.
    ///
    /// # Errors
    /// 406 if it is in use or not empty, and that was a condition: it closes the channel.
    pub fn delete(self) -> Result<u32> {
        wait(self.core.delete())
    }
}
