//! Publishing: one message, its properties, and what is to be known of its fate.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hopmq_proto::{Body, FieldTable, Properties, Route, Time, Value};

#[cfg(doc)]
use crate::ErrorKind;
use crate::Result;
use crate::handles::channel::{Channel, ChannelCore};
use crate::state::{Outgoing, Published, RoomWait};

/// A message to publish: made by [`Channel::publish`], sent by one of its last three methods.
///
/// | | resolves | for |
/// | --- | --- | --- |
/// | [`send`](Publish::send) | when the message is taken into the output buffer | messages that may be lost |
/// | [`confirm`](Publish::confirm) | when the broker has taken care of it | messages that may not |
/// | [`confirm_later`](Publish::confirm_later) | when it is taken into the output buffer, with a [`Confirm`] to await later | the same, many at once |
///
/// All of them wait while more than 1 MiB (`high_water_mark` of [`Builder`](crate::Builder)) waits to be written, while
/// the broker blocks publishing, and while the channel's flow is stopped, up to the deadline of the handle.
///
/// Dropping the future before it resolved: either the message was not taken at all, or all of it was. Never half.
#[must_use = "nothing is published before it is sent"]
pub struct Publish<'a> {
    channel: &'a Channel,
    route: Route<'a>,
    properties: Properties<Cow<'a, [u8]>>,
    body: Option<Body<'a>>,
}

impl<'a> Publish<'a> {
    #[inline]
    pub(crate) fn new(channel: &'a Channel, exchange: &'a str, routing_key: &'a str, body: Body<'a>) -> Self {
        let route = Route { exchange, routing_key, mandatory: false };
        Self { channel, route, properties: Properties::<&[u8]>::EMPTY.into(), body: Some(body) }
    }

    /// Has the message come back if no queue takes it: as the error of its confirm, or to
    /// [`Channel::returns`].
    #[inline]
    pub fn mandatory(mut self) -> Self {
        self.route.mandatory = true;
        self
    }

    /// Has the broker write the message to disk, if its queue is durable.
    #[inline]
    pub fn persistent(mut self) -> Self {
        self.properties = if self.properties.is_empty() {
            Properties::persistent().into()
        } else {
            self.properties.with_persistent()
        };
        self
    }

    /// Sets all properties at once, in place of those set before. Nothing is copied: prepare them once, use them often.
    #[inline]
    pub fn properties<B: AsRef<[u8]>>(mut self, properties: &'a Properties<B>) -> Self {
        self.properties = properties.as_ref_properties().into();
        self
    }

    /// The MIME type of the body.
    pub fn content_type(mut self, value: &str) -> Self {
        self.properties = self.properties.with_content_type(value);
        self
    }

    /// The MIME encoding of the body: `gzip`, …
    pub fn content_encoding(mut self, value: &str) -> Self {
        self.properties = self.properties.with_content_encoding(value);
        self
    }

    /// Adds a header.
    pub fn header<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.properties = self.properties.with_header(key, value);
        self
    }

    /// Sets the headers.
    pub fn headers(mut self, headers: &FieldTable) -> Self {
        self.properties = self.properties.with_headers(headers);
        self
    }

    /// The priority in a priority queue: 0 to 255, of which a queue knows as many as it was declared with.
    pub fn priority(mut self, value: u8) -> Self {
        self.properties = self.properties.with_priority(value);
        self
    }

    /// What a reply belongs to.
    pub fn correlation_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_correlation_id(value);
        self
    }

    /// The queue to send replies to.
    pub fn reply_to(mut self, value: &str) -> Self {
        self.properties = self.properties.with_reply_to(value);
        self
    }

    /// How long the message may wait in a queue, in whole milliseconds.
    pub fn expiration(mut self, value: Duration) -> Self {
        self.properties = self.properties.with_expiration(&value.as_millis().to_string());
        self
    }

    /// The application's name for the message.
    pub fn message_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_message_id(value);
        self
    }

    /// When it was made, in seconds since 1970.
    pub fn timestamp(mut self, seconds: u64) -> Self {
        self.properties = self.properties.with_timestamp(seconds);
        self
    }

    /// The application's name for the kind of message (the property `type`).
    pub fn kind(mut self, value: &str) -> Self {
        self.properties = self.properties.with_kind(value);
        self
    }

    /// The publishing user. RabbitMQ refuses any but the one that is logged in (406).
    pub fn user_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_user_id(value);
        self
    }

    /// The publishing application.
    pub fn app_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_app_id(value);
        self
    }

    /// Sends the message, and knows nothing of its fate.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if route or properties can't be encoded, [`ErrorKind::Timeout`] if there was no room in
    /// time, or why channel or connection are closed.
    pub fn send(self) -> impl Future<Output = Result<()>> + Send + Unpin + use<'a> {
        let mut attempt = Attempt::new(self, false);
        poll_fn(move |context| attempt.poll(context).map_ok(|_| ()))
    }

    /// Sends the message and waits until the broker has taken care of it: it is in its queues, and on disk if it and
    /// they are durable (RabbitMQ's page [Publisher Confirms](https://www.rabbitmq.com/docs/confirms)).
    ///
    /// # Errors
    /// As for [`Publish::send`], and [`ErrorKind::Nacked`] if the broker could not, [`ErrorKind::Returned`] if it was
    /// mandatory and no queue took it. If channel or connection end before the confirm has come, with their error: the
    /// broker may have the message or not. In a transaction: [`ErrorKind::Usage`].
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

    /// Sends the message, and returns its [`Confirm`] to await later, so that many are under way at once.
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
    /// As for [`Publish::send`]; those of the broker's answer are the [`Confirm`]'s.
    pub fn confirm_later(self) -> impl Future<Output = Result<Confirm>> + Send + Unpin + use<'a> {
        let channel = self.channel;
        let mut attempt = Attempt::new(self, true);
        poll_fn(move |context| {
            let published = ready!(attempt.poll(context))?;
            let core = Arc::clone(channel.core());
            let timeout = channel.timeout();
            // What `within` says holds for the wait for room and the confirm together.
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

/// The attempts to get one message into the output buffer.
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
        let Publish { channel, route, properties, body } = &mut self.publish;
        let core = channel.core();
        let mut message = Outgoing { route: *route, properties, body, confirm: self.confirm };
        let deadline = || channel.deadline();
        core.shared().poll_publish(&core.id, &mut message, &mut self.wait, deadline, context.waker())
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.publish.channel.core().shared().abandon_publish(&self.wait);
    }
}

/// The broker's answer to one publish: a future that resolves when the broker has taken care of the message.
///
/// It can be awaited in any order with others, or never: then the message is sent all the same. Dropping it forgets
/// the answer. It ends with [`ErrorKind::Timeout`] when it was awaited for `confirm_timeout` (60 seconds;
/// [`Builder`](crate::Builder)), or for as long as [`Channel::within`] says: the broker may have the message or not.
///
/// # Errors
/// Those of [`Publish::confirm`].
#[must_use = "whether the broker has the message is not known unless this is awaited"]
pub struct Confirm {
    core: Arc<ChannelCore>,
    published: Published,
    timeout: Option<Duration>,
    /// The deadline, if it began to run before the message was sent.
    deadline: Option<Time>,
    /// The request that stands for the deadline, once it was awaited in vain.
    alarm: Option<u64>,
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
