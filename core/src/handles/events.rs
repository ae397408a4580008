//! Events of a connection that are not replies to a request.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;

use crate::Error;
use crate::recovery::Replayed;
use crate::state::slots::Slots;
use crate::state::{Shared, register};

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
    /// The connection is restored to its state before the link was lost.
    Recovered {
        /// What was declared and published again.
        replayed: Replayed,
        /// The time from the loss of the link until everything was restored.
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

/// The subscribers to a connection's events.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    queues: Slots<Queue>,
    ended: Option<Event>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

impl Subscribers {
    pub(crate) fn tell(&mut self, event: &Event, wakes: &mut Vec<Waker>) {
        for (_, queue) in self.queues.iter_mut() {
            if queue.events.len() == KEPT {
                queue.events.pop_front();
            }
            queue.events.push_back(event.clone());
            wakes.extend(queue.waker.take());
        }
    }

    pub(crate) fn end(&mut self, event: Event, wakes: &mut Vec<Waker>) {
        self.tell(&event, wakes);
        self.ended = Some(event);
    }
}

/// A stream of the events of a connection, which ends with [`Event::Closed`].
///
/// The stream buffers the last 256 untaken events; older ones are dropped.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    key: u64,
}

impl Events {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let mut state = shared.lock();
        let mut queue = Queue::default();
        queue.events.extend(state.subscribers.ended.clone());
        let key = state.subscribers.queues.insert(queue);
        drop(state);
        Self { shared, key }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.shared.with(|state| {
            let ended = state.subscribers.ended.is_some();
            let Some(queue) = state.subscribers.queues.get_mut(self.key) else { return Poll::Ready(None) };
            match queue.events.pop_front() {
                Some(event) => Poll::Ready(Some(event)),
                None if ended => Poll::Ready(None),
                None => {
                    register(&mut queue.waker, context.waker(), &mut state.spent);
                    Poll::Pending
                }
            }
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The buffered events are dropped outside of the lock: see `State::spent`.
        let queue = self.shared.with(|state| state.subscribers.queues.remove(self.key));
        drop(queue);
    }
}
