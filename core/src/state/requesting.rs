//! Requests: sending, answering, timing out, and undoing abandoned ones.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use hopmq_proto::method::{Encode, MethodId};
use hopmq_proto::{Quoted, Time};

use super::channels::ChannelId;
use super::consumers::ConsumerEnd;
use super::keys::{self, RequestKey};
use super::requests::{Reply, RequestKind, transmit};
use super::{Shared, State};
use crate::error::{Error, ErrorKind, Result};

impl Shared {
    /// Makes a request on a channel.
    pub(crate) fn request(
        &self,
        channel: &ChannelId,
        method: &impl Encode,
        kind: RequestKind,
        deadline: Time,
    ) -> Result<RequestKey> {
        self.on_channel(channel, |state| state.request(channel.number, method, kind, deadline))
    }

    /// Makes a request about the connection itself.
    pub(crate) fn request_of_connection(&self, method: &impl Encode, deadline: Time) -> Result<RequestKey> {
        self.with(|state| {
            self.check_open(state)?;
            state.request(0, method, RequestKind::Plain, deadline)
        })
    }

    /// Returns the outcome of a request to its future, which waits for it.
    pub(crate) fn poll_request(&self, key: RequestKey, waker: &Waker) -> Poll<Result<Reply>> {
        let polled = self.with_flush(|state| state.poll_request(key, waker));
        if polled.is_pending() && self.note_wait(waker) {
            return self.with(|state| state.poll_request(key, waker));
        }
        polled
    }

    /// Sets an alarm for the end of a wait: a request that ends at that time, or with the channel.
    pub(crate) fn set_alarm(&self, channel: &ChannelId, at: Time) -> RequestKey {
        self.with(|state| state.insert_request(channel.number, RequestKind::Alarm, at))
    }

    /// Abandons a request whose future was dropped.
    pub(crate) fn abandon(&self, key: RequestKey) {
        self.with(|state| state.abandon(key));
    }
}

impl State {
    /// Inserts a request with its deadline.
    pub(super) fn insert_request(&mut self, channel: u16, kind: RequestKind, deadline: Time) -> RequestKey {
        let serial = self.channels.get(channel).map_or(0, |channel| channel.serial);
        self.driver.request_before(deadline);
        self.requests.insert(channel, serial, kind, deadline)
    }

    pub(super) fn remove_request(&mut self, key: RequestKey) {
        self.requests.remove(key, &mut self.wakers);
    }

    pub(super) fn settle_request(&mut self, key: RequestKey, outcome: Result<Reply>) {
        self.requests.settle(key, outcome, &mut self.wakers);
    }

    pub(super) fn poll_request(&mut self, key: RequestKey, waker: &Waker) -> Poll<Result<Reply>> {
        self.requests.poll(key, waker, &mut self.wakers)
    }

    /// Sends a request to the broker: now, or once there is a link.
    pub(super) fn request<M: Encode>(
        &mut self,
        channel: u16,
        method: &M,
        kind: RequestKind,
        deadline: Time,
    ) -> Result<RequestKey> {
        let mut payload = Vec::new();
        match method.encode(&mut payload) {
            Ok(()) => self.request_encoded(channel, payload, kind, deadline),
            Err(error) => Err(not_encodable(M::ID, &error)),
        }
    }

    fn request_encoded(
        &mut self,
        channel: u16,
        payload: Vec<u8>,
        kind: RequestKind,
        deadline: Time,
    ) -> Result<RequestKey> {
        let is_sent = self.is_up() && self.awaits(channel, &payload).is_none();
        let key = self.insert_request(channel, kind, deadline);
        if is_sent && let Err(error) = transmit(&mut self.proto, channel, kind, &payload, keys::number(key)) {
            self.remove_request(key);
            return Err(error);
        }
        let order = self.requests.next_order();
        if let Some(request) = self.requests.get_mut(key) {
            request.payload = payload;
            request.sent = is_sent;
            request.order = order;
        }
        Ok(key)
    }

    /// Handles the broker's reply to a request.
    pub(super) fn answer(&mut self, key: RequestKey, reply: Reply) {
        let Some(request) = self.requests.get_mut(key) else { return };
        let channel = (request.channel, request.serial);
        let kind = request.kind;
        let abandoned = request.abandoned;
        request.answered = true;
        // The request timed out, and its future has not been polled since.
        let late = request.outcome.is_some();
        self.record_declaration(key, &reply);
        match kind {
            RequestKind::Cancel(consumer) => self.end_consumer(consumer, ConsumerEnd::Cancelled),
            RequestKind::Consume(consumer) => {
                if let Some(consumer) = self.consumers.get_mut(consumer) {
                    consumer.start.granted = true;
                }
            }
            _ => {}
        }
        if abandoned || late {
            self.undo(channel, kind, &reply);
        }
        self.settle_request(key, Ok(reply));
    }

