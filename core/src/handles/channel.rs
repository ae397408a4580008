//! Channels, on which everything happens that does not concern the connection itself.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::Stream;
use hopmq_proto::method::{Encode, Method, basic, channel, exchange, queue, tx};
use hopmq_proto::{Body, FieldTable, Time};

#[cfg(doc)]
use crate::ErrorKind;
use crate::handles::connection::ConnectionCore;
use crate::handles::consumer::Consume;
use crate::handles::exchange::{ExchangeDeclare, ExchangeDelete};
use crate::handles::publish::Publish;
use crate::handles::publisher::Publisher;
use crate::handles::queue::{QueueDeclare, QueueDelete};
use crate::handles::request::decode;
use crate::state::{ChannelId, Reply, RequestKind, Shared};
use crate::{Acker, Connection, Delivery, Message, Request, Returned};

/// A channel of a connection, opened by [`Connection::channel`].
///
/// Clones are handles of the same channel. The channel closes when [`Channel::close`] is called, or when its last
/// handle is dropped, including its consumers and deliveries. A request that the broker refuses (404 not found, 406
/// precondition failed, …) closes the channel too, as AMQP requires: all pending futures of the channel end with that
/// reason; other channels are not affected.
///
/// Use one channel for each independent activity; channels are cheap.
#[derive(Clone)]
pub struct Channel {
    core: Arc<ChannelCore>,
    timeout: Option<Duration>,
}

/// The state that all handles of a channel share.
#[derive(Debug)]
pub(crate) struct ChannelCore {
    pub(crate) connection: Arc<ConnectionCore>,
    pub(crate) id: ChannelId,
}

impl ChannelCore {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.connection.shared
    }
}

impl Drop for ChannelCore {
    fn drop(&mut self) {
        self.connection.shared.drop_channel(&self.id);
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("id", &self.id()).field("open", &self.is_open()).finish_non_exhaustive()
    }
}

impl Channel {
    pub(crate) fn new(core: ChannelCore, timeout: Option<Duration>) -> Self {
        Self { core: Arc::new(core), timeout }
    }

    pub(crate) fn core(&self) -> &Arc<ChannelCore> {
        &self.core
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn deadline(&self) -> Time {
        self.core.shared().deadline(self.timeout)
    }

    /// Returns the number of the channel on its connection.
    pub fn id(&self) -> u16 {
        self.core.id.number
    }

    /// Returns whether the channel is open, as far as this side knows.
    pub fn is_open(&self) -> bool {
        self.core.shared().is_channel_open(&self.core.id)
    }

    /// Returns the connection of the channel.
    pub fn connection(&self) -> Connection {
        Connection::from_core(Arc::clone(&self.core.connection), self.timeout)
    }

    /// Returns a handle of the same channel whose calls end within `timeout`, at the latest with
    /// [`ErrorKind::Timeout`]. Without it, the `request_timeout` of [`Builder`](crate::Builder) applies: 30 seconds.
    pub fn within(&self, timeout: Duration) -> Self {
        Self { core: Arc::clone(&self.core), timeout: Some(timeout) }
    }

    /// Opens a replacement for a channel that the broker closed (404, 406, …), with the same prefetch and mode (confirm
    /// or transactional).
    ///
    /// [`Consumer::restart`](crate::Consumer::restart) restarts a consumer on the new channel. If this channel is still
    /// open, a second one with the same settings is opened.
    ///
    /// ```no_run
    /// # async fn example(mut channel: hopmq::Channel) -> hopmq::Result<()> {
    /// if let Err(error) = channel.queue("orders").declare_passive().await {
    ///     eprintln!("no such queue: {error}"); // 404, and the channel is closed
    ///     channel = channel.reopen().await?;
    ///     channel.queue("orders").durable().declare().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Connection::channel`].
    pub fn reopen(&self) -> Request<Channel> {
        let modes = self.core.shared().modes(&self.core.id);
        self.connection().open_channel(modes)
    }

    /// Returns a cloneable handle that publishes to one exchange with one routing key: see [`Publisher`].
    pub fn publisher(&self, exchange: &str, routing_key: &str) -> Publisher {
        Publisher::new(self.clone(), exchange, routing_key)
    }

    /// Sends a request whose reply `read` decodes.
    pub(crate) fn request<T: 'static>(
        &self,
        method: &impl Encode,
        read: impl Fn(Method<'_>) -> Option<T> + Send + 'static,
    ) -> Request<T> {
        let shared = self.core.shared();
        let sent = shared.request(&self.core.id, method, RequestKind::Plain, self.deadline());
        Request::new(shared, sent, move |reply| decode(&reply, read))
    }

    fn call(&self, method: &impl Encode) -> Request<()> {
        self.request(method, |_| Some(()))
    }

    /// Sends a request with arguments, which fails if they are invalid.
    pub(crate) fn request_with<T: 'static>(
        &self,
        arguments: &FieldTable,
        method: &impl Encode,
        read: impl Fn(Method<'_>) -> Option<T> + Send + 'static,
    ) -> Request<T> {
        match arguments.validity() {
            Ok(()) => self.request(method, read),
            Err(error) => Request::new(self.core.shared(), Err(error.into()), move |reply| decode(&reply, read)),
        }
    }

    /// Declares an exchange: see [`ExchangeDeclare`].
    pub fn exchange<'a>(&'a self, name: &'a str) -> ExchangeDeclare<'a> {
        ExchangeDeclare::new(self, name)
    }

    /// Deletes an exchange: see [`ExchangeDelete`].
    pub fn exchange_delete<'a>(&'a self, name: &'a str) -> ExchangeDelete<'a> {
        ExchangeDelete::new(self, name)
    }

    /// Binds an exchange to another, so that messages routed by `source` also reach `destination` (RabbitMQ's
    /// [exchange-to-exchange bindings](https://www.rabbitmq.com/docs/e2e)). Pass `()` for no arguments.
    pub fn exchange_bind(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: impl Into<FieldTable>,
    ) -> Request<()> {
        let table = arguments.into();
        let arguments = table.as_ref_table();
        let method = exchange::Bind { destination, source, routing_key, nowait: false, arguments };
        self.request_with(&table, &method, |_| Some(()))
    }

    /// Removes a binding between exchanges. All arguments must equal those of the binding.
    pub fn exchange_unbind(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: impl Into<FieldTable>,
    ) -> Request<()> {
        let table = arguments.into();
        let arguments = table.as_ref_table();
        let method = exchange::Unbind { destination, source, routing_key, nowait: false, arguments };
        self.request_with(&table, &method, |_| Some(()))
    }

    /// Declares a queue: see [`QueueDeclare`]. With an empty name, the broker chooses one.
    pub fn queue<'a>(&'a self, name: &'a str) -> QueueDeclare<'a> {
        QueueDeclare::new(self, name)
    }

    /// Binds a queue to an exchange (AMQP 0-9-1 section 1.7.2.3). Pass `()` for no arguments; a headers exchange needs
    /// `[("x-match", …), …]`.
    ///
    /// ```no_run
    /// # async fn example(channel: hopmq::Channel) -> hopmq::Result<()> {
    /// channel.queue_bind("orders", "shop", "order.*", ()).await?;
    /// channel.queue_bind("urgent", "by-headers", "", [("x-match", "all"), ("urgency", "high")]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue_bind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: impl Into<FieldTable>,
    ) -> Request<()> {
        let table = arguments.into();
        let arguments = table.as_ref_table();
        self.request_with(&table, &queue::Bind { queue, exchange, routing_key, nowait: false, arguments }, |_| Some(()))
    }

