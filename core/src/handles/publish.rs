//! Publishing a message, with its properties and its confirm.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hopmq_proto::{Body, FieldTable, Properties, Route, Time, Value};

use crate::handles::channel::{Channel, ChannelCore};
use crate::recovery::ids::MessageIds;
use crate::state::{RequestKind, State, Waiting};
use crate::{Error, ErrorKind, Result};

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
    body: Option<Body<'a>>,
}

impl<'a> Publish<'a> {
    #[inline]
    pub(crate) fn new(channel: &'a Channel, exchange: &'a str, routing_key: &'a str, body: Body<'a>) -> Self {
        let route = Route { exchange, routing_key, mandatory: false };
        Self { channel, route, properties: Properties::<&[u8]>::EMPTY.into(), body: Some(body) }
    }

    /// Makes the broker return the message if no queue takes it: as the error of its confirm, or through
    /// [`Channel::returns`].
    #[inline]
    pub fn mandatory(mut self) -> Self {
        self.route.mandatory = true;
        self
    }

    /// Makes the broker write the message to disk, if its queue is durable.
    #[inline]
    pub fn persistent(mut self) -> Self {
        self.properties = if self.properties.is_empty() {
            Properties::persistent().into()
        } else {
            self.properties.with_persistent()
        };
        self
    }

    /// Sets all properties at once, replacing those set before. Nothing is copied, so one set of properties can serve
    /// many messages.
    #[inline]
    pub fn properties<B: AsRef<[u8]>>(mut self, properties: &'a Properties<B>) -> Self {
        self.properties = properties.as_ref_properties().into();
        self
    }

    /// Sets the MIME type of the body.
    pub fn content_type(mut self, value: &str) -> Self {
        self.properties = self.properties.with_content_type(value);
        self
    }

    /// Sets the MIME encoding of the body, such as `gzip`.
    pub fn content_encoding(mut self, value: &str) -> Self {
        self.properties = self.properties.with_content_encoding(value);
        self
    }

