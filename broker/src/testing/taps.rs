//! The taps of a broker's connections.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tap::Tap;

/// A fault for the next connection.
type Trap = Box<dyn FnOnce(&Tap) + Send>;

/// The taps of a broker whose connections are watched.
#[derive(Default)]
pub(crate) struct Taps {
    taps: Mutex<VecDeque<(u64, Arc<Tap>)>>,
    traps: Mutex<VecDeque<Trap>>,
    serial: Arc<AtomicU64>,
}

/// Closed connections whose transcript is kept.
const KEPT_CLOSED: usize = 32;

impl Taps {
    /// Returns a tap for a new connection, with the fault that was set for it.
    pub(crate) fn tap(&self) -> Arc<Tap> {
        let tap = Tap::new(&self.serial);
        let trap = lock(&self.traps).pop_front();
        trap.into_iter().for_each(|trap| trap(&tap));
        tap
    }

    /// Sets a fault for the next connection.
    pub(super) fn set_trap(&self, trap: impl FnOnce(&Tap) + Send + 'static) {
        lock(&self.traps).push_back(Box::new(trap));
    }

    /// Returns the taps of all open connections and of the last ones that were closed.
    pub(super) fn all(&self) -> Vec<(u64, Arc<Tap>)> {
        lock(&self.taps).iter().cloned().collect()
    }

    /// Adds the tap of connection `id`, and drops those of connections that were closed long ago.
    pub(crate) fn keep(&self, id: u64, tap: Arc<Tap>) {
        let mut taps = lock(&self.taps);
        // A closed connection no longer holds its tap.
        let is_closed = |tap: &Arc<Tap>| Arc::strong_count(tap) == 1;
        let mut surplus = taps.iter().filter(|(_, tap)| is_closed(tap)).count().saturating_sub(KEPT_CLOSED);
        taps.retain(|(_, tap)| {
            let drop = surplus > 0 && is_closed(tap);
            surplus -= usize::from(drop);
            !drop
        });
        taps.push_back((id, tap));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Taps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taps")
    }
}
