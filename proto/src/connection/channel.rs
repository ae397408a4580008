//! One channel: what it waits for, what it delivers and what it published.
//!
//! Owns the replies that are due (in the order of the requests, because that is how the peer answers), the consumers,
//! the unacked deliveries and the unconfirmed publishes. It must never know the connection, or other channels.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::method::MethodId;
use crate::tags::TagSet;
use crate::{Content, Error, code};

/// Requests without an answer that a channel may have.
const MAX_PENDING: usize = 65_536;

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `channel.open` is sent; requests may follow it at once.
    Opening,
    Open,
    /// `channel.close` is sent: everything but the answer is dropped.
    Closing,
}

/// A channel. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) phase: Phase,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) unacked: TagSet,
    pub(crate) confirms: Option<Confirms>,
    pub(crate) transactional: bool,
    /// Whether the peer lets us publish (`channel.flow`).
    pub(crate) flow: bool,
}

/// A request that the peer has not answered.
#[derive(Debug)]
pub(crate) struct Pending {
    /// What the caller calls it; `None` if nobody wants the answer.
    pub(crate) request: Option<u64>,
    pub(crate) expects: MethodId,
    /// `basic.get` without acknowledgement: its message is settled on arrival.
    pub(crate) no_ack: bool,
}

/// A consumer that the broker delivers to.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) tag: Box<[u8]>,
    pub(crate) key: u64,
    pub(crate) no_ack: bool,
}

impl Channel {
    pub(crate) fn new(phase: Phase) -> Self {
        Self {
            phase,
            pending: VecDeque::new(),
            consumers: Vec::new(),
            unacked: TagSet::default(),
            confirms: None,
            transactional: false,
            flow: true,
        }
    }

    pub(crate) fn expect(&mut self, request: Option<u64>, expects: MethodId) -> Result<(), Error> {
        if self.pending.len() >= MAX_PENDING {
            return Err(Error::caller("65,536 requests of this channel wait for an answer: await some of them first"));
        }
        self.pending.push_back(Pending { request, expects, no_ack: false });
        Ok(())
    }

    /// Matches an answer with the oldest request.
    pub(crate) fn answer(&mut self, reply: MethodId) -> Result<Option<u64>, Error> {
        match self.pending.pop_front() {
            Some(pending) if pending.expects == reply || pending.expects == GET_OK && reply == GET_EMPTY => {
                Ok(pending.request)
            }
            Some(pending) => Err(Error::peer(
                code::UNEXPECTED_FRAME,
                format!("{} where {} was due", reply.name(), pending.expects.name()),
            )),
            None => Err(Error::peer(code::UNEXPECTED_FRAME, format!("{} that nobody asked for", reply.name()))),
        }
    }

    #[inline]
    pub(crate) fn consumer(&mut self, tag: &[u8]) -> Option<&Consumer> {
        let index = self.consumers.iter().position(|consumer| *consumer.tag == *tag)?;
        // The busiest consumers gather at the front.
        let front = index / 2;
        if index != front {
            self.consumers.swap(index, front);
        }
        self.consumers.get(front)
    }

    pub(crate) fn remove_consumer(&mut self, tag: &[u8]) -> Option<Consumer> {
        let index = self.consumers.iter().position(|consumer| *consumer.tag == *tag)?;
        Some(self.consumers.swap_remove(index))
    }

    /// Notes a delivery that is to be acked.
    #[inline]
    pub(crate) fn delivered(&mut self, tag: u64) -> Result<(), Error> {
        if self.unacked.insert(tag) {
            return Ok(());
        }
        Err(Error::peer(code::COMMAND_INVALID, format!("delivery tag {tag} again, or out of any order")))
    }

    /// Settles a delivery, or all up to it. Checked here, because an unknown tag would cost the channel (406).
    #[inline]
    pub(crate) fn settle(&mut self, tag: u64, multiple: bool) -> Result<(), Error> {
        let known = match multiple {
            true => self.unacked.contains(tag) && self.unacked.remove_up_to(tag) > 0,
            false => self.unacked.remove(tag),
        };
        if known {
            return Ok(());
        }
        Err(Error::caller(format!("delivery {tag} was settled before, or requeued by recover")))
    }
}

/// The publishes of a channel in confirm mode.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The tag of the next publish. The first is 1.
    next: u64,
    pub(crate) outstanding: TagSet,
    mandatory: VecDeque<Mandatory>,
    hasher: RandomState,
}

/// What is remembered of a mandatory publish, to know it again if it comes back: `basic.return` has no tag.
#[derive(Debug)]
struct Mandatory {
    tag: u64,
    route: u64,
    body: u64,
}

impl Confirms {
    pub(crate) fn new() -> Self {
        Self { next: 1, outstanding: TagSet::default(), mandatory: VecDeque::new(), hasher: RandomState::new() }
    }

    /// Counts a publish.
    #[inline]
    pub(crate) fn published(&mut self) -> u64 {
        let tag = self.next;
        self.next += 1;
        self.outstanding.insert(tag);
        tag
    }

    pub(crate) fn remember(&mut self, tag: u64, exchange: &[u8], routing_key: &[u8], body: &[u8]) {
        let route = self.hasher.hash_one((exchange, routing_key));
        self.mandatory.push_back(Mandatory { tag, route, body: self.hasher.hash_one(body) });
    }

    /// Settles a publish, or all up to it. Returns the range of tags, or `None` if none of them was outstanding.
    pub(crate) fn settle(&mut self, tag: u64, multiple: bool) -> Result<Option<(u64, u64)>, Error> {
        if tag >= self.next {
            return Err(Error::peer(
                code::COMMAND_INVALID,
                format!("a confirm of publish {tag}, where {} were made", self.next - 1),
            ));
        }
        // Zero with `multiple` means all so far (specification, section 1.8.3.13).
        let last = if tag == 0 { self.next - 1 } else { tag };
        let first = self.outstanding.first().unwrap_or(last);
        let settled = if multiple { self.outstanding.remove_up_to(last) > 0 } else { self.outstanding.remove(tag) };
        while self.mandatory.front().is_some_and(|publish| !self.outstanding.contains(publish.tag)) {
            self.mandatory.pop_front();
        }
        Ok(settled.then_some(if multiple { (first, last) } else { (tag, tag) }))
    }

    /// Finds the publish that a returned message was. The broker returns in the order of publishing and before it
    /// confirms, so it is the oldest unconfirmed mandatory one with that route and body; two that are alike in all
    /// of it may be told apart by nobody.
    pub(crate) fn returned(&mut self, content: &Content) -> Option<u64> {
        let arguments = content.arguments();
        let route = self.hasher.hash_one((arguments.exchange, arguments.routing_key));
        let body = self.hasher.hash_one(&content.body()[..]);
        let outstanding = &self.outstanding;
        let index = self
            .mandatory
            .iter()
            .position(|publish| publish.route == route && publish.body == body && outstanding.contains(publish.tag))?;
        self.mandatory.remove(index).map(|publish| publish.tag)
    }
}

const GET_OK: MethodId = MethodId { class: 60, method: 71 };
const GET_EMPTY: MethodId = MethodId { class: 60, method: 72 };

/// The method that answers a request.
pub(crate) fn reply_of(request: MethodId) -> MethodId {
    let method = match (request.class, request.method) {
        // exchange.unbind-ok is the one that does not follow its request (RabbitMQ's extension).
        (40, 40) => 51,
        (_, method) => method + 1,
    };
    MethodId { method, ..request }
}
