//! What the protocol's events mean to those who wait.
//!
//! Runs under the lock of [`Shared`](crate::state::Shared): an event comes in, outcomes and deliveries are put where
//! their owners look, and the owners' wakers are collected. It must never block and never wake.

use bytes::Bytes;
use hopmq_proto::{CloseReason, Content, Purpose, Time, code};
use tracing::{debug, warn};

use crate::recovery::replay::REPLAY;
use crate::refusal::Refusal;
use crate::state::events::Event;
use crate::state::{Blocked, ConsumerEnd, Queued, Reply, RequestKind, State};
use crate::{Error, ErrorKind, Result, Returned};

impl State {
    /// Puts an event where its owner looks. An error ends the connection.
    pub(crate) fn apply(&mut self, event: hopmq_proto::Event, now: Time) -> Result<()> {
        use hopmq_proto::Event as Proto;
        match event {
            Proto::Confirmed { channel, first, last, ack } => self.confirmed(channel, first, last, ack),
            Proto::Reply { channel, request: REPLAY, payload } => return self.replayed(channel, &payload, now),
            Proto::Reply { request, payload, .. } => self.answer(request, Reply::Method(payload)),
            Proto::ConsumerCancelled { consumer, .. } => self.consumer_cancelled(consumer),
            Proto::Flow { channel, active } => {
                debug!(channel, active, "flow");
                self.tell(&Event::Flow { channel, active });
            }
            Proto::ChannelClosed { channel, reason } => {
                if let Some(reason) = self.replay_refused(channel, reason, now)? {
                    self.channel_closed(channel, &reason);
                }
            }
            Proto::Blocked { reason } => {
                warn!(reason, "the broker blocks publishing");
                let since = self.blocked.take().map_or(now, |blocked| blocked.since);
                self.blocked = Some(Blocked { since, reason: reason.clone() });
                self.tell(&Event::Blocked { reason });
            }
            Proto::Unblocked => {
                debug!("the broker takes publishes again");
                if let Some(blocked) = self.blocked.take() {
                    self.stats.blocked += now - blocked.since;
                    self.unblocked = now;
                }
                self.tell(&Event::Unblocked);
            }
            Proto::Closed { reason: None } => {
                let unconfirmed = self.closing.map_or(0, |closing| closing.unconfirmed);
                return Err(closed_here(unconfirmed, true));
            }
            Proto::Closed { reason: Some(reason) } => {
                let error = self.closed_by_broker(&reason);
                // An operator or a node that goes down has nothing against what we sent.
                if self.opened && reason.code != code::CONNECTION_FORCED {
                    self.recovery.culprit = Some((reason.method, error.clone()));
                }
                return Err(error);
            }
            Proto::Opened => {
                debug!(tuning = ?self.proto.tuning(), "connection open");
                self.opened = true;
                self.link_opened(now)?;
            }
            other => {
                debug_assert!(false, "not an event of a client that is open: {other:?}");
            }
        }
        Ok(())
    }

    /// Puts a message where its owner looks.
    #[inline]
    pub(crate) fn apply_content(&mut self, channel: u16, purpose: Purpose, content: Content) {
        match purpose {
            Purpose::Delivery { consumer, delivery_tag } => self.deliver(consumer, delivery_tag, content),
            Purpose::Got { request } => {
                self.stats.delivered += 1;
                let epoch = self.channels.get(usize::from(channel)).and_then(Option::as_ref);
                let epoch = epoch.map_or(0, |channel| channel.end.epoch());
                self.answer(request, Reply::Got { content, epoch });
            }
            Purpose::Returned { tag } => self.returned(channel, tag, content),
            other => debug_assert!(false, "not for a client: {other:?}"),
        }
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        self.subscribers.tell(event, &mut self.wakes);
    }

