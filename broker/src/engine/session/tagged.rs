//! The consumers of one channel: by tag, and in the order in which they take turns at the limit that they share.
//!
//! Adding, finding or removing one, or moving it behind the others, takes time logarithmic in their number. It must
//! never know what a consumer is.

use std::collections::{BTreeMap, HashMap};

use crate::engine::keys::ConsumerKey;
use crate::engine::name::Name;

/// The consumers of a channel. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Tagged {
    /// By tag, each with its turn.
    turns: HashMap<Name, u64>,
    order: BTreeMap<u64, ConsumerKey>,
    last: u64,
}

impl Tagged {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn get(&self, tag: &str) -> Option<ConsumerKey> {
        self.order.get(self.turns.get(tag)?).copied()
    }

    /// Returns the consumers by turn.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ConsumerKey> {
        self.order.values().copied()
    }

    pub(crate) fn add(&mut self, tag: Name, consumer: ConsumerKey) {
        self.last += 1;
        self.turns.insert(tag, self.last);
        self.order.insert(self.last, consumer);
    }

    pub(crate) fn remove(&mut self, tag: &str) -> Option<ConsumerKey> {
        self.order.remove(&self.turns.remove(tag)?)
    }

    /// Moves a consumer behind the others.
    pub(crate) fn pass_turn(&mut self, tag: &str) {
        let Some(turn) = self.turns.get_mut(tag) else { return };
        if let Some(consumer) = self.order.remove(turn) {
            self.last += 1;
            *turn = self.last;
            self.order.insert(self.last, consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_are_found_by_tag_and_pass_their_turns() {
        let [a, b, c] = [1, 2, 3].map(|number| ConsumerKey::from(slotmap::KeyData::from_ffi(1 << 32 | number)));
        let mut tagged = Tagged::default();
        [("a", a), ("b", b), ("c", c)].into_iter().for_each(|(tag, consumer)| tagged.add(tag.into(), consumer));
        tagged.pass_turn("a");
        assert_eq!(tagged.iter().collect::<Vec<_>>(), [b, c, a]);
        assert_eq!((tagged.get("a"), tagged.get("d")), (Some(a), None));
        assert_eq!((tagged.remove("c"), tagged.remove("c")), (Some(c), None));
        tagged.pass_turn("c");
        assert_eq!((tagged.iter().collect::<Vec<_>>(), tagged.len()), (vec![b, a], 2));
    }
}
