//! A driver that is polled by whoever waits for it.
//!
//! Owns a driver, on a seat that one thread at a time takes: the driver's own, or that of a handle which is about to
//! wait for the broker or has filled a buffer. Who finds the seat taken wakes the driver's thread. So an answer costs
//! one change of threads instead of two, and a burst is written by those who make it. It knows nothing of what a driver
//! does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use crate::Driver;
use crate::io::Transport;
use crate::io::connector::Connector;
use crate::io::timer::Timer;

/// A driver that the connection's handles poll too, on their own threads: made by [`Driver::assisted`].
#[must_use = "nothing moves on the connection unless its driver is polled"]
pub struct AssistedDriver<D: Assistable> {
    seat: Arc<Seat<D>>,
}

/// A future that may be polled on several threads in turn.
pub trait Assistable: Future<Output = ()> + Unpin + Send + 'static {}

impl<D: Future<Output = ()> + Unpin + Send + 'static> Assistable for D {}

struct Seat<D> {
    taken: Mutex<Seated<D>>,
}

struct Seated<D> {
    /// Gone when it has ended.
    driver: Option<D>,
    /// That of the driver's own thread, once that has polled.
    waker: Option<Waker>,
}

/// Somebody who may be polled on the caller's thread.
pub(crate) trait Assist: Send + Sync {
    /// Does now what there is to do, if nobody else is at it.
    fn assist(&self) -> bool;
}

/// What a connection knows of its driver's seat.
pub(crate) type Assistant = Weak<dyn Assist>;

impl<T, R, C> Driver<T, R, C>
where
    T: Transport,
    R: Timer + Unpin,
    C: Connector<Transport = T> + Unpin,
    Self: Assistable,
{
    /// The same driver, to be polled by a thread that does nothing else. What the program's other threads ask of the
    /// broker they write themselves, as far as that needs no waiting, and this thread reads the answers: that saves the
    /// time that waking it takes. [`Builder::open`](crate::Builder::open) drives its connections like this.
    ///
    /// ```no_run
    /// # async fn example() -> hopmq::Result<()> {
    /// use hopmq::{Connection, Reactor};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let handle = reactor.handle();
    /// let (connection, driver) = reactor.block_on(Connection::builder().uri("amqp://localhost").connect_on(&handle))?;
    /// std::thread::spawn(move || reactor.block_on(driver.assisted()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn assisted(self) -> AssistedDriver<Self> {
        let shared = Arc::clone(self.shared());
        let seat = Arc::new(Seat { taken: Mutex::new(Seated { driver: Some(self), waker: None }) });
        shared.assist_by(Arc::downgrade(&seat) as Assistant);
        AssistedDriver { seat }
    }
}

impl<D: Assistable> Seated<D> {
    fn poll(&mut self) -> Poll<()> {
        let Some(waker) = &self.waker else { return Poll::Pending };
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        let polled = Pin::new(driver).poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            self.driver = None;
        }
        polled
    }
}

impl<D: Assistable> Assist for Seat<D> {
    fn assist(&self) -> bool {
        let mut seated = match self.taken.try_lock() {
            Ok(seated) if seated.waker.is_some() => seated,
            _ => return false,
        };
        if seated.poll().is_ready()
            && let Some(waker) = &seated.waker
        {
            waker.wake_by_ref();
        }
        true
    }
}

impl<D: Assistable> Future for AssistedDriver<D> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut seated = match self.seat.taken.lock() {
            Ok(seated) => seated,
            Err(poisoned) => {
                // It panicked on another thread, and can't go on.
                let mut seated = poisoned.into_inner();
                seated.driver = None;
                seated
            }
        };
        if !seated.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            seated.waker = Some(context.waker().clone());
        }
        seated.poll()
    }
}

impl<D: Assistable> fmt::Debug for AssistedDriver<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssistedDriver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Panics when it is polled for the second time.
    struct Panics {
        polled: bool,
        _alive: Arc<()>,
    }

    impl Future for Panics {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            assert!(!std::mem::replace(&mut self.polled, true), "as the test asks for");
            Poll::Pending
        }
    }

    #[test]
    fn a_driver_that_panics_on_a_handles_thread_is_dropped_by_its_own() {
        let alive = Arc::new(());
        let seated = Seated { driver: Some(Panics { polled: false, _alive: Arc::clone(&alive) }), waker: None };
        let seat = Arc::new(Seat { taken: Mutex::new(seated) });
        let mut driver = AssistedDriver { seat: Arc::clone(&seat) };
        assert!(!seat.assist(), "its own thread has not begun");
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut driver).poll(&mut context).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| seat.assist())).is_err());
        assert!(!seat.assist(), "nobody polls it again");
        assert!(Pin::new(&mut driver).poll(&mut context).is_ready());
        assert_eq!(Arc::strong_count(&alive), 1, "with it, the connection ends");
    }
}
