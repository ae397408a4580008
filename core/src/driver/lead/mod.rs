//! Leading: a thread that waits for the broker runs the reactor of its connection in place of the driver's own thread.
//!
//! Owns the seat, which one thread at a time holds: the driver's own thread (the owner), or a thread that waits (the
//! leader). The leader waits for events, polls the driver, and leaves once its future is ready; the other waiting
//! threads follow: they park, and the leader's polls wake them. So a round trip costs no change of threads in this
//! process. This module knows neither sockets nor AMQP.

pub(crate) mod seat;
mod wait;

use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::state::PollInline;
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, Ordering, PoisonError, Stopwatch, Weak, thread};

use seat::Events;
use wait::{Sleeper, note};
pub use wait::{wait, wait_within};

/// A connection that a waiting thread may lead: its driver, and the events that the driver waits for.
pub(crate) struct Lead {
    events: Arc<dyn Events>,
    driver: Weak<dyn PollInline>,
    /// Whether the owner of the seat runs other futures than this driver too. A thread then leads only while it spins.
    shared: bool,
    spin: Spin,
    proxy: Arc<Proxy>,
    /// The waker that `proxy` is.
    waker: Waker,
}

/// For how long a thread that leads tries to get events before it waits for them.
struct Spin {
    limit: Duration,
    /// How often in a row no answer came in time.
    failures: AtomicU32,
    /// How many waits follow without a try.
    skipped: AtomicU32,
}

impl Spin {
    /// Whether a try may pay: after answers that took longer, fewer and fewer do.
    fn pays(&self) -> bool {
        match self.skipped.load(Ordering::Relaxed) {
            0 => !self.limit.is_zero(),
            skipped => {
                self.skipped.store(skipped - 1, Ordering::Relaxed);
                false
            }
        }
    }

    fn note(&self, answered: bool) {
        let failures = if answered { 0 } else { self.failures.load(Ordering::Relaxed).saturating_add(1) };
        self.failures.store(failures, Ordering::Relaxed);
        // One failure may be by chance.
        let skipped = if failures < 2 { 0 } else { 1 << failures.min(MOST_SKIPPED) };
        self.skipped.store(skipped, Ordering::Relaxed);
    }
}

/// The binary logarithm of the most waits that follow one another without a try.
const MOST_SKIPPED: u32 = 10;

/// The driver's waker where its owner runs other futures too: while a thread leads, it must not wake the owner.
#[derive(Default)]
struct Proxy {
    rung: AtomicBool,
    led: AtomicBool,
    owner: Mutex<Option<Waker>>,
}

impl Proxy {
    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        if !self.led.load(Ordering::SeqCst) {
            self.forward();
        }
    }

    /// Wakes the owner, if the driver was woken.
    fn forward(&self) {
        if self.rung.swap(false, Ordering::SeqCst) {
            let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
            owner.into_iter().for_each(Waker::wake);
        }
    }
}

impl Wake for Proxy {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl Lead {
    pub(crate) fn new(events: Arc<dyn Events>, driver: Weak<dyn PollInline>, shared: bool, limit: Duration) -> Self {
        let proxy = Arc::new(Proxy::default());
        let waker = Waker::from(Arc::clone(&proxy));
        let spin = Spin { limit, failures: AtomicU32::new(0), skipped: AtomicU32::new(0) };
        Self { events, driver, shared, spin, proxy, waker }
    }

    /// Returns the waker to poll the driver with, in place of `owner`.
    pub(crate) fn waker<'a>(&'a self, owner: &'a Waker) -> &'a Waker {
        if !self.shared {
            return owner;
        }
        let mut known = self.proxy.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(owner)) {
            *known = Some(owner.clone());
        }
        &self.waker
    }

    /// Called for a future that waits for this connection: [`wait`] may lead it, or it is led here for a moment.
    /// Returns whether an answer may have come meanwhile.
    pub(crate) fn note_wait(self: &Arc<Self>, driver: &dyn PollInline) -> bool {
        if self.shared {
            if self.spin(driver) {
                return true;
            }
            self.events.seat().attend();
            return false;
        }
        if !note(self) {
            self.events.seat().attend();
        }
        false
    }

    /// Leads for a moment, on the thread of an executor, which must not block. Returns whether an answer came.
    fn spin(&self, driver: &dyn PollInline) -> bool {
        if !driver.awaits_one_answer() || !self.spin.pays() || !driver.is_linked() || !self.events.are_of_one() {
            return false;
        }
        let watch = Stopwatch::start();
        let seat = self.events.seat();
        if !seat.take(None) && !self.take_from_owner(&watch) {
            self.spin.note(false);
            return false;
        }
        self.proxy.led.store(true, Ordering::SeqCst);
        let released = OnDrop(|| {
            self.proxy.led.store(false, Ordering::SeqCst);
            self.proxy.forward();
            seat.release(&*self.events);
            // Other futures wait for the owner. One that begins to wait now is seen here, or sees the free seat.
            if driver.is_awaited() {
                seat.attend();
            }
        });
        let mut answered = false;
        while !answered && watch.is_below(self.spin.limit) {
            thread::yield_now();
            self.events.poll();
            if self.proxy.rung.swap(false, Ordering::SeqCst) {
                if !driver.poll_inline() || !driver.is_linked() {
                    self.proxy.rung.store(true, Ordering::SeqCst);
                    break;
                }
                answered = !driver.is_awaited();
            }
        }
        // Other threads may have had the processor for long.
        self.spin.note(answered && watch.is_below(self.spin.limit));
        drop(released);
        answered
    }

    /// Takes the seat from its owner, which is made to give way.
    #[cold]
    fn take_from_owner(&self, watch: &Stopwatch) -> bool {
        let seat = self.events.seat();
        seat.begin_spinning();
        self.events.waker().wake_by_ref();
        let mut taken = false;
        while !taken && watch.is_below(self.spin.limit) {
            thread::yield_now();
            taken = seat.take(None);
        }
        seat.end_spinning();
        taken
    }

    /// Takes the seat if it is free. If not, the thread follows.
    fn take_seat(&self, sleeper: &Arc<Sleeper>) -> bool {
        let seat = self.events.seat();
        if self.driver.upgrade().is_some_and(|driver| driver.is_linked()) {
            return seat.take(Some(sleeper));
        }
        seat.follow(sleeper);
        self.events.waker().wake_by_ref();
        false
    }

    /// Waits for events and polls the driver. Returns false if the driver is not linked to the broker: what it does
    /// then may take long, and is left to its own thread.
    fn turn(&self, deadline: Option<Instant>) -> bool {
        if !self.try_events() {
            self.events.wait(deadline);
        }
        self.events.take_notified();
        self.driver.upgrade().is_some_and(|driver| driver.poll_inline() && driver.is_linked())
    }

    /// Tries to get events without waiting for them. Returns whether there were any.
    fn try_events(&self) -> bool {
        if !self.spin.pays() {
            return false;
        }
        let watch = Stopwatch::start();
        let mut came = false;
        while !came && watch.is_below(self.spin.limit) {
            thread::yield_now();
            self.events.poll();
            came = self.events.is_notified() || self.events.is_leader_woken();
        }
        self.spin.note(came && watch.is_below(self.spin.limit));
        came
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
