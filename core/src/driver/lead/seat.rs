//! The seat: the right to wait for the events of a driver, which one thread at a time holds.
//!
//! Owns who holds the seat, who waits for it, and the thread that takes it when no other does. It calls neither the
//! driver nor a future, except in [`Seat::run`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::OnDrop;
use super::wait::Sleeper;
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

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

/// The right to wait for the events. See the [module's documentation](super).
#[derive(Default)]
pub(crate) struct Seat {
    inner: Mutex<Inner>,
    /// Whether a thread asked the owner for the seat.
    wanted: AtomicBool,
    /// Whether no thread holds the seat.
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
    Ended,
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
        let _ended = OnDrop(|| seat.lock().holder = Holder::Ended);
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
            if sleeps {
                thread::park();
            } else {
                thread::park_timeout(FREE);
            }
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
    pub(super) fn take(&self, follower: Option<&Arc<Sleeper>>) -> bool {
        let mut inner = self.lock();
        match inner.holder {
            Holder::Free => {
                inner.holder = Holder::Leader;
                inner.leads += 1;
                self.free.store(false, Ordering::SeqCst);
                return true;
            }
            Holder::Owner => self.wanted.store(true, Ordering::SeqCst),
            Holder::Leader | Holder::Ended => {}
        }
        inner.followers.extend(follower.map(Arc::clone));
        false
    }

    /// Makes a thread wait for the seat of the owner, even if the seat is free.
    pub(super) fn follow(&self, follower: &Arc<Sleeper>) {
        self.lock().followers.push_back(Arc::clone(follower));
    }

    /// Removes a follower. One that was woken to take the seat, and `goes_on` to do so, is no longer known.
    pub(super) fn unfollow(&self, follower: &Arc<Sleeper>, goes_on: bool) {
        let mut inner = self.lock();
        let place = inner.followers.iter().position(|known| Arc::ptr_eq(known, follower));
        match place {
            Some(place) => drop(inner.followers.remove(place)),
            None if inner.holder == Holder::Free && !goes_on => self.vacate(&mut inner),
            None => {}
        }
    }

    /// Notes that a thread tries to take the seat from the owner, without parking.
    pub(super) fn begin_spinning(&self) {
        self.lock().spinning += 1;
    }

    pub(super) fn end_spinning(&self) {
        self.lock().spinning -= 1;
    }

    /// Frees the seat, which this thread holds as the leader.
    pub(super) fn release(&self, events: &dyn Events) {
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
