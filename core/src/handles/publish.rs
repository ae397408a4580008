//! Publishing a message, with its properties and its confirm.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hopmq_proto::{Body, FieldTable, IntoValue, Prepared, Properties, Route, Time};

#[cfg(doc)]
use crate::ErrorKind;
use crate::Result;
use crate::handles::channel::{Channel, ChannelCore};
use crate::state::keys::RequestKey;
use crate::state::{Outgoing, Published, RoomWait};

/// A message to publish: created by [`Channel::publish`], sent by one of three methods.
///
/// | method | resolves | use it for |
/// | --- | --- | --- |
/// | [`send`](Publish::send) | when the message is in the output buffer | messages that may be lost |
/// | [`confirm`](Publish::confirm) | when the broker has confirmed the message | messages that must not be lost |
/// | [`confirm_later`](Publish::confirm_later) | when the message is in the output buffer, with a [`Confirm`] to await later | many such messages in flight |
///
/// All three wait while more than 1 MiB (`high_water_mark` of [`Builder`](crate::Builder)) is waiting to be written,
/// while the broker blocks publishing, and while the channel's flow is stopped, up to the timeout of the handle.
///
/// Dropping the future before it resolves sends the message either completely or not at all.
#[must_use = "nothing is published before it is sent"]
pub struct Publish<'a> {
    channel: &'a Channel,
    route: Route<'a>,
    properties: Properties<Cow<'a, [u8]>>,
    /// The route and the properties, if they are encoded already.
    prepared: Option<&'a Arc<Prepared>>,
    body: Option<Body<'a>>,
}

impl<'a> Publish<'a> {
    #[inline]
    pub(crate) fn new(channel: &'a Channel, exchange: &'a str, routing_key: &'a str, body: Body<'a>) -> Self {
        let route = Route { exchange, routing_key, mandatory: false };
        Self { channel, route, properties: Properties::<&[u8]>::EMPTY.into(), prepared: None, body: Some(body) }
    }

    /// Sets the encoding of the route and the properties that the message has.
    #[inline]
    pub(crate) fn encoded_as(mut self, prepared: &'a Arc<Prepared>) -> Self {
        self.prepared = Some(prepared);
        self
    }

    /// Changes the properties.
    #[inline]
    fn with(mut self, change: impl FnOnce(Properties<Cow<'a, [u8]>>) -> Properties<Cow<'a, [u8]>>) -> Self {
        self.prepared = None;
        self.properties = change(self.properties);
        self
    }

    /// Makes the broker return the message if no queue takes it: as the error of its confirm, or through
    /// [`Channel::returns`].
    #[inline]
    pub fn mandatory(mut self) -> Self {
        self.prepared = None;
        self.route.mandatory = true;
        self
    }

    /// Makes the broker write the message to disk, if its queue is durable.
    #[inline]
    pub fn persistent(self) -> Self {
        self.with(|properties| match properties.is_empty() {
            true => Properties::persistent().into(),
            false => properties.with_persistent(),
        })
    }

    /// Sets all properties at once, replacing those set before. Nothing is copied, so one set of properties can serve
    /// many messages.
    #[inline]
    pub fn properties<B: AsRef<[u8]>>(self, properties: &'a Properties<B>) -> Self {
        self.with(|_| properties.as_ref_properties().into())
    }

    /// Sets the MIME type of the body.
    pub fn content_type(self, value: &str) -> Self {
        self.with(|properties| properties.with_content_type(value))
    }

    /// Sets the MIME encoding of the body, such as `gzip`.
    pub fn content_encoding(self, value: &str) -> Self {
        self.with(|properties| properties.with_content_encoding(value))
    }

    /// Adds a header.
    pub fn header(self, key: &str, value: impl IntoValue) -> Self {
        self.with(|properties| properties.with_header(key, value))
    }

    /// Sets all headers, replacing those set before.
    pub fn headers(self, headers: &FieldTable) -> Self {
        self.with(|properties| properties.with_headers(headers))
    }

    /// Sets the priority, 0 to 255. A priority queue caps it at the queue's maximum.
    pub fn priority(self, value: u8) -> Self {
        self.with(|properties| properties.with_priority(value))
    }

    /// Sets the correlation id, which ties a reply to its request.
    pub fn correlation_id(self, value: &str) -> Self {
        self.with(|properties| properties.with_correlation_id(value))
    }

    /// Sets the queue to send replies to.
    pub fn reply_to(self, value: &str) -> Self {
        self.with(|properties| properties.with_reply_to(value))
    }

    /// Sets how long the message may stay in a queue, rounded up to whole milliseconds. The longest time that RabbitMQ
    /// takes is 315,360,000,000 ms, ten years: publishing with a longer one ends with [`ErrorKind::Usage`].
    pub fn expiration(self, value: Duration) -> Self {
        self.with(|properties| properties.with_time_to_live(value))
    }

    /// Sets the application's id for the message.
    pub fn message_id(self, value: &str) -> Self {
        self.with(|properties| properties.with_message_id(value))
    }

    /// Sets the creation time, in seconds since 1970.
    pub fn timestamp(self, seconds: u64) -> Self {
        self.with(|properties| properties.with_timestamp(seconds))
    }

    /// Sets the application's type of the message (the property `type`).
    pub fn kind(self, value: &str) -> Self {
        self.with(|properties| properties.with_kind(value))
    }

    /// Sets the publishing user. RabbitMQ refuses any other than the logged-in user (406).
    pub fn user_id(self, value: &str) -> Self {
        self.with(|properties| properties.with_user_id(value))
    }

    /// Sets the id of the publishing application.
    pub fn app_id(self, value: &str) -> Self {
        self.with(|properties| properties.with_app_id(value))
    }

    /// Sends the message without a confirm, so its outcome is not known.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if exchange, routing key or properties can't be encoded, [`ErrorKind::Timeout`] if there
    /// was no buffer space in time, or the reason why channel or connection are closed.
    pub fn send(self) -> impl Future<Output = Result<()>> + Send + Unpin + use<'a> {
        let mut attempt = Attempt::new(self, false);
        poll_fn(move |context| attempt.poll(context).map_ok(|_| ()))
    }

