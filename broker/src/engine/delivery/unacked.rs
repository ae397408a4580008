//! The unsettled deliveries of a channel, by delivery tag.
//!
//! Owns their messages. Tags rise, and are settled roughly in order, so that most are found at their expected index. It
//! must never know what settling does to a queue.

use std::collections::VecDeque;

use hopmq_proto::Time;

use crate::engine::capacity::Shrink;
use crate::engine::keys::{ConsumerKey, QueueKey};
use crate::engine::queue::ready::Entry;

/// A delivery that must be settled.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) tag: u64,
    pub(crate) queue: QueueKey,
    /// `None` if it was fetched by `basic.get`.
    pub(crate) consumer: Option<ConsumerKey>,
    /// When it was delivered.
    pub(crate) since: Time,
    pub(crate) entry: Entry,
}

/// Deliveries by tag. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    /// By tag; settled deliveries in the middle leave empty places.
    line: VecDeque<(u64, Option<Held>)>,
    count: usize,
}

/// Empty places are removed when there are more than this, and more than deliveries.
const KEPT_EMPTY: usize = 64;

impl Unacked {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds a delivery, whose tag must be the highest.
    #[inline]
    pub(crate) fn push(&mut self, held: Held) {
        self.count += 1;
        self.line.push_back((held.tag, Some(held)));
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let first = self.line.front()?.0;
        let guess = usize::try_from(tag.checked_sub(first)?).ok()?;
        match self.line.get(guess) {
            Some((found, _)) if *found == tag => Some(guess),
            _ => self.line.binary_search_by_key(&tag, |(tag, _)| *tag).ok(),
        }
    }

    /// Removes a delivery.
    #[inline]
    pub(crate) fn remove(&mut self, tag: u64) -> Option<Held> {
        let index = self.find(tag)?;
        let held = self.line[index].1.take()?;
        self.count -= 1;
        while self.line.front().is_some_and(|(_, held)| held.is_none()) {
            self.line.pop_front();
        }
        self.line.shrink_if_sparse();
        if self.line.len() > 2 * self.count + KEPT_EMPTY {
            self.line.retain(|(_, held)| held.is_some());
        }
        Some(held)
    }

    /// Whether there is a delivery of this tag.
    pub(crate) fn contains(&self, tag: u64) -> bool {
        self.find(tag).is_some_and(|index| self.line[index].1.is_some())
    }

    /// Removes the first delivery, if its tag is at most `tag`.
    pub(crate) fn pop_up_to(&mut self, tag: u64) -> Option<Held> {
        while let Some((found, _)) = self.line.front()
            && *found <= tag
        {
            if let Some((_, Some(held))) = self.line.pop_front() {
                self.count -= 1;
                self.line.shrink_if_sparse();
                return Some(held);
            }
        }
        None
    }

    /// Puts removed deliveries back, for the rollback of a transaction.
    pub(crate) fn put_back(&mut self, back: Vec<Held>) {
        self.count += back.len();
        let mut all: Vec<(u64, Option<Held>)> = std::mem::take(&mut self.line).into();
        all.retain(|(_, held)| held.is_some());
        all.extend(back.into_iter().map(|held| (held.tag, Some(held))));
        all.sort_unstable_by_key(|(tag, _)| *tag);
        self.line = all.into();
    }

    /// Takes the messages of some deliveries. Their tags can still be settled, without an effect.
    pub(crate) fn take_lapsed(&mut self, lapsed: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut taken = Vec::new();
        for held in self.line.iter_mut().filter_map(|(_, held)| held.as_mut()).filter(|held| lapsed(held)) {
            taken.push(held.clone());
            // No queue has this key.
            held.queue = QueueKey::default();
            held.consumer = None;
            held.entry.content = held.entry.content.emptied();
            held.entry.stored = false;
        }
        taken
    }

    /// Removes all deliveries. Returns them by tag.
    pub(crate) fn take(&mut self) -> Vec<Held> {
        self.count = 0;
        std::mem::take(&mut self.line).into_iter().filter_map(|(_, held)| held).collect()
    }

    /// Returns all deliveries by tag, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.line.iter_mut().filter_map(|(_, held)| held.as_mut())
    }

    /// Returns all deliveries by tag.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.line.iter().filter_map(|(_, held)| held.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::meter::Meter;
    use crate::engine::queue::message::{Message, Payload, Scratch};
    use crate::engine::queue::ready::Kept;
    use hopmq_proto::Properties;

    fn held(tag: u64) -> Held {
        let mut scratch = Scratch::new(Meter::of_test());
        let message = Message::new(&mut scratch, b"", b"q", Properties::EMPTY, Payload::Small(b"x"));
        let content = Kept::Here(message);
        let entry = Entry {
            position: tag,
            content,
            expires: None,
            returned: 0,
            acquired: 0,
            priority: None,
            redelivered: false,
            stored: false,
        };
        Held { tag, queue: QueueKey::default(), consumer: None, since: Time::ZERO, entry }
    }

    fn tags(unacked: &Unacked) -> Vec<u64> {
        unacked.iter().map(|held| held.tag).collect()
    }

    #[test]
    fn each_tag_is_settled_once() {
        let mut unacked = Unacked::default();
        for tag in [1, 2, 5, 6, 9] {
            unacked.push(held(tag));
        }
        assert!(unacked.remove(5).is_some() && unacked.remove(5).is_none() && unacked.remove(3).is_none());
        assert!(unacked.contains(6) && !unacked.contains(5) && !unacked.contains(10));
        assert_eq!((tags(&unacked), unacked.len()), (vec![1, 2, 6, 9], 4));
        let first: Vec<u64> = std::iter::from_fn(|| unacked.pop_up_to(6)).map(|held| held.tag).collect();
        assert_eq!((first, tags(&unacked)), (vec![1, 2, 6], vec![9]));
        unacked.put_back(vec![held(6), held(2)]);
        assert_eq!((tags(&unacked), unacked.len()), (vec![2, 6, 9], 3));
        assert_eq!((unacked.take().len(), unacked.len()), (3, 0));
    }

    #[test]
    fn a_lapsed_delivery_keeps_its_tag_without_its_message() {
        let mut unacked = Unacked::default();
        unacked.push(held(1));
        unacked.push(held(2));
        let taken = unacked.take_lapsed(|held| held.tag == 1);
        assert!(taken.len() == 1 && taken[0].entry.message().is_some());
        assert!(unacked.remove(1).is_some_and(|held| held.entry.message().is_none()));
        assert!(unacked.remove(2).is_some_and(|held| held.entry.message().is_some()));
    }

    #[test]
    fn an_old_unsettled_delivery_keeps_no_empty_places() {
        let mut unacked = Unacked::default();
        unacked.push(held(1));
        for tag in 2..10_000 {
            unacked.push(held(tag));
            assert!(unacked.remove(tag).is_some());
        }
        assert!(unacked.line.len() <= 2 + KEPT_EMPTY + 1, "{}", unacked.line.len());
    }
}
