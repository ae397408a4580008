//! Values of the core that several tasks and threads wait for at once.
//!
//! Owns the value and the wakers of all waits: the core keeps a single waker for each value. In come polls; out goes
//! what the poll of the core returns, after which the other waits are woken to look again. It must never know what is
//! awaited, and never keeps the waker of a wait that was dropped.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A value that is polled by many.
pub(crate) struct Shared<S> {
    value: Mutex<S>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting(Mutex<Wakers>);

#[derive(Default)]
struct Wakers {
    last: u64,
    all: Vec<(u64, Waker)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let all = std::mem::take(&mut lock(&self.0).all);
        all.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// The place of one wait among the wakers.
struct Place<'a> {
    waiting: &'a Waiting,
    /// 0 until it waits.
    id: u64,
}

impl Place<'_> {
    fn take(&mut self, waker: &Waker) {
        let mut wakers = lock(&self.waiting.0);
        if self.id == 0 {
            wakers.last += 1;
            self.id = wakers.last;
        }
        let waker = waker.clone();
        let replaced = match wakers.all.iter_mut().find(|(id, _)| *id == self.id) {
            Some((_, old)) => Some(std::mem::replace(old, waker)),
            None => {
                wakers.all.push((self.id, waker));
                None
            }
        };
        drop(wakers);
        drop(replaced);
    }

    fn leave(&mut self) {
        if self.id == 0 {
            return;
        }
        let mut wakers = lock(&self.waiting.0);
        let found = wakers.all.iter().position(|(id, _)| *id == self.id);
        let left = found.map(|found| wakers.all.swap_remove(found));
        drop(wakers);
        drop(left);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<S> Shared<S> {
    pub(crate) fn new(value: S) -> Self {
        Self { value: Mutex::new(value), waiting: Arc::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        lock(&self.value)
    }

    /// Polls once, and keeps the wakers of those that wait.
    pub(crate) fn try_poll<T>(&self, poll: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let mut value = self.lock();
        if lock(&self.waiting.0).all.is_empty() {
            return poll(&mut value, &mut Context::from_waker(Waker::noop()));
        }
        let waker = Waker::from(Arc::clone(&self.waiting));
        poll(&mut value, &mut Context::from_waker(&waker))
    }

    /// Waits until `poll` is ready. Dropping the future takes nothing.
    pub(crate) fn wait<T>(
        &self,
        mut poll: impl FnMut(&mut S, &mut Context<'_>) -> Poll<T> + Unpin,
    ) -> impl Future<Output = T> + Unpin {
        let mut place = Place { waiting: &self.waiting, id: 0 };
        poll_fn(move |context| {
            if context.waker().will_wake(Waker::noop()) {
                return self.try_poll(&mut poll);
            }
            let mut value = self.lock();
            place.take(context.waker());
            let waker = Waker::from(Arc::clone(&self.waiting));
            let polled = poll(&mut value, &mut Context::from_waker(&waker));
            drop(value);
            if polled.is_ready() {
                place.leave();
                // There may be more for the others.
                self.waiting.wake_by_ref();
            }
            polled
        })
    }

    /// Replaces the value, and makes all waits look again.
    pub(crate) fn replace(&self, value: S) {
        let old = std::mem::replace(&mut *self.lock(), value);
        drop(old);
        self.waiting.wake_by_ref();
    }
}