    /// Removes a binding of a queue. All arguments must equal those of the binding.
    pub fn queue_unbind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: impl Into<FieldTable>,
    ) -> Request<()> {
        let table = arguments.into();
        let arguments = table.as_ref_table();
        self.request_with(&table, &queue::Unbind { queue, exchange, routing_key, arguments }, |_| Some(()))
    }

    /// Deletes the ready messages of a queue, and returns how many were deleted. Unacknowledged messages stay.
    pub fn queue_purge(&self, queue: &str) -> Request<u32> {
        self.request(&queue::Purge { queue, nowait: false }, |reply| match reply {
            Method::QueuePurgeOk(ok) => Some(ok.message_count),
            _ => None,
        })
    }

    /// Deletes a queue: see [`QueueDelete`].
    pub fn queue_delete<'a>(&'a self, name: &'a str) -> QueueDelete<'a> {
        QueueDelete::new(self, name)
    }

    /// Publishes a message: see [`Publish`]. An empty `exchange` is the default exchange, which routes to the queue
    /// named by `routing_key`.
    #[inline]
    pub fn publish<'a>(&'a self, exchange: &'a str, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish::new(self, exchange, routing_key, body.into())
    }

    /// Returns a stream of the mandatory messages that the broker returned and that were published without awaiting a
    /// confirm.
    ///
    /// A mandatory message that is published with a confirm is returned as the error of that confirm.
    pub fn returns(&self) -> Returns {
        let core = &self.core;
        core.shared().want_returns(&core.id);
        Returns { core: Arc::clone(core) }
    }

    /// Consumes from a queue: see [`Consume`].
    pub fn consume<'a>(&'a self, queue: &'a str) -> Consume<'a> {
        Consume::new(self, queue)
    }

    /// Cancels a consumer of the channel by its tag, for a consumer that was moved into a task. See
    /// [`Consumer::cancel`](crate::Consumer::cancel).
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the channel has no such consumer.
    pub fn cancel(&self, tag: &str) -> Request<()> {
        let sent = self.core.shared().cancel_consumer_by_tag(&self.core.id, tag, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Fetches one message of a queue, or `None` if the queue is empty. Polling a queue is slow: prefer
    /// [`Channel::consume`].
    pub fn get(&self, queue: &str) -> Request<Option<Delivery>> {
        self.fetch(queue, false)
    }

    /// Fetches one message of a queue, which the broker considers acknowledged as soon as it is sent.
    pub fn get_no_ack(&self, queue: &str) -> Request<Option<Delivery>> {
        self.fetch(queue, true)
    }

    fn fetch(&self, queue: &str, no_ack: bool) -> Request<Option<Delivery>> {
        let core = Arc::clone(&self.core);
        let shared = Arc::clone(core.shared());
        let method = basic::Get { queue, no_ack };
        let sent = shared.request(&core.id, &method, RequestKind::Get { no_ack }, self.deadline());
        Request::new(&shared, sent, move |reply| match reply {
            Reply::Got { content, epoch } => {
                let tag = content.arguments().delivery_tag;
                Ok(Some(Delivery::new(Message::from_content(content), &core, tag, epoch, no_ack)))
            }
            _ => Ok(None),
        })
    }

    /// Returns an [`Acker`] for a delivery of this channel, identified by its [tag](Delivery::delivery_tag) and its
    /// [link](Delivery::link).
    ///
    /// This serves programs that pass deliveries to places where an [`Acker`] can't go, such as another language.
    /// Whether the delivery exists and is unsettled is checked when the [`Acker`] is used: if not, it fails with
    /// [`ErrorKind::Usage`], and the channel stays open.
    pub fn acker(&self, delivery_tag: u64, link: u32) -> Acker {
        Acker::new(&self.core, delivery_tag, link)
    }

    /// Sets how many unacknowledged deliveries each consumer started afterwards may hold, unless [`Consume::prefetch`]
    /// sets another number (`basic.qos`, AMQP 0-9-1 section 1.8.3.1). 0 means no limit.
    pub fn prefetch(&self, prefetch_count: u16) -> Request<()> {
        self.qos(basic::Qos { prefetch_count, global: false })
    }

    /// Sets how many unacknowledged deliveries all consumers of the channel may hold together, in addition to the limit
    /// of each. 0 means no limit. Quorum queues refuse it.
    pub fn prefetch_shared(&self, prefetch_count: u16) -> Request<()> {
        self.qos(basic::Qos { prefetch_count, global: true })
    }

    fn qos(&self, qos: basic::Qos) -> Request<()> {
        let sent = self.core.shared().set_prefetch(&self.core.id, qos, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Requeues all unsettled deliveries of the channel (`basic.recover` with requeue). Acknowledging those deliveries
    /// fails afterwards.
    pub fn recover(&self) -> Request<()> {
        self.call(&basic::Recover { requeue: true })
    }

    /// Makes the channel transactional: publishes and acks take effect when they are committed (AMQP 0-9-1 section
    /// 1.9). A transactional channel can't confirm publishes.
    pub fn tx_select(&self) -> Request<()> {
        let sent = self.core.shared().select_transaction(&self.core.id, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Commits the publishes and acks since the last commit or rollback.
    ///
    /// # Errors
    /// [`ErrorKind::OutcomeUnknown`] if the link was lost during the transaction: nothing sent before the loss is
    /// committed. The next transaction begins with this reply.
    pub fn tx_commit(&self) -> Request<()> {
        self.end_transaction(&tx::Commit {}, true)
    }

    /// Discards the publishes and acks since the last commit or rollback. Unacknowledged deliveries are not
    /// redelivered; use [`Channel::recover`] for that.
    pub fn tx_rollback(&self) -> Request<()> {
        self.end_transaction(&tx::Rollback {}, false)
    }

    fn end_transaction(&self, method: &impl Encode, commit: bool) -> Request<()> {
        let sent = self.core.shared().end_transaction(&self.core.id, method, commit, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Asks the broker to stop or resume deliveries (`channel.flow`), and returns what the broker does now. RabbitMQ
    /// refuses to stop with 540: use a prefetch instead.
    pub fn flow(&self, active: bool) -> Request<bool> {
        self.request(&channel::Flow { active }, |reply| match reply {
            Method::ChannelFlowOk(ok) => Some(ok.active),
            _ => None,
        })
    }

    /// Closes the channel. Earlier publishes and acks are sent first; outstanding confirms are not awaited.
    pub fn close(&self) -> Request<()> {
        let sent = self.core.shared().close_channel(&self.core.id, self.deadline());
        Request::plain(self.core.shared(), sent)
    }
}

/// A stream of the returned messages of a channel: see [`Channel::returns`].
///
/// The stream buffers the last 1,024 untaken messages and ends with the channel. Each message goes to only one stream,
/// so use one stream per channel.
#[derive(Debug)]
pub struct Returns {
    core: Arc<ChannelCore>,
}

impl Stream for Returns {
    type Item = Returned;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Returned>> {
        self.core.shared().poll_returned(&self.core.id, context.waker())
    }
}