    /// Sends the message and waits for the broker's confirm: the message is in its queues, and on disk if both are
    /// durable (RabbitMQ's page [Publisher Confirms](https://www.rabbitmq.com/docs/confirms)).
    ///
    /// # Errors
    /// The errors of [`Publish::send`]; [`ErrorKind::Nacked`] if the broker could not store the message;
    /// [`ErrorKind::Returned`] if the message was mandatory and no queue took it; [`ErrorKind::Usage`] in a
    /// transaction. If channel or connection end before the confirm arrives, their error: the message may or may not
    /// have been stored.
    pub fn confirm(self) -> impl Future<Output = Result<()>> + Send + Unpin + use<'a> {
        let mut later = self.confirm_later();
        let mut confirm: Option<Confirm> = None;
        poll_fn(move |context| {
            if confirm.is_none() {
                confirm = Some(ready!(Pin::new(&mut later).poll(context))?);
            }
            match &mut confirm {
                Some(confirm) => Pin::new(confirm).poll(context),
                None => Poll::Pending,
            }
        })
    }

    /// Sends the message and returns its [`Confirm`] to await later, so that many messages can be in flight.
    ///
    /// ```no_run
    /// # async fn example(channel: hopmq::Channel) -> hopmq::Result<()> {
    /// let mut confirms = Vec::new();
    /// for id in 0..1000 {
    ///     confirms.push(channel.publish("", "orders", format!("order {id}")).confirm_later().await?);
    /// }
    /// for confirm in confirms {
    ///     confirm.await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Publish::send`]; the broker's answer is reported by the [`Confirm`].
    pub fn confirm_later(self) -> impl Future<Output = Result<Confirm>> + Send + Unpin + use<'a> {
        let channel = self.channel;
        let mut attempt = Attempt::new(self, true);
        poll_fn(move |context| {
            let published = ready!(attempt.poll(context))?;
            let core = Arc::clone(channel.core());
            let timeout = channel.timeout();
            // A timeout set by `within` covers the wait for buffer space and the confirm together.
            let deadline = attempt.wait.deadline().filter(|_| timeout.is_some());
            Poll::Ready(Ok(Confirm { core, published, timeout, deadline, alarm: None, settled: false }))
        })
    }
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("route", &self.route)
            .field("properties", &self.properties)
            .finish_non_exhaustive()
    }
}

/// The attempts to put one message into the output buffer.
struct Attempt<'a> {
    publish: Publish<'a>,
    confirm: bool,
    wait: RoomWait,
}

impl<'a> Attempt<'a> {
    #[inline]
    fn new(publish: Publish<'a>, confirm: bool) -> Self {
        Self { publish, confirm, wait: RoomWait::default() }
    }

    #[inline]
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Published>> {
        let Publish { channel, route, properties, prepared, body } = &mut self.publish;
        let core = channel.core();
        let mut message = Outgoing { route: *route, properties, prepared: *prepared, body, confirm: self.confirm };
        let deadline = || channel.deadline();
        core.shared().poll_publish(&core.id, &mut message, &mut self.wait, deadline, context.waker())
    }
}

impl Drop for Attempt<'_> {
    #[inline]
    fn drop(&mut self) {
        self.publish.channel.core().shared().abandon_publish(&self.wait);
    }
}

/// The confirm of one published message: a future that resolves when the broker has taken responsibility for the
/// message.
///
/// Confirms can be awaited in any order, or not at all: dropping a confirm only discards the broker's answer. Awaiting
/// ends with [`ErrorKind::Timeout`] after `confirm_timeout` (60 seconds; [`Builder`](crate::Builder)), or after the
/// timeout of [`Channel::within`]: the message may or may not have been stored.
///
/// # Errors
/// The errors of [`Publish::confirm`].
#[must_use = "whether the broker has the message is not known unless this is awaited"]
pub struct Confirm {
    core: Arc<ChannelCore>,
    published: Published,
    timeout: Option<Duration>,
    /// The deadline, if it started before the message was sent.
    deadline: Option<Time>,
    /// The request that carries the deadline, created when the confirm was polled before it arrived.
    alarm: Option<RequestKey>,
    settled: bool,
}

impl Confirm {
    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { core, published, timeout, deadline, alarm, .. } = self;
        let shared = core.shared();
        let deadline = || {
            let timeout = timeout.unwrap_or(shared.limits.confirm_timeout);
            deadline.unwrap_or_else(|| shared.clock.now() + timeout)
        };
        shared.poll_confirm(&core.id, *published, alarm, deadline, context.waker())
    }
}

impl Future for Confirm {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let outcome = ready!(self.poll_outcome(context));
        self.settled = true;
        Poll::Ready(outcome)
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        if self.settled && self.alarm.is_none() {
            return;
        }
        self.core.shared().forget_confirm(&self.core.id, self.published.tag, self.alarm);
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm")
            .field("channel", &self.core.id.number)
            .field("tag", &self.published.tag)
            .finish_non_exhaustive()
    }
}
