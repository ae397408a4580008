//! Waiting for a future: it is polled on the caller's thread, which parks between polls.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking::Parker;

/// Waits until a future is ready. A future that is ready at once costs neither a waker nor a park.
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

/// Waits for up to `limit` until a future is ready; `None` if it was not ready in time.
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
    static PARKER: RefCell<(Parker, Waker)> = RefCell::new(parker());
}

fn parker() -> (Parker, Waker) {
    let (parker, unparker) = parking::pair();
    (parker, Waker::from(unparker))
}

/// Polls whenever the future's waker is woken, until `deadline`.
#[cold]
fn park<F: Future>(future: Pin<&mut F>, deadline: Option<Instant>) -> Option<F::Output> {
    PARKER.with(|parker_of_thread| match parker_of_thread.try_borrow_mut() {
        Ok(own) => poll_until(future, deadline, &own),
        // The future itself waits for another future on this thread.
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

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    /// Longer than any test.
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_ready_future_is_returned_whatever_the_limit() {
        assert_eq!(wait(ready(1)), 1);
        assert_eq!(wait_within(ready(2), Duration::ZERO), Some(2));
        assert_eq!(wait_within(ready(3), Duration::MAX), Some(3));
    }

    #[test]
    fn a_future_that_is_never_ready_times_out() {
        assert_eq!(wait_within(pending::<()>(), Duration::ZERO), None);
        assert_eq!(wait_within(pending::<()>(), Duration::from_millis(1)), None);
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        for limit in [None, Some(LONG), Some(Duration::MAX)] {
            let (sender, receiver) = channel::<Waker>();
            let other = thread::spawn(move || receiver.into_iter().for_each(Waker::wake));
            let mut polls = 0;
            // The first waker does nothing; the others wake this thread while it parks or just before.
            let future = poll_fn(|context| {
                polls += 1;
                sender.send(context.waker().clone()).expect("the other thread runs until the end");
                if polls < 5 { Poll::Pending } else { Poll::Ready(polls) }
            });
            let polls = match limit {
                None => Some(wait(future)),
                Some(limit) => wait_within(future, limit),
            };
            assert_eq!(polls, Some(5));
            drop(sender);
            other.join().expect("the other thread does not panic");
        }
    }

    #[test]
    fn a_nested_wait_parks_with_its_own_parker() {
        let mut outer = 0;
        let output = wait(poll_fn(|context| {
            outer += 1;
            assert_eq!(wait_within(pending::<()>(), Duration::from_millis(1)), None);
            context.waker().wake_by_ref();
            if outer < 3 { Poll::Pending } else { Poll::Ready("done") }
        }));
        assert_eq!((output, outer), ("done", 3));
    }
}