    #[inline]
    fn deliver(&mut self, key: u64, tag: u64, content: Content) {
        self.stats.delivered += 1;
        let delivery = Queued { tag, content };
        match self.consumers.get_mut(key) {
            Some(consumer) if !consumer.dropped && !consumer.stopped => {
                self.buffered += delivery.cost();
                consumer.queue.push_back(delivery);
                if let Some(waker) = consumer.waker.take() {
                    self.wakes.push(waker);
                }
            }
            Some(consumer) if !consumer.no_ack => {
                // If the channel is gone, the broker has it back already.
                let _ = self.proto.reject(consumer.channel, tag, true);
            }
            _ => {}
        }
    }

    #[inline]
    fn confirmed(&mut self, channel: u16, first: u64, last: u64, ack: bool) {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(channel)) else { return };
        let kept = channel.confirms.kept();
        let count = channel.confirms.settle(first, last, ack, &mut self.wakes);
        self.kept -= kept - channel.confirms.kept();
        self.unconfirmed -= count;
        let counter = if ack { &mut self.stats.confirmed } else { &mut self.stats.nacked };
        *counter += count as u64;
        if !ack {
            warn!(first, last, "the broker refused publishes");
        }
    }

    fn answer(&mut self, key: u64, reply: Reply) {
        let Some(request) = self.requests.get_mut(key) else { return };
        let (channel, kind, abandoned) = ((request.channel, request.serial), request.kind, request.abandoned);
        request.answered = true;
        // It timed out, and its future doesn't know yet.
        let late = request.outcome.is_some();
        self.note_answer(key, &reply);
        match kind {
            RequestKind::Cancel(consumer) => self.end_consumer(consumer, ConsumerEnd::Cancelled),
            RequestKind::Consume(key) => {
                if let Some(consumer) = self.consumers.get_mut(key) {
                    consumer.start.granted = true;
                }
            }
            _ => {}
        }
        if abandoned || late {
            self.undo(channel, kind, &reply);
        }
        if abandoned {
            self.remove_request(key);
        } else if let Some(request) = self.requests.get_mut(key) {
            self.deadlines.remove(&(request.deadline, key));
            request.outcome.get_or_insert(Ok(reply));
            self.wakes.extend(request.waker.take());
        }
    }

    fn returned(&mut self, channel: u16, tag: Option<u64>, content: Content) {
        self.stats.returned += 1;
        let returned = Returned::new(content);
        let Some(Some(state)) = self.channels.get_mut(usize::from(channel)) else { return };
        let unclaimed = match tag {
            Some(tag) => state.confirms.returned(tag, returned),
            None => Some(returned),
        };
        let Some(returned) = unclaimed else { return };
        if !state.wants_returns {
            warn!(
                exchange = returned.exchange(),
                routing_key = returned.routing_key(),
                reason = returned.reason(),
                "a mandatory message came back, and nobody listens to Channel::returns"
            );
            return;
        }
        if state.returns.len() == MAX_RETURNS {
            state.returns.pop_front();
            warn!(channel, "returned messages are dropped: nobody takes them from Channel::returns");
        }
        state.returns.push_back(returned);
        self.wakes.extend(state.returns_waker.take());
    }

    fn consumer_cancelled(&mut self, key: u64) {
        let text = "the broker cancelled the consumer: its queue was deleted or moved to another node";
        warn!("{text}");
        self.end_consumer(key, ConsumerEnd::Failed(Error::new(ErrorKind::ConsumerCancelled, text)));
    }

    pub(crate) fn end_consumer(&mut self, key: u64, end: ConsumerEnd) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.end.get_or_insert(end);
        self.wakes.extend(consumer.waker.take());
        let queue = consumer.start.queue.clone();
        if consumer.dropped {
            self.consumers.remove(key);
        }
        self.consumer_over(&queue);
    }

    /// Notes in the ledger what a request brought.
    fn note_answer(&mut self, key: u64, reply: &Reply) {
        let (Some(request), Reply::Method(answer)) = (self.requests.get_mut(key), reply) else { return };
        let payload = std::mem::take(&mut request.payload);
        match self.channels.get_mut(usize::from(request.channel)) {
            Some(Some(channel)) if !payload.is_empty() => {
                self.recovery.ledger.note(&payload, answer, &mut channel.last_queue);
            }
            _ => {}
        }
    }

    fn channel_closed(&mut self, channel: u16, reason: &CloseReason) {
        let text = format!("the broker closed channel {channel}: {}", describe(reason));
        warn!(channel, code = reason.code, "{text}");
        let error = Error::with_code(ErrorKind::ChannelClosed, reason.code, text);
        self.end_channel(channel, &error);
        self.tell(&Event::ChannelClosed { channel, error });
    }

    fn closed_by_broker(&self, reason: &CloseReason) -> Error {
        let text = describe(reason);
        if self.opened {
            return Error::with_code(
                ErrorKind::ConnectionClosed,
                reason.code,
                format!("the broker closed the connection: {text}"),
            );
        }
        let kind = match reason.code {
            code::ACCESS_REFUSED => ErrorKind::Authentication,
            _ => ErrorKind::ConnectionClosed,
        };
        let refusal = Refusal::of(reason);
        let guess = match refusal {
            // RabbitMQ sends the same text for each of these causes.
            Some(Refusal::Credentials) => {
                " (a wrong user name or password, or a user who may not connect from this machine: RabbitMQ accepts \
                 `guest` only from its own machine)"
            }
            _ => "",
        };
        Error::refused(kind, reason.code, format!("the broker refused the connection: {text}{guess}"), refusal)
    }

    /// What is late at `now` ends with [`ErrorKind::Timeout`].
    pub(crate) fn expire(&mut self, now: Time) {
        while let Some(&(deadline, key)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(request) = self.requests.get_mut(key) else { continue };
            if request.abandoned || request.outcome.is_some() {
                continue;
            }
            let late = match request.kind {
                _ if !request.sent => "the link to the broker was lost and not replaced in time",
                RequestKind::Room => "the message was not accepted in time: the network or the broker is too slow",
                RequestKind::Confirm => {
                    "the broker did not confirm the message in time: the message may or may not have been stored"
                }
                _ if self.buffered > 0 => {
                    "the broker did not answer in time; deliveries that no consumer takes are ahead of the answer"
                }
                _ => "the broker did not answer in time",
            };
            request.answered |= !request.sent || request.kind == RequestKind::Room;
            let error = match &self.blocked {
                Some(Blocked { reason, .. }) if request.kind == RequestKind::Room => {
                    let text = format!("the message was not accepted in time: the broker blocks publishing ({reason})");
                    Error::new(ErrorKind::Timeout, text)
                }
                Some(Blocked { reason, .. }) => {
                    Error::new(ErrorKind::Timeout, format!("{late}; the broker blocks publishing ({reason})"))
                }
                None => Error::new(ErrorKind::Timeout, late),
            };
            request.outcome = Some(Err(error));
            self.wakes.extend(request.waker.take());
        }
    }
}