    /// Adds a header.
    pub fn header<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.properties = self.properties.with_header(key, value);
        self
    }

    /// Sets all headers, replacing those set before.
    pub fn headers(mut self, headers: &FieldTable) -> Self {
        self.properties = self.properties.with_headers(headers);
        self
    }

    /// Sets the priority, 0 to 255. A priority queue caps it at the queue's maximum.
    pub fn priority(mut self, value: u8) -> Self {
        self.properties = self.properties.with_priority(value);
        self
    }

    /// Sets the correlation id, which ties a reply to its request.
    pub fn correlation_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_correlation_id(value);
        self
    }

    /// Sets the queue to send replies to.
    pub fn reply_to(mut self, value: &str) -> Self {
        self.properties = self.properties.with_reply_to(value);
        self
    }

    /// Sets how long the message may stay in a queue, in whole milliseconds.
    pub fn expiration(mut self, value: Duration) -> Self {
        self.properties = self.properties.with_expiration(&value.as_millis().to_string());
        self
    }

    /// Sets the application's id for the message.
    pub fn message_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_message_id(value);
        self
    }

    /// Sets the creation time, in seconds since 1970.
    pub fn timestamp(mut self, seconds: u64) -> Self {
        self.properties = self.properties.with_timestamp(seconds);
        self
    }

    /// Sets the application's type of the message (the property `type`).
    pub fn kind(mut self, value: &str) -> Self {
        self.properties = self.properties.with_kind(value);
        self
    }

    /// Sets the publishing user. RabbitMQ refuses any other than the logged-in user (406).
    pub fn user_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_user_id(value);
        self
    }

    /// Sets the id of the publishing application.
    pub fn app_id(mut self, value: &str) -> Self {
        self.properties = self.properties.with_app_id(value);
        self
    }

    /// Sets a message id if the message has none.
    #[cold]
    fn identify(&mut self, ids: &mut MessageIds) {
        if self.properties.message_id().is_none() {
            let properties = std::mem::replace(&mut self.properties, Properties::<&[u8]>::EMPTY.into());
            self.properties = properties.with_message_id(ids.next());
        }
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
    /// Those of [`Publish::send`]; [`ErrorKind::Nacked`] if the broker could not store the message;
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
    /// Those of [`Publish::send`]; the broker's answer is reported by the [`Confirm`].
    pub fn confirm_later(self) -> impl Future<Output = Result<Confirm>> + Send + Unpin + use<'a> {
        let channel = self.channel;
        let mut attempt = Attempt::new(self, true);
        poll_fn(move |context| {
            let (tag, count) = ready!(attempt.poll(context))?;
            let (core, timeout) = (Arc::clone(channel.core()), channel.timeout());
            // A timeout set by `within` covers the wait for buffer space and the confirm together.
            let deadline = attempt.place.filter(|_| timeout.is_some()).map(|(_, deadline)| deadline);
            Poll::Ready(Ok(Confirm { core, tag, count, timeout, deadline, alarm: None, settled: false }))
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
    /// The pending request for buffer space, if there was none.
    waiting: Option<u64>,
    /// The position among the waiting publishers, and the deadline; kept if the publish has to wait again.
    place: Option<(u64, Time)>,
    /// The publish has waited and may now go on.
    admitted: bool,
}

impl<'a> Attempt<'a> {
    #[inline]
    fn new(publish: Publish<'a>, confirm: bool) -> Self {
        Self { publish, confirm, waiting: None, place: None, admitted: false }
    }

    /// Returns the confirm tag of the message, or zero without confirms, and its number among all publishes of the
    /// connection.
    #[inline]
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(u64, u64)>> {
        let channel = self.publish.channel;
        let shared = channel.core().shared();
        loop {
            if let Some(key) = self.waiting {
                let room = ready!(shared.with_waiting(|state| state.poll_request(key, context.waker())));
                self.waiting = None;
                if let Err(error) = room {
                    shared.with(|state| self.leave(state));
                    return Poll::Ready(Err(error));
                }
                self.admitted = true;
            }
            let attempt = shared.with(|state| {
                let published = self.publish(state);
                if let Ok(None) = published {
                    // Registered under the same lock: space freed by the driver in between would not wake this publish.
                    self.wait(state);
                }
                published
            });
            match attempt {
                Ok(Some(published)) => return Poll::Ready(Ok(published)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    #[cold]
    fn wait(&mut self, state: &mut State) {
        state.serial += 1;
        let channel = self.publish.channel;
        let (place, deadline) = *self.place.get_or_insert_with(|| (state.serial, channel.deadline()));
        let channel = channel.id();
        let key = state.insert_request(channel, RequestKind::Room, deadline);
        state.room.insert(place, Waiting { key, size: self.size() });
        // Space reserved for other publishers may be unused by now.
        state.nudge |= state.reserved > 0;
        self.waiting = Some(key);
    }

    /// Returns the approximate size of the message in bytes.
    fn size(&self) -> usize {
        match &self.publish.body {
            Some(Body::Borrowed(body)) => body.len().max(1),
            Some(Body::Shared(body)) => body.len().max(1),
            None => 0,
        }
    }

    fn leave(&self, state: &mut State) {
        if let Some((place, _)) = self.place {
            state.room.remove(&place);
        }
    }

    /// Publishes the message if there is buffer space.
    #[inline]
    fn publish(&mut self, state: &mut State) -> Result<Option<(u64, u64)>> {
        let core = self.publish.channel.core();
        let number = core.number;
        let high_water = core.shared().limits.high_water;
        let mut taken = state.proto.queued();
        if std::mem::take(&mut self.admitted) {
            state.reserved = state.reserved.saturating_sub(self.size());
            // If this publish fails, the next waiting one may go on.
            state.nudge |= !state.room.is_empty();
        } else {
            taken += state.reserved;
        }
        let has_room =
            state.up && taken < high_water && state.kept < state.kept_limit && state.proto.may_publish(number);
        let closing = state.closing.is_some();
        if state.channel(number, core.serial).is_none() {
            return Err(core.closed());
        }
        if closing {
            return Err(Error::new(ErrorKind::Closed, "the connection is closing: nothing more can be sent on it"));
        }
        if !has_room {
            return state.recovery.may_wait(state.up).map(|()| None);
        }
        if self.confirm {
            state.proto.confirm_select(number).map_err(usage)?;
        }
        let Some(body) = self.publish.body.take() else { return Ok(None) };
        self.publish.properties.validity().map_err(usage)?;
        if let Some(ids) = &mut state.recovery.ids {
            self.publish.identify(ids);
        }
        let properties = self.publish.properties.as_ref_properties();
        let (route, kept) = (self.publish.route, &mut state.kept);
        let Some(Some(channel)) = state.channels.get_mut(usize::from(number)) else { return Err(core.closed()) };
        channel.confirming |= self.confirm;
        if channel.confirming
            && let Some(journal) = &mut channel.confirms.journal
        {
            let before = journal.size();
            journal.push(route, properties, &body);
            *kept += journal.size() - before;
        }
        let tag = match state.proto.publish(number, route, properties, body) {
            Ok(tag) => tag,
            Err(error) => {
                if let Some(journal) = &mut channel.confirms.journal
                    && channel.confirming
                {
                    let before = journal.size();
                    journal.pop_back();
                    *kept -= before - journal.size();
                }
                return Err(usage(error));
            }
        };
        state.stats.published += 1;
        let count = state.stats.published;
        if tag.is_none() {
            return Ok(Some((0, count)));
        }
        state.unconfirmed += 1;
        Ok(Some((channel.confirms.push(self.confirm), count)))
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.waiting {
            self.publish.channel.core().shared().with(|state| {
                state.abandon(key);
                self.leave(state);
                // The space reserved for this publish goes to the next waiting one.
                state.nudge = true;
            });
        }
    }
}

fn usage(error: hopmq_proto::Error) -> Error {
    Error::new(ErrorKind::Usage, error.message())
}

/// The confirm of one published message: a future that resolves when the broker has taken responsibility for the
/// message.
///
/// Confirms can be awaited in any order, or not at all: dropping a confirm only discards the broker's answer. Awaiting
/// ends with [`ErrorKind::Timeout`] after `confirm_timeout` (60 seconds; [`Builder`](crate::Builder)), or after the
/// timeout of [`Channel::within`]: the message may or may not have been stored.
///
/// # Errors
/// Those of [`Publish::confirm`].
#[must_use = "whether the broker has the message is not known unless this is awaited"]
pub struct Confirm {
    core: Arc<ChannelCore>,
    tag: u64,
    /// The number of this message among all publishes of the connection.
    count: u64,
    timeout: Option<Duration>,
    /// The deadline, if it started before the message was sent.
    deadline: Option<Time>,
    /// The request that carries the deadline, created when the confirm was polled before it arrived.
    alarm: Option<u64>,
    settled: bool,
}

impl Confirm {
    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { core, tag, count, timeout, deadline, alarm, .. } = self;
        let known = core.shared().with_waiting_for(*count, |state| {
            let channel = match state.channels.get_mut(usize::from(core.number)) {
                Some(Some(channel)) if channel.serial == core.serial => channel,
                _ => return None,
            };
            let waker = context.waker();
            let outcome = channel.confirms.poll(*tag, waker, &mut state.spent);
            if outcome.is_ready() {
                return Some(outcome);
            }
            let alarm = *alarm.get_or_insert_with(|| {
                let timeout = timeout.unwrap_or(core.shared().limits.confirm_timeout);
                let deadline = deadline.unwrap_or_else(|| core.shared().clock.now() + timeout);
                state.insert_request(core.number, RequestKind::Confirm, deadline)
            });
            Some(state.poll_request(alarm, waker).map(|late| late.map(drop)))
        });
        known.unwrap_or_else(|| Poll::Ready(core.end.outcome(*tag)))
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
        let core = &self.core;
        core.shared().with(|state| {
            if let Some(alarm) = self.alarm {
                state.abandon(alarm);
            }
            if let Some(Some(channel)) = state.channels.get_mut(usize::from(core.number))
                && channel.serial == core.serial
            {
                channel.confirms.forget(self.tag, &mut state.spent);
            }
        });
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").field("channel", &self.core.number).field("tag", &self.tag).finish_non_exhaustive()
    }
}
