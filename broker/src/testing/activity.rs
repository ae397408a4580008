//! Whether a broker has work.
//!
//! Owns the count of the tasks that run or were woken. A task is counted from the moment of its wake on, by the waking
//! thread, so that work is never under way without being counted. It must never know what the tasks do.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// The count. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Tasks that run or were woken.
    busy: AtomicUsize,
    /// Whether the next zero must be reported.
    watched: AtomicBool,
    watchers: Mutex<Vec<Waker>>,
    quiet: Condvar,
}

impl Activity {
    /// Counts a task from now on, until it ends.
    pub(crate) fn track<F>(self: &Arc<Self>, future: F) -> Tracked<F> {
        self.enter();
        let task = Arc::new(Task { activity: Arc::clone(self), woken: AtomicBool::new(true), outer: Mutex::default() });
        Tracked { waker: Waker::from(Arc::clone(&task)), task, future }
    }

    /// Whether no task runs or was woken.
    pub(crate) fn is_quiet(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    /// Blocks until no task runs or was woken, or until `until`. Returns whether it is quiet.
    pub(crate) fn wait(&self, until: Instant) -> bool {
        let mut watchers = self.watch();
        while !self.is_quiet() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            watchers = self.quiet.wait_timeout(watchers, left).unwrap_or_else(PoisonError::into_inner).0;
            self.watched.store(true, Ordering::SeqCst);
        }
        true
    }

    /// Wakes a task the next time that the count falls to zero.
    pub(crate) fn watch_for(&self, waker: &Waker) {
        let mut watchers = self.watch();
        if !watchers.iter().any(|other| other.will_wake(waker)) {
            watchers.push(waker.clone());
        }
    }

    fn watch(&self) -> MutexGuard<'_, Vec<Waker>> {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        self.watched.store(true, Ordering::SeqCst);
        watchers
    }

    fn enter(&self) {
        self.busy.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self) {
        if self.busy.fetch_sub(1, Ordering::SeqCst) == 1 && self.watched.load(Ordering::SeqCst) {
            let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
            self.watched.store(false, Ordering::SeqCst);
            let wakers = std::mem::take(&mut *watchers);
            drop(watchers);
            self.quiet.notify_all();
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// The waker of a task.
#[derive(Debug)]
struct Task {
    activity: Arc<Activity>,
    /// Whether it was woken and has not run since, which counts as one. Stays set once the task has ended.
    woken: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.woken.swap(true, Ordering::SeqCst) {
            return;
        }
        self.activity.enter();
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        outer.into_iter().for_each(Waker::wake);
    }
}

/// A future that is counted while it has work.
#[derive(Debug)]
pub(crate) struct Tracked<F> {
    task: Arc<Task>,
    waker: Waker,
    future: F,
}

impl<F: Future + Unpin> Future for Tracked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        {
            let mut outer = this.task.outer.lock().unwrap_or_else(PoisonError::into_inner);
            if outer.as_ref().is_none_or(|outer| !outer.will_wake(context.waker())) {
                *outer = Some(context.waker().clone());
            }
        }
        // From here on the one in the count stands for this run; a wake in the meantime adds another.
        if !this.task.woken.swap(false, Ordering::SeqCst) {
            this.task.activity.enter();
        }
        let polled = Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker));
        this.task.activity.leave();
        polled
    }
}

impl<F> Drop for Tracked<F> {
    fn drop(&mut self) {
        if self.task.woken.swap(true, Ordering::SeqCst) {
            self.task.activity.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    #[test]
    fn a_task_counts_from_its_wake_to_the_end_of_its_run() {
        let activity = Arc::new(Activity::default());
        let inner: Arc<Mutex<Option<Waker>>> = Arc::default();
        let seen = Arc::clone(&inner);
        let mut task = pin!(activity.track(poll_fn(move |context| {
            *seen.lock().unwrap() = Some(context.waker().clone());
            Poll::<()>::Pending
        })));
        let mut context = Context::from_waker(Waker::noop());
        assert!(!activity.is_quiet());
        assert!(task.as_mut().poll(&mut context).is_pending() && activity.is_quiet());
        let waker = inner.lock().unwrap().clone().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert!(!activity.is_quiet() && !activity.wait(Instant::now()));
        assert!(task.as_mut().poll(&mut context).is_pending() && activity.is_quiet());
        // A run without a wake counts as well.
        assert!(task.as_mut().poll(&mut context).is_pending() && activity.wait(Instant::now()));
    }

    #[test]
    fn a_dropped_task_is_not_counted() {
        let activity = Arc::new(Activity::default());
        let task = activity.track(std::future::pending::<()>());
        let waker = task.waker.clone();
        drop(task);
        waker.wake();
        assert!(activity.is_quiet());
    }
}
