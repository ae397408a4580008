//! The memory that a broker's state takes, counted by the state itself.
//!
//! Owns sums of bytes and numbers, one for each [`Purpose`], of the whole broker and of each virtual host. What takes
//! memory holds a [`Charge`], or charges the meter itself, and gives the bytes back when it is dropped: so no path out
//! of a queue can forget them. The sums are computed from what is held, not asked of the system, so that they are the
//! same in each run and in virtual time; an allocator's fragments and the program itself are not in them. It must never
//! know what the bytes are for.
//!
//! Cost: two loads, additions and stores for each charge. The sums are changed under the engine's lock only, so none of
//! that is a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Messages: ready, unacked, delayed, dead, uncommitted.
    Messages,
    Queues,
    Exchanges,
    Bindings,
    Consumers,
    Channels,
    /// Connections: their buffers, messages that arrive in parts, and output that is not read.
    Connections,
    /// What the store has yet to write.
    Store,
}

const PURPOSES: usize = 8;

impl Purpose {
    /// What clients declare.
    pub(crate) const DECLARED: [Self; 5] =
        [Self::Queues, Self::Exchanges, Self::Bindings, Self::Consumers, Self::Channels];
}

/// What the tables take in which something declared is found by its name or key, in bytes.
pub(crate) const TABLES: usize = 128;

#[derive(Debug, Default)]
struct Sums {
    bytes: [AtomicU64; PURPOSES],
    counts: [AtomicU64; PURPOSES],
}

#[inline]
fn add(sum: &AtomicU64, number: u64) {
    sum.store(sum.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

/// The sums of a broker, or of one of its virtual hosts, whose bytes count for the broker as well. A copy is the same
/// meter.
///
/// Sums are never freed, so that each message can name its meter without a count of references; those of brokers that
/// have ended serve later ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    own: &'static Sums,
    broker: Option<&'static Sums>,
}

/// The sums of brokers that have ended.
static UNUSED: Mutex<Vec<&'static Sums>> = Mutex::new(Vec::new());

impl Meter {
    /// Returns a meter that no broker gets.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        Self { own: Box::leak(Box::default()), broker: None }
    }

    #[inline]
    fn change(self, purpose: Purpose, bytes: u64, count: u64) {
        for sums in std::iter::once(self.own).chain(self.broker) {
            add(&sums.bytes[purpose as usize], bytes);
            add(&sums.counts[purpose as usize], count);
        }
    }

    /// Adds bytes that something takes.
    #[inline]
    pub(crate) fn add(self, purpose: Purpose, bytes: usize) {
        self.change(purpose, bytes as u64, 1);
    }

    /// Subtracts what was added.
    #[inline]
    pub(crate) fn subtract(self, purpose: Purpose, bytes: usize) {
        self.change(purpose, (bytes as u64).wrapping_neg(), 1_u64.wrapping_neg());
    }

    /// Returns the bytes of one purpose.
    pub(crate) fn bytes(self, purpose: Purpose) -> u64 {
        self.own.bytes[purpose as usize].load(Ordering::Relaxed)
    }

    /// Returns how many of one purpose there are.
    pub(crate) fn count(self, purpose: Purpose) -> u64 {
        self.own.counts[purpose as usize].load(Ordering::Relaxed)
    }

    /// Returns the bytes of what clients declared.
    pub(crate) fn declared(self) -> u64 {
        Purpose::DECLARED.iter().map(|purpose| self.bytes(*purpose)).sum()
    }

    /// Returns all bytes.
    #[inline]
    pub(crate) fn total(self) -> u64 {
        self.own.bytes.iter().map(|sum| sum.load(Ordering::Relaxed)).sum()
    }
}

/// The right to a meter. Drop it after all that is charged to the meter.
#[derive(Debug)]
pub(crate) struct MeterOwner(Meter);

impl MeterOwner {
    /// Returns the right to the meter of a broker.
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// Returns the right to the meter of a virtual host.
    pub(crate) fn of_vhost(broker: Meter) -> Self {
        Self::with(Some(broker.own))
    }

    fn with(broker: Option<&'static Sums>) -> Self {
        let unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(Meter { own: unused.unwrap_or_else(|| Box::leak(Box::default())), broker })
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
            UNUSED.lock().unwrap_or_else(PoisonError::into_inner).push(self.0.own);
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
            self.meter.change(self.purpose, (bytes as u64).wrapping_sub(self.bytes as u64), 0);
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
        assert_eq!((one.meter().bytes(Purpose::Messages), one.meter().total(), other.meter().total()), (30, 35, 0));
        drop(second);
        drop(charge);
        assert_eq!(one.meter().total(), 0);
    }

    #[test]
    fn what_a_virtual_host_takes_counts_for_its_broker() {
        let broker = MeterOwner::new();
        let (one, other) = (MeterOwner::of_vhost(broker.meter()), MeterOwner::of_vhost(broker.meter()));
        let queues = [one.meter(), other.meter(), one.meter()].map(|meter| Charge::new(meter, Purpose::Queues, 10));
        assert_eq!([broker.meter(), one.meter(), other.meter()].map(Meter::declared), [30, 20, 10]);
        assert_eq!([broker.meter(), one.meter(), other.meter()].map(|meter| meter.count(Purpose::Queues)), [3, 2, 1]);
        drop(queues);
        assert_eq!(broker.meter().total(), 0);
    }
}
