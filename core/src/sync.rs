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
pub(crate) use std::sync::{Arc, OnceLock, PoisonError, TryLockError, Weak};
#[cfg(not(all(test, hopmq_shuttle)))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    sync::{Mutex, MutexGuard},
    thread::{self, yield_now},
    thread_local,
};
