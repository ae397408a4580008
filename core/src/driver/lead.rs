//! Leading: a thread that waits for the broker runs the reactor of its connection in place of the driver's own thread.
//!
//! Owns the seat, which one thread at a time holds: the driver's own thread (the owner), or a thread that waits (the
//! leader). The leader waits for events, polls the driver, and leaves once its future is ready; the other waiting
//! threads follow: they park, and the leader's polls wake them. So a round trip costs no change of threads in this
//! process. This module knows neither sockets nor AMQP.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::state::PollInline;
use crate::sync::thread::{self, Thread};
use crate::sync::{Stopwatch, thread_local};
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering, PoisonError, Weak};

/// How long a free seat stays free before its owner takes it back. Nothing is read meanwhile, and no thread waits.
const FREE: Duration = Duration::from_millis(10);
/// How often a future that keeps waking itself is polled before events are awaited.
const POLLS: usize = 8;

/// The events that a driver waits for: a reactor.
pub(crate) trait Events: Send + Sync {
    fn seat(&self) -> &Seat;

    /// Returns the waker that notifies, and ends the wait of the thread that is in `wait`. It must call
    /// [`Seat::attend`].
    fn waker(&self) -> &Waker;

    /// Whether the waker was used since the last `take_notified`.
    fn is_notified(&self) -> bool;

    fn take_notified(&self) -> bool;

    /// Returns the waker of the leader's future, which ends the wait too.
    fn leader(&self) -> &Waker;

    fn is_leader_woken(&self) -> bool;

    /// Forgets that the waker of the leader's future was used.
    fn forget_leader(&self);

    /// Waits for events, until one of the wakers is used, or until `deadline`.
    fn wait(&self, deadline: Option<Instant>);

    /// Takes the events that have happened, without waiting.
    fn poll(&self);

    /// Whether they are the events of one connection only.
    fn are_of_one(&self) -> bool;
}

/// The right to wait for the events. See the [module's documentation](self).
#[derive(Default)]
pub(crate) struct Seat {
    inner: Mutex<Inner>,
    /// Whether a thread asked the owner for the seat.
    wanted: AtomicBool,
    /// Whether nobody holds the seat.
    free: AtomicBool,
}

#[derive(Default)]
struct Inner {
    holder: Holder,
    /// The threads that wait while another one holds the seat, in the order of their arrival.
    followers: VecDeque<Arc<Sleeper>>,
    /// The owner, while it is parked.
    owner: Option<Thread>,
    /// Whether the owner is parked until it is woken.
    owner_sleeps: bool,
    /// Whether the owner must take the seat back.
    called: bool,
    /// How many threads try to take the seat from the owner, and do not park.
    spinning: usize,
    /// How often the seat was taken by a leader.
    leads: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Holder {
    Owner,
    Leader,
    /// Any thread may take the seat.
    Free,
    /// The owner has left, and the driver has ended.
    #[default]
    Nobody,
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a future on this thread, which owns the seat meanwhile and gives it away to threads that wait.
    pub(crate) fn run<F: Future>(events: &dyn Events, future: F) -> F::Output {
        let mut future = pin!(future);
        let seat = events.seat();
        seat.lock().holder = Holder::Owner;
        let _ended = OnDrop(|| seat.lock().holder = Holder::Nobody);
        events.waker().wake_by_ref();
        let mut context = Context::from_waker(events.waker());
        loop {
            for _ in 0..POLLS {
                if !events.take_notified() {
                    break;
                }
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return output;
                }
            }
            if seat.wanted.swap(false, Ordering::SeqCst) {
                seat.give_way(events);
            }
            events.wait(None);
        }
    }

    /// Gives the seat away, and returns when this thread, the owner, has it again: when the driver was woken while the
    /// seat was free, when a future waits that no thread leads for, or when the seat was free for [`FREE`].
    fn give_way(&self, events: &dyn Events) {
        let mut inner = self.lock();
        self.vacate(&mut inner);
        let mut seen = None;
        loop {
            let needed = inner.called || events.is_notified() && inner.spinning == 0;
            if inner.holder == Holder::Free && (needed || seen == Some(inner.leads)) {
                inner.holder = Holder::Owner;
                inner.called = false;
                self.free.store(false, Ordering::SeqCst);
                return;
            }
            // A leader that has had the seat for long may keep it for long: it wakes this thread when it leaves.
            let sleeps = inner.holder == Holder::Leader && seen == Some(inner.leads);
            seen = Some(inner.leads);
            inner.owner = Some(thread::current());
            inner.owner_sleeps = sleeps;
            drop(inner);
            if sleeps { thread::park() } else { thread::park_timeout(FREE) }
            inner = self.lock();
            inner.owner = None;
        }
    }

