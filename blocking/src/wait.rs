//! Waiting: a future is polled on the caller's thread, which parks in between.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking::Parker;

/// Waits until a future ends. What ends at once costs neither a waker nor a park.
#[inline]
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => loop {
            if let Some(output) = park(future.as_mut(), None) {
                return output;
            }
        },
    }
}

/// The same for up to `limit`. `None` if that was not long enough.
#[inline]
pub(crate) fn wait_within<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending if limit.is_zero() => None,
        Poll::Pending => park(future, Instant::now().checked_add(limit)),
    }
}

thread_local! {
    static OWN: RefCell<(Parker, Waker)> = RefCell::new(parker());
}

fn parker() -> (Parker, Waker) {
    let (parker, unparker) = parking::pair();
    (parker, Waker::from(unparker))
}

/// Polls whenever the future's waker is woken, until `deadline`.
#[cold]
fn park<F: Future>(future: Pin<&mut F>, deadline: Option<Instant>) -> Option<F::Output> {
    OWN.with(|own| match own.try_borrow_mut() {
        Ok(own) => poll_until(future, deadline, &own),
        // The future waits within itself.
        Err(_) => poll_until(future, deadline, &parker()),
    })
}

fn poll_until<F: Future>(
    mut future: Pin<&mut F>,
    deadline: Option<Instant>,
    (parker, waker): &(Parker, Waker),
) -> Option<F::Output> {
    let mut context = Context::from_waker(waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline {
            None => parker.park(),
            Some(deadline) if parker.park_deadline(deadline) => {}
            Some(_) => return None,
        }
    }
}
