//! The memory that a broker's state takes, counted by the state itself.
//!
//! Owns four sums of bytes, one for each [`Purpose`]. What takes memory holds a [`Charge`], or charges the meter itself,
//! and gives the bytes back when it is dropped: so no path out of a queue can forget them. The sums are computed from
//! what is held, not asked of the system, so that they are the same in each run and in virtual time; an allocator's
//! fragments and the program itself are not in them. It must never know what the bytes are for.
//!
//! Cost: one load, one addition and one store for each charge. The sums are changed under the engine's lock only, so
//! none of that is a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Messages: ready, unacked, delayed, dead, uncommitted.
    Messages,
    /// What clients declare: queues, exchanges, bindings, consumers, channels.
    Declared,
    /// Connections: their buffers, messages that arrive in parts, and output that is not read.
    Connections,
    /// What the store has yet to write.
    Store,
}

const PURPOSES: usize = 4;

/// What the tables take in which something declared is found by its name or key, in bytes.
pub(crate) const TABLES: usize = 128;

/// The sums of one broker. A copy is the same meter.
///
/// A meter is never freed, so that each message can name it without a count of references; those of brokers that have
/// ended serve later ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter(&'static [AtomicU64; PURPOSES]);

/// The meters of brokers that have ended.
static UNUSED: Mutex<Vec<Meter>> = Mutex::new(Vec::new());

impl Meter {
    /// Returns a meter that no broker gets.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        Self(Box::leak(Box::default()))
    }

    fn sum(self, purpose: Purpose) -> &'static AtomicU64 {
        &self.0[purpose as usize]
    }

    #[inline]
    pub(crate) fn add(self, purpose: Purpose, bytes: usize) {
        let sum = self.sum(purpose);
        sum.store(sum.load(Ordering::Relaxed).wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn subtract(self, purpose: Purpose, bytes: usize) {
        let sum = self.sum(purpose);
        sum.store(sum.load(Ordering::Relaxed).wrapping_sub(bytes as u64), Ordering::Relaxed);
    }

    /// Returns the bytes of one purpose.
    #[inline]
    pub(crate) fn of(self, purpose: Purpose) -> u64 {
        self.sum(purpose).load(Ordering::Relaxed)
    }

    /// Returns all bytes.
    #[inline]
    pub(crate) fn total(self) -> u64 {
        self.0.iter().map(|sum| sum.load(Ordering::Relaxed)).sum()
    }
}

/// The right to a meter. Drop it after all that is charged to the meter.
#[derive(Debug)]
pub(crate) struct MeterOwner(Meter);

impl MeterOwner {
    pub(crate) fn new() -> Self {
        let unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(unused.unwrap_or_else(|| Meter(Box::leak(Box::default()))))
    }

    pub(crate) fn meter(&self) -> Meter {
        self.0
    }
}

impl Drop for MeterOwner {
    fn drop(&mut self) {
        let left = self.0.total();
        debug_assert!(left == 0 || std::thread::panicking(), "{left} bytes were never given back");
        if left == 0 {
            UNUSED.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
        }
    }
}

/// Bytes that are charged to a meter until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    meter: Meter,
    purpose: Purpose,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(meter: Meter, purpose: Purpose, bytes: usize) -> Self {
        meter.add(purpose, bytes);
        Self { meter, purpose, bytes }
    }

    /// Changes the number of bytes.
    #[inline]
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.meter.subtract(self.purpose, self.bytes);
            self.meter.add(self.purpose, bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.subtract(self.purpose, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_given_back_and_each_broker_has_its_own_sums() {
        let (one, other) = (MeterOwner::new(), MeterOwner::new());
        let mut charge = Charge::new(one.meter(), Purpose::Messages, 100);
        let second = Charge::new(one.meter(), Purpose::Store, 5);
        charge.set(30);
        assert_eq!((one.meter().of(Purpose::Messages), one.meter().total(), other.meter().total()), (30, 35, 0));
        drop(second);
        drop(charge);
        assert_eq!(one.meter().total(), 0);
    }
}
