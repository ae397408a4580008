//! What happens to a connection besides the answers to what it asked.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::slots::Slots;
use super::wakers::Wakers;
use crate::Error;
use crate::policy::Replayed;

/// Something that happened to the connection: see [`Connection::events`](crate::Connection::events).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The broker takes no publishes, because memory or disk run out. Publishing waits; acks and requests go on.
    Blocked {
        /// The broker's words: `low on memory`, …
        reason: String,
    },
    /// The broker takes publishes again.
    Unblocked,
    /// The broker stopped or resumed publishing on one channel.
    Flow {
        /// The channel's number.
        channel: u16,
        /// Whether publishing may go on.
        active: bool,
    },
    /// The broker closed a channel for a fault on it. Other channels go on.
    ChannelClosed {
        /// The channel's number.
        channel: u16,
        /// The broker's reason.
        error: Error,
    },
    /// The link to the broker is lost. Handles stay valid, and wait.
    Lost {
        /// Why.
        error: Error,
    },
    /// An attempt to connect begins.
    Connecting {
        /// Which one it is since the link was lost, from 1 on.
        attempt: u32,
        /// The host that is tried.
        host: String,
    },
    /// There is a link to the broker again; what was declared is being replayed.
    Connected {
        /// The host.
        host: String,
    },
    /// An attempt failed. The next one follows after `delay`.
    Retrying {
        /// Which one it was since the link was lost, from 1 on.
        attempt: u32,
        /// The time until the next.
        delay: Duration,
        /// Why it failed.
        error: Error,
    },
    /// Something could not be declared again; the connection goes on without it.
    NotRestored {
        /// What it is: `queue "orders"`, …
        entity: String,
        /// The broker's reason.
        error: Error,
    },
    /// All is as it was before the link was lost.
    Recovered {
        /// What was done for it.
        replayed: Replayed,
        /// How long there was no link, or one without all that belongs to it.
        outage: Duration,
    },
    /// No more attempts are made. [`Event::Closed`] follows.
    GaveUp {
        /// How many attempts there were.
        attempts: u32,
        /// Why the last one failed.
        error: Error,
    },
    /// The connection ended. Nothing follows.
    Closed {
        /// Why; of kind [`Closed`](crate::ErrorKind::Closed) if this program closed it.
        error: Error,
    },
}

/// Events that a subscriber has not taken; beyond these, the oldest are dropped.
const KEPT: usize = 256;

/// The streams of events.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    queues: Slots<Queue>,
    ended: Option<Event>,
}

/// The events that one stream has not taken.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

impl Subscribers {
    pub(super) fn tell(&mut self, event: &Event, wakers: &mut Wakers) {
        for (_, queue) in self.queues.iter_mut() {
            if queue.events.len() == KEPT {
                queue.events.pop_front();
            }
            queue.events.push_back(event.clone());
            wakers.wake(&mut queue.waker);
        }
    }

    pub(super) fn end(&mut self, event: Event, wakers: &mut Wakers) {
        self.tell(&event, wakers);
        self.ended = Some(event);
    }

    /// Registers a stream of events.
    pub(super) fn subscribe(&mut self) -> u64 {
        let mut queue = Queue::default();
        queue.events.extend(self.ended.clone());
        self.queues.insert(queue)
    }

    /// Returns the next event of a stream; `None` after the last one.
    pub(super) fn poll(&mut self, key: u64, waker: &Waker, wakers: &mut Wakers) -> Poll<Option<Event>> {
        let Some(queue) = self.queues.get_mut(key) else { return Poll::Ready(None) };
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.ended.is_some() => Poll::Ready(None),
            None => {
                wakers.register(&mut queue.waker, waker);
                Poll::Pending
            }
        }
    }

    /// Removes a stream. Drop its events and its waker without the lock.
    pub(super) fn unsubscribe(&mut self, key: u64) -> Option<Queue> {
        self.queues.remove(key)
    }
}