    /// Frees the seat, and wakes the first follower to take it.
    fn vacate(&self, inner: &mut Inner) {
        inner.holder = Holder::Free;
        self.free.store(true, Ordering::SeqCst);
        if let Some(next) = inner.followers.pop_front() {
            next.wake_by_ref();
        }
    }

    /// Has the owner take the seat, if it is free. The waker of the events calls it after it has notified, and a future
    /// that waits calls it unless its thread leads.
    pub(crate) fn attend(&self) {
        if self.free.load(Ordering::SeqCst) {
            self.call_owner();
        }
    }

    #[cold]
    fn call_owner(&self) {
        let mut inner = self.lock();
        if inner.holder == Holder::Free {
            inner.called = true;
            inner.owner.iter().for_each(Thread::unpark);
        }
    }

    /// Takes the seat if it is free. If not, `follower` is woken when the seat is free.
    fn take(&self, follower: Option<&Arc<Sleeper>>) -> bool {
        let mut inner = self.lock();
        match inner.holder {
            Holder::Free => {
                inner.holder = Holder::Leader;
                inner.leads += 1;
                self.free.store(false, Ordering::SeqCst);
                return true;
            }
            Holder::Owner => self.wanted.store(true, Ordering::SeqCst),
            Holder::Leader | Holder::Nobody => {}
        }
        inner.followers.extend(follower.map(Arc::clone));
        false
    }

    /// Makes a thread wait for the seat of the owner, even if the seat is free.
    fn follow(&self, follower: &Arc<Sleeper>) {
        self.lock().followers.push_back(Arc::clone(follower));
    }

    /// Removes a follower. One that was woken to take the seat, and `goes_on` to do so, is no longer known.
    fn unfollow(&self, follower: &Arc<Sleeper>, goes_on: bool) {
        let mut inner = self.lock();
        let place = inner.followers.iter().position(|known| Arc::ptr_eq(known, follower));
        match place {
            Some(place) => drop(inner.followers.remove(place)),
            None if inner.holder == Holder::Free && !goes_on => self.vacate(&mut inner),
            None => {}
        }
    }

    /// Frees the seat, which this thread holds as the leader.
    fn release(&self, events: &dyn Events) {
        let mut inner = self.lock();
        if inner.holder != Holder::Leader {
            return;
        }
        self.vacate(&mut inner);
        if let Some(owner) = &inner.owner
            && (inner.owner_sleeps || events.is_notified())
        {
            owner.unpark();
        }
    }
}

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

    /// Called for a future that waits for this connection: [`wait`] may lead it, or it is led here for a moment. Returns
    /// whether an answer may have come meanwhile.
    pub(crate) fn note_wait(self: &Arc<Self>, driver: &dyn PollInline) -> bool {
        if self.shared {
            if self.spin(driver) {
                return true;
            }
            self.events.seat().attend();
            return false;
        }
        WAITING.with(|waiting| match waiting.waits.get() {
            true => drop(waiting.noted.replace(Some(Arc::clone(self)))),
            false => self.events.seat().attend(),
        });
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
            // Other futures wait for the owner. One that begins to wait now is seen here, or sees that the seat is free.
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
        self.spin.note(answered);
        drop(released);
        answered
    }

    /// Takes the seat from its owner, which is made to give way.
    #[cold]
    fn take_from_owner(&self, watch: &Stopwatch) -> bool {
        let seat = self.events.seat();
        seat.lock().spinning += 1;
        self.events.waker().wake_by_ref();
        let mut taken = false;
        while !taken && watch.is_below(self.spin.limit) {
            thread::yield_now();
            taken = seat.take(None);
        }
        seat.lock().spinning -= 1;
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
        self.spin.note(came);
        came
    }
}

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
    fn block<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        deadline: Option<Instant>,
        nested: bool,
    ) -> Option<F::Output> {
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

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
