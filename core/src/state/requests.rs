//! Requests to the broker: who waits for which answer, and until when.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use bytes::Bytes;
use hopmq_proto::method::{Encode, Method, MethodId};
use hopmq_proto::{Content, Time};

use super::{State, register};
use crate::{Error, ErrorKind, Result};

/// A request that waits for its answer, or whose answer waits for its future.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) channel: u16,
    /// Which channel of that number.
    pub(crate) serial: u64,
    pub(crate) kind: RequestKind,
    pub(crate) deadline: Time,
    pub(crate) waker: Option<Waker>,
    pub(crate) outcome: Option<Result<Reply>>,
    /// Nobody waits any more; what the answer brings is to be undone.
    pub(crate) abandoned: bool,
    /// Whether the broker has answered, or never will.
    pub(crate) answered: bool,
    /// The method, to be sent again on a new link; empty for what is no request to the broker.
    pub(crate) payload: Vec<u8>,
    /// Whether it was sent on the present link.
    pub(crate) sent: bool,
    /// Which one it is of all requests.
    pub(crate) order: u64,
}

/// What the answer to a request means to this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Plain,
    OpenChannel,
    Consume(u64),
    Cancel(u64),
    Get {
        no_ack: bool,
    },
    /// Not a request to the broker: a publisher that waits until it may go on.
    Room,
    /// Not a request to the broker: the deadline of a confirm.
    Confirm,
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Method(Bytes),
    Got {
        content: Content,
        /// The channel's, when it came.
        epoch: u32,
    },
    Room,
}

impl State {
    /// Notes a request and its deadline.
    pub(crate) fn insert_request(&mut self, channel: u16, kind: RequestKind, deadline: Time) -> u64 {
        let serial = self.channels.get(usize::from(channel)).and_then(Option::as_ref).map_or(0, |known| known.serial);
        let request = Request {
            channel,
            serial,
            kind,
            deadline,
            waker: None,
            outcome: None,
            abandoned: false,
            answered: false,
            payload: Vec::new(),
            sent: true,
            order: 0,
        };
        let key = self.requests.insert(request);
        self.deadlines.insert((deadline, key));
        self.nudge |= deadline < self.alarm;
        key
    }

    pub(crate) fn remove_request(&mut self, key: u64) {
        if let Some(request) = self.requests.remove(key) {
            self.deadlines.remove(&(request.deadline, key));
            self.spent.extend(request.waker);
        }
    }

    /// Makes a request of the broker: now, or when there is a link again.
    pub(crate) fn request<M: Encode>(
        &mut self,
        channel: u16,
        method: &M,
        kind: RequestKind,
        deadline: Time,
    ) -> Result<u64> {
        let mut payload = Vec::new();
        match method.encode(&mut payload) {
            Ok(()) => self.request_encoded(channel, payload, kind, deadline),
            Err(error) => Err(not_encodable(M::ID, &error)),
        }
    }

    /// The same with the payload of the method's frame.
    fn request_encoded(&mut self, channel: u16, payload: Vec<u8>, kind: RequestKind, deadline: Time) -> Result<u64> {
        let key = self.insert_request(channel, kind, deadline);
        if self.up
            && let Err(error) = transmit(&mut self.proto, channel, kind, &payload, key)
        {
            self.remove_request(key);
            return Err(error);
        }
        self.recovery.order += 1;
        if let Some(request) = self.requests.get_mut(key) {
            (request.payload, request.sent, request.order) = (payload, self.up, self.recovery.order);
        }
        Ok(key)
    }

    /// A request is carried out, as far as anybody can tell without the broker.
    pub(crate) fn settle_request(&mut self, key: u64, outcome: Result<Reply>) {
        let Some(request) = self.requests.get_mut(key) else { return };
        request.answered = true;
        if request.abandoned {
            self.remove_request(key);
        } else {
            self.deadlines.remove(&(request.deadline, key));
            request.outcome.get_or_insert(outcome);
            self.wakes.extend(request.waker.take());
        }
    }

