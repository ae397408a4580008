//! A hash table that grows and shrinks a part at a time.
//!
//! Owns its parts, each a table of std. It splits a part or joins two when entries come or go (linear hashing), so that
//! no insertion or removal moves more than some thousand entries. A table of std moves all of them at once: with a
//! million, that stops a broker for a tenth of a second. With few entries there is one part, which costs what a table
//! of std does. It must never know what its entries are.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// The entries of a part, on average.
const PART: usize = 1024;

/// A hash table. See the [module's documentation](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Table<K, V, S = RandomState> {
    first: HashMap<K, V, S>,
    /// The further parts.
    more: Vec<HashMap<K, V, S>>,
    len: usize,
}

/// Returns the part that a new part takes its entries from, and gives them back to.
fn partner(part: usize) -> usize {
    part ^ 1 << part.ilog2()
}

impl<K: Eq + Hash, V, S: BuildHasher + Clone + Default> Table<K, V, S> {
    /// Returns the part of a key.
    fn part_of<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        let parts = self.more.len() + 1;
        // Within a part, the lowest and the highest bits tell keys apart.
        let hash = (self.first.hasher().hash_one(key) >> 24) as usize;
        let part = hash & (parts.next_power_of_two() - 1);
        if part < parts { part } else { partner(part) }
    }

    #[inline]
    fn part<Q: Hash + ?Sized>(&self, key: &Q) -> &HashMap<K, V, S> {
        if self.more.is_empty() {
            return &self.first;
        }
        self.at(self.part_of(key))
    }

    #[inline]
    fn part_mut<Q: Hash + ?Sized>(&mut self, key: &Q) -> &mut HashMap<K, V, S> {
        if self.more.is_empty() {
            return &mut self.first;
        }
        let part = self.part_of(key);
        self.at_mut(part)
    }

    fn at(&self, part: usize) -> &HashMap<K, V, S> {
        if part == 0 { &self.first } else { &self.more[part - 1] }
    }

    fn at_mut(&mut self, part: usize) -> &mut HashMap<K, V, S> {
        if part == 0 { &mut self.first } else { &mut self.more[part - 1] }
    }

    #[inline]
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.part(key).get(key)
    }

    pub(crate) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.part_mut(key).get_mut(key)
    }

    /// Adds an entry, or replaces its value.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let is_new = self.part_mut(&key).insert(key, value).is_none();
        self.len += usize::from(is_new);
        if self.len > (self.more.len() + 1) * PART {
            self.split();
        }
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let part = self.part_mut(key);
        if part.remove(key).is_none() {
            return;
        }
        if part.capacity() > 64 && part.len() < part.capacity() / 4 {
            // A walk through all takes time linear in the capacity.
            part.shrink_to(part.len() * 2);
        }
        self.len -= 1;
        if self.len < self.more.len() * (PART / 4) {
            self.join();
        }
    }

    /// Moves half of a part to a new one.
    #[cold]
    fn split(&mut self) {
        let new = self.more.len() + 1;
        let hasher = self.first.hasher().clone();
        self.more.push(HashMap::with_hasher(hasher.clone()));
        let old = std::mem::replace(self.at_mut(partner(new)), HashMap::with_hasher(hasher));
        for (key, value) in old {
            self.part_mut(&key).insert(key, value);
        }
    }

    /// Moves the last part back to the one that it was split from.
    #[cold]
    fn join(&mut self) {
        let Some(last) = self.more.pop() else { return };
        self.at_mut(partner(self.more.len() + 1)).extend(last);
        if self.more.len() < self.more.capacity() / 4 {
            self.more.shrink_to(self.more.len() * 2);
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the entries, in no order. A walk through all takes time linear in the [span](Table::span).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.first.iter().chain(self.more.iter().flatten())
    }

    /// Returns a bound of how many places for entries there are: linear in the entries.
    pub(crate) fn span(&self) -> usize {
        self.first.capacity().max(4 * self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn entries_come_and_go_as_in_a_table_of_std() {
        let (mut table, mut expected) = (Table::<u64, u64>::default(), HashMap::new());
        let mut random = Random(1);
        for round in 0..6 {
            // It grows to many parts, and shrinks to few again.
            let odds = if round % 2 == 0 { 9 } else { 2 };
            for value in 0..30_000 {
                let key = random.below(20_000);
                if random.below(10) < odds {
                    table.insert(key, value);
                    expected.insert(key, value);
                } else {
                    table.remove(&key);
                    expected.remove(&key);
                }
                assert_eq!(table.len(), expected.len());
            }
            let all: HashMap<u64, u64> = table.iter().map(|(key, value)| (*key, *value)).collect();
            assert_eq!(all, expected);
            assert!((0..20_000).all(|key| table.get(&key) == expected.get(&key)));
        }
        expected.keys().for_each(|key| table.remove(key));
        assert!(table.is_empty() && table.more.is_empty(), "{} parts", table.more.len());
    }

    #[test]
    fn no_part_is_much_larger_than_others() {
        let mut table = Table::<String, ()>::default();
        for number in 0..200_000 {
            table.insert(format!("queue-{number}"), ());
        }
        // A part that is not yet split has twice as many entries as one that is.
        let largest = (0..=table.more.len()).map(|part| table.at(part).len()).max().unwrap();
        assert!(table.more.len() >= 190 && largest < 3 * PART, "{largest} of {} parts", table.more.len());
        assert!(table.iter().count() == 200_000 && table.span() <= 800_000);
    }
}
