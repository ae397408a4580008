//! The way from the app's slots to the workers in Python, and of verdicts back.
//!
//! Owns the jobs that no worker has taken yet. In come jobs from handlers; out go jobs to workers in the order in which
//! they came, and wake-ups of workers that wait. It must never know a queue or an event loop.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hopmq_app::Verdict;
use hopmq_app::batch::Verdicts;

use super::job::{BatchJob, Job};

/// A job that waits for a worker.
pub(crate) enum Entry {
    Single(Job),
    Batch(BatchJob),
}

/// The jobs that wait for workers, and the workers that wait for jobs.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    jobs: VecDeque<Entry>,
    waiting: VecDeque<(u64, Waker)>,
    serial: u64,
    /// A worker was woken, and has not come yet: it wakes the next one if there is more than one job.
    called: bool,
    closed: bool,
}

impl Inbox {
    pub(crate) fn push(&self, entry: Entry) {
        let mut state = self.lock();
        if state.closed {
            // Dropping a job gives its message back.
            return;
        }
        state.jobs.push_back(entry);
        let waker = state.call();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the next job, and calls another worker if more are left.
    pub(crate) fn pop(&self) -> Option<Entry> {
        let mut state = self.lock();
        state.called = false;
        let entry = state.jobs.pop_front();
        let waker = if state.jobs.is_empty() { None } else { state.call() };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        entry
    }

    /// Gives back all jobs that no worker has taken, and ends the waits of all workers.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (jobs, waiting) = (std::mem::take(&mut state.jobs), std::mem::take(&mut state.waiting));
        drop(state);
        drop(jobs);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Waits until there is a job, or the inbox is closed.
    pub(crate) fn arrival(self: &Arc<Self>) -> Arrival {
        Arrival { inbox: Arc::clone(self), serial: None }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call(&mut self) -> Option<Waker> {
        if self.called {
            return None;
        }
        let (_, waker) = self.waiting.pop_front()?;
        self.called = true;
        Some(waker)
    }
}

/// The wait of one worker.
pub(crate) struct Arrival {
    inbox: Arc<Inbox>,
    serial: Option<u64>,
}

impl Future for Arrival {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut state = this.inbox.lock();
        let known = this.serial;
        let place = state.waiting.iter().position(|(serial, _)| Some(*serial) == known);
        if state.closed || !state.jobs.is_empty() {
            if let Some(place) = place {
                state.waiting.remove(place);
            }
            this.serial = None;
            return Poll::Ready(());
        }
        match place {
            Some(place) => state.waiting[place].1.clone_from(task.waker()),
            None => {
                state.serial += 1;
                let serial = state.serial;
                this.serial = Some(serial);
                state.waiting.push_back((serial, task.waker().clone()));
            }
        }
        state.called = false;
        Poll::Pending
    }
}

/// A worker that was called and comes no more leaves the job to another.
impl Drop for Arrival {
    fn drop(&mut self) {
        let Some(own) = self.serial else { return };
        let mut state = self.inbox.lock();
        match state.waiting.iter().position(|(serial, _)| *serial == own) {
            Some(place) => drop(state.waiting.remove(place)),
            None => state.called = false,
        }
        let waker = if state.jobs.is_empty() { None } else { state.call() };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a job that was dropped without an outcome says: the message goes back to its queue.
pub(crate) trait Abandoned: Send + 'static {
    fn abandoned() -> Self;
}

impl Abandoned for Verdict {
    fn abandoned() -> Self {
        Self::Release
    }
}

impl Abandoned for Verdicts {
    fn abandoned() -> Self {
        Self::All(Verdict::Release)
    }
}

struct Cell<T> {
    value: Option<T>,
    waker: Option<Waker>,
    /// The app waits no more.
    gone: bool,
}

type Shared<T> = Arc<Mutex<Cell<T>>>;

fn cell<T>(shared: &Shared<T>) -> MutexGuard<'_, Cell<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker's end of a job: gives one outcome. Dropping it without one gives the message back.
pub(crate) struct Answer<T: Abandoned>(Mutex<Option<Shared<T>>>);

impl<T: Abandoned> Answer<T> {
    /// Gives the outcome. False if there was one already.
    pub(crate) fn give(&self, value: T) -> bool {
        let Some(shared) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return false };
        let mut open = cell(&shared);
        open.value = Some(value);
        let waker = open.waker.take();
        drop(open);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Whether the app waits no more, because it has ended or the handler took too long.
    pub(crate) fn is_gone(&self) -> bool {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.as_ref().is_some_and(|shared| cell(shared).gone)
    }
}

impl<T: Abandoned> Drop for Answer<T> {
    fn drop(&mut self) {
        self.give(T::abandoned());
    }
}

/// The app's end of a job: the future of a handler.
pub(crate) struct Waiting<T>(Shared<T>);

/// Makes both ends of a job.
pub(crate) fn pair<T: Abandoned>() -> (Answer<T>, Waiting<T>) {
    let shared = Arc::new(Mutex::new(Cell { value: None, waker: None, gone: false }));
    (Answer(Mutex::new(Some(Arc::clone(&shared)))), Waiting(shared))
}

impl<T> Future for Waiting<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<T> {
        let mut open = cell(&self.0);
        match open.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                match &mut open.waker {
                    Some(waker) => waker.clone_from(task.waker()),
                    none => *none = Some(task.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        cell(&self.0).gone = true;
    }
}
