//! What happens to a connection besides the answers to what it asked.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;

use crate::Error;
use crate::policy::Replayed;
use crate::state::slots::Slots;
use crate::state::{Shared, register};

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

/// Everybody who listens.
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

/// The events of a connection, as a stream that ends with [`Event::Closed`].
///
/// It keeps the last 256 events that were not taken. Dropping it costs nothing.
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
        // What it kept is dropped outside of the lock: see `State::spent`.
        let queue = self.shared.with(|state| state.subscribers.queues.remove(self.key));
        drop(queue);
    }
}
