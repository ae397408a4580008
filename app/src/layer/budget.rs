use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Layer;
use crate::alarms::Sleep;
use crate::flow::Verdict;
use crate::handler::Slot;
use crate::incoming::Incoming;

/// One message, in the unit of the balance.
const MESSAGE: u32 = 100;

/// Slows the app down while too large a share of its messages fails and is tried again, over all queues.
///
/// When most messages fail, it is rarely their fault: something that the handlers need is away, and every attempt adds
/// to its load. So the budget moves nothing to the dead letters, from where a person would have to bring thousands of
/// sound messages back. It keeps each further failure in its slot for a [pause](Self::pause) before the message waits
/// for its next attempt: a queue with a concurrency of 8 then tries 8 messages in a pause, and the others stay in the
/// broker. Successes fill the budget again, so the app is back at full speed soon after the cause is gone.
///
/// ```
/// use hopmq_app::{App, Queue, RetryBudget};
///
/// let app = App::new(())
///     .layer(RetryBudget::percent(20))
///     .route(Queue::new("orders").concurrency(8), || async {});
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    percent: u32,
    reserve: u32,
    pause: Duration,
    balance: Arc<Mutex<u32>>,
}

impl RetryBudget {
    /// Returns a layer that slows the app down when more than this share of its messages is tried again.
    pub fn percent(percent: u32) -> Self {
        let budget =
            Self { percent: percent.min(100), reserve: 0, pause: Duration::from_secs(5), balance: Arc::default() };
        budget.reserve(10)
    }

    /// Sets how many messages may fail one after the other before the app is slowed down. The default is 10.
    #[must_use]
    pub fn reserve(mut self, messages: u32) -> Self {
        self.reserve = messages.saturating_mul(MESSAGE);
        self.balance = Arc::new(Mutex::new(self.reserve));
        self
    }

    /// Sets how long a failure over the budget stays in its slot. The default is five seconds.
    #[must_use]
    pub fn pause(mut self, time: Duration) -> Self {
        self.pause = time;
        self
    }

    /// Counts a message, and returns whether the budget has room for it.
    fn count(&self, retried: bool) -> bool {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        *balance = balance.saturating_add(self.percent).min(self.reserve.max(MESSAGE));
        if !retried {
            return true;
        }
        let room = *balance >= MESSAGE;
        *balance = balance.saturating_sub(if room { MESSAGE } else { 0 });
        room
    }
}

impl<S, T: Slot<S> + 'static> Layer<S, T> for RetryBudget {
    type Slot = Held<T>;

    fn wrap(&self, inner: T) -> Held<T> {
        Held { inner, budget: self.clone(), held: None, runs: false }
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Held<T> {
    inner: T,
    budget: RetryBudget,
    held: Option<(Verdict, Sleep)>,
    runs: bool,
}

impl<T> Held<T> {
    /// Counts a message whose handler has ended, and holds it if the budget has no room for it.
    fn count(&mut self, verdict: Verdict, incoming: &Incoming) -> Option<Verdict> {
        self.runs = false;
        if self.budget.count(matches!(verdict, Verdict::Retry(_))) {
            return Some(verdict);
        }
        let (queue, pause) = (incoming.queue(), self.budget.pause);
        tracing::warn!(queue, ?pause, "too many messages fail: the next attempts are held back");
        self.held = Some((verdict, incoming.context().sleep(pause)));
        None
    }
}

impl<S, T: Slot<S>> Slot<S> for Held<T> {
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
        self.runs = true;
        let verdict = self.inner.start(incoming, state)?;
        self.count(verdict, incoming)
    }

    fn poll(&mut self, incoming: &mut Incoming, state: &S, task: &mut Context<'_>) -> Poll<Verdict> {
        if self.held.is_none() {
            let Poll::Ready(verdict) = self.inner.poll(incoming, state, task) else { return Poll::Pending };
            if let Some(verdict) = self.count(verdict, incoming) {
                return Poll::Ready(verdict);
            }
        }
        let Some((_, sleep)) = &mut self.held else { return Poll::Pending };
        if Pin::new(sleep).poll(task).is_pending() {
            return Poll::Pending;
        }
        self.held.take().map_or(Poll::Pending, |(verdict, _)| Poll::Ready(verdict))
    }

    fn clear(&mut self) {
        self.held = None;
        // A handler that panicked, or that an outer layer ended.
        if std::mem::take(&mut self.runs) {
            self.budget.count(true);
        }
        self.inner.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_five_messages_may_fail_for_ever() {
        let budget = RetryBudget::percent(20).reserve(2);
        assert!((0..1000).all(|message| budget.count(message % 5 == 0)));
    }

    #[test]
    fn after_the_reserve_failures_have_no_room_until_messages_succeed() {
        let budget = RetryBudget::percent(20).reserve(3);
        let failures = (0..5).filter(|_| budget.count(true)).count();
        assert_eq!(failures, 3);
        assert!(budget.count(false));
        assert!(budget.count(true));
    }
}
