use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq::Time;

use super::Layer;
use crate::alarms::Sleep;
use crate::flow::Verdict;
use crate::handler::Slot;
use crate::incoming::Incoming;

/// Limits how many messages begin to be handled in a time, over all queues of the app: for a service behind the
/// handlers that takes no more.
///
/// Messages begin evenly: with 100 in a second, one every 10 ms. [`burst`](Self::burst) lets some begin together after
/// a quiet time. Each attempt counts. A message that waits stays unacknowledged, so the broker sends no more of its
/// queue than the prefetch.
///
/// ```
/// use std::time::Duration;
/// use hopmq_app::{App, Queue, RateLimit};
///
/// let app = App::new(())
///     .layer(RateLimit::new(100, Duration::from_secs(1)).burst(20))
///     .route(Queue::new("orders").concurrency(8), || async {});
/// ```
#[derive(Clone, Debug)]
pub struct RateLimit {
    interval: Duration,
    burst: u32,
    /// When the next message begins if nothing was saved up for a burst.
    next: Arc<Mutex<Time>>,
}

impl RateLimit {
    /// Returns a layer that lets this many messages begin in this time. At least one in this time may begin.
    pub fn new(messages: u32, time: Duration) -> Self {
        Self { interval: time / messages.max(1), burst: 1, next: Arc::new(Mutex::new(Time::ZERO)) }
    }

    /// Sets how many messages may begin together after a quiet time, at least 1. The default is 1.
    #[must_use]
    pub fn burst(mut self, messages: u32) -> Self {
        self.burst = messages.max(1);
        self
    }

    /// Reserves the time at which one more message begins.
    fn reserve(&self, now: Time) -> Time {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*next).max(now);
        *next = from + self.interval;
        let saved = self.interval * (self.burst - 1);
        Time::from_epoch(from.since_epoch().saturating_sub(saved)).max(now)
    }
}

impl<S, T: Slot<S> + 'static> Layer<S, T> for RateLimit {
    type Slot = Limited<T>;

    fn wrap(&self, inner: T) -> Limited<T> {
        Limited { inner, rate: self.clone(), wait: None }
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Limited<T> {
    inner: T,
    rate: RateLimit,
    wait: Option<Sleep>,
}

impl<S, T: Slot<S>> Slot<S> for Limited<T> {
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
        let alarms = incoming.context().alarms();
        let now = alarms.now();
        let at = self.rate.reserve(now);
        if at <= now {
            return self.inner.start(incoming, state);
        }
        self.wait = Some(alarms.until(at));
        None
    }

    fn poll(&mut self, incoming: &mut Incoming, state: &S, task: &mut Context<'_>) -> Poll<Verdict> {
        if let Some(wait) = &mut self.wait {
            if Pin::new(wait).poll(task).is_pending() {
                return Poll::Pending;
            }
            self.wait = None;
            if let Some(verdict) = self.inner.start(incoming, state) {
                return Poll::Ready(verdict);
            }
        }
        self.inner.poll(incoming, state, task)
    }

    fn clear(&mut self) {
        self.wait = None;
        self.inner.clear();
    }
}
