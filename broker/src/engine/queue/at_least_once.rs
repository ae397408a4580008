//! Dead letters at least once (RabbitMQ's page "Quorum Queues", at-least-once dead-lettering): a dead message stays in
//! its queue until all queues that its dead letter is routed to have taken it.
//!
//! Owns these messages, and when they are tried again: when the topology changes, and once a second. RabbitMQ tries
//! every three minutes. They count towards the limits of their queue, and survive a restart; no client gets them.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use hopmq_proto::{Time, printable};

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::QueueKey;
use crate::engine::queue::dead_letter::Reason;
use crate::engine::queue::message::{Facts, Message};
use crate::engine::queue::ready::Entry;
use crate::engine::queue::settings::Overflow;
use crate::engine::session::publish::Taken;

/// The time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// How many messages of a queue are tried in one attempt, so that a change of the topology stays cheap.
const ATTEMPTED: usize = 64;
/// How many queues try at a change of the topology. The others do at their own time.
const QUEUES: usize = 16;

/// A dead message that is not taken yet.
#[derive(Debug)]
struct Undelivered {
    entry: Entry,
    reason: Reason,
    /// The queues that have taken it.
    taken: Vec<QueueKey>,
    /// Whether the store knows that it is dead.
    noted: bool,
}

/// The dead messages of a queue that are not taken yet, by position. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct DeadMessages {
    all: BTreeMap<u64, Undelivered>,
    /// The size of the bodies in bytes.
    bytes: u64,
    /// The position of the last one that was tried.
    tried: u64,
    /// When the next attempt is due.
    retry: Option<Time>,
}

impl DeadMessages {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns when the next attempt is due.
    pub(crate) fn retry(&self) -> Option<Time> {
        self.retry
    }

    /// Adds a message that died before a restart.
    pub(crate) fn restore(&mut self, now: Time, entry: Entry, reason: Reason) {
        self.insert(entry, reason, true);
        self.retry = Some(now);
    }

    fn insert(&mut self, entry: Entry, reason: Reason, noted: bool) {
        self.bytes += entry.body_size();
        self.all.insert(entry.position, Undelivered { entry, reason, taken: Vec::new(), noted });
    }

    /// Removes the first message.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let position = *self.all.first_key_value()?.0;
        self.remove(position)
    }

    fn remove(&mut self, position: u64) -> Option<Entry> {
        let entry = self.all.remove(&position)?.entry;
        self.bytes -= entry.body_size();
        Some(entry)
    }

    /// Returns the messages to try next, at most [`ATTEMPTED`]. They take turns.
    fn next(&mut self) -> Vec<(Entry, Reason)> {
        let behind = self.all.range((Excluded(self.tried), Unbounded)).chain(self.all.range(..=self.tried));
        let next: Vec<_> = behind.take(ATTEMPTED).map(|(_, dead)| (dead.entry.clone(), dead.reason)).collect();
        if let Some((last, _)) = next.last() {
            self.tried = last.position;
        }
        next
    }
}

impl Engine {
    /// Keeps a dead message until its dead letter is taken.
    pub(super) fn keep_dead(&mut self, id: QueueKey, entry: Entry, reason: Reason) {
        if let Some(queue) = self.queues.get_mut(id).invariant("queue") {
            queue.dead.insert(entry, reason, false);
        }
    }

    /// Passes a dead letter to the queues that have not taken it. Removes the dead message if all have, and there are
    /// any.
    pub(super) fn place(&mut self, id: QueueKey, position: u64, queues: &[QueueKey], message: &Message, facts: Facts) {
        // Its queue was deleted in the meantime, or it was tried twice.
        if self.queues.get(id).is_none_or(|queue| !queue.dead.all.contains_key(&position)) {
            return;
        }
        let mut all = !queues.is_empty();
        for target in queues {
            let dead = self.queues.get(id).and_then(|queue| queue.dead.all.get(&position));
            let Some(dead) = dead.invariant("dead message") else { break };
            if dead.taken.contains(target) {
                continue;
            }
            // A full queue is not asked, for it would make a dead letter of each refusal.
            let is_full = self.queues.get(*target).is_none_or(|queue| {
                queue.settings.overflow != Overflow::DropHead && queue.is_full_for(message.body_size())
            });
            if is_full || self.enqueue(*target, message, facts) == Taken::Refused {
                all = false;
                continue;
            }
            if let Some(dead) = self.queues.get_mut(id).and_then(|queue| queue.dead.all.get_mut(&position)) {
                dead.taken.push(*target);
            }
        }
        self.store_message(message, facts.priority);
        match all {
            true => self.forget_dead(id, position),
            false => self.note_undelivered(id, position),
        }
        self.set_queue_timer(id);
    }

    fn forget_dead(&mut self, id: QueueKey, position: u64) {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        let Some(entry) = queue.dead.remove(position) else { return };
        // The others may be taken as well.
        queue.dead.retry = (queue.dead.len() > 0).then_some(now);
        if queue.dead.len() == 0 {
            self.undelivered.remove(&id);
        }
        self.settled(id, &entry);
    }

    /// Notes that the dead messages of a queue must be tried again.
    pub(super) fn note_dead_retry(&mut self, id: QueueKey) {
        let next = self.now + PAUSE;
        if let Some(queue) = self.queues.get_mut(id).invariant("queue") {
            queue.dead.retry.get_or_insert(next);
        }
        self.set_queue_timer(id);
    }

    pub(super) fn note_undelivered(&mut self, id: QueueKey, position: u64) {
        let next = self.now + PAUSE;
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        queue.dead.retry.get_or_insert(next);
        let Some(dead) = queue.dead.all.get_mut(&position).invariant("dead message") else { return };
        if std::mem::replace(&mut dead.noted, true) {
            return;
        }
        let (entry, reason) = (dead.entry.clone(), dead.reason);
        let queue = &*printable(&queue.name);
        if self.undelivered.insert(id) {
            tracing::warn!(queue, "a dead letter has no queue that takes it: kept until one does");
        }
        self.note_dead(id, &entry, reason);
    }

    /// Tries the dead letters of queues again if the topology has changed, for they may have a target now.
    #[inline]
    pub(in crate::engine) fn retry_after_changes(&mut self) {
        if self.topology == self.retried || self.undelivered.is_empty() {
            return;
        }
        self.retried = self.topology;
        for id in self.undelivered.iter().copied().take(QUEUES).collect::<Vec<_>>() {
            self.retry_dead(id);
        }
    }

    /// Tries the dead letters of a queue again if they are due.
    pub(super) fn retry_due(&mut self, id: QueueKey) {
        let now = self.now;
        if self.queues.get(id).and_then(|queue| queue.dead.retry).is_some_and(|at| at <= now) {
            self.retry_dead(id);
        }
    }

    fn retry_dead(&mut self, id: QueueKey) {
        let Some(queue) = self.queues.get_mut(id) else {
            self.undelivered.remove(&id);
            return;
        };
        queue.dead.retry = None;
        for (entry, reason) in queue.dead.next() {
            match self.message_for(id, &entry, "to pass it to the dead-letter exchange") {
                Some(message) => self.retry_dead_letter(id, message, reason, entry.position),
                None => self.note_dead_retry(id),
            }
        }
    }
}
