//! Who published what, what was confirmed, and what was consumed: nothing that was confirmed may be missing in the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The ledger of one run.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<BTreeMap<u64, Entry>>);

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    confirmed: bool,
    consumed: u32,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Messages that the broker confirmed.
    pub confirmed: usize,
    /// Of these, those that nobody consumed.
    pub lost: usize,
    /// Messages that were consumed more than once.
    pub duplicated: usize,
    /// Messages that were consumed and never published.
    pub unexpected: usize,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker has confirmed a message.
    pub fn confirmed(&self, id: u64) {
        self.lock().entry(id).or_default().confirmed = true;
    }

    /// A message was consumed.
    pub fn consumed(&self, id: u64) {
        self.lock().entry(id).or_default().consumed += 1;
    }

    /// What it comes to, where ids below `published` were published.
    pub fn balance(&self, published: u64) -> Balance {
        let entries = self.lock();
        let count = |is: &dyn Fn(&Entry) -> bool| entries.values().filter(|entry| is(entry)).count();
        Balance {
            confirmed: count(&|entry| entry.confirmed),
            lost: count(&|entry| entry.confirmed && entry.consumed == 0),
            duplicated: count(&|entry| entry.consumed > 1),
            unexpected: entries.range(published..).count(),
        }
    }
}
