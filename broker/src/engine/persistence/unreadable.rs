//! Messages that are in the store only: how they are fetched, and what becomes of one that can't be read.
//!
//! Owns which messages were found unreadable, and tells of each once. Such a message stays where it is: its queue
//! delivers nothing beyond it, and each attempt to get it reads it again. `basic.get` is refused with 541, and the
//! channels of the consumers are closed with 541, until the message can be read or the queue is purged or deleted. A
//! message that would become a dead letter or is due in a delayed-message exchange stays in the store, where a restart
//! finds it again. It must never know files: the store's error names them.

use std::collections::BTreeSet;

use hopmq_proto::method::MethodId;

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::QueueKey;
use crate::engine::persistence::paging::HEAD;
use crate::engine::queue::message::{Message, Scratch};
use crate::engine::queue::ready::{Entry, Kept};
use crate::engine::refusal::Refusal;
use crate::engine::work::Task;
use crate::store::{Position, QueueId};

/// How many messages are fetched from the store at once.
const FETCHED: usize = 256;
/// How many unreadable messages are logged, at most. More are counted only.
const LOGGED: usize = 1024;

/// The messages that were found unreadable.
#[derive(Debug, Default)]
pub(in crate::engine) struct Unreadable {
    logged: BTreeSet<(QueueId, u64)>,
    /// How often a message could not be read.
    pub(in crate::engine) failures: u64,
}

impl Unreadable {
    /// Counts a failed read. Returns whether it must be logged.
    fn note(&mut self, queue: QueueId, position: u64) -> bool {
        self.failures += 1;
        self.logged.len() < LOGGED && self.logged.insert((queue, position))
    }
}

impl Engine {
    /// Fetches the next messages of a queue, if the first of them is in the store only.
    ///
    /// # Errors
    /// If the first one can't be read. It stays the next one.
    pub(in crate::engine) fn fetch(&mut self, id: QueueKey) -> Result<(), Refusal> {
        let most = if self.is_paging() { HEAD } else { FETCHED };
        self.note_pageable(id);
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return Ok(()) };
        let Some(stored) = queue.stored else { return Ok(()) };
        let positions = queue.ready.next_stored(most);
        let Some(Position(first)) = positions.first().copied() else { return Ok(()) };
        self.scratch.meter = self.vhosts.get(queue.vhost).map_or(self.meter, |vhost| vhost.meter.meter());
        let contents = journal.contents.read(stored, &positions);
        let mut messages = Vec::with_capacity(contents.len());
        let mut failure = None;
        for (nth, content) in contents.into_iter().enumerate() {
            let message = content.map(|(head, body)| Message::restore(&mut self.scratch, &head, &body));
            if nth == 0 {
                failure = match &message {
                    Ok(Some(_)) => None,
                    Ok(None) => Some("its head is malformed".to_owned()),
                    Err(error) => Some(format!("{error:#}")),
                };
            }
            messages.push(message.ok().flatten());
        }
        let was_read = |at: u64| positions.iter().zip(&messages).any(|(read, found)| read.0 == at && found.is_some());
        if queue.unreadable.is_some_and(was_read) {
            queue.unreadable = None;
            tracing::info!(queue = &*queue.name, "the unreadable message of a queue can be read again");
        }
        queue.ready.fetched(&positions, messages);
        let Some(error) = failure else { return Ok(()) };
        queue.unreadable = Some(first);
        let name = queue.name.clone();
        let vhost = self.vhosts.get(queue.vhost).map_or("", |vhost| &vhost.name);
        if journal.unreadable.note(stored, first) {
            tracing::error!(
                queue = &*name,
                vhost,
                error,
                "the next message of a queue can't be read: the queue delivers nothing beyond it until it can be read, \
                 or the queue is purged or deleted"
            );
        }
        Err(Refusal::unreadable(&name, vhost))
    }

    /// Notes that consumers of a queue can't get its next message. Their channels are closed after the current
    /// operation.
    pub(in crate::engine) fn note_failing(&mut self, id: QueueKey) {
        if !self.failing.contains(&id) {
            self.failing.push(id);
            self.work.leave(Task::Refuse(id));
        }
    }

    /// Closes the channels of the consumers whose next message can't be read.
    #[cold]
    pub(in crate::engine) fn refuse_consumers(&mut self, id: QueueKey) {
        self.failing.retain(|other| *other != id);
        let Some(queue) = self.queues.get(id) else { return };
        let refusal = Refusal::unreadable(&queue.name, &self.vhost_name(queue.vhost));
        let consumers = queue.consumers.iter().filter_map(|consumer| self.consumers.get(consumer));
        let channels: BTreeSet<_> = consumers.map(|consumer| (consumer.session, consumer.channel)).collect();
        for (session, channel) in channels {
            self.refused(session, channel, MethodId::default(), Err(refusal.clone()));
        }
    }

    /// Returns the message of an entry, from memory or from the store.
    pub(in crate::engine) fn message_of(&self, id: QueueKey, entry: &Entry) -> Option<Message> {
        self.read_message(id, entry).ok()
    }

    /// Returns the message of an entry, from memory or from the store. Tells if it can't be read; `doing` says what
    /// for.
    pub(in crate::engine) fn message_for(&mut self, id: QueueKey, entry: &Entry, doing: &str) -> Option<Message> {
        let error = match self.read_message(id, entry) {
            Ok(message) => return Some(message),
            Err(error) => error,
        };
        let queue = self.queues.get(id)?;
        if let (Some(journal), Some(stored)) = (&mut self.journal, queue.stored)
            && journal.unreadable.note(stored, entry.position)
        {
            let name = &*queue.name;
            tracing::error!(queue = name, error, doing, "a stored message can't be read: it stays in the store");
        }
        None
    }

    fn read_message(&self, id: QueueKey, entry: &Entry) -> Result<Message, String> {
        if let Kept::Here(message) = &entry.content {
            return Ok(message.clone());
        }
        let stored = self.queues.get(id).and_then(|queue| queue.stored);
        let contents = self.journal.as_ref().map(|journal| &journal.contents);
        let (Some(stored), Some(contents)) = (stored, contents) else { return Err("there is no store".to_owned()) };
        let content = contents.read(stored, &[Position(entry.position)]).pop();
        let (head, body) = content.ok_or("there is no such message")?.map_err(|error| format!("{error:#}"))?;
        Message::restore(&mut Scratch::new(self.meter), &head, &body).ok_or_else(|| "its head is malformed".to_owned())
    }
}
