//! Events of a connection that are not replies to a request.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Duration;

use slotmap::SlotMap;

use super::keys::SubscriberKey;
use super::wakers::Wakers;
use crate::error::Error;
use crate::policy::Replayed;

/// An event of the connection: see [`Connection::events`](crate::Connection::events).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The broker blocks publishing because it is short of memory or disk space. Publishes wait; acks and requests are
    /// still sent.
    Blocked {
        /// The broker's reason: `low on memory`, …
        reason: String,
    },
    /// The broker accepts publishes again.
    Unblocked,
    /// The broker stopped or resumed publishing on one channel.
    Flow {
        /// The channel's number.
        channel: u16,
        /// Whether publishing is allowed.
        active: bool,
    },
    /// The broker closed a channel because of an error on it. Other channels stay open.
    ChannelClosed {
        /// The channel's number.
        channel: u16,
        /// The broker's reason.
        error: Error,
    },
    /// The link to the broker is lost. Handles stay valid, and calls on them wait.
    Lost {
        /// The reason.
        error: Error,
    },
    /// An attempt to connect begins.
    Connecting {
        /// The number of the attempt since the link was lost, starting at 1.
        attempt: u32,
        /// The host of the attempt.
        host: String,
    },
    /// The link to the broker is restored; the declarations are being replayed.
    Connected {
        /// The host.
        host: String,
    },
    /// An attempt failed. The next one follows after `delay`.
    Retrying {
        /// The number of the failed attempt since the link was lost, starting at 1.
        attempt: u32,
        /// The time until the next attempt.
        delay: Duration,
        /// The reason of the failure.
        error: Error,
    },
    /// An entity could not be declared again; the connection continues without it.
    NotRestored {
        /// The entity: `queue "orders"`, …
        entity: String,
        /// The broker's reason.
        error: Error,
    },
    /// An entity or a consumer could not be restored yet, and is tried again (see
    /// [`OnFailure::Retry`](crate::OnFailure::Retry)). Mostly it is an exclusive queue, which the broker holds until it
    /// notices that the old link is gone, or a consumer of that queue. Requests that name the queue wait for it.
    /// [`Event::Restored`] or [`Event::NotRestored`] follows.
    Waiting {
        /// The entity: `queue "orders"`, …
        entity: String,
        /// The broker's reason.
        error: Error,
    },
    /// An entity or a consumer that waited is restored.
    Restored {
        /// The entity, as in [`Event::Waiting`].
        entity: String,
        /// How many others still wait.
        waiting: usize,
    },
    /// The connection is restored to its state before the link was lost, except for what waits: `replayed.waiting` is
    /// the number of [`Event::Waiting`] before this event.
    Recovered {
        /// What was declared and published again.
        replayed: Replayed,
        /// The time from the loss of the link until this event.
        outage: Duration,
    },
    /// The connection stops trying to reconnect. [`Event::Closed`] follows.
    GaveUp {
        /// The number of attempts.
        attempts: u32,
        /// The reason why the last attempt failed.
        error: Error,
    },
    /// The connection ended. No event follows.
    Closed {
        /// The reason; of kind [`Closed`](crate::ErrorKind::Closed) if this program closed the connection.
        error: Error,
    },
}

/// Untaken events kept for a subscriber; beyond these, the oldest are dropped.
const KEPT: usize = 256;

/// The streams of events.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    queues: SlotMap<SubscriberKey, Queue>,
    ended: Option<Event>,
}

/// The events that one stream has not taken.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

impl Subscribers {
    pub(super) fn emit(&mut self, event: &Event, wakers: &mut Wakers) {
        for (_, queue) in self.queues.iter_mut() {
            if queue.events.len() == KEPT {
                queue.events.pop_front();
            }
            queue.events.push_back(event.clone());
            wakers.wake(&mut queue.waker);
        }
    }

    pub(super) fn end(&mut self, event: Event, wakers: &mut Wakers) {
        self.emit(&event, wakers);
        self.ended = Some(event);
    }

    /// Registers a stream of events.
    pub(super) fn subscribe(&mut self) -> SubscriberKey {
        let mut queue = Queue::default();
        queue.events.extend(self.ended.clone());
        self.queues.insert(queue)
    }

    /// Returns the next event of a stream; `None` after the last one.
    pub(super) fn poll(&mut self, key: SubscriberKey, waker: &Waker, wakers: &mut Wakers) -> Poll<Option<Event>> {
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
    pub(super) fn unsubscribe(&mut self, key: SubscriberKey) -> Option<Queue> {
        self.queues.remove(key)
    }
}
