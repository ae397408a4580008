//! Messages that wait until a time: for a delayed retry, or in a delayed-message exchange.

use std::collections::BTreeMap;

use hopmq_proto::Time;

use crate::engine::queue::ready::Entry;

/// Messages by time. Equal times keep the order of the queue.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    all: BTreeMap<(Time, u64), Entry>,
    /// The size of the bodies in bytes.
    bytes: u64,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn insert(&mut self, until: Time, entry: Entry) {
        self.bytes += entry.body_size();
        self.all.insert((until, entry.position), entry);
    }

    /// Returns when the first message is due.
    pub(crate) fn first(&self) -> Option<Time> {
        self.all.first_key_value().map(|((until, _), _)| *until)
    }

    /// Removes the first message, if it is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Entry> {
        if self.first()? > now {
            return None;
        }
        self.pop()
    }

    /// Removes the first message.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let (_, entry) = self.all.pop_first()?;
        self.bytes -= entry.body_size();
        Some(entry)
    }
}
