//! Channels: where everything happens that is not about the connection itself.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::Stream;
use hopmq_proto::method::{Encode, Method, basic, channel, exchange, queue, tx};
use hopmq_proto::{Body, FieldTable, Time};

use crate::handles::connection::ConnectionCore;
use crate::handles::consumer::Consume;
use crate::handles::exchange::{ExchangeDeclare, ExchangeDelete};
use crate::handles::publish::Publish;
use crate::handles::publisher::Publisher;
use crate::handles::queue::{QueueDeclare, QueueDelete};
use crate::handles::request::decode;
use crate::state::{ChannelId, Reply, RequestKind, Shared};
use crate::{Acker, Connection, Delivery, Request, Returned};

/// A channel of a connection: open one with [`Connection::channel`].
///
/// Clones are handles of the same channel. It closes when [`Channel::close`] is called, or when its last handle is
/// gone, with its consumers and deliveries. A fault of a request (404 not found, 406 precondition failed, …) closes
/// the channel too, as AMQP has it: everything on it ends with that reason, other channels never notice.
///
/// Use one channel for each thing that is done independently of others; they are cheap.
#[derive(Clone)]
pub struct Channel {
    core: Arc<ChannelCore>,
    timeout: Option<Duration>,
}

/// What all handles of a channel share.
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

    /// The channel's number on its connection.
    pub fn id(&self) -> u16 {
        self.core.id.number
    }

    /// Whether it is open, as far as this side knows.
    pub fn is_open(&self) -> bool {
        self.core.shared().is_channel_open(&self.core.id)
    }

    /// The connection that it belongs to.
    pub fn connection(&self) -> Connection {
        Connection::from_core(Arc::clone(&self.core.connection), self.timeout)
    }

    /// A handle of the same channel, of which every call ends within `timeout`, with
    /// [`ErrorKind::Timeout`] at the latest. Without it, that is the `request_timeout` of
    /// [`Builder`](crate::Builder): 30 seconds.
    pub fn within(&self, timeout: Duration) -> Self {
        Self { core: Arc::clone(&self.core), timeout: Some(timeout) }
    }

    /// Opens a channel in place of this one, which the broker closed for a fault on it (404, 406, …): with the same
    /// prefetch, in confirm mode or transactional if this one was. [`Consumer::restart`](crate::Consumer::restart)
    /// starts a consumer anew on it. If this one is still open, another one is opened like it.
    ///
    /// ```no_run
    /// # async fn example(mut channel: hopmq::Channel) -> hopmq::Result<()> {
    /// if let Err(error) = channel.queue("orders").passive().await {
    ///     eprintln!("no such queue: {error}"); // 404, and the channel is closed
    ///     channel = channel.reopen().await?;
    ///     channel.queue("orders").durable().declare().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Connection::channel`].
    pub fn reopen(&self) -> Request<Channel> {
        let modes = self.core.shared().modes(&self.core.id);
        self.connection().open_channel(modes)
    }

    /// A handle to publish with to one place: see [`Publisher`].
    pub fn publisher(&self, exchange: &str, routing_key: &str) -> Publisher {
        Publisher::new(self.clone(), exchange, routing_key)
    }

    /// Makes a request, and reads the answer.
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

    /// The same with arguments that may be flawed.
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

    /// Binds an exchange to another, so that what is routed by `source` goes on to `destination`
    /// (RabbitMQ's [exchange-to-exchange bindings](https://www.rabbitmq.com/docs/e2e)). `()` is no arguments.
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

    /// Removes a binding between exchanges; all its parts must be the same.
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

    /// Declares a queue: see [`QueueDeclare`]. An empty name lets the broker make one.
    pub fn queue<'a>(&'a self, name: &'a str) -> QueueDeclare<'a> {
        QueueDeclare::new(self, name)
    }

    /// Binds a queue to an exchange (AMQP 0-9-1 section 1.7.2.3). `()` is no arguments; a headers exchange takes
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

    /// Removes a binding; all its parts must be the same.
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

    /// Deletes the messages of a queue that are not under way to a consumer. Returns how many they were.
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

    /// Publishes a message: see [`Publish`]. An empty exchange is the default one, which takes the routing key for
    /// the name of a queue.
    #[inline]
    pub fn publish<'a>(&'a self, exchange: &'a str, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish::new(self, exchange, routing_key, body.into())
    }

    /// Messages of this channel that were published as mandatory without awaiting a confirm, and came back.
    ///
    /// Those that were published with a confirm come back as its error.
    pub fn returns(&self) -> Returns {
        let core = &self.core;
        core.shared().want_returns(&core.id);
        Returns { core: Arc::clone(core) }
    }

    /// Consumes from a queue: see [`Consume`].
    pub fn consume<'a>(&'a self, queue: &'a str) -> Consume<'a> {
        Consume::new(self, queue)
    }

    /// Cancels a consumer of the channel by its tag: for one that was moved into a task. See
    /// [`Consumer::cancel`](crate::Consumer::cancel).
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the channel has no such consumer.
    pub fn cancel(&self, tag: &str) -> Request<()> {
        let sent = self.core.shared().cancel_consumer_by_tag(&self.core.id, tag, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Fetches one message of a queue, if there is one. Polling a queue like this is slow: prefer
    /// [`Channel::consume`].
    pub fn get(&self, queue: &str) -> Request<Option<Delivery>> {
        self.fetch(queue, false)
    }

    /// The same for a message that counts as acknowledged when it is sent.
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
                Ok(Some(Delivery::new(content, &core, tag, epoch, no_ack)))
            }
            _ => Ok(None),
        })
    }

    /// The right to settle a delivery of this channel by its [number](Delivery::delivery_tag): for a program that hands
    /// deliveries to where an [`Acker`] can't go, as to another language. `link` is the [`Delivery::link`] that it came
    /// by.
    ///
    /// Whether there is such a delivery, and it is not settled yet, turns out when it is used: if not,
    /// [`ErrorKind::Usage`], and the channel goes on.
    pub fn acker(&self, delivery_tag: u64, link: u32) -> Acker {
        Acker::new(&self.core, delivery_tag, link)
    }

    /// Sets how many deliveries each consumer that is started afterwards may hold unacknowledged, unless it asks for
    /// another number by [`Consume::prefetch`] (`basic.qos`, AMQP 0-9-1 section 1.8.3.1); 0 is without limit.
    pub fn prefetch(&self, prefetch_count: u16) -> Request<()> {
        self.qos(basic::Qos { prefetch_count, global: false })
    }

    /// Sets how many deliveries all consumers of the channel together may hold unacknowledged, besides what each may;
    /// 0 is without limit. Quorum queues refuse it.
    pub fn prefetch_shared(&self, prefetch_count: u16) -> Request<()> {
        self.qos(basic::Qos { prefetch_count, global: true })
    }

    fn qos(&self, qos: basic::Qos) -> Request<()> {
        let sent = self.core.shared().set_prefetch(&self.core.id, qos, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Gives all unsettled deliveries of the channel back to their queues (`basic.recover` with requeue). Acks of
    /// them are refused from then on.
    pub fn recover(&self) -> Request<()> {
        self.call(&basic::Recover { requeue: true })
    }

    /// Makes the channel transactional: publishes and acks take effect when they are committed (AMQP 0-9-1
    /// section 1.9). It can't confirm publishes then.
    pub fn tx_select(&self) -> Request<()> {
        let sent = self.core.shared().select_transaction(&self.core.id, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Commits what was published and acknowledged since the last commit or rollback.
    ///
    /// # Errors
    /// [`ErrorKind::OutcomeUnknown`] if the link was lost since then: what had been done on it is not committed. The
    /// next transaction begins with this answer.
    pub fn tx_commit(&self) -> Request<()> {
        self.end_transaction(&tx::Commit {}, true)
    }

    /// Abandons it. Unacknowledged deliveries are not delivered again by this: [`Channel::recover`] does that.
    pub fn tx_rollback(&self) -> Request<()> {
        self.end_transaction(&tx::Rollback {}, false)
    }

    fn end_transaction(&self, method: &impl Encode, commit: bool) -> Request<()> {
        let sent = self.core.shared().end_transaction(&self.core.id, method, commit, self.deadline());
        Request::plain(self.core.shared(), sent)
    }

    /// Asks the broker to stop or resume deliveries (`channel.flow`). RabbitMQ refuses to stop, with 540: use a
    /// prefetch. Returns what the broker does now.
    pub fn flow(&self, active: bool) -> Request<bool> {
        self.request(&channel::Flow { active }, |reply| match reply {
            Method::ChannelFlowOk(ok) => Some(ok.active),
            _ => None,
        })
    }

    /// Closes the channel. What was published and acknowledged before is sent first; confirms that have not come are
    /// not awaited.
    pub fn close(&self) -> Request<()> {
        let sent = self.core.shared().close_channel(&self.core.id, self.deadline());
        Request::plain(self.core.shared(), sent)
    }
}

/// Returned messages of a channel, as a stream: see [`Channel::returns`]. It keeps the last 1,024 that were not taken,
/// and ends with the channel. Each message goes to one stream only: have one for each channel.
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
