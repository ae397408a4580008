//! The journal of durable queues, exchanges and bindings, and of the persistent messages in them.
//!
//! Owns what the store has yet to be given, and which connections wait for it to be synced. After each batch the
//! engine's driver gives the group to the store ([`Engine::persist`]), and reports the store's progress
//! ([`Engine::synced`]). Until then no publish of the group is confirmed, and nothing is sent to a connection that
//! declared, deleted, bound or committed in it. It must never know files.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use hopmq_proto::Time;

use crate::engine::capacity::Shrink;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ExchangeKey, QueueKey, SessionKey};
use crate::engine::persistence::paging::HEAD;
use crate::engine::persistence::tables;
use crate::engine::queue::Queue;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::queue::message::{Message, Scratch};
use crate::engine::queue::ready::{Entry, Kept};
use crate::engine::routing::exchange::{Binding, Destination, Exchange};
use crate::engine::{Engine, SessionEnd};
use crate::store::{self, Group, Lsn, Position, QueueId, Target};

/// Reads the contents of messages that are not in memory.
pub(crate) trait Contents: Send {
    /// Returns the head and the body of each message that the store has.
    fn read(&self, queue: QueueId, positions: &[Position]) -> Vec<Option<(Bytes, Bytes)>>;
}

/// Changes for the store. See the [module's documentation](self).
pub(crate) struct Journal {
    pub(in crate::engine) group: Group,
    /// Settled messages, which follow the group's publishes.
    settled: Vec<(QueueId, Position)>,
    /// The queues that store the message that is being published.
    targets: Vec<Target>,
    contents: Box<dyn Contents>,
    next_queue: u64,
    /// The end of the last group that the store was given.
    appended: Lsn,
    synced: Lsn,
    /// Connections that wait for a sync.
    waiting: BTreeSet<SessionKey>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("appended", &self.appended)
            .field("synced", &self.synced)
            .finish_non_exhaustive()
    }
}

/// A queue with more ready messages than this keeps further stored ones in the store only.
const IN_MEMORY: usize = 16 * 1024;
/// A queue with more bytes of bodies than this keeps further stored messages in the store only.
const BYTES_IN_MEMORY: u64 = 32 * 1024 * 1024;
/// How many messages are fetched from the store at once.
const FETCHED: usize = 256;

impl Journal {
    pub(crate) fn new(contents: Box<dyn Contents>, next_queue: QueueId) -> Self {
        Self {
            group: Group::new(),
            settled: Vec::new(),
            targets: Vec::new(),
            contents,
            next_queue: next_queue.0,
            appended: Lsn(0),
            synced: Lsn(0),
            waiting: BTreeSet::new(),
        }
    }
}

impl Engine {
    /// Sets the journal, and marks the store as in use.
    pub(crate) fn set_journal(&mut self, mut journal: Journal) {
        journal.group.put(&[tables::RUNNING], &[]);
        self.journal = Some(journal);
    }

