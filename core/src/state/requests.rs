//! Requests to the broker, and their deadlines.

use std::task::{Poll, Waker};

use bytes::Bytes;
use hopmq_proto::method::{Method, MethodId};
use hopmq_proto::{Content, SortedSet, Time};
use slotmap::SlotMap;

use super::keys::{self, ConsumerKey, RequestKey};
use super::wakers::Wakers;
use crate::error::{Error, ErrorKind, Result};

/// The requests that wait for their reply, or whose reply waits for its future.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    slots: SlotMap<RequestKey, Request>,
    /// The deadlines of the requests without an outcome, with the numbers of their keys.
    deadlines: SortedSet<(Time, u64)>,
    order: u64,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) channel: u16,
    /// The serial number of the channel.
    pub(super) serial: u64,
    pub(super) kind: RequestKind,
    deadline: Time,
    waker: Option<Waker>,
    pub(super) outcome: Option<Result<Reply>>,
    /// Whether the future was dropped: the result of the reply must be undone.
    pub(super) abandoned: bool,
    /// Whether the broker has answered, or never will.
    pub(super) answered: bool,
    /// The method, to be sent again on a new link; empty if there is none.
    pub(super) payload: Vec<u8>,
    /// Whether the method was sent on the present link.
    pub(super) sent: bool,
    /// The number of the request in the order of all requests.
    pub(super) order: u64,
}

/// How the reply to a request is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Plain,
    OpenChannel,
    Consume(ConsumerKey),
    Cancel(ConsumerKey),
    Get {
        no_ack: bool,
    },
    /// No request to the broker: a publisher waits for room.
    Room,
    /// No request to the broker: the deadline of a confirm, or the end of another wait.
    Alarm,
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Method(Bytes),
    Got {
        content: Content,
        /// The channel's epoch when the message arrived.
        epoch: u32,
    },
    /// The request is done, without a result.
    Done,
}

/// The protocol's key for methods of a replay, for whose replies no request waits.
pub(crate) const REPLAY: u64 = u64::MAX;

impl Reply {
    /// Returns the payload of the answer's method.
    pub(crate) fn payload(&self) -> Result<&Bytes> {
        match self {
            Self::Method(payload) => Ok(payload),
            Self::Got { .. } | Self::Done => Err(Error::new(ErrorKind::Protocol, "unexpected reply type")),
        }
    }
}

impl Requests {
    pub(super) fn insert(&mut self, channel: u16, serial: u64, kind: RequestKind, deadline: Time) -> RequestKey {
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
        let key = self.slots.insert(request);
        self.deadlines.insert((deadline, keys::number(key)));
        key
    }

    pub(super) fn remove(&mut self, key: RequestKey, wakers: &mut Wakers) {
        if let Some(request) = self.slots.remove(key) {
            self.deadlines.remove(&(request.deadline, keys::number(key)));
            wakers.discard(request.waker);
        }
    }

    pub(super) fn get(&self, key: RequestKey) -> Option<&Request> {
        self.slots.get(key)
    }

    pub(super) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Request> {
        self.slots.get_mut(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestKey, &Request)> {
        self.slots.iter()
    }

    /// Returns the next number in the order of all requests.
    pub(super) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Ends a request.
    pub(super) fn settle(&mut self, key: RequestKey, outcome: Result<Reply>, wakers: &mut Wakers) {
        let Some(request) = self.slots.get_mut(key) else { return };
        request.answered = true;
        if request.abandoned {
            self.remove(key, wakers);
        } else {
            self.deadlines.remove(&(request.deadline, keys::number(key)));
            request.outcome.get_or_insert(outcome);
            wakers.wake(&mut request.waker);
        }
    }

    /// Ends a request that the broker has not answered, and may still answer.
    pub(super) fn fail_late(&mut self, key: RequestKey, error: Error, wakers: &mut Wakers) {
        let Some(request) = self.slots.get_mut(key) else { return };
        request.outcome = Some(Err(error));
        wakers.wake(&mut request.waker);
    }

    /// Returns the outcome of a request to its future.
    pub(super) fn poll(&mut self, key: RequestKey, waker: &Waker, wakers: &mut Wakers) -> Poll<Result<Reply>> {
        let Some(request) = self.slots.get_mut(key) else {
            return Poll::Ready(Err(Error::new(ErrorKind::Usage, "a request was polled after it ended")));
        };
        match request.outcome.take() {
            Some(outcome) => {
                if request.answered {
                    self.remove(key, wakers);
                } else {
                    request.abandoned = true;
                }
                Poll::Ready(outcome)
            }
            None => {
                wakers.register(&mut request.waker, waker);
                Poll::Pending
            }
        }
    }

    /// Ends the requests of one channel, or all, with `error`.
    pub(super) fn fail(&mut self, channel: Option<u16>, error: &Error, wakers: &mut Wakers) {
        let mut gone = Vec::new();
        for (key, request) in self.slots.iter_mut() {
            if channel.is_some_and(|number| number != request.channel) {
                continue;
            }
            request.answered = true;
            if request.abandoned {
                gone.push(key);
            } else if request.outcome.is_none() {
                request.outcome = Some(Err(error.clone()));
                wakers.wake(&mut request.waker);
            }
        }
        for key in gone {
            self.remove(key, wakers);
        }
    }

    #[inline]
    pub(super) fn first_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Returns how many requests have no outcome.
    pub(super) fn unanswered(&self) -> usize {
        self.deadlines.len()
    }

    /// Takes a deadline that has passed at `now`. Returns the request without an outcome that it was set for.
    pub(super) fn pop_late(&mut self, now: Time) -> Option<RequestKey> {
        while let Some(&(deadline, number)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let key = keys::of_number(number);
            if self.slots.get(key).is_some_and(|request| !request.abandoned && request.outcome.is_none()) {
                return Some(key);
            }
        }
        None
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.slots.len(), self.deadlines.len())
    }
}

/// Sends the method of a request.
pub(crate) fn transmit(
    proto: &mut hopmq_proto::Connection,
    channel: u16,
    kind: RequestKind,
    payload: &[u8],
    number: u64,
) -> Result<()> {
    let sent = match MethodId::peek(payload)? {
        MethodId::CHANNEL_OPEN => proto.open_channel(channel, number),
        MethodId::TX_SELECT => proto.tx_select(channel, Some(number)),
        MethodId::BASIC_CANCEL | MethodId::BASIC_CONSUME | MethodId::BASIC_GET => {
            match (Method::decode(payload)?, kind) {
                (Method::BasicCancel(cancel), _) => proto.cancel(channel, cancel.consumer_tag, Some(number)),
                (Method::BasicGet(get), _) => proto.get(channel, &get, Some(number)),
                (Method::BasicConsume(consume), RequestKind::Consume(consumer)) => {
                    proto.consume(channel, &consume, keys::number(consumer), Some(number))
                }
                _ => Ok(()),
            }
        }
        _ => proto.request_encoded(channel, payload, Some(number)),
    };
    Ok(sent?)
}
