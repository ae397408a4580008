//! The state of one channel: pending requests, consumers, unacked deliveries and unconfirmed publishes.
//!
//! Pending requests keep their order, because the peer replies in that order. This module must never know the
//! connection, or other channels.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use super::consumers::{Consumer, Consumers};
use crate::content::Content;
use crate::error::{Error, code};
use crate::method_id::MethodId;
use crate::properties::Properties;
use crate::tags::TagSet;
use crate::violation::Violation;

/// How many requests of a channel may wait for a reply.
pub(crate) const MAX_PENDING: usize = 65_536;
/// How many ended consumers without acks a channel remembers.
const ENDED_KEPT: usize = 32;

/// The lifecycle of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `channel.open` is sent; requests may follow immediately.
    Opening,
    Open,
    /// `channel.close` is sent; everything but its reply is dropped.
    Closing,
}

/// A channel. See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) phase: Phase,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) consumers: Consumers,
    /// The number of consumers that the channel ever started.
    pub(crate) started: u64,
    pub(crate) unacked: TagSet,
    pub(crate) confirms: Option<Confirms>,
    pub(crate) transactional: bool,
    /// Deliveries settled since the last commit. A rollback makes them unacked again.
    pub(crate) uncommitted: TagSet,
    /// `basic.recover` requests without a reply. The broker requeues what arrives meanwhile before an ack can reach it.
    pub(crate) recovering: u32,
    /// The tags of ended consumers without acks, the latest first.
    pub(crate) ended_no_ack: VecDeque<Box<[u8]>>,
    /// Whether the broker allows publishing (`channel.flow`).
    pub(crate) flow: bool,
}

/// A request that waits for its reply.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The caller's key of the request; `None` if the caller ignores the reply.
    pub(crate) request: Option<u64>,
    pub(crate) expects: MethodId,
    /// Whether this is a `basic.get` without acks, whose message is settled on arrival.
    pub(crate) no_ack: bool,
    /// The value of [`Channel::started`] at the time of the request.
    pub(crate) started: u64,
    /// The tag of the consumer that the request starts or cancels.
    pub(crate) consumer: Option<Box<[u8]>>,
}

impl Channel {
    pub(crate) fn new(phase: Phase) -> Self {
        Self {
            phase,
            pending: VecDeque::new(),
            consumers: Consumers::default(),
            started: 0,
            unacked: TagSet::default(),
            confirms: None,
            transactional: false,
            uncommitted: TagSet::default(),
            recovering: 0,
            ended_no_ack: VecDeque::new(),
            flow: true,
        }
    }

    pub(crate) fn expect(&mut self, request: Option<u64>, expects: MethodId) {
        let started = self.started;
        self.pending.push_back(Pending { request, expects, no_ack: false, started, consumer: None });
    }

    /// Sets the consumer of the latest request.
    pub(crate) fn expect_of_consumer(&mut self, tag: &[u8]) {
        if let Some(pending) = self.pending.back_mut() {
            pending.consumer = Some(tag.into());
        }
    }

    /// Matches a reply with its request, and removes the request.
    ///
    /// In RabbitMQ, the process of the queue replies to `basic.consume` and `basic.cancel`, possibly after the replies
    /// to later requests. So those replies match by consumer; all others match the oldest request.
    pub(crate) fn take_pending(&mut self, reply: MethodId, consumer: Option<&[u8]>) -> Result<Pending, Error> {
        let fits = |pending: &Pending| match consumer {
            None => pending.consumer.is_none(),
            Some(_) => pending.consumer.as_deref() == consumer && pending.expects == reply,
        };
        let index = self.pending.iter().position(fits);
        match index.and_then(|index| self.pending.remove(index)) {
            Some(pending) if answers(reply, pending.expects) => Ok(pending),
            Some(pending) => Err(wrong_reply(reply, pending.expects)),
            None => Err(unexpected(reply)),
        }
    }

    pub(crate) fn remove_consumer(&mut self, tag: &[u8]) -> Option<Consumer> {
        let consumer = self.consumers.remove(tag)?;
        if consumer.no_ack {
            self.ended_no_ack.truncate(ENDED_KEPT - 1);
            self.ended_no_ack.push_front(consumer.tag.clone());
        }
        Some(consumer)
    }

    /// Records a delivery that needs an ack.
    #[inline]
    pub(crate) fn delivered(&mut self, tag: u64) -> Result<(), Error> {
        if tag != 0 && (self.recovering > 0 || self.unacked.insert(tag)) {
            return Ok(());
        }
        let text = format!("received delivery tag {tag}, which is zero or belongs to an unsettled delivery");
        Err(Violation::DeliveryTag { tag }.by_peer(code::COMMAND_INVALID, text))
    }

    /// Settles a delivery, or all up to it. For an unknown tag, the broker would close the channel (406).
    #[inline]
    pub(crate) fn settle(&mut self, tag: u64, multiple: bool) -> Result<(), Error> {
        if self.transactional {
            self.note_uncommitted(tag, multiple);
        }
        let known = match multiple {
            true => self.unacked.contains(tag) && self.unacked.remove_up_to(tag) > 0,
            false => self.unacked.remove(tag),
        };
        if known {
            return Ok(());
        }
        let text = format!("delivery {tag} cannot be settled: it is already settled, or was requeued by basic.recover");
        Err(Violation::DeliveryTag { tag }.by_caller(text))
    }

