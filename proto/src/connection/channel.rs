//! One channel: what it waits for, what it delivers and what it published.
//!
//! Owns the replies that are due (in the order of the requests, because that is how the peer answers), the consumers,
//! the unacked deliveries and the unconfirmed publishes. It must never know the connection, or other channels.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::method::MethodId;
use crate::tags::TagSet;
use crate::{Content, Error, Properties, code};

/// Requests without an answer that a channel may have.
pub(crate) const MAX_PENDING: usize = 65_536;
/// Consumers without acks that are remembered after their end.
const ENDED_KEPT: usize = 32;

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
    /// Consumers that were ever started.
    pub(crate) started: u64,
    pub(crate) unacked: TagSet,
    pub(crate) confirms: Option<Confirms>,
    pub(crate) transactional: bool,
    /// Settled since the last commit, and unacked again if the transaction is rolled back.
    pub(crate) uncommitted: TagSet,
    /// `basic.recover` that are not answered: what is delivered meanwhile is requeued before its ack can come.
    pub(crate) recovering: u32,
    /// Tags of consumers without acks that ended, the latest first.
    pub(crate) ended_no_ack: VecDeque<Box<[u8]>>,
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
    /// Consumers of the channel that were started before.
    pub(crate) started: u64,
    /// The consumer that is started or cancelled.
    pub(crate) consumer: Option<Box<[u8]>>,
}

/// A consumer that the broker delivers to.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) tag: Box<[u8]>,
    pub(crate) key: u64,
    pub(crate) no_ack: bool,
    /// Which one it is of those that the channel ever started.
    pub(crate) number: u64,
}

impl Channel {
    pub(crate) fn new(phase: Phase) -> Self {
        Self {
            phase,
            pending: VecDeque::new(),
            consumers: Vec::new(),
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

    /// Notes which consumer the latest request was about.
    pub(crate) fn expect_of_consumer(&mut self, tag: &[u8]) {
        if let Some(pending) = self.pending.back_mut() {
            pending.consumer = Some(tag.into());
        }
    }

    /// Matches an answer with the oldest request.
    ///
    /// RabbitMQ leaves the answers to `basic.consume` and `basic.cancel` to the queue, so that they may come after
    /// those to later requests: they are known by their consumer, and all others keep their order among themselves.
    pub(crate) fn answer(&mut self, reply: MethodId, consumer: Option<&[u8]>) -> Result<Pending, Error> {
        let fits = |pending: &Pending| match consumer {
            None => pending.consumer.is_none(),
            Some(_) => pending.consumer.as_deref() == consumer && pending.expects == reply,
        };
        let index = self.pending.iter().position(fits);
        match index.and_then(|index| self.pending.remove(index)) {
            Some(pending) if answers(reply, pending.expects) => Ok(pending),
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
        let consumer = self.consumers.swap_remove(index);
        if consumer.no_ack {
            self.ended_no_ack.truncate(ENDED_KEPT - 1);
            self.ended_no_ack.push_front(consumer.tag.clone());
        }
        Some(consumer)
    }

    /// Notes a delivery that is to be acked.
    #[inline]
    pub(crate) fn delivered(&mut self, tag: u64) -> Result<(), Error> {
        if tag != 0 && (self.recovering > 0 || self.unacked.insert(tag)) {
            return Ok(());
        }
        Err(Error::peer(code::COMMAND_INVALID, format!("delivery tag {tag}, which is zero or not settled yet")))
    }

    /// Settles a delivery, or all up to it. Checked here, because an unknown tag would cost the channel (406).
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
        Err(Error::caller(format!("delivery {tag} was settled before, or requeued by recover")))
    }
}

impl Channel {
    #[cold]
    fn note_uncommitted(&mut self, tag: u64, multiple: bool) {
        if self.unacked.contains(tag) {
            for settled in self.unacked.iter().filter(|other| *other == tag || multiple && *other < tag) {
                self.uncommitted.insert(settled);
            }
        }
    }

    /// Follows a request that the peer will carry out when it comes to it, before all that is sent after it.
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
    properties: u64,
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

    pub(crate) fn remember(&mut self, tag: u64, route: (&str, &str), properties: Properties<&[u8]>, body: &[u8]) {
        let route = self.hasher.hash_one((route.0.as_bytes(), route.1.as_bytes()));
        let (body, properties) = (self.hasher.hash_one(body), self.hash(properties));
        self.mandatory.push_back(Mandatory { tag, route, body, properties });
    }

    fn hash(&self, properties: Properties<&[u8]>) -> u64 {
        self.hasher.hash_one((properties.flags(), properties.as_bytes()))
    }

    /// Settles a publish, or all up to it. Returns the range of tags, or `None` if none of them was outstanding.
    pub(crate) fn settle(&mut self, tag: u64, multiple: bool) -> Result<Option<(u64, u64)>, Error> {
        if tag >= self.next || tag == 0 && !multiple {
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
    /// confirms, so it is the oldest unconfirmed mandatory one with that route and body. One with the same properties
    /// comes first, but a broker may have encoded those anew; two that are alike in all of it may be told apart by
    /// nobody.
    pub(crate) fn returned(&mut self, content: &Content) -> Option<u64> {
        let arguments = content.arguments();
        let route = self.hasher.hash_one((arguments.exchange, arguments.routing_key));
        let body = self.hasher.hash_one(content.body());
        let properties = self.hash(content.properties());
        let alike = |publish: &Mandatory| {
            publish.route == route && publish.body == body && self.outstanding.contains(publish.tag)
        };
        let same = |publish: &Mandatory| publish.properties == properties && alike(publish);
        let index = self.mandatory.iter().position(same).or_else(|| self.mandatory.iter().position(alike))?;
        self.mandatory.remove(index).map(|publish| publish.tag)
    }
}

fn answers(reply: MethodId, expected: MethodId) -> bool {
    reply == expected || expected == MethodId::BASIC_GET_OK && reply == MethodId::BASIC_GET_EMPTY
}

/// The method that answers a request.
pub(crate) fn reply_of(request: MethodId) -> MethodId {
    let method = match (request.class, request.method) {
        // exchange.unbind-ok is the one that does not follow its request (RabbitMQ's extension).
        (40, 40) => 51,
        (_, method) => method + 1,
    };
    MethodId { method, ..request }
}
