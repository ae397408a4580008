//! Waiting for a future on the caller's thread, which leads the connection that the future waits for, or follows.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::seat::Seat;
use super::{Lead, OnDrop};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, AtomicBool, Ordering, thread_local};

/// Wakes a thread that waits.
#[derive(Debug)]
pub(crate) struct Sleeper {
    woken: AtomicBool,
    thread: Thread,
}

impl Sleeper {
    fn of_this_thread() -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(false), thread: thread::current() })
    }

    /// Parks until the thread is woken. Returns false if it was not woken by `deadline`.
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        while !self.woken.swap(false, Ordering::SeqCst) {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return false,
                Some(left) => thread::park_timeout(left),
            }
        }
        true
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

/// What a thread knows of its own waiting.
#[derive(Default)]
struct Waiting {
    /// Whether the thread is in [`wait`].
    waits: Cell<bool>,
    /// The connection that the future waits for which was polled last.
    noted: RefCell<Option<Arc<Lead>>>,
    /// The connection that the thread leads.
    led: RefCell<Option<Arc<Lead>>>,
    /// Made when the thread first parks.
    sleeper: OnceCell<(Arc<Sleeper>, Waker)>,
}

thread_local! {
    static WAITING: Waiting = Waiting::default();
}

impl Waiting {
    /// Ends the lead of this thread, if it leads.
    fn release(&self) {
        let led = self.led.borrow_mut().take();
        if let Some(lead) = led {
            lead.events.seat().release(&*lead.events);
        }
    }
}

/// Notes that a future waits for `lead`. Returns whether this thread is in [`wait`], which may lead.
pub(super) fn note(lead: &Arc<Lead>) -> bool {
    WAITING.with(|waiting| {
        let waits = waiting.waits.get();
        if waits {
            waiting.noted.replace(Some(Arc::clone(lead)));
        }
        waits
    })
}

/// Waits on this thread until `future` is ready.
///
/// The future may be of any kind. If it waits for a connection whose driver runs in [`AssistedDriver::run`], this
/// thread reads the answer of the broker itself, and serves the other threads that wait.
///
/// [`AssistedDriver::run`]: crate::AssistedDriver::run
///
/// ```
/// assert_eq!(hopmq::wait(async { 7 }), 7);
/// ```
#[inline]
pub fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Some(output) = wait_or_give_up(future.as_mut(), None) {
            return output;
        }
    }
}

/// Waits on this thread until `future` is ready, as [`wait`] does, for up to `limit`; `None` if the future was not
/// ready in time. The future is polled at least once.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(hopmq::wait_within(std::future::pending::<()>(), Duration::from_millis(1)), None);
/// ```
#[inline]
pub fn wait_within<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    wait_or_give_up(pin!(future), Some(limit))
}

/// A future that is ready at once costs neither a waker nor a park.
#[inline]
fn wait_or_give_up<F: Future>(mut future: Pin<&mut F>, limit: Option<Duration>) -> Option<F::Output> {
    WAITING.with(|waiting| {
        let outer = waiting.waits.replace(true);
        let _ended = OnDrop(|| waiting.waits.set(outer));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending if limit == Some(Duration::ZERO) => None,
            Poll::Pending => waiting.block(future, limit.and_then(|limit| Instant::now().checked_add(limit)), outer),
        }
    })
}

impl Waiting {
    /// Polls whenever the future's waker is woken, until `deadline`. `nested`: the thread waits within another wait.
    #[cold]
    fn block<F: Future>(&self, mut future: Pin<&mut F>, deadline: Option<Instant>, nested: bool) -> Option<F::Output> {
        let made;
        let (sleeper, waker) = if nested {
            // The outer wait keeps its waker, and cannot lead meanwhile.
            self.release();
            let sleeper = Sleeper::of_this_thread();
            made = (Arc::clone(&sleeper), Waker::from(sleeper));
            &made
        } else {
            self.sleeper.get_or_init(|| {
                let sleeper = Sleeper::of_this_thread();
                (Arc::clone(&sleeper), Waker::from(sleeper))
            })
        };
        let _released = OnDrop(|| {
            self.noted.take();
            self.release();
        });
        let mut context = Context::from_waker(waker);
        loop {
            let lead = self.noted.take();
            let following = match &lead {
                None => None,
                Some(lead) if lead.take_seat(sleeper) => {
                    self.led.replace(Some(Arc::clone(lead)));
                    match self.lead(lead, future.as_mut(), deadline) {
                        Led::Ready(output) => return Some(output),
                        Led::Late => return None,
                        Led::Over => continue,
                    }
                }
                Some(lead) => Some(Following { seat: lead.events.seat(), sleeper }),
            };
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            if !sleeper.sleep(deadline) {
                return None;
            }
            // Mostly, the thread was woken for its answer.
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            following.into_iter().for_each(Following::goes_on);
        }
    }

    /// Leads until the future is ready.
    fn lead<F: Future>(&self, lead: &Arc<Lead>, mut future: Pin<&mut F>, deadline: Option<Instant>) -> Led<F::Output> {
        let mut context = Context::from_waker(lead.events.leader());
        loop {
            lead.events.forget_leader();
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Led::Ready(output);
            }
            if self.led.borrow().is_none() {
                return Led::Over;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Led::Late;
            }
            if !lead.turn(deadline) {
                self.release();
                // The owner goes on, whatever this thread has seen.
                lead.events.waker().wake_by_ref();
                return Led::Over;
            }
        }
    }
}

/// How a lead ended.
enum Led<T> {
    Ready(T),
    /// The deadline has passed.
    Late,
    /// The thread leads no longer.
    Over,
}

/// A thread that follows until this is dropped.
struct Following<'a> {
    seat: &'a Seat,
    sleeper: &'a Arc<Sleeper>,
}

impl Following<'_> {
    /// Ends it for a thread that tries to take the seat.
    fn goes_on(self) {
        self.seat.unfollow(self.sleeper, true);
        std::mem::forget(self);
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.seat.unfollow(self.sleeper, false);
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
