use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Layer;
use crate::flow::Verdict;
use crate::handler::Slot;
use crate::incoming::Incoming;

/// Limits how many messages are handled at once over all queues of the app, or of all apps that are given clones of the
/// layer. [`Queue::concurrency`](crate::Queue::concurrency) limits each queue.
///
/// Messages begin in the order in which they arrived. One that waits stays unacknowledged, so the broker sends no more
/// of its queue than the prefetch.
///
/// ```
/// use hopmq_app::{App, ConcurrencyLimit, Queue};
///
/// let app = App::new(())
///     .layer(ConcurrencyLimit::new(10))
///     .route(Queue::new("orders").concurrency(8), || async {})
///     .route(Queue::new("invoices").concurrency(8), || async {});
/// ```
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit(Arc<Mutex<Permits>>);

#[derive(Debug)]
struct Permits {
    free: usize,
    serial: u64,
    /// Slots that wait, the longest first. A free permit belongs to the first of them.
    waiting: VecDeque<(u64, Option<Waker>)>,
}

impl ConcurrencyLimit {
    /// Returns a layer that lets this many messages be handled at once, at least 1.
    pub fn new(messages: usize) -> Self {
        let permits = Permits { free: messages.max(1), serial: 0, waiting: VecDeque::new() };
        Self(Arc::new(Mutex::new(permits)))
    }

    /// Takes a permit, or a place among those that wait.
    fn enter(&self) -> Stage {
        let mut permits = self.lock();
        if permits.free > permits.waiting.len() {
            permits.free -= 1;
            return Stage::Running;
        }
        permits.serial += 1;
        let serial = permits.serial;
        permits.waiting.push_back((serial, None));
        Stage::Waiting(serial)
    }

    fn poll_permit(&self, serial: u64, task: &Context<'_>) -> Poll<()> {
        let mut permits = self.lock();
        let Some(place) = permits.waiting.iter().position(|(waiting, _)| *waiting == serial) else {
            return Poll::Pending;
        };
        if place < permits.free {
            permits.free -= 1;
            permits.waiting.remove(place);
            return Poll::Ready(());
        }
        permits.waiting[place].1 = Some(task.waker().clone());
        Poll::Pending
    }

    /// Gives back a permit or a place.
    fn leave(&self, stage: Stage) {
        let mut permits = self.lock();
        match stage {
            Stage::Idle => return,
            Stage::Running => permits.free += 1,
            Stage::Waiting(serial) => permits.waiting.retain(|(waiting, _)| *waiting != serial),
        }
        let free = permits.free;
        let woken: Vec<_> = permits.waiting.iter_mut().take(free).filter_map(|(_, waker)| waker.take()).collect();
        drop(permits);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Permits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, T: Slot<S> + 'static> Layer<S, T> for ConcurrencyLimit {
    type Slot = Limited<T>;

    fn wrap(&self, inner: T) -> Limited<T> {
        Limited { inner, limit: self.clone(), stage: Stage::Idle }
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Limited<T> {
    inner: T,
    limit: ConcurrencyLimit,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle,
    /// The message waits for a permit, with this serial number.
    Waiting(u64),
    /// The handler has the message, and the slot a permit.
    Running,
}

impl<T> Limited<T> {
    fn leave(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        self.limit.leave(stage);
    }
}

impl<S, T: Slot<S>> Slot<S> for Limited<T> {
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
        self.stage = self.limit.enter();
        if let Stage::Waiting(_) = self.stage {
            return None;
        }
        let verdict = self.inner.start(incoming, state)?;
        self.leave();
        Some(verdict)
    }

    fn poll(&mut self, incoming: &mut Incoming, state: &S, task: &mut Context<'_>) -> Poll<Verdict> {
        if let Stage::Waiting(serial) = self.stage {
            if self.limit.poll_permit(serial, task).is_pending() {
                return Poll::Pending;
            }
            self.stage = Stage::Running;
            if let Some(verdict) = self.inner.start(incoming, state) {
                self.leave();
                return Poll::Ready(verdict);
            }
        }
        let polled = self.inner.poll(incoming, state, task);
        if polled.is_ready() {
            self.leave();
        }
        polled
    }

    fn clear(&mut self) {
        self.leave();
        self.inner.clear();
    }
}

/// The app may be dropped while other apps wait for its permits.
impl<T> Drop for Limited<T> {
    fn drop(&mut self) {
        self.leave();
    }
}
