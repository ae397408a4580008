//! The synchronization primitives of everything that takes part in locking and waking.
//!
//! With `--cfg hopmq_shuttle`, the tests use those of the model checker shuttle, which switches threads wherever one of
//! them is used: see `interleavings`. Initializing a [`OnceLock`] uses none of them, so the standard one serves both.

#[cfg(all(test, hopmq_shuttle))]
pub(crate) use shuttle::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    sync::{Mutex, MutexGuard},
    thread::{self, yield_now},
    thread_local,
};
use std::time::Duration;

pub(crate) use std::sync::{Arc, OnceLock, PoisonError, TryLockError, Weak};
#[cfg(not(all(test, hopmq_shuttle)))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    sync::{Mutex, MutexGuard},
    thread::{self, yield_now},
    thread_local,
};

/// Measures the time of tries that follow one another closely.
pub(crate) struct Stopwatch {
    #[cfg(not(all(test, hopmq_shuttle)))]
    begin: std::time::Instant,
    /// With the model checker, each look takes a microsecond.
    #[cfg(all(test, hopmq_shuttle))]
    looks: std::cell::Cell<u64>,
}

#[cfg(not(all(test, hopmq_shuttle)))]
impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { begin: std::time::Instant::now() }
    }

    pub(crate) fn is_below(&self, limit: Duration) -> bool {
        self.begin.elapsed() < limit
    }
}

#[cfg(all(test, hopmq_shuttle))]
impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { looks: std::cell::Cell::new(0) }
    }

    pub(crate) fn is_below(&self, limit: Duration) -> bool {
        self.looks.set(self.looks.get() + 1);
        Duration::from_micros(self.looks.get()) < limit
    }
}