    /// The answer to a request, for its future.
    pub(crate) fn poll_request(&mut self, key: u64, waker: &Waker) -> Poll<Result<Reply>> {
        let Some(request) = self.requests.get_mut(key) else {
            return Poll::Ready(Err(Error::new(ErrorKind::Usage, "a request was polled after it ended")));
        };
        match request.outcome.take() {
            Some(outcome) => {
                if request.answered {
                    self.remove_request(key);
                } else {
                    request.abandoned = true;
                }
                Poll::Ready(outcome)
            }
            None => {
                register(&mut request.waker, waker, &mut self.spent);
                Poll::Pending
            }
        }
    }

    /// A publisher that waits may go on.
    pub(crate) fn admit(&mut self, key: u64) {
        let Some(request) = self.requests.get_mut(key) else { return };
        request.answered = true;
        request.outcome.get_or_insert(Ok(Reply::Room));
        self.wakes.extend(request.waker.take());
        self.deadlines.remove(&(request.deadline, key));
    }

    /// The future of a request is gone: what its answer brings is undone, now or when it comes.
    pub(crate) fn abandon(&mut self, key: u64) {
        let Some(request) = self.requests.get_mut(key) else { return };
        if matches!(request.kind, RequestKind::Room | RequestKind::Confirm) {
            self.remove_request(key);
            return;
        }
        request.abandoned = true;
        if request.answered {
            let (channel, kind) = ((request.channel, request.serial), request.kind);
            if let Some(Ok(reply)) = request.outcome.take() {
                self.undo(channel, kind, &reply);
            }
            self.remove_request(key);
        }
    }

    /// Undoes what an answer brought that nobody waits for.
    pub(crate) fn undo(&mut self, (channel, serial): (u16, u64), kind: RequestKind, reply: &Reply) {
        // A channel that is closed has nothing left to undo, and its number may be another's by now.
        let is_open = self.channel(channel, serial).is_some();
        let _ = match (kind, reply) {
            (RequestKind::OpenChannel | RequestKind::Get { .. }, _) if !is_open => Ok(()),
            (RequestKind::OpenChannel, _) => self.close_channel(channel),
            (RequestKind::Consume(key), _) => {
                self.drop_consumer(key, VecDeque::new());
                Ok(())
            }
            (RequestKind::Get { no_ack: false }, Reply::Got { content, .. }) => {
                self.proto.reject(channel, content.arguments().delivery_tag, true)
            }
            _ => Ok(()),
        };
    }

    /// Ends the requests of one channel, or all, with the same reason.
    pub(super) fn fail_requests(&mut self, channel: Option<u16>, error: &Error) {
        let mut gone = Vec::new();
        for (key, request) in self.requests.iter_mut() {
            if channel.is_some_and(|number| number != request.channel) {
                continue;
            }
            if let RequestKind::Consume(consumer) = request.kind
                && !request.answered
            {
                // Nobody has a handle of it, and nobody will.
                self.consumers.remove(consumer);
            }
            request.answered = true;
            if request.abandoned {
                gone.push(key);
            } else if request.outcome.is_none() {
                request.outcome = Some(Err(error.clone()));
                self.wakes.extend(request.waker.take());
            }
        }
        for key in gone {
            self.remove_request(key);
        }
    }
}

#[cold]
fn not_encodable(id: MethodId, error: &hopmq_proto::Error) -> Error {
    Error::new(ErrorKind::Usage, format!("{}: {}", id.name(), error.message()))
}

/// Sends the method of a request.
pub(crate) fn transmit(
    proto: &mut hopmq_proto::Connection,
    channel: u16,
    kind: RequestKind,
    payload: &[u8],
    key: u64,
) -> Result<()> {
    let sent = match MethodId::peek(payload)? {
        MethodId::CHANNEL_OPEN => proto.open_channel(channel, key),
        MethodId::TX_SELECT => proto.tx_select(channel, Some(key)),
        MethodId::BASIC_CANCEL | MethodId::BASIC_CONSUME | MethodId::BASIC_GET => {
            match (Method::decode(payload)?, kind) {
                (Method::BasicCancel(cancel), _) => proto.cancel(channel, cancel.consumer_tag, Some(key)),
                (Method::BasicGet(get), _) => proto.get(channel, &get, Some(key)),
                (Method::BasicConsume(consume), RequestKind::Consume(consumer)) => {
                    proto.consume(channel, &consume, consumer, Some(key))
                }
                _ => Ok(()),
            }
        }
        _ => proto.request_encoded(channel, payload, Some(key)),
    };
    Ok(sent?)
}
