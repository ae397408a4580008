//! Counts handled messages, for the runners of handlers.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// The messages of this process's run.
pub static HANDLED: Handled = Handled { left: AtomicU64::new(u64::MAX), waiting: Mutex::new(None) };

/// Counts down to the last message. It is static because a handler is a plain function.
pub struct Handled {
    left: AtomicU64,
    waiting: Mutex<Option<Waker>>,
}

impl Handled {
    /// Sets how many messages will be handled.
    pub fn expect(&self, messages: u64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// Counts a message.
    #[inline]
    pub fn one(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            waiting.wake();
        }
    }

    /// Waits for the last message.
    pub fn all(&self) -> impl Future<Output = ()> + Send {
        poll_fn(|context| {
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            if self.left.load(Ordering::SeqCst) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}
