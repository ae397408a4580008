//! Whether a queue's messages are taken: running, paused, or stopped.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

const RUNNING: u8 = 0;
const PAUSED: u8 = 1;
const STOPPED: u8 = 2;

/// The switch of one queue's consumer, which any thread may turn.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicU8,
    /// Whether the consumer must be started anew.
    renew: AtomicBool,
    /// Whether there is a consumer.
    consuming: AtomicBool,
    /// Whether the consumer has taken a message.
    taken: AtomicBool,
    worker: Mutex<Option<Waker>>,
}

impl Gate {
    pub(crate) fn stop(&self) {
        self.turn(|_| STOPPED);
    }

    /// Pauses or resumes; a stopped queue stays stopped.
    pub(crate) fn pause(&self, paused: bool) {
        self.turn(|state| match (state, paused) {
            (STOPPED, _) => STOPPED,
            (_, true) => PAUSED,
            (_, false) => RUNNING,
        });
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Acquire) == STOPPED
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state.load(Ordering::Acquire) == PAUSED
    }

    /// Ends the consumer when its messages in work are done, and starts it again, behind all others of its queue.
    pub(crate) fn renew(&self) {
        self.renew.store(true, Ordering::Release);
        self.turn(|state| state);
    }

    pub(crate) fn take_renewal(&self) -> bool {
        self.renew.load(Ordering::Relaxed) && self.renew.swap(false, Ordering::AcqRel)
    }

    /// Notes that a consumer was started.
    pub(crate) fn note_consuming(&self) {
        self.renew.store(false, Ordering::Release);
        self.taken.store(false, Ordering::Release);
        self.consuming.store(true, Ordering::Release);
    }

    pub(crate) fn is_consuming(&self) -> bool {
        self.consuming.load(Ordering::Acquire)
    }

    pub(crate) fn note_taken(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// Returns whether the consumer has taken a message.
    pub(crate) fn has_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn set_consuming(&self, consuming: bool) {
        self.consuming.store(consuming, Ordering::Release);
    }

    /// Sets the task that is woken when the switch turns. Read the state after that.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if !worker.as_ref().is_some_and(|worker| worker.will_wake(waker)) {
            *worker = Some(waker.clone());
        }
    }

    fn turn(&self, to: impl Fn(u8) -> u8) {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load(Ordering::Acquire);
        self.state.store(to(state), Ordering::Release);
        if let Some(worker) = worker.take() {
            worker.wake();
        }
    }
}
