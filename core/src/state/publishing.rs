//! Publishing, waiting for room, and the fate of publishes: confirms and returned messages.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use hopmq_proto::{Body, Content, Prepared, Properties, Route, Time};
use tracing::warn;

use super::channel_setup::being_closed;
use super::channels::{ChannelId, ChannelState};
use super::keys::RequestKey;
use super::message_ids::MessageIds;
use super::outstanding::Outstanding;
use super::requests::{Reply, RequestKind};
use super::stats::Stats;
use super::{Shared, State};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Returned;
use crate::policy::WhileLost;

/// A message to publish.
pub(crate) struct Outgoing<'p, 'a> {
    pub(crate) route: Route<'a>,
    pub(crate) properties: &'p mut Properties<Cow<'a, [u8]>>,
    /// The route and the properties, if they are encoded already.
    pub(crate) prepared: Option<&'a Arc<Prepared>>,
    /// The body; taken when the message is published.
    pub(crate) body: &'p mut Option<Body<'a>>,
    /// A future will await the confirm.
    pub(crate) confirm: bool,
}

/// How far a publish has got that may have to wait for room.
#[derive(Debug, Default)]
pub(crate) struct RoomWait {
    /// The request that is answered when the publish is admitted.
    request: Option<RequestKey>,
    /// The place among the waiting publishers and the deadline, which stay the same if it has to wait again.
    pub(super) place: Option<(u64, Time)>,
    /// Whether the publish was admitted, and room is reserved for it.
    admitted: bool,
}

/// A publish that was taken into the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// The tag of its confirm; zero if the channel does not confirm publishes.
    pub(crate) tag: u64,
    /// Its number among the publishes of the connection.
    pub(crate) count: u64,
}

impl RoomWait {
    /// Returns the deadline of the wait, if there was one.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.place.map(|(_, deadline)| deadline)
    }
}

impl Outgoing<'_, '_> {
    /// Returns roughly the bytes that the message takes.
    pub(super) fn size(&self) -> usize {
        match &self.body {
            Some(Body::Borrowed(body)) => body.len().max(1),
            Some(Body::Shared(body)) => body.len().max(1),
            None => 0,
        }
    }

    /// Sets a message id, if the message has none.
    #[cold]
    fn identify(&mut self, ids: &mut MessageIds) {
        if self.properties.message_id().is_none() {
            let properties = std::mem::replace(self.properties, Properties::<&[u8]>::EMPTY.into());
            *self.properties = properties.with_message_id(ids.next());
            self.prepared = None;
        }
    }
}