    /// Records in the ledger what a request declared.
    fn record_declaration(&mut self, key: RequestKey, reply: &Reply) {
        let (Some(request), Reply::Method(answer)) = (self.requests.get_mut(key), reply) else { return };
        let payload = std::mem::take(&mut request.payload);
        if let Some(channel) = self.channels.get_mut(request.channel)
            && !payload.is_empty()
        {
            self.ledger.record(&payload, answer, &mut channel.last_queue);
        }
    }

    /// Handles the drop of a request's future: undoes the result of the reply, now or when the reply arrives.
    pub(super) fn abandon(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get_mut(key) else { return };
        if matches!(request.kind, RequestKind::Room | RequestKind::Alarm) {
            self.remove_request(key);
            return;
        }
        request.abandoned = true;
        if request.answered {
            let channel = (request.channel, request.serial);
            let kind = request.kind;
            if let Some(Ok(reply)) = request.outcome.take() {
                self.undo(channel, kind, &reply);
            }
            self.remove_request(key);
        }
    }

    /// Undoes the result of a reply that no future takes.
    fn undo(&mut self, (channel, serial): (u16, u64), kind: RequestKind, reply: &Reply) {
        // A closed channel has nothing to undo, and another channel may have its number.
        let present = self.channels.find(channel, serial).map(|channel| channel.end.epoch());
        let _ = match (kind, reply) {
            (RequestKind::OpenChannel | RequestKind::Get { .. }, _) if present.is_none() => Ok(()),
            (RequestKind::OpenChannel, _) => self.close_channel(channel),
            (RequestKind::Consume(key), _) => {
                self.drop_consumer(key, VecDeque::new());
                Ok(())
            }
            // The broker redelivers a message of an earlier link, whose tag another delivery has now.
            (RequestKind::Get { no_ack: false }, Reply::Got { content, epoch }) if Some(*epoch) == present => {
                self.proto.reject(channel, content.arguments().delivery_tag, true)
            }
            _ => Ok(()),
        };
    }

    /// Ends the requests of one channel, or all, with `error`.
    pub(super) fn fail_requests(&mut self, channel: Option<u16>, error: &Error) {
        for (_, request) in self.requests.iter() {
            if let RequestKind::Consume(consumer) = request.kind
                && channel.is_none_or(|number| number == request.channel)
                && !request.answered
            {
                // The consumer has no handle, and will get none.
                self.consumers.remove(consumer);
            }
        }
        self.requests.fail(channel, error, &mut self.wakers);
    }

    /// Describes the queue that a request waits for on a link, if it waits for one.
    fn awaited_by(&self, key: RequestKey) -> Option<String> {
        let request = self.requests.get(key).filter(|request| !request.sent && self.is_up())?;
        let (queue, error) = match request.kind {
            RequestKind::Consume(consumer) => {
                let queue = self.consumers.get(consumer)?.start.queue.as_str();
                (queue, self.awaited.reason(queue)?)
            }
            _ => self.awaits(request.channel, &request.payload)?,
        };
        let queue = Quoted(queue);
        Some(format!("the link was lost, and queue {queue} could not be restored in time: {error}"))
    }

    /// Ends the requests whose deadline has passed at `now` with [`ErrorKind::Timeout`].
    pub(crate) fn expire(&mut self, now: Time) {
        while let Some(key) = self.requests.pop_late(now) {
            let awaited = self.awaited_by(key);
            let Some(request) = self.requests.get_mut(key) else { continue };
            request.answered |= !request.sent || request.kind == RequestKind::Room;
            if let Some(text) = awaited {
                self.requests.fail_late(key, Error::new(ErrorKind::Timeout, text), &mut self.wakers);
                continue;
            }
            let late = match request.kind {
                _ if !request.sent => "the link to the broker was lost and not replaced in time",
                RequestKind::Room => "the message was not accepted in time",
                RequestKind::Alarm => {
                    "the broker did not confirm the message in time: the message may or may not have been stored"
                }
                _ if self.consumers.buffered() > 0 => {
                    "the broker did not answer in time; deliveries that no consumer takes are ahead of the answer"
                }
                _ => "the broker did not answer in time",
            };
            let text = match self.blocking.reason() {
                Some(reason) => format!("{late}; the broker blocks publishing ({reason})"),
                None if request.kind == RequestKind::Room => format!("{late}; the network or the broker is too slow"),
                None => late.to_owned(),
            };
            let error = Error::new(ErrorKind::Timeout, text);
            self.requests.fail_late(key, error, &mut self.wakers);
        }
    }
}

#[cold]
fn not_encodable(id: MethodId, error: &hopmq_proto::Error) -> Error {
    Error::new(ErrorKind::Usage, format!("{}: {}", id.name(), error.message()))
}
