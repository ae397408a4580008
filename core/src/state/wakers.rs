//! Wakers that are collected under the lock and used outside of it.

use std::task::Waker;

/// Wakers to wake or to drop once the lock is released.
///
/// Dropping a waker may drop a task, and with it handles that take the lock.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    due: Vec<Waker>,
    discarded: Vec<Waker>,
}

impl Wakers {
    /// Wakes the waker of `slot` later, and empties the slot.
    #[inline]
    pub(crate) fn wake(&mut self, slot: &mut Option<Waker>) {
        if let Some(waker) = slot.take() {
            self.due.push(waker);
        }
    }

    /// Wakes `waker` later.
    #[inline]
    pub(crate) fn push(&mut self, waker: Waker) {
        self.due.push(waker);
    }

    /// Drops `waker` later.
    #[inline]
    pub(crate) fn discard(&mut self, waker: Option<Waker>) {
        self.discarded.extend(waker);
    }

    /// Stores a clone of `waker` in `slot`, unless `slot` already wakes the same task.
    #[inline]
    pub(crate) fn register(&mut self, slot: &mut Option<Waker>, waker: &Waker) {
        match slot {
            Some(known) if known.will_wake(waker) => {}
            slot => self.discarded.extend(slot.replace(waker.clone())),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.discarded.is_empty()
    }

    /// Drops the discarded wakers, then wakes the others. Call it without the lock.
    pub(crate) fn run(&mut self) {
        self.discarded.clear();
        self.due.drain(..).for_each(Waker::wake);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len() + self.discarded.len()
    }
}