    /// Notes an orderly end: all deliveries were returned to their queues before it.
    pub(crate) fn note_good_end(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.group.remove(&[tables::RUNNING]);
        }
    }

    /// Passes the changes to `append`, which empties the group and returns its end.
    pub(crate) fn persist(&mut self, append: impl FnOnce(&mut Group) -> Option<Lsn>) {
        let Some(journal) = &mut self.journal else { return };
        for run in journal.settled.chunk_by(|a, b| a.0 == b.0) {
            journal.group.settle(run[0].0, run.iter().map(|(_, position)| *position));
        }
        journal.settled.clear();
        journal.settled.shrink_if_sparse();
        if !journal.group.is_empty()
            && let Some(end) = append(&mut journal.group)
        {
            journal.appended = end;
        }
    }

    /// Notes that the store is synced up to `synced`: confirms publishes, and resumes connections that waited for it.
    pub(crate) fn synced(&mut self, now: Time, synced: Lsn) {
        self.now = now;
        let Some(journal) = &mut self.journal else { return };
        if synced <= journal.synced {
            return;
        }
        journal.synced = synced;
        for id in std::mem::take(&mut journal.waiting) {
            self.release_synced(id, synced);
        }
    }

    fn release_synced(&mut self, id: SessionKey, synced: Lsn) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.held.is_some_and(|held| held.is_some_and(|end| end <= synced)) {
            session.held = None;
            Self::wake(&mut self.woken, id, session);
        }
        let mut waits = session.held.is_some();
        for number in 0..session.channels.len() {
            waits |= self.confirm_synced(id, number as u16, synced);
        }
        if waits && let Some(journal) = &mut self.journal {
            journal.waiting.insert(id);
        }
    }

    /// Confirms the publishes that are synced. Returns whether others still wait.
    fn confirm_synced(&mut self, id: SessionKey, number: u16, synced: Lsn) -> bool {
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return false };
        let Some(confirms) = session.channel_mut(number).and_then(|channel| channel.confirms.as_mut()) else {
            return false;
        };
        let mut last = None;
        while let Some(&(tag, end)) = confirms.waiting.front()
            && end <= synced
        {
            last = Some(tag);
            confirms.waiting.pop_front();
        }
        let waits = !confirms.waiting.is_empty();
        if let Some(last) = last {
            self.confirm_up_to(id, number, last);
        }
        waits
    }

    /// Whether the store has yet to be given something.
    pub(in crate::engine) fn has_unappended(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.group.is_empty() || !journal.settled.is_empty())
    }

    /// Drops the journal, at the end of the broker.
    pub(crate) fn drop_journal(&mut self) {
        self.journal = None;
    }

    /// Returns the end of the last group, unless it is synced.
    pub(in crate::engine) fn unsynced_end(&self) -> Option<Lsn> {
        self.journal.as_ref().filter(|journal| journal.appended > journal.synced).map(|journal| journal.appended)
    }

    /// Notes that a connection waits for a sync.
    pub(in crate::engine) fn note_waiting(&mut self, id: SessionKey) {
        if let Some(journal) = &mut self.journal {
            journal.waiting.insert(id);
        }
    }

    /// Holds a connection until its last change is synced.
    pub(in crate::engine) fn hold(&mut self, id: SessionKey) {
        if self.has_unappended()
            && let Some(session) = self.sessions.get_mut(id)
        {
            session.held = Some(None);
        }
    }

    /// Whether a connection is held, and none of its input may be handled.
    pub(crate) fn is_held(&self, id: SessionKey) -> bool {
        self.is_down() || self.sessions.get(id).is_some_and(|session| session.held.is_some())
    }

    /// Notes that the store has failed: nothing unsynced may be confirmed.
    pub(crate) fn store_failed(&mut self) {
        for id in self.session_ids() {
            if let Some(session) = self.sessions.get_mut(id) {
                session.held = Some(None);
                session.end = Some(SessionEnd::Cut);
                Self::wake(&mut self.woken, id, session);
            }
        }
    }

    pub(in crate::engine) fn store_queue(&mut self, id: QueueKey) {
        let Some(journal) = &mut self.journal else { return };
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        if !queue.spec.durable || queue.spec.exclusive.is_some() {
            return;
        }
        let Some(vhost) = self.vhosts.get(queue.vhost).invariant("virtual host") else { return };
        let stored = QueueId(journal.next_queue);
        journal.next_queue += 1;
        queue.stored = Some(stored);
        journal.group.declare_queue(stored, &tables::of_queue(&vhost.name, &queue.name, &queue.spec));
    }

    pub(in crate::engine) fn forget_queue(&mut self, queue: &Queue) {
        if let (Some(journal), Some(stored)) = (&mut self.journal, queue.stored) {
            journal.group.remove_queue(stored);
        }
    }

    pub(in crate::engine) fn store_vhost(&mut self, name: &str) {
        if let Some(journal) = &mut self.journal {
            let vhost = self.vhosts.values().find(|vhost| *vhost.name == *name);
            let settings = vhost.map(|vhost| vhost.settings).unwrap_or_default();
            journal.group.put(&tables::vhost_key(name), &settings.to_bytes());
        }
    }

    pub(in crate::engine) fn store_exchange(&mut self, id: ExchangeKey) {
        let Some(journal) = &mut self.journal else { return };
        let Some(exchange) = self.exchanges.get(id).invariant("exchange") else { return };
        if !exchange.spec.durable {
            return;
        }
        let Some(vhost) = self.vhosts.get(exchange.vhost).invariant("virtual host") else { return };
        journal.group.put(&tables::exchange_key(&vhost.name, &exchange.name), &tables::of_exchange(&exchange.spec));
        if let Some(queue) = exchange.delayed.and_then(|id| self.queues.get_mut(id)) {
            let stored = QueueId(journal.next_queue);
            journal.next_queue += 1;
            queue.stored = Some(stored);
            journal.group.declare_queue(stored, &tables::of_delayed(&vhost.name, &exchange.name));
        }
    }

    pub(in crate::engine) fn forget_exchange(&mut self, exchange: &Exchange) {
        let Some(journal) = &mut self.journal else { return };
        if !exchange.spec.durable {
            return;
        }
        let Some(vhost) = self.vhosts.get(exchange.vhost).invariant("virtual host") else { return };
        journal.group.remove(&tables::exchange_key(&vhost.name, &exchange.name));
        for binding in exchange.bindings() {
            if let Some(key) = self.binding_key(exchange, binding)
                && let Some(journal) = &mut self.journal
            {
                journal.group.remove(&key);
            }
        }
    }

    /// Returns the key of a stored binding: one between two durable ends.
    fn binding_key(&self, exchange: &Exchange, binding: &Binding) -> Option<Vec<u8>> {
        let vhost = self.vhosts.get(exchange.vhost)?;
        let (kind, name) = match binding.destination {
            Destination::Queue(queue) => {
                let queue = self.queues.get(queue)?;
                queue.stored?;
                (tables::TO_QUEUE, &queue.name)
            }
            Destination::Exchange(other) => {
                let other = self.exchanges.get(other)?;
                other.spec.durable.then_some((tables::TO_EXCHANGE, &other.name))?
            }
        };
        let parts = tables::BindingParts {
            vhost: &vhost.name,
            source: &exchange.name,
            kind,
            destination: name,
            key: &binding.key,
            arguments: &binding.arguments,
        };
        exchange.spec.durable.then(|| parts.key())
    }

    pub(in crate::engine) fn store_binding(&mut self, source: ExchangeKey, binding: &Binding, there: bool) {
        let key = self.exchanges.get(source).and_then(|exchange| self.binding_key(exchange, binding));
        if let (Some(key), Some(journal)) = (key, &mut self.journal) {
            match there {
                true => journal.group.put(&key, &[]),
                false => journal.group.remove(&key),
            }
        }
    }

    /// Adds a queue to the targets of the message that is being published. Returns whether the message must be stored.
    pub(in crate::engine) fn note_target(
        &mut self,
        stored: Option<QueueId>,
        position: u64,
        expires: Option<Time>,
    ) -> bool {
        let (Some(journal), Some(queue)) = (&mut self.journal, stored) else { return false };
        let wall = u128::from(self.config.wall_epoch) * 1000;
        let expires = expires.map(|at| (wall + at.since_epoch().as_millis()) as u64);
        journal.targets.push(Target { queue, position: Position(position), expires });
        true
    }

    /// Stores the message that was being published. Returns whether any queue stores it.
    pub(in crate::engine) fn store_message(&mut self, message: &Message, priority: Option<u8>) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        if journal.targets.is_empty() {
            return false;
        }
        let body = message.to_body();
        let priority = tables::priority_byte(priority);
        journal.group.publish(&store::Message { priority, head: message.head(), body: &body }, &journal.targets);
        journal.targets.clear();
        true
    }

    /// Notes that a message is settled.
    pub(in crate::engine) fn settled(&mut self, id: QueueKey, entry: &Entry) {
        if let Some(journal) = &mut self.journal
            && entry.stored
            && let Some(stored) = self.queues.get(id).and_then(|queue| queue.stored)
        {
            journal.settled.push((stored, Position(entry.position)));
        }
    }

    /// Notes that a message of a quorum queue is delivered: if the broker is killed before it is settled, the delivery
    /// counts towards the limit. `returns` are the earlier ones: those that counted, and all.
    #[cold]
    pub(in crate::engine) fn note_delivered(&mut self, id: QueueKey, position: u64, returns: (u32, u32)) {
        if let Some(journal) = &mut self.journal
            && let Some(stored) = self.queues.get(id).and_then(|queue| queue.stored)
        {
            let (returned, acquired) = returns;
            let deliveries = tables::deliveries(returned.saturating_add(1), acquired.saturating_add(1));
            journal.group.delivered(stored, Position(position), deliveries);
        }
    }

    /// Notes that a message was returned to its queue.
    pub(in crate::engine) fn note_returned(&mut self, id: QueueKey, entry: &Entry) {
        if let Some(journal) = &mut self.journal
            && entry.stored
            && let Some(stored) = self.queues.get(id).and_then(|queue| queue.stored)
        {
            journal.group.delivered(
                stored,
                Position(entry.position),
                tables::deliveries(entry.returned, entry.acquired),
            );
        }
    }

    /// Notes that a message is dead, and stays until its dead letter is taken.
    pub(in crate::engine) fn note_dead(&mut self, id: QueueKey, entry: &Entry, reason: Reason) {
        if let Some(journal) = &mut self.journal
            && entry.stored
            && let Some(stored) = self.queues.get(id).and_then(|queue| queue.stored)
        {
            let deliveries = tables::deliveries(entry.returned, entry.acquired) | tables::dead(reason);
            journal.group.delivered(stored, Position(entry.position), deliveries);
        }
    }

    /// Fetches the next messages of a queue, if the first of them is in the store only. Messages that the store has
    /// lost are skipped.
    pub(in crate::engine) fn fetch(&mut self, id: QueueKey) {
        let most = if self.is_paging() { HEAD } else { FETCHED };
        self.note_pageable(id);
        let Some(journal) = &self.journal else { return };
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        let Some(stored) = queue.stored else { return };
        loop {
            let positions = queue.ready.next_stored(most);
            if positions.is_empty() {
                return;
            }
            let contents = journal.contents.read(stored, &positions);
            let mut messages = Vec::with_capacity(contents.len());
            self.scratch.meter = self.vhosts.get(queue.vhost).map_or(self.meter, |vhost| vhost.meter.meter());
            for content in contents {
                messages.push(content.and_then(|(head, body)| Message::restore(&mut self.scratch, &head, &body)));
            }
            queue.ready.fetched(messages);
        }
    }

    /// Returns the message of an entry, from memory or from the store.
    pub(in crate::engine) fn message_of(&self, id: QueueKey, entry: &Entry) -> Option<Message> {
        match &entry.content {
            Kept::Here(message) => Some(message.clone()),
            Kept::Stored(_) => {
                let stored = self.queues.get(id)?.stored?;
                let position = [Position(entry.position)];
                let (head, body) = self.journal.as_ref()?.contents.read(stored, &position).pop()??;
                Message::restore(&mut Scratch::new(self.meter), &head, &body)
            }
        }
    }
}

/// Whether a message for this queue is kept in the store only.
pub(in crate::engine) fn is_for_store_alone(queue: &Queue) -> bool {
    queue.ready.len() + queue.waiting.len() >= IN_MEMORY
        || queue.ready.bytes() + queue.waiting.bytes() >= BYTES_IN_MEMORY
}
