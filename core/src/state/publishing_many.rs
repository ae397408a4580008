//! Publishing many messages under one lock, and the fate of all.
//!
//! Owns nothing. In come bodies for one route and one set of properties; out go as many messages as there is room for,
//! and later one outcome for all. It must never know where the bodies come from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use hopmq_proto::{Body, Prepared, Properties, Route, Time};

use super::channels::ChannelId;
use super::keys::RequestKey;
use super::publishing::{Outgoing, Output, RoomWait};
use super::requests::RequestKind;
use super::tags::Tags;
use super::{Shared, State};
use crate::error::{Error, Result};

/// Messages to publish that differ in nothing but the body.
pub(crate) struct OutgoingMany<'p, 'a> {
    pub(crate) route: Route<'a>,
    pub(crate) properties: Properties<&'a [u8]>,
    /// The route and the properties, if they are encoded already.
    pub(crate) prepared: Option<&'a Arc<Prepared>>,
    /// The bodies, which are taken as they are published.
    pub(crate) bodies: &'p mut VecDeque<Body<'a>>,
    /// A future will await the confirms.
    pub(crate) confirm: bool,
    /// The tags of those that are published.
    pub(crate) tags: &'p mut Tags,
}

impl Shared {
    /// Publishes messages, as many under one lock as there is room for.
    pub(crate) fn poll_publish_many(
        &self,
        channel: &ChannelId,
        batch: &mut OutgoingMany<'_, '_>,
        wait: &mut RoomWait,
        deadline: impl Fn() -> Time,
        waker: &Waker,
    ) -> Poll<Result<()>> {
        while !batch.bodies.is_empty() {
            if let Err(error) = ready!(self.poll_room(wait, waker)) {
                return Poll::Ready(Err(error));
            }
            let published = self.with(|state| self.publish_many(state, channel, batch, wait, &deadline));
            if let Err(error) = published {
                return Poll::Ready(Err(error));
            }
            if self.is_ended() {
                return Poll::Ready(Err(self.reason()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Publishes messages while there is room.
    fn publish_many(
        &self,
        state: &mut State,
        channel: &ChannelId,
        batch: &mut OutgoingMany<'_, '_>,
        wait: &mut RoomWait,
        deadline: &impl Fn() -> Time,
    ) -> Result<()> {
        while let Some(body) = batch.bodies.pop_front() {
            let mut body = Some(body);
            let mut properties = batch.properties.into();
            let OutgoingMany { route, prepared, confirm, .. } = *batch;
            let mut message = Outgoing { route, properties: &mut properties, prepared, body: &mut body, confirm };
            let Some(published) = self.publish(state, channel, &mut message, wait)? else {
                state.wait_for_room(channel.number, message.size(), wait, deadline);
                body.into_iter().for_each(|body| batch.bodies.push_front(body));
                return Ok(());
            };
            batch.tags.push(published.tag);
            // The next message has its own place among the waiting publishers, and its own deadline.
            wait.place = None;
            state.publish_more(channel, batch)?;
        }
        Ok(())
    }

    /// Returns the publishes of a batch that failed, by their index, once all are settled; see [`Self::poll_confirm`].
    pub(crate) fn poll_confirms(
        &self,
        channel: &ChannelId,
        tags: &Tags,
        left: &mut Tags,
        alarm: &mut Option<RequestKey>,
        deadline: impl FnOnce() -> Time,
        waker: &Waker,
    ) -> Poll<Vec<(usize, Error)>> {
        let polled = self.with_flush(|state| {
            let known = state.channels.find(channel.number, channel.serial)?;
            if left.poll(&mut known.confirms, waker, &mut state.wakers).is_ready() {
                return Some(Poll::Ready(tags.failed(|range| known.confirms.take_failed(range))));
            }
            let request =
                *alarm.get_or_insert_with(|| state.insert_request(channel.number, RequestKind::Alarm, deadline()));
            let Poll::Ready(Err(late)) = state.poll_request(request, waker) else { return Some(Poll::Pending) };
            *alarm = None;
            state.abandon(request);
            let known = state.channels.find(channel.number, channel.serial)?;
            Some(Poll::Ready(tags.outcomes(|tag| {
                let outcome = known.confirms.outcome(tag);
                // No future asks for it again.
                known.confirms.forget(tag, &mut state.wakers);
                outcome.unwrap_or_else(|| Err(late.clone()))
            })))
        });
        if let Some(Poll::Pending) = polled {
            self.note_wait(waker);
        }
        polled.unwrap_or_else(|| Poll::Ready(tags.outcomes(|tag| channel.end.outcome(tag))))
    }

    /// Handles the drop of the future of a batch's confirms.
    pub(crate) fn forget_confirms(&self, channel: &ChannelId, tags: &Tags, alarm: Option<RequestKey>) {
        self.with(|state| {
            if let Some(alarm) = alarm {
                state.abandon(alarm);
            }
            if let Some(channel) = state.channels.find(channel.number, channel.serial) {
                tags.iter().for_each(|tag| channel.confirms.forget(tag, &mut state.wakers));
            }
        });
    }
}

impl State {
    /// Publishes the messages after one that was published under the same lock, while there is room: what else was
    /// checked for that one holds for them.
    #[inline]
    fn publish_more(&mut self, id: &ChannelId, batch: &mut OutgoingMany<'_, '_>) -> Result<()> {
        let (None, Some(prepared)) = (&self.message_ids, batch.prepared) else { return Ok(()) };
        let State { proto, outstanding, stats, channels, backlog, .. } = self;
        let Some(channel) = channels.find(id.number, id.serial) else { return Ok(()) };
        let mut output = Output { proto, outstanding, stats, channel, number: id.number };
        while backlog.has_room(output.proto.queued(), false)
            && !output.outstanding.is_full()
            && let Some(body) = batch.bodies.pop_front()
        {
            batch.tags.push(output.put_prepared(prepared, body, batch.confirm)?);
        }
        Ok(())
    }
}