/// Returned messages that a channel keeps for [`Channel::returns`](crate::Channel::returns).
const MAX_RETURNS: usize = 1024;

/// `404 NOT_FOUND - no queue 'x' in vhost '/' (queue.declare)`
fn describe(reason: &CloseReason) -> String {
    let CloseReason { code, text, method } = reason;
    if method.is_known() { format!("{code} {text} ({method})") } else { format!("{code} {text}") }
}

/// This program closed the connection, and perhaps not all was done by then.
pub(crate) fn closed_here(unconfirmed: usize, flushed: bool) -> Error {
    let closed = "the connection was closed by this program";
    match (unconfirmed, flushed) {
        (0, true) => Error::new(ErrorKind::Closed, closed),
        (0, false) => Error::new(ErrorKind::Timeout, format!("{closed}, while not all could be written in time")),
        (count, _) => {
            Error::new(ErrorKind::Timeout, format!("{closed}, while {count} publishes were not confirmed in time"))
        }
    }
}

/// The payload of an answer.
pub(crate) fn payload(reply: &Reply) -> Result<&Bytes> {
    match reply {
        Reply::Method(payload) => Ok(payload),
        Reply::Got { .. } | Reply::Room => Err(Error::new(ErrorKind::Protocol, "an answer of another kind")),
    }
}
