//! Channels: where everything happens that is not about the connection itself.

use std::time::Duration;

use hopmq::{Body, Delivery, FieldTable};

use crate::forward::{facts, requests};
use crate::wait::wait;
use crate::{
    Connection, Consume, ExchangeDeclare, ExchangeDelete, Publish, Publisher, QueueDeclare, QueueDelete, Result,
    Returns,
};

/// A channel of a connection: open one with [`Connection::channel`].
///
/// Clones are handles of the same channel, to be used from any thread. It closes when [`Channel::close`] is called, or
/// when its last handle is gone, with its consumers and deliveries. A fault of a request (404 not found, 406
/// precondition failed, …) closes the channel too, as AMQP has it: everything on it ends with that reason, other
/// channels never notice.
///
/// Every request waits for the broker's answer, for up to the `request_timeout` of [`Builder`](crate::Builder) or the
/// time that [`Channel::within`] sets, and ends with [`Timeout`](crate::ErrorKind::Timeout) after that. The request
/// itself is not taken back: a queue may be declared all the same.
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

    /// The connection that it belongs to.
    pub fn connection(&self) -> Connection {
        Connection::new(self.core.connection())
    }

    /// A handle of the same channel, of which every call ends within `timeout`, with
    /// [`Timeout`](crate::ErrorKind::Timeout) at the latest: requests, publishes and their confirms, but not the
    /// iteration of a [`Consumer`](crate::Consumer).
    pub fn within(&self, timeout: Duration) -> Self {
        Self { core: self.core.within(timeout) }
    }

    facts! {
        /// The channel's number on its connection.
        id() -> u16;
        /// Whether it is open, as far as this side knows.
        is_open() -> bool;
    }

    /// Opens a channel in place of this one, which the broker closed for a fault on it, set up as this one was: see
    /// [`hopmq::Channel::reopen`].
    ///
    /// # Errors
    /// Those of [`Connection::channel`].
    pub fn reopen(&self) -> Result<Channel> {
        wait(self.core.reopen()).map(Channel::new)
    }

    /// A handle to publish with to one place: see [`Publisher`].
    pub fn publisher(&self, exchange: &str, routing_key: &str) -> Publisher {
        Publisher { core: self.core.publisher(exchange, routing_key) }
    }

    /// Declares an exchange: see [`ExchangeDeclare`].
    pub fn exchange<'a>(&'a self, name: &'a str) -> ExchangeDeclare<'a> {
        ExchangeDeclare { core: self.core.exchange(name) }
    }

    /// Deletes an exchange: see [`ExchangeDelete`].
    pub fn exchange_delete<'a>(&'a self, name: &'a str) -> ExchangeDelete<'a> {
        ExchangeDelete { core: self.core.exchange_delete(name) }
    }

    /// Declares a queue: see [`QueueDeclare`]. An empty name lets the broker make one.
    pub fn queue<'a>(&'a self, name: &'a str) -> QueueDeclare<'a> {
        QueueDeclare { core: self.core.queue(name) }
    }

    /// Deletes a queue: see [`QueueDelete`].
    pub fn queue_delete<'a>(&'a self, name: &'a str) -> QueueDelete<'a> {
        QueueDelete { core: self.core.queue_delete(name) }
    }

    /// Publishes a message: see [`Publish`]. An empty exchange is the default one, which takes the routing key for
    /// the name of a queue.
    #[inline]
    pub fn publish<'a>(&'a self, exchange: &'a str, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish(exchange, routing_key, body) }
    }

    /// Messages of this channel that were published as mandatory without awaiting a confirm, and came back: see
    /// [`Returns`].
    pub fn returns(&self) -> Returns {
        Returns::new(self.core.returns())
    }

    /// Consumes from a queue: see [`Consume`].
    pub fn consume<'a>(&'a self, queue: &'a str) -> Consume<'a> {
        Consume { core: self.core.consume(queue) }
    }

    requests! {
        /// Binds an exchange to another, so that what is routed by `source` goes on to `destination`. `()` is no
        /// arguments.
        exchange_bind(destination: &str, source: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Removes a binding between exchanges; all its parts must be the same.
        exchange_unbind(destination: &str, source: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Binds a queue to an exchange. `()` is no arguments; a headers exchange takes `[("x-match", …), …]`.
        ///
        /// ```no_run
        /// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
        /// channel.queue_bind("orders", "shop", "order.*", ())?;
        /// channel.queue_bind("urgent", "by-headers", "", [("x-match", "all"), ("urgency", "high")])?;
        /// # Ok::<(), hopmq_blocking::Error>(())
        /// ```
        queue_bind(queue: &str, exchange: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Removes a binding; all its parts must be the same.
        queue_unbind(queue: &str, exchange: &str, key: &str, arguments: impl Into<FieldTable>) -> ();
        /// Deletes the messages of a queue that are not under way to a consumer. Returns how many they were.
        queue_purge(queue: &str) -> u32;
        /// Cancels a consumer of the channel by its tag: for one that is iterated on another thread.
        cancel(tag: &str) -> ();
        /// Fetches one message of a queue, if there is one. Polling a queue like this is slow: prefer
        /// [`Channel::consume`].
        get(queue: &str) -> Option<Delivery>;
        /// The same for a message that counts as acknowledged when it is sent.
        get_no_ack(queue: &str) -> Option<Delivery>;
        /// Sets how many deliveries each consumer that is started afterwards may hold unacknowledged, unless it asks
        /// for another number by [`Consume::prefetch`]; 0 is without limit.
        prefetch(count: u16) -> ();
        /// Sets how many deliveries all consumers of the channel together may hold unacknowledged, besides what each
        /// may; 0 is without limit. Quorum queues refuse it.
        prefetch_shared(count: u16) -> ();
        /// Gives all unsettled deliveries of the channel back to their queues. Acks of them are refused from then on.
        recover() -> ();
        /// Makes the channel transactional: publishes and acks take effect when they are committed. It can't confirm
        /// publishes then.
        tx_select() -> ();
        /// Commits what was published and acknowledged since the last commit or rollback.
        tx_commit() -> ();
        /// Abandons it. Unacknowledged deliveries are not delivered again by this: [`Channel::recover`] does that.
        tx_rollback() -> ();
        /// Asks the broker to stop or resume deliveries. RabbitMQ refuses to stop, with 540: use a prefetch. Returns
        /// what the broker does now.
        flow(active: bool) -> bool;
        /// Closes the channel. What was published and acknowledged before is sent first; confirms that have not come
        /// are not awaited.
        close() -> ();
    }
}
