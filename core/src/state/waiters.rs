//! Futures that wait for one event of the connection, such as its end.

use std::task::Waker;

use slotmap::SlotMap;

use super::keys::WaiterKey;
use super::wakers::Wakers;

/// The waiting futures.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    slots: SlotMap<WaiterKey, Option<Waker>>,
}

impl Waiters {
    /// Registers a future, which keeps `key` until it is dropped.
    pub(super) fn register(&mut self, key: &mut Option<WaiterKey>, waker: &Waker, wakers: &mut Wakers) {
        let key = *key.get_or_insert_with(|| self.slots.insert(None));
        if let Some(slot) = self.slots.get_mut(key) {
            wakers.register(slot, waker);
        }
    }

    /// Removes a future. Drop its waker without the lock.
    pub(super) fn remove(&mut self, key: WaiterKey) -> Option<Waker> {
        self.slots.remove(key).flatten()
    }

    pub(super) fn wake_all(&mut self, wakers: &mut Wakers) {
        for (_, slot) in self.slots.iter_mut() {
            wakers.wake(slot);
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
