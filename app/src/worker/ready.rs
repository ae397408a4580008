//! Which slots of a worker were woken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// A set of slots that were woken, and the task that must look at them.
pub(super) struct Ready {
    words: Box<[AtomicU64]>,
    parent: Mutex<Option<Waker>>,
}

impl Ready {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        let words = (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { words, parent: Mutex::new(None) })
    }

    /// Returns the waker of a slot.
    pub(super) fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        Arc::new(Bell { ready: Arc::clone(self), slot }).into()
    }

    /// Sets the task to wake. Call it before [`take`](Self::take), so that no wake is lost between them.
    pub(super) fn register(&self, waker: &Waker) {
        let mut parent = self.parent.lock().unwrap_or_else(PoisonError::into_inner);
        if !parent.as_ref().is_some_and(|parent| parent.will_wake(waker)) {
            *parent = Some(waker.clone());
        }
    }

    /// Calls `each` for each slot that was woken, and forgets the wakes.
    pub(super) fn take(&self, mut each: impl FnMut(usize)) {
        for (index, word) in self.words.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                each(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

struct Bell {
    ready: Arc<Ready>,
    slot: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.words[self.slot / 64].fetch_or(1 << (self.slot % 64), Ordering::AcqRel);
        let parent = self.ready.parent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_are_kept_until_they_are_taken() {
        let ready = Ready::new(130);
        for slot in [0, 63, 64, 129] {
            ready.waker(slot).wake();
        }
        let mut woken = Vec::new();
        ready.take(|slot| woken.push(slot));
        assert_eq!(woken, [0, 63, 64, 129]);
        ready.take(|slot| panic!("{slot} was taken before"));
    }
}
