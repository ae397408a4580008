//! Deletes queues and exchanges.
//!
//! Owns the order: a deleted queue or exchange is gone for all clients and in the store at once, and its name is free;
//! then its consumers are cancelled, its bindings removed one by one, and its messages dropped. Until that is done it
//! stays in the engine's table, so that its bindings can be named in the store. A durable one whose bindings are not
//! yet removed from the store leaves its name in the list of names that a declaration must wait for: after a crash they
//! belong to nothing, and are removed at the start ([`Engine::recover`]). It must never know connections.

use std::collections::BTreeSet;

use hopmq_proto::method::basic;

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ConsumerKey, ExchangeKey, QueueKey, VhostKey};
use crate::engine::name::Name;
use crate::engine::queue::at_least_once::DeadMessages;
use crate::engine::queue::ready::Ready;
use crate::engine::queue::waiting::Waiting;
use crate::engine::routing::exchange::Destination;
use crate::engine::work::Task;
use crate::store::QueueId;

/// What is deleted, but not yet removed.
#[derive(Debug, Default)]
pub(in crate::engine) struct Deleted {
    /// How many queues and exchanges.
    pub(in crate::engine) count: usize,
    /// The names of those whose bindings the store still has.
    names: BTreeSet<(VhostKey, Kind, Name)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) enum Kind {
    Queue,
    Exchange,
}

/// A deleted queue or exchange whose bindings are being removed.
#[derive(Debug)]
pub(in crate::engine) struct Ending {
    destination: Destination,
    /// The exchanges that have bindings to it.
    sources: BTreeSet<ExchangeKey>,
    /// Auto-delete exchanges that have lost their last binding.
    unused: Vec<ExchangeKey>,
    /// A queue that the store must keep until the dead letters of its messages are routed.
    stored: Option<QueueId>,
}

/// The messages of a queue that was purged or deleted.
#[derive(Debug, Default)]
pub(in crate::engine) struct Remains {
    /// The queue in whose place in the store they are settled, unless all of that is removed.
    pub(in crate::engine) stored: Option<QueueId>,
    pub(in crate::engine) ready: Ready,
    pub(in crate::engine) waiting: Waiting,
    pub(in crate::engine) dead: DeadMessages,
}

impl Engine {
    /// Deletes a queue with its bindings and messages, and notifies its consumers.
    pub(in crate::engine) fn delete_queue(&mut self, id: QueueKey) {
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        if std::mem::replace(&mut queue.is_deleted, true) {
            return;
        }
        let remains = Remains {
            stored: None,
            ready: queue.ready.detach(),
            waiting: std::mem::take(&mut queue.waiting),
            dead: std::mem::take(&mut queue.dead),
        };
        let sources = std::mem::take(&mut queue.sources);
        let (vhost, name, stored) = (queue.vhost, queue.name.clone(), queue.stored);
        let (timer, owner, is_seen) = (queue.timer.take(), queue.spec.exclusive, queue.delays.is_none());
        let is_settled = queue.dying == 0;
        if let Some(vhost) = self.vhosts.get_mut(vhost).filter(|_| is_seen) {
            vhost.queues.remove(&name);
        }
        if is_settled {
            self.forget_queue(stored);
        }
        self.topology += 1;
        if let Some(deadline) = timer {
            self.queue_timers.remove(&(deadline, id));
        }
        self.undelivered.remove(&id);
        if let Some(session) = owner.and_then(|owner| self.sessions.get_mut(owner)) {
            session.exclusive.remove(&id);
        }
        self.deleted.count += 1;
        if stored.is_some() && (!sources.is_empty() || !is_settled) {
            self.deleted.names.insert((vhost, Kind::Queue, name));
        }
        let destination = Destination::Queue(id);
        let stored = stored.filter(|_| !is_settled);
        self.work.leave(Task::End(Ending { destination, sources, unused: Vec::new(), stored }));
        self.work.leave(Task::Discard(remains));
    }

    /// Deletes exchanges with their bindings, and the auto-delete exchanges that lose their last binding by that.
    pub(in crate::engine) fn delete_exchanges(&mut self, all: Vec<ExchangeKey>) {
        for id in all {
            let Some(exchange) = self.exchanges.get_mut(id) else { continue };
            if std::mem::replace(&mut exchange.is_deleted, true) {
                continue;
            }
            let sources = std::mem::take(&mut exchange.sources);
            let (vhost, name, delayed) = (exchange.vhost, exchange.name.clone(), exchange.delayed);
            let is_stored = exchange.spec.durable && !(exchange.is_unbound() && sources.is_empty());
            self.forget_exchange(id);
            if let Some(vhost) = self.vhosts.get_mut(vhost) {
                vhost.exchanges.remove(&name);
            }
            self.topology += 1;
            self.deleted.count += 1;
            if is_stored && self.journal.is_some() {
                self.deleted.names.insert((vhost, Kind::Exchange, name));
            }
            if let Some(delayed) = delayed {
                self.delete_queue(delayed);
            }
            let destination = Destination::Exchange(id);
            self.work.leave(Task::End(Ending { destination, sources, unused: Vec::new(), stored: None }));
        }
    }

