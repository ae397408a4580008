//! Channels: every operation except those on the connection itself.

use std::time::Duration;

use hopmq::{Body, Delivery, FieldTable, wait};

use crate::forward::{getters, requests};
use crate::{
    Connection, Consume, ExchangeDeclare, ExchangeDelete, Publish, Publisher, QueueDeclare, QueueDelete, Result,
    Returns,
};

/// A channel of a connection: open one with [`Connection::channel`].
///
/// Clones are handles of the same channel and may be used from any thread. The channel closes when [`Channel::close`]
/// is called, or when its last handle is dropped, with its consumers and deliveries. A failed request (404 not found,
/// 406 precondition failed, …) closes the channel too, as AMQP requires: everything on the channel ends with that
/// reason, and other channels stay open.
///
/// Every request waits for the broker's reply, for up to the `request_timeout` of [`Builder`](crate::Builder) or the
/// time that [`Channel::within`] sets, and ends with [`Timeout`](crate::ErrorKind::Timeout) after that. A request that
/// timed out is not withdrawn: the broker may still declare the queue.
///
/// ```no_run
/// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
/// let channel = connection.channel()?;
/// channel.exchange("shop").topic().durable().declare()?;
/// channel.queue("orders").durable().declare()?;
/// channel.queue_bind("orders", "shop", "order.*", ())?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Channel {
    pub(crate) core: hopmq::Channel,
}

impl Channel {
    pub(crate) fn new(core: hopmq::Channel) -> Self {
        Self { core }
    }

    /// Returns the connection that this channel belongs to.
    pub fn connection(&self) -> Connection {
        Connection::new(self.core.connection())
    }

    /// Returns a handle of the same channel whose calls end within `timeout`, with
    /// [`Timeout`](crate::ErrorKind::Timeout) if need be: requests, publishes and their confirms, but not the
    /// iteration of a [`Consumer`](crate::Consumer).
    pub fn within(&self, timeout: Duration) -> Self {
        Self { core: self.core.within(timeout) }
    }

    getters! {
        /// Returns the channel's number on its connection.
        id() -> u16;
        /// Returns whether the channel is open, as far as this side knows.
        is_open() -> bool;
    }

    /// Opens a channel with the settings of this one, to replace this one after the broker closed it for a failed
    /// request: see [`hopmq::Channel::reopen`].
    ///
    /// # Errors
    /// The errors of [`Connection::channel`].
    pub fn reopen(&self) -> Result<Channel> {
        wait(self.core.reopen()).map(Channel::new)
    }

    /// Returns a handle that publishes to one exchange with one routing key: see [`Publisher`].
    pub fn publisher(&self, exchange: &str, routing_key: &str) -> Publisher {
        Publisher { core: self.core.publisher(exchange, routing_key) }
    }

    /// Prepares to declare an exchange: see [`ExchangeDeclare`].
    pub fn exchange<'a>(&'a self, name: &'a str) -> ExchangeDeclare<'a> {
        ExchangeDeclare { core: self.core.exchange(name) }
    }

    /// Prepares to delete an exchange: see [`ExchangeDelete`].
    pub fn exchange_delete<'a>(&'a self, name: &'a str) -> ExchangeDelete<'a> {
        ExchangeDelete { core: self.core.exchange_delete(name) }
    }

    /// Prepares to declare a queue: see [`QueueDeclare`]. With an empty name, the broker chooses one.
    pub fn queue<'a>(&'a self, name: &'a str) -> QueueDeclare<'a> {
        QueueDeclare { core: self.core.queue(name) }
    }

    /// Prepares to delete a queue: see [`QueueDelete`].
    pub fn queue_delete<'a>(&'a self, name: &'a str) -> QueueDelete<'a> {
        QueueDelete { core: self.core.queue_delete(name) }
    }

    /// Prepares to publish a message: see [`Publish`]. An empty name means the default exchange, which routes to the
    /// queue that the routing key names.
    #[inline]
    pub fn publish<'a>(&'a self, exchange: &'a str, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish(exchange, routing_key, body) }
    }

    /// Returns an iterator over returned messages: those that this channel published as mandatory, without waiting for
    /// a confirm, and that no queue took. See [`Returns`].
    pub fn returns(&self) -> Returns {
        Returns::new(self.core.returns())
    }

    /// Prepares to consume from a queue: see [`Consume`].
    pub fn consume<'a>(&'a self, queue: &'a str) -> Consume<'a> {
        Consume { core: self.core.consume(queue) }
    }

    requests! {
        /// Binds an exchange to another, so that messages that `source` routes reach `destination`. `()` means no
        /// arguments.
        exchange_bind(destination: &str, source: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Removes a binding between exchanges; key and arguments must be those of the binding.
        exchange_unbind(destination: &str, source: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Binds a queue to an exchange. `()` means no arguments; a headers exchange takes `[("x-match", …), …]`.
        ///
        /// ```no_run
        /// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
        /// channel.queue_bind("orders", "shop", "order.*", ())?;
        /// channel.queue_bind("urgent", "by-headers", "", [("x-match", "all"), ("urgency", "high")])?;
        /// # Ok::<(), hopmq_blocking::Error>(())
        /// ```
        queue_bind(queue: &str, exchange: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Removes a binding of a queue; key and arguments must be those of the binding.
        queue_unbind(queue: &str, exchange: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Deletes the messages of a queue, except those delivered and unacknowledged. Returns their number.
        queue_purge(queue: &str) -> u32;
        /// Cancels a consumer of the channel by its tag, such as one that another thread iterates.
        cancel(tag: &str) -> ();
        /// Fetches one message from a queue, if the queue has one (`basic.get`). Polling a queue like this is slow:
        /// prefer [`Channel::consume`].
        get(queue: &str) -> Option<Delivery>;
        /// Fetches one message from a queue, if the queue has one; the message counts as acknowledged when it is sent.
        get_no_ack(queue: &str) -> Option<Delivery>;
        /// Sets how many unacknowledged deliveries each consumer that is started afterwards may hold, unless
        /// [`Consume::prefetch`] sets another number for it; 0 means no limit.
        prefetch(count: u16) -> ();
        /// Sets how many unacknowledged deliveries all consumers of the channel together may hold, in addition to the
        /// limit of each; 0 means no limit. Quorum queues refuse it.
        prefetch_shared(count: u16) -> ();
        /// Requeues all unsettled deliveries of the channel. Their acks are refused from then on.
        recover() -> ();
        /// Makes the channel transactional: publishes and acks take effect when they are committed. A transactional
        /// channel can't confirm publishes.
        tx_select() -> ();
        /// Commits all publishes and acks since the last commit or rollback.
        tx_commit() -> ();
        /// Abandons all publishes and acks since the last commit or rollback. Unacknowledged deliveries are not
        /// delivered again by this: [`Channel::recover`] does that.
        tx_rollback() -> ();
        /// Asks the broker to stop or resume deliveries. RabbitMQ refuses to stop, with 540: use a prefetch. Returns
        /// whether deliveries are active now.
        flow(active: bool) -> bool;
        /// Closes the channel. Earlier publishes and acks are sent first; outstanding confirms are not awaited.
        close() -> ();
    }
}
