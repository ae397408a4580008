//! The synchronization primitives of everything that takes part in locking and waking: a model checker replaces them
//! here.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
pub(crate) use std::thread::yield_now;
