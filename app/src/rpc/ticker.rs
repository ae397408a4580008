//! The timer of a client outside of an app.
//!
//! Owns the timer. In come its wakes, and new deadlines that are earlier than all others; out go the wakes of what is
//! due. It must never know what waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Wake, Waker};

use hopmq::Timer;

use crate::alarms::Alarms;
use crate::wall::WallClock;

/// A timer that its own wakes serve, so that no task need poll it.
pub(super) struct Ticker {
    alarms: Alarms,
    timer: Mutex<Box<dyn Timer + Send>>,
    /// How many wakes have not been served; who makes it more than zero serves them.
    wakes: AtomicUsize,
    bell: Waker,
}

struct Bell(Weak<Ticker>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(ticker) = self.0.upgrade() {
            ticker.tick();
        }
    }
}

impl Ticker {
    pub(super) fn start(timer: impl Timer + Send + 'static, wall: WallClock) -> Arc<Self> {
        let ticker = Arc::new_cyclic(|ticker| Self {
            alarms: Alarms::new(timer.clock(), wall),
            timer: Mutex::new(Box::new(timer)),
            wakes: AtomicUsize::new(0),
            bell: Arc::new(Bell(Weak::clone(ticker))).into(),
        });
        ticker.tick();
        ticker
    }

    pub(super) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    fn tick(&self) {
        if self.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let seen = self.wakes.load(Ordering::Acquire);
            self.alarms.poll(&mut **timer, &mut Context::from_waker(&self.bell));
            if self.wakes.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }
}
