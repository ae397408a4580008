//! The timer of an app, shared by everything that waits in it.
//!
//! Owns the deadlines of all waits. In come sleeps; out goes the earliest deadline, for the one timer that the app's
//! run polls. It must never know what waits for what.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hopmq::{Clock, Time, Timer};

use crate::wall::WallClock;

/// The timer of an app. Its sleeps end only while the app runs, because the app polls the timer.
#[derive(Clone)]
pub struct Alarms(Arc<Shared>);

struct Shared {
    clock: Clock,
    wall: WallClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waits: BTreeMap<(Time, u64), Waker>,
    serial: u64,
    /// The task that polls the timer.
    driver: Option<Waker>,
    /// The deadline that the timer is set to.
    armed: Option<Time>,
}

impl Alarms {
    pub(crate) fn new(clock: Clock, wall: WallClock) -> Self {
        Self(Arc::new(Shared { clock, wall, state: Mutex::default() }))
    }

    /// Returns the clock of deadlines that travel.
    pub fn wall(&self) -> &WallClock {
        &self.0.wall
    }

    /// Returns the time.
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// Waits for `time`.
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.until(self.now() + time)
    }

    /// Waits until `deadline`.
    pub fn until(&self, deadline: Time) -> Sleep {
        Sleep { alarms: self.clone(), deadline, set: None }
    }

    /// Wakes what is due, and sets `timer` to what is due next. Never ready.
    pub(crate) fn poll(&self, timer: &mut (impl Timer + ?Sized), context: &mut Context<'_>) {
        loop {
            let now = self.now();
            let mut state = self.lock();
            let late = state.waits.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut state.waits, late);
            let next = state.waits.keys().next().map(|(at, _)| *at);
            state.armed = next;
            if !state.driver.as_ref().is_some_and(|driver| driver.will_wake(context.waker())) {
                state.driver = Some(context.waker().clone());
            }
            drop(state);
            due.into_values().for_each(Waker::wake);
            match next {
                Some(next) if timer.poll_until(next, context).is_ready() => {}
                _ => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarms").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// The future of a wait: created by [`Alarms::sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing before it is awaited"]
pub struct Sleep {
    alarms: Alarms,
    deadline: Time,
    set: Option<u64>,
}

impl Sleep {
    /// Returns when the wait ends.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Returns a wait of `time` from now on the same timer.
    #[cfg(feature = "json")]
    pub(crate) fn again(&self, time: Duration) -> Self {
        self.alarms.sleep(time)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.alarms.now() >= this.deadline {
            return Poll::Ready(());
        }
        let mut state = this.alarms.lock();
        let serial = *this.set.get_or_insert_with(|| {
            state.serial += 1;
            state.serial
        });
        state.waits.insert((this.deadline, serial), context.waker().clone());
        let earlier = state.armed.is_none_or(|armed| this.deadline < armed);
        let driver = if earlier { state.driver.take() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(serial) = self.set {
            let waker = self.alarms.lock().waits.remove(&(self.deadline, serial));
            drop(waker);
        }
    }
}
