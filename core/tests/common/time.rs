//! A clock that stands still until the test advances it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hopmq::{Clock, Time, Timer};

#[derive(Clone)]
pub(crate) struct VirtualTime(Arc<Mutex<Inner>>);

struct Inner {
    now: Time,
    alarms: BTreeMap<(Time, u64), Waker>,
    serial: u64,
}

impl VirtualTime {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner { now: Time::ZERO, alarms: BTreeMap::new(), serial: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no thread panics while it holds the lock")
    }

    pub(crate) fn now(&self) -> Time {
        self.lock().now
    }

    pub(crate) fn timer(&self) -> VirtualTimer {
        VirtualTimer { time: self.clone(), alarm: None }
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        let mut timer = self.timer();
        let deadline = self.now() + time;
        poll_fn(|context| timer.poll_until(deadline, context)).await;
    }

    /// Returns the time of the next alarm.
    pub(crate) fn next_alarm(&self) -> Option<Time> {
        self.lock()
            .alarms
            .first_key_value()
            .map(|((time, _), _)| *time)
            .filter(|time| time.since_epoch() < Duration::MAX)
    }

    /// Advances the clock to `now`, and wakes the tasks whose alarms are due.
    pub(crate) fn set(&self, now: Time) {
        let mut inner = self.lock();
        inner.now = inner.now.max(now);
        let late = inner.alarms.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut inner.alarms, late);
        drop(inner);
        due.into_values().for_each(Waker::wake);
    }
}

/// The timer of a driver.
pub(crate) struct VirtualTimer {
    time: VirtualTime,
    alarm: Option<(Time, u64)>,
}

impl VirtualTimer {
    fn clear(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            let waker = self.time.lock().alarms.remove(&alarm);
            drop(waker);
        }
    }
}

impl Timer for VirtualTimer {
    fn clock(&self) -> Clock {
        let time = self.time.clone();
        Clock::new(move || time.now())
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        self.clear();
        let mut inner = self.time.lock();
        if inner.now >= deadline {
            return Poll::Ready(());
        }
        inner.serial += 1;
        let alarm = (deadline, inner.serial);
        inner.alarms.insert(alarm, context.waker().clone());
        drop(inner);
        self.alarm = Some(alarm);
        Poll::Pending
    }
}

impl Drop for VirtualTimer {
    fn drop(&mut self) {
        self.clear();
    }
}
