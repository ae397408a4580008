//! Inline polling: handles poll the driver on the caller's thread when no other thread polls it.
//!
//! A handle does so when it is about to wait for the broker, or has filled a buffer. Then an answer costs one change of
//! threads instead of two, and the threads that publish a burst also write it. If another thread polls the driver, the
//! handle wakes the driver's own thread instead.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Driver;
use crate::io::Transport;
use crate::io::connector::Connector;
use crate::io::timer::Timer;
use crate::state::PollInline;
use crate::sync::{Arc, Mutex, Weak};

/// A driver that the connection's handles also poll, on their own threads: made by [`Driver::assisted`].
#[must_use = "nothing moves on the connection unless its driver is polled"]
pub struct AssistedDriver<D: Assistable> {
    slot: Arc<DriverSlot<D>>,
}

/// A future that may be polled on several threads in turn.
pub trait Assistable: Future<Output = ()> + Unpin + Send + 'static {}

impl<D: Future<Output = ()> + Unpin + Send + 'static> Assistable for D {}

/// The driver, for one thread at a time: its own, or that of a handle.
struct DriverSlot<D> {
    slot: Mutex<Slot<D>>,
}

struct Slot<D> {
    /// `None` when the driver has ended.
    driver: Option<D>,
    /// The waker of the driver's own thread, once that thread has polled.
    waker: Option<Waker>,
}

impl<T, R, C> Driver<T, R, C>
where
    T: Transport,
    R: Timer + Unpin,
    C: Connector<Transport = T> + Unpin,
    Self: Assistable,
{
    /// Returns this driver for a thread that does nothing but poll it. The program's other threads write their requests
    /// themselves, as far as that needs no waiting, and this thread reads the answers. That saves the time to wake this
    /// thread. [`Builder::open`](crate::Builder::open) drives its connections like this.
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
        let slot = Arc::new(DriverSlot { slot: Mutex::new(Slot { driver: Some(self), waker: None }) });
        shared.set_inline_driver(Arc::downgrade(&slot) as Weak<dyn PollInline>);
        AssistedDriver { slot }
    }
}

impl<D: Assistable> Slot<D> {
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

impl<D: Assistable> PollInline for DriverSlot<D> {
    fn poll_inline(&self) -> bool {
        let mut slot = match self.slot.try_lock() {
            Ok(slot) if slot.waker.is_some() => slot,
            _ => return false,
        };
        if slot.poll().is_ready()
            && let Some(waker) = &slot.waker
        {
            waker.wake_by_ref();
        }
        true
    }
}

impl<D: Assistable> Future for AssistedDriver<D> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut slot = match self.slot.slot.lock() {
            Ok(slot) => slot,
            Err(poisoned) => {
                // The driver panicked on another thread, and must not be polled again.
                let mut slot = poisoned.into_inner();
                slot.driver = None;
                slot
            }
        };
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            slot.waker = Some(context.waker().clone());
        }
        slot.poll()
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
    fn a_driver_that_panics_on_a_handles_thread_is_dropped_by_its_own_thread() {
        let alive = Arc::new(());
        let slot = Slot { driver: Some(Panics { polled: false, _alive: Arc::clone(&alive) }), waker: None };
        let slot = Arc::new(DriverSlot { slot: Mutex::new(slot) });
        let mut driver = AssistedDriver { slot: Arc::clone(&slot) };
        assert!(!slot.poll_inline(), "the driver's own thread has not polled");
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut driver).poll(&mut context).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| slot.poll_inline())).is_err());
        assert!(!slot.poll_inline(), "a driver that panicked is not polled again");
        assert!(Pin::new(&mut driver).poll(&mut context).is_ready());
        assert_eq!(Arc::strong_count(&alive), 1, "the driver is dropped, and the connection ends");
    }
}