    /// Whether a destination is deleted.
    pub(in crate::engine) fn is_deleted(&self, destination: Destination) -> bool {
        match destination {
            Destination::Queue(queue) => self.queues.get(queue).is_none_or(|queue| queue.is_deleted),
            Destination::Exchange(other) => self.exchanges.get(other).is_none_or(|exchange| exchange.is_deleted),
        }
    }

    /// Whether a declaration must wait until the bindings of a deleted namesake are removed.
    pub(in crate::engine) fn must_wait_for(&self, vhost: VhostKey, kind: Kind, name: &str) -> bool {
        !self.deleted.names.is_empty() && self.deleted.names.contains(&(vhost, kind, name.into()))
    }

    /// Cancels some of the consumers of a deleted queue, removes bindings, and then what is deleted. Returns the rest.
    pub(in crate::engine) fn end_some(&mut self, mut ending: Ending) -> Option<Task> {
        while self.end_one(&mut ending) {
            self.work.count(1);
            self.count_routing();
            if self.work.must_stop() {
                return Some(Task::End(ending));
            }
        }
        if let (Some(stored), Destination::Queue(id)) = (ending.stored, ending.destination) {
            if self.queues.get(id).is_some_and(|queue| queue.dying > 0) {
                // They may be the next of the same owner; otherwise, they have their turns.
                if let Some(next) = self.work.dead_letters().pop_front() {
                    self.route_dead_letter(next);
                }
                return Some(Task::End(ending));
            }
            self.forget_queue(Some(stored));
        }
        self.deleted.count -= 1;
        let gone = match ending.destination {
            Destination::Queue(id) => self.queues.remove(id).map(|queue| (queue.vhost, Kind::Queue, queue.name)),
            Destination::Exchange(id) => {
                self.exchanges.remove(id).map(|exchange| (exchange.vhost, Kind::Exchange, exchange.name))
            }
        };
        if let Some(gone) = gone.filter(|_| !self.deleted.names.is_empty()) {
            self.deleted.names.remove(&gone);
        }
        self.delete_exchanges(ending.unused);
        None
    }

    /// Cancels a consumer, or removes a binding. Returns whether there was one.
    fn end_one(&mut self, ending: &mut Ending) -> bool {
        let Ending { destination, sources, unused, .. } = ending;
        if !sources.is_empty() {
            self.unbind_one_to(*destination, sources, unused);
            return true;
        }
        match *destination {
            Destination::Exchange(id) => self.unbind_one_from(id),
            Destination::Queue(id) => {
                let consumer = self.queues.get(id).and_then(|queue| queue.consumers.iter().next());
                consumer.is_some_and(|consumer| self.end_consumer(consumer))
            }
        }
    }

    /// Removes a consumer of a deleted queue, and notifies its client. Returns whether it existed.
    fn end_consumer(&mut self, id: ConsumerKey) -> bool {
        let Some(gone) = self.consumers.remove(id).invariant("consumer") else { return false };
        if let Some(queue) = self.queues.get_mut(gone.queue)
            && let Some(place) = gone.place
        {
            queue.consumers.remove(place);
        }
        let Some(session) = self.sessions.get_mut(gone.session).invariant("connection") else { return true };
        if let Some(channel) = session.channel_mut(gone.channel) {
            channel.consumers.remove(&gone.tag);
        }
        if session.can("consumer_cancel_notify") {
            self.send(gone.session, gone.channel, &basic::Cancel { consumer_tag: &gone.tag, nowait: true });
        }
        true
    }

    /// Drops some of the messages of a purged or deleted queue. Returns the rest.
    pub(in crate::engine) fn discard_some(&mut self, mut remains: Remains) -> Option<Task> {
        let Remains { stored, ready, waiting, dead } = &mut remains;
        while let Some(entry) = ready.pop().or_else(|| waiting.pop()).or_else(|| dead.pop()) {
            self.work.count(1);
            if let Some(stored) = stored.filter(|_| entry.stored) {
                self.settled_in(stored, entry.position);
            }
            if self.work.must_stop() {
                return Some(Task::Discard(remains));
            }
        }
        None
    }
}
