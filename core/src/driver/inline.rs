//! Inline polling: handles poll the driver on the caller's thread when no other thread polls it.
//!
//! A handle does so when it is about to wait for the broker, or has filled a buffer. Then an answer costs one change of
//! threads instead of two, and the threads that publish a burst also write it. If another thread polls the driver, the
//! handle wakes the driver's own thread instead.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
#[cfg(any(feature = "net", all(test, hopmq_shuttle)))]
use std::time::Duration;

use super::Driver;
use super::lead::Lead;
#[cfg(any(feature = "net", all(test, hopmq_shuttle)))]
use super::lead::seat::Events;
use crate::io::Transport;
use crate::io::connector::Connector;
use crate::io::timer::Timer;
use crate::state::{PollInline, Shared};
use crate::sync::{Arc, AtomicBool, Mutex, OnceLock, Ordering, TryLockError, Weak};

/// A driver that the connection's handles also poll, on their own threads: made by [`Driver::assisted`].
#[must_use = "nothing moves on the connection unless its driver is polled"]
pub struct AssistedDriver<D: Assistable> {
    slot: Arc<DriverSlot<D>>,
}

/// A driver that may be polled on several threads in turn.
pub trait Assistable: Future<Output = ()> + Unpin + Send + 'static {
    /// Whether there is a link on which everything is restored.
    fn is_linked(&self) -> bool;
}

impl<T, R, C> Assistable for Driver<T, R, C>
where
    T: Transport,
    R: Timer + Unpin,
    C: Connector<Transport = T> + Unpin,
    Self: Send + 'static,
{
    fn is_linked(&self) -> bool {
        self.shared().is_connected()
    }
}

/// The driver, for one thread at a time: its own, or that of a handle.
struct DriverSlot<D> {
    slot: Mutex<Slot<D>>,
    /// Whether a thread asked for a poll that has not begun. The thread that holds the slot polls once more.
    asked: AtomicBool,
    /// Whether the driver was linked after its latest poll.
    linked: AtomicBool,
    /// Set if waiting threads may lead the connection.
    lead: OnceLock<Arc<Lead>>,
    shared: Weak<Shared>,
}

/// How often a thread polls the driver for other threads, before it leaves that to the driver's own thread.
const POLLS: usize = 8;

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
        let slot = DriverSlot::new(self, Arc::downgrade(&shared));
        shared.set_inline_driver(Arc::downgrade(&slot) as Weak<dyn PollInline>);
        AssistedDriver { slot }
    }
}

#[cfg(any(feature = "net", all(test, hopmq_shuttle)))]
impl<D: Assistable> AssistedDriver<D> {
    /// Lets threads that wait lead the connection: `events` are what this driver waits for. If the owner of the seat
    /// runs other futures too (`shared`), threads lead only while they spin.
    pub(crate) fn lead_by(&self, events: Arc<dyn Events>, shared: bool) {
        let slot = Arc::downgrade(&self.slot) as Weak<dyn PollInline>;
        let limit = self.slot.shared.upgrade().map_or(Duration::ZERO, |shared| shared.limits.spin);
        let _only_once = self.slot.lead.set(Arc::new(Lead::new(events, slot, shared, limit)));
    }
}

#[cfg(feature = "net")]
impl<D: Assistable> AssistedDriver<D> {
    /// Runs this driver on this thread until the connection ends. `reactor` is the one that the connection was made on.
    ///
    /// A thread that waits for the broker by [`wait`](crate::wait) takes the reactor for as long as it waits: it writes
    /// its request and reads the answer itself, which saves two changes of threads for each answer, and serves the
    /// other threads that wait. Meanwhile this thread sleeps. It takes the reactor back ten milliseconds after the last
    /// such wait, so a future that is awaited in another way may be woken ten milliseconds late while threads wait by
    /// `wait` all the time.
    ///
    /// ```no_run
    /// # fn example() -> hopmq::Result<()> {
    /// use hopmq::{Connection, Reactor};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let handle = reactor.handle();
    /// let (connection, driver) = reactor.block_on(Connection::builder().uri("amqp://localhost").connect_on(&handle))?;
    /// std::thread::spawn(move || driver.assisted().run(reactor));
    /// hopmq::wait(connection.channel())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(self, mut reactor: crate::Reactor) {
        self.lead_by(reactor.handle().events(), false);
        reactor.block_on(self);
    }
}

impl<D: Assistable> Slot<D> {
    fn poll(&mut self, lead: Option<&Arc<Lead>>) -> Poll<()> {
        let Some(waker) = &self.waker else { return Poll::Pending };
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        let waker = lead.map_or(waker, |lead| lead.waker(waker));
        let polled = Pin::new(driver).poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            self.driver = None;
        }
        polled
    }
}

impl<D: Assistable> DriverSlot<D> {
    fn new(driver: D, shared: Weak<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            slot: Mutex::new(Slot { driver: Some(driver), waker: None }),
            asked: AtomicBool::new(false),
            linked: AtomicBool::new(false),
            lead: OnceLock::new(),
        })
    }

    fn poll(&self, slot: &mut Slot<D>) -> Poll<()> {
        self.asked.store(false, Ordering::SeqCst);
        let polled = slot.poll(self.lead.get());
        let linked = slot.driver.as_ref().is_some_and(Assistable::is_linked);
        self.linked.store(linked, Ordering::Relaxed);
        polled
    }
}

impl<D: Assistable> PollInline for DriverSlot<D> {
    fn poll_inline(&self) -> bool {
        self.asked.store(true, Ordering::SeqCst);
        for _ in 0..POLLS {
            let mut slot = match self.slot.try_lock() {
                Ok(slot) if slot.waker.is_some() => slot,
                Err(TryLockError::WouldBlock) => return true,
                Ok(_) | Err(TryLockError::Poisoned(_)) => return false,
            };
            if self.poll(&mut slot).is_ready()
                && let Some(waker) = &slot.waker
            {
                waker.wake_by_ref();
            }
            drop(slot);
            // A thread that found the slot taken relies on this one.
            if !self.asked.load(Ordering::SeqCst) {
                return true;
            }
        }
        false
    }

    fn is_linked(&self) -> bool {
        self.linked.load(Ordering::Relaxed)
    }

    fn note_wait(&self) -> bool {
        self.lead.get().is_some_and(|lead| lead.note_wait(self))
    }

    fn awaits_one_answer(&self) -> bool {
        self.shared.upgrade().is_some_and(|shared| shared.lock().awaits_one_answer())
    }

    fn is_awaited(&self) -> bool {
        self.shared.upgrade().is_some_and(|shared| shared.lock().is_awaited())
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
        let polled = self.slot.poll(&mut slot);
        drop(slot);
        if self.slot.asked.load(Ordering::SeqCst) {
            context.waker().wake_by_ref();
        }
        polled
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

    impl Assistable for Panics {
        fn is_linked(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_driver_that_panics_on_a_handles_thread_is_dropped_by_its_own_thread() {
        let alive = Arc::new(());
        let slot = DriverSlot::new(Panics { polled: false, _alive: Arc::clone(&alive) }, Weak::new());
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
