//! Functions that may block, each on a thread of its own.
//!
//! A pool of threads would be faster and does not survive a fork: the child would wait for threads that it does not
//! have.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

/// The result on its way from the thread to the future.
struct Slot<T> {
    result: Option<T>,
    /// Whether the thread has ended, with or without a result.
    ended: bool,
    waker: Option<Waker>,
}

/// The thread's end of the slot.
struct Sender<T>(Arc<Mutex<Slot<T>>>);

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.ended = true;
            slot.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `function` on a new thread, and returns its result. The thread continues if the future is dropped.
///
/// # Errors
/// If no thread can be started, or if the function panics.
pub async fn unblock<T: Send + 'static>(function: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let slot = Arc::new(Mutex::new(Slot { result: None, ended: false, waker: None }));
    let sender = Sender(Arc::clone(&slot));
    thread::Builder::new().name("hopmq-blocked".to_owned()).spawn(move || {
        let result = function();
        lock(&sender.0).result = Some(result);
    })?;
    poll_fn(|context| {
        let mut slot = lock(&slot);
        if !slot.ended {
            slot.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(slot.result.take().ok_or_else(|| io::Error::other("the function panicked")))
    })
    .await
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn the_result_or_a_panic_arrives() {
        assert_eq!(block_on(unblock(|| 7)).ok(), Some(7));
        let panicked = block_on(unblock(|| -> u8 { panic!("as the test asks for") }));
        assert_eq!(panicked.map_err(|error| error.to_string()), Err("the function panicked".to_owned()));
    }
}