    #[cold]
    fn note_uncommitted(&mut self, tag: u64, multiple: bool) {
        if self.unacked.contains(tag) {
            for settled in self.unacked.iter().filter(|other| *other == tag || multiple && *other < tag) {
                self.uncommitted.insert(settled);
            }
        }
    }

    /// Applies the effect that a request will have at the peer before anything sent after it.
    pub(crate) fn apply_request(&mut self, request: MethodId) {
        match request {
            MethodId::BASIC_RECOVER => {
                self.unacked.clear();
                self.recovering += 1;
            }
            MethodId::TX_COMMIT => self.uncommitted.clear(),
            MethodId::TX_ROLLBACK => {
                for tag in std::mem::take(&mut self.uncommitted).iter() {
                    self.unacked.insert(tag);
                }
            }
            _ => {}
        }
    }
}

/// The publishes of a channel in confirm mode.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The tag of the next publish; the first is 1.
    next: u64,
    pub(crate) outstanding: TagSet,
    mandatory: VecDeque<Mandatory>,
    hasher: RandomState,
}

/// Hashes of a mandatory publish, which identify it in a `basic.return`: that method has no tag.
#[derive(Debug)]
struct Mandatory {
    tag: u64,
    route: u64,
    body: u64,
    properties: u64,
}

impl Confirms {
    pub(crate) fn new() -> Self {
        Self { next: 1, outstanding: TagSet::default(), mandatory: VecDeque::new(), hasher: RandomState::new() }
    }

    /// Counts a publish, and returns its tag.
    #[inline]
    pub(crate) fn published(&mut self) -> u64 {
        let tag = self.next;
        self.next += 1;
        self.outstanding.insert(tag);
        tag
    }

    pub(crate) fn remember(&mut self, tag: u64, route: (&str, &str), properties: Properties<&[u8]>, body: &[u8]) {
        let route = self.hasher.hash_one((route.0.as_bytes(), route.1.as_bytes()));
        let body = self.hasher.hash_one(body);
        let properties = self.hash(properties);
        self.mandatory.push_back(Mandatory { tag, route, body, properties });
    }

    fn hash(&self, properties: Properties<&[u8]>) -> u64 {
        self.hasher.hash_one((properties.flags(), properties.as_bytes()))
    }

    /// Settles a publish, or all up to it. Returns the range of tags, or `None` if none of the tags was outstanding.
    pub(crate) fn settle(&mut self, tag: u64, multiple: bool) -> Result<Option<(u64, u64)>, Error> {
        if tag >= self.next || tag == 0 && !multiple {
            let text = format!("received a confirm of publish {tag}; the channel has published {}", self.next - 1);
            return Err(Violation::UnknownPublish { tag }.by_peer(code::COMMAND_INVALID, text));
        }
        // Zero with `multiple` means all publishes so far (specification §1.8.3.13).
        let last = if tag == 0 { self.next - 1 } else { tag };
        let first = self.outstanding.first().unwrap_or(last);
        let settled = if multiple { self.outstanding.remove_up_to(last) > 0 } else { self.outstanding.remove(tag) };
        while self.mandatory.front().is_some_and(|publish| !self.outstanding.contains(publish.tag)) {
            self.mandatory.pop_front();
        }
        Ok(settled.then_some(if multiple { (first, last) } else { (tag, tag) }))
    }

    /// Finds the tag of a returned message.
    ///
    /// The broker returns messages in the order of publishing and before it confirms them. So the match is the oldest
    /// unconfirmed mandatory publish with the same route, body and properties; without one, properties are ignored,
    /// because a broker may encode them differently. Identical publishes are indistinguishable.
    pub(crate) fn returned(&mut self, content: &Content) -> Option<u64> {
        let arguments = content.arguments();
        let route = self.hasher.hash_one((arguments.exchange, arguments.routing_key));
        let body = self.hasher.hash_one(content.body());
        let properties = self.hash(content.properties());
        let similar = |publish: &Mandatory| {
            publish.route == route && publish.body == body && self.outstanding.contains(publish.tag)
        };
        let identical = |publish: &Mandatory| publish.properties == properties && similar(publish);
        let index = self.mandatory.iter().position(identical).or_else(|| self.mandatory.iter().position(similar))?;
        self.mandatory.remove(index).map(|publish| publish.tag)
    }
}

fn answers(reply: MethodId, expected: MethodId) -> bool {
    reply == expected || expected == MethodId::BASIC_GET_OK && reply == MethodId::BASIC_GET_EMPTY
}

/// Returns the method that replies to a request.
pub(crate) fn reply_of(request: MethodId) -> MethodId {
    let method = match (request.class, request.method) {
        // exchange.unbind-ok is the only reply whose number does not follow that of its request.
        (40, 40) => 51,
        (_, method) => method + 1,
    };
    MethodId { method, ..request }
}

/// Returns the error of a peer whose method answers no request.
#[cold]
pub(crate) fn unexpected(method: MethodId) -> Error {
    let text = format!("received {method}, which was not requested");
    Violation::UnexpectedMethod { method }.by_peer(code::UNEXPECTED_FRAME, text)
}

#[cold]
fn wrong_reply(method: MethodId, expected: MethodId) -> Error {
    let text = format!("received {method} instead of {expected}");
    Violation::UnexpectedMethod { method }.by_peer(code::UNEXPECTED_FRAME, text)
}