impl Shared {
    /// Publishes a message, once there is room. `deadline` is called if the publish must wait.
    #[inline]
    pub(crate) fn poll_publish(
        &self,
        channel: &ChannelId,
        message: &mut Outgoing<'_, '_>,
        wait: &mut RoomWait,
        deadline: impl Fn() -> Time,
        waker: &Waker,
    ) -> Poll<Result<Published>> {
        loop {
            if let Err(error) = ready!(self.poll_room(wait, waker)) {
                return Poll::Ready(Err(error));
            }
            let published = self.with(|state| {
                let published = self.publish(state, channel, message, wait);
                if let Ok(None) = published {
                    // Under the same lock: room that the driver makes in between would wake no publisher.
                    state.wait_for_room(channel.number, message.size(), wait, &deadline);
                }
                published
            });
            match published {
                // The publish may have found that the connection belongs to another process.
                Ok(Some(_)) if self.is_ended() => return Poll::Ready(Err(self.reason())),
                Ok(Some(published)) => return Poll::Ready(Ok(published)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits until a publish that found no room is admitted.
    #[inline]
    pub(super) fn poll_room(&self, wait: &mut RoomWait, waker: &Waker) -> Poll<Result<()>> {
        match wait.request {
            Some(request) => self.poll_waiting(request, wait, waker),
            None => Poll::Ready(Ok(())),
        }
    }

    #[cold]
    fn poll_waiting(&self, request: RequestKey, wait: &mut RoomWait, waker: &Waker) -> Poll<Result<()>> {
        let admitted = ready!(self.poll_request(request, waker));
        wait.request = None;
        if let Err(error) = admitted {
            self.with(|state| state.leave_backlog(wait));
            return Poll::Ready(Err(error));
        }
        wait.admitted = true;
        Poll::Ready(Ok(()))
    }

    /// Handles the drop of a publish's future.
    #[inline]
    pub(crate) fn abandon_publish(&self, wait: &RoomWait) {
        if let Some(request) = wait.request {
            self.abandon_waiting(request, wait);
        }
    }

    #[cold]
    fn abandon_waiting(&self, request: RequestKey, wait: &RoomWait) {
        self.with(|state| {
            state.abandon(request);
            state.leave_backlog(wait);
            // Room that was reserved for this publish may be enough for the next one.
            state.driver.request();
        });
    }

    /// Publishes if there is room. Returns `None` if the publish must wait.
    #[inline]
    pub(super) fn publish(
        &self,
        state: &mut State,
        id: &ChannelId,
        message: &mut Outgoing<'_, '_>,
        wait: &mut RoomWait,
    ) -> Result<Option<Published>> {
        let number = id.number;
        let admitted = std::mem::take(&mut wait.admitted);
        if admitted {
            state.claim_room(message.size());
        }
        let has_room = state.is_up()
            && state.backlog.has_room(state.proto.queued(), admitted)
            && !state.outstanding.is_full()
            && state.proto.may_publish(number);
        let is_closing = state.is_closing();
        let Some(channel) = state.channels.find(number, id.serial) else { return Err(self.channel_reason(id)) };
        if is_closing {
            return Err(being_closed());
        }
        if !has_room {
            return state.may_wait().map(|()| None);
        }
        if message.confirm {
            state.proto.confirm_select(number).map_err(|error| usage(&error))?;
        }
        let Some(body) = message.body.take() else { return Ok(None) };
        if let Some(ids) = &mut state.message_ids {
            message.identify(ids);
        }
        channel.confirming |= message.confirm;
        let State { proto, outstanding, stats, .. } = state;
        let mut output = Output { proto, outstanding, stats, channel, number };
        let tag = match message.prepared {
            Some(prepared) => output.put_prepared(prepared, body, message.confirm)?,
            None => {
                message.properties.validity().map_err(|error| usage(&error))?;
                output.put(message.route, message.properties.as_ref_properties(), body, message.confirm)?
            }
        };
        Ok(Some(Published { tag, count: state.stats.published }))
    }

    /// Returns the outcome of a publish to its future. `deadline` is asked when the future begins to wait; `alarm`
    /// keeps the request that stands for it.
    #[inline]
    pub(crate) fn poll_confirm(
        &self,
        channel: &ChannelId,
        published: Published,
        alarm: &mut Option<RequestKey>,
        deadline: impl FnOnce() -> Time,
        waker: &Waker,
    ) -> Poll<Result<()>> {
        let mut deadline = Some(deadline);
        let mut poll = |state: &mut State| {
            let known = state.channels.find(channel.number, channel.serial)?;
            let outcome = known.confirms.poll(published.tag, waker, &mut state.wakers);
            if outcome.is_ready() {
                if state.outstanding.publishes() == 0 {
                    state.backlog.set_written_at_once();
                }
                return Some(outcome);
            }
            if alarm.is_none()
                && let Some(deadline) = deadline.take()
            {
                *alarm = Some(state.insert_request(channel.number, RequestKind::Alarm, deadline()));
            }
            let late = alarm.map(|alarm| state.poll_request(alarm, waker));
            Some(late.unwrap_or(Poll::Pending).map(|late| late.map(drop)))
        };
        let mut polled = self.with_flush_of(published.count, &mut poll);
        if let Some(Poll::Pending) = polled
            && self.note_wait(waker)
        {
            polled = self.with(poll);
        }
        polled.unwrap_or_else(|| Poll::Ready(channel.end.outcome(published.tag)))
    }

    /// Handles the drop of a confirm's future.
    pub(crate) fn forget_confirm(&self, channel: &ChannelId, tag: u64, alarm: Option<RequestKey>) {
        self.with(|state| {
            if let Some(alarm) = alarm {
                state.abandon(alarm);
            }
            if let Some(channel) = state.channels.find(channel.number, channel.serial) {
                channel.confirms.forget(tag, &mut state.wakers);
            }
        });
    }

    /// Keeps returned messages of a channel for a stream from now on.
    pub(crate) fn want_returns(&self, channel: &ChannelId) {
        if let Some(channel) = self.lock().channels.find(channel.number, channel.serial) {
            channel.returns.want();
        }
    }

    /// Returns the next returned message of a channel; `None` when the channel has ended.
    pub(crate) fn poll_returned(&self, channel: &ChannelId, waker: &Waker) -> Poll<Option<Returned>> {
        let polled = self.with(|state| {
            let Some(channel) = state.channels.find(channel.number, channel.serial) else { return Poll::Ready(None) };
            if let Some(returned) = channel.returns.pop() {
                return Poll::Ready(Some(returned));
            }
            state.wakers.register(channel.returns.waker(), waker);
            Poll::Pending
        });
        if polled.is_pending() {
            self.note_wait(waker);
        }
        polled
    }
}

/// What a publish changes.
pub(super) struct Output<'s> {
    pub(super) proto: &'s mut hopmq_proto::Connection,
    pub(super) outstanding: &'s mut Outstanding,
    pub(super) stats: &'s mut Stats,
    pub(super) channel: &'s mut ChannelState,
    pub(super) number: u16,
}

impl Output<'_> {
    /// Publishes a message. Returns the tag of its confirm; zero if the channel does not confirm publishes.
    #[inline]
    fn put(&mut self, route: Route<'_>, properties: Properties<&[u8]>, body: Body<'_>, confirm: bool) -> Result<u64> {
        if self.channel.confirming {
            self.outstanding.keep(self.channel.confirms.keep(route, properties, &body));
        }
        let sent = self.proto.publish(self.number, route, properties, body);
        self.count(sent, confirm)
    }

    /// Publishes a message whose route and properties are encoded already, as [`Self::put`] does.
    #[inline]
    pub(super) fn put_prepared(&mut self, prepared: &Arc<Prepared>, body: Body<'_>, confirm: bool) -> Result<u64> {
        if self.channel.confirming {
            self.outstanding.keep(self.channel.confirms.keep_prepared(prepared, &body));
        }
        let sent = self.proto.publish_prepared(self.number, prepared, body);
        self.count(sent, confirm)
    }

    #[inline]
    fn count(&mut self, sent: Result<Option<u64>, hopmq_proto::Error>, confirm: bool) -> Result<u64> {
        match sent {
            Ok(tag) => {
                self.stats.published += 1;
                if tag.is_none() {
                    return Ok(0);
                }
                self.outstanding.add();
                Ok(self.channel.confirms.push(confirm))
            }
            Err(error) => Err(self.refuse(&error)),
        }
    }

    #[cold]
    fn refuse(&mut self, error: &hopmq_proto::Error) -> Error {
        if self.channel.confirming {
            self.outstanding.release(self.channel.confirms.unkeep());
        }
        usage(error)
    }
}

impl State {
    /// Releases the room that was reserved for an admitted publisher, which publishes now.
    fn claim_room(&mut self, size: usize) {
        self.backlog.claim(size);
        if self.backlog.has_waiting() {
            // If this publish fails, there is room for the next one.
            self.driver.request();
        }
    }

    /// Whether a publish may wait for room.
    #[cold]
    fn may_wait(&self) -> Result<()> {
        if self.is_up() || self.while_lost == WhileLost::Wait {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Recovering, "there is no link to the broker at the moment: the message was not sent"))
    }

    #[cold]
    pub(super) fn wait_for_room(
        &mut self,
        channel: u16,
        size: usize,
        wait: &mut RoomWait,
        deadline: impl Fn() -> Time,
    ) {
        let (place, deadline) = *wait.place.get_or_insert_with(|| (self.backlog.arrive(), deadline()));
        let request = self.insert_request(channel, RequestKind::Room, deadline);
        self.backlog.wait(place, request, size);
        if self.backlog.has_reserved() {
            // The publishers that room is reserved for may have been dropped: only the driver's next poll frees their
            // room.
            self.driver.request();
        }
        wait.request = Some(request);
    }

    fn leave_backlog(&mut self, wait: &RoomWait) {
        if let Some((place, _)) = wait.place {
            self.backlog.leave(place);
        }
    }

    /// Admits waiting publishers, in the order of their arrival, if there is room and the broker takes publishes.
    pub(super) fn admit_publishers(&mut self) {
        let queued = self.proto.queued();
        let can_publish = self.is_up() && self.proto.may_publish(0) && !self.outstanding.is_full();
        if !can_publish || !self.backlog.may_admit(queued) {
            return;
        }
        let Self { backlog, requests, proto, wakers, .. } = self;
        backlog.admit(queued, |request, has_room| {
            let channel = requests.get(request).map(|request| request.channel);
            if channel.is_some_and(|channel| !has_room || !proto.may_publish(channel)) {
                return false;
            }
            requests.settle(request, Ok(Reply::Done), wakers);
            true
        });
    }

    #[inline]
    pub(super) fn confirmed(&mut self, channel: u16, first: u64, last: u64, ack: bool) {
        let Some(channel) = self.channels.get_mut(channel) else { return };
        let kept = channel.confirms.kept();
        let count = channel.confirms.settle(first, last, ack, &mut self.wakers);
        self.outstanding.release(kept - channel.confirms.kept());
        self.outstanding.remove(count);
        let counter = if ack { &mut self.stats.confirmed } else { &mut self.stats.nacked };
        *counter += count as u64;
        if !ack {
            warn!(first, last, "the broker refused publishes");
        }
    }

    pub(super) fn returned(&mut self, number: u16, tag: Option<u64>, content: Content) {
        self.stats.returned += 1;
        let returned = Returned::new(content);
        let Some(channel) = self.channels.get_mut(number) else { return };
        let unclaimed = match tag {
            Some(tag) => channel.confirms.returned(tag, returned),
            None => Some(returned),
        };
        let Some(returned) = unclaimed else { return };
        if !channel.returns.is_wanted() {
            warn!(
                exchange = returned.exchange(),
                routing_key = returned.routing_key(),
                reason = returned.reason(),
                "a mandatory message was returned and dropped: take returned messages from Channel::returns"
            );
            return;
        }
        if channel.returns.push(returned) {
            warn!(channel = number, "the oldest returned message was dropped: Channel::returns is not polled");
        }
        self.wakers.wake(channel.returns.waker());
    }
}

fn usage(error: &hopmq_proto::Error) -> Error {
    Error::new(ErrorKind::Usage, error.message())
}
