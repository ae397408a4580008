//! The clock of a broker: the system's, or a manual one for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use hopmq_proto::Time;

/// A clock, which a broker uses for heartbeats, times to live and deadlines. A clone is the same clock.
///
/// ```
/// use std::time::Duration;
///
/// let clock = hopmq_broker::Clock::manual();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since_epoch(), Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System(Instant),
    Manual(Arc<Mutex<Manual>>),
}

#[derive(Default)]
pub(crate) struct Manual {
    now: Time,
    alarms: BTreeMap<(Time, u64), Waker>,
    serial: u64,
}

impl Clock {
    /// Returns the system's clock, on async-io's timers. Its epoch is now.
    pub fn system() -> Self {
        Self(Kind::System(Instant::now()))
    }

    /// Returns a clock that stands at zero until [`Clock::advance`] or [`Clock::set`] moves it.
    pub fn manual() -> Self {
        Self(Kind::Manual(Arc::default()))
    }

    /// Returns the time.
    pub fn now(&self) -> Time {
        match &self.0 {
            Kind::System(epoch) => Time::from_epoch(epoch.elapsed()),
            Kind::Manual(manual) => lock(manual).now,
        }
    }

    /// Moves a manual clock forward, and wakes the tasks whose deadlines are reached. Does nothing to the system's
    /// clock.
    pub fn advance(&self, time: Duration) {
        self.set(self.now() + time);
    }

    /// Moves a manual clock to `now`, unless it has reached that time already.
    pub fn set(&self, now: Time) {
        let Kind::Manual(manual) = &self.0 else { return };
        let mut manual = lock(manual);
        manual.now = manual.now.max(now);
        let late = manual.alarms.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut manual.alarms, late);
        drop(manual);
        due.into_values().for_each(Waker::wake);
    }

    /// Returns the earliest deadline that a task waits for, on a manual clock.
    pub fn next_alarm(&self) -> Option<Time> {
        let Kind::Manual(manual) = &self.0 else { return None };
        lock(manual).alarms.keys().next().map(|(at, _)| *at)
    }

    /// Whether this clock is manual.
    #[cfg(feature = "testing")]
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, Kind::Manual(_))
    }

    /// Returns the seconds from 1970 to the clock's zero. A manual clock starts with 2026.
    pub(crate) fn wall_epoch(&self) -> u64 {
        match &self.0 {
            Kind::System(epoch) => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                since.saturating_sub(epoch.elapsed()).as_secs()
            }
            Kind::Manual(_) => 1_767_225_600,
        }
    }

    /// Returns an alarm of this clock, for a test that runs clients on the broker's time.
    pub fn alarm(&self) -> Alarm {
        Alarm(match &self.0 {
            Kind::System(epoch) => Waits::System { epoch: *epoch, timer: async_io::Timer::never(), armed: None },
            Kind::Manual(manual) => Waits::Manual { clock: Arc::clone(manual), set: None },
        })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

fn lock(manual: &Mutex<Manual>) -> MutexGuard<'_, Manual> {
    manual.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An alarm of a clock: created by [`Clock::alarm`].
///
/// ```
/// use std::future::poll_fn;
/// use std::time::Duration;
/// use hopmq_broker::Clock;
///
/// let clock = Clock::manual();
/// let mut alarm = clock.alarm();
/// let deadline = clock.now() + Duration::from_secs(60);
/// clock.advance(Duration::from_secs(60));
/// futures_lite::future::block_on(poll_fn(|context| alarm.poll_until(deadline, context)));
/// ```
pub struct Alarm(Waits);

enum Waits {
    System {
        epoch: Instant,
        timer: async_io::Timer,
        /// The time that the timer is set to: the deadline, or earlier.
        armed: Option<Time>,
    },
    Manual {
        clock: Arc<Mutex<Manual>>,
        set: Option<(Time, u64)>,
    },
}

impl Alarm {
    /// Ready once `deadline` is reached; otherwise the task is woken at that time. Each call replaces the deadline.
    pub fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        self.clear();
        match &mut self.0 {
            Waits::System { epoch, timer, armed } => loop {
                // Setting the timer costs a system call: one that is set to an earlier time stays, and is set again
                // when it has fired.
                if armed.is_none_or(|armed| armed > deadline) {
                    *armed = Some(deadline);
                    match epoch.checked_add(deadline.since_epoch()) {
                        Some(instant) => timer.set_at(instant),
                        None => timer.clear(),
                    }
                }
                if Pin::new(&mut *timer).poll(context).is_pending() {
                    return Poll::Pending;
                }
                if armed.take() >= Some(deadline) {
                    return Poll::Ready(());
                }
            },
            Waits::Manual { clock, set } => {
                let mut manual = lock(clock);
                if manual.now >= deadline {
                    return Poll::Ready(());
                }
                manual.serial += 1;
                let alarm = (deadline, manual.serial);
                manual.alarms.insert(alarm, context.waker().clone());
                *set = Some(alarm);
                Poll::Pending
            }
        }
    }

    fn clear(&mut self) {
        if let Waits::Manual { clock, set } = &mut self.0
            && let Some(alarm) = set.take()
        {
            let waker = lock(clock).alarms.remove(&alarm);
            drop(waker);
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}
