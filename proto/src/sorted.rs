//! Maps and sets in the order of their keys.
//!
//! They do what `BTreeMap`, `BTreeSet` and `HashMap` do, in a tenth of the machine code for each type of key: the
//! package for browsers would otherwise consist of these collections for a third. A map is a list of short sorted
//! lists, so an operation searches twice and moves at most one short list and the list of lists.

use std::borrow::Borrow;

/// The most entries of one short list.
const CHUNK_MAX: usize = 64;
/// Two neighbours of at most this many entries each become one list.
const SPARSE: usize = 16;

/// A map in the order of its keys. It allocates nothing while it is empty, and nothing if an entry replaces another.
///
/// ```
/// let mut map = hopmq_proto::SortedMap::new();
/// map.insert(2, "two");
/// map.insert(1, "one");
/// assert_eq!(map.insert(2, "zwei"), Some("two"));
/// assert_eq!(map.iter().collect::<Vec<_>>(), [(&1, &"one"), (&2, &"zwei")]);
/// ```
#[derive(Clone, Debug)]
pub struct SortedMap<K, V> {
    /// No chunk is empty, unless it is the only one.
    chunks: Vec<Vec<(K, V)>>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// Returns a map without entries.
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Returns the number of entries, which is counted.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// Returns whether the map has no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chunks.first().is_none_or(Vec::is_empty)
    }

    /// Returns the entries, the lowest key first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flatten().map(|(key, value)| (key, value))
    }

    /// Returns the entries with values to be changed, the lowest key first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.chunks.iter_mut().flatten().map(|(key, value)| (&*key, value))
    }

    /// Returns the keys, the lowest first.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.chunks.iter().flatten().map(|(key, _)| key)
    }

    /// Returns the values, that of the lowest key first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.chunks.iter().flatten().map(|(_, value)| value)
    }

    /// Returns the values to be changed, that of the lowest key first.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.chunks.iter_mut().flatten().map(|(_, value)| value)
    }

    /// Returns the entry with the lowest key.
    #[inline]
    pub fn first(&self) -> Option<(&K, &V)> {
        let (key, value) = self.chunks.first()?.first()?;
        Some((key, value))
    }

    /// Removes the entry with the lowest key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        if self.is_empty() { None } else { Some(self.take((0, 0))) }
    }

    /// Keeps the entries that `keep` is true for. It gets them in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.chunks.retain_mut(|chunk| {
            chunk.retain_mut(|(key, value)| keep(key, value));
            !chunk.is_empty()
        });
    }

    /// Frees memory beyond that for `capacity` entries, if there are few entries.
    pub fn shrink_to(&mut self, capacity: usize) {
        if let [chunk] = &mut self.chunks[..] {
            chunk.shrink_to(capacity);
        }
    }

    fn take(&mut self, (at, index): (usize, usize)) -> (K, V) {
        let chunk = &mut self.chunks[at];
        let entry = chunk.remove(index);
        if chunk.len() <= SPARSE {
            self.merge(at);
        }
        entry
    }

    /// Merges a chunk that has few entries with a neighbour that has few as well.
    fn merge(&mut self, at: usize) {
        for first in [at, at.wrapping_sub(1)] {
            if let Some([one, other]) = self.chunks.get_mut(first..first.wrapping_add(2))
                && (one.len().max(other.len()) <= SPARSE || one.is_empty() || other.is_empty())
            {
                one.append(other);
                self.chunks.remove(first + 1);
            }
        }
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Returns where a key is, or where it would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<(usize, usize), (usize, usize)>
    where
        K: Borrow<Q>,
    {
        let is_before = |chunk: &Vec<(K, V)>| chunk.last().is_some_and(|(last, _)| last.borrow() < key);
        let at = self.chunks.partition_point(is_before);
        let Some(chunk) = self.chunks.get(at) else {
            let last = at.saturating_sub(1);
            return Err((last, self.chunks.get(last).map_or(0, Vec::len)));
        };
        match chunk.binary_search_by(|(known, _)| known.borrow().cmp(key)) {
            Ok(index) => Ok((at, index)),
            Err(index) => Err((at, index)),
        }
    }

    /// Inserts an entry. Returns the former value of the key.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok((at, index)) => Some(std::mem::replace(&mut self.chunks[at][index].1, value)),
            Err(place) => {
                self.put(place, (key, value));
                None
            }
        }
    }

    /// Inserts an entry at the place of a key that is missing. Returns the entry's place.
    fn put(&mut self, (at, index): (usize, usize), entry: (K, V)) -> (usize, usize) {
        let (mut at, mut index) = (at, index);
        match self.chunks.get_mut(at) {
            None => self.chunks.push(Vec::new()),
            Some(chunk) if chunk.len() < CHUNK_MAX => {}
            Some(chunk) => {
                // Keys that grow fill their chunks.
                let middle = if index == CHUNK_MAX { CHUNK_MAX } else { CHUNK_MAX / 2 };
                let upper = chunk.split_off(middle);
                self.chunks.insert(at + 1, upper);
                if index >= middle {
                    (at, index) = (at + 1, index - middle);
                }
            }
        }
        self.chunks[at].insert(index, entry);
        (at, index)
    }

    /// Returns the value of a key, after inserting the default one if there is none.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(key, V::default)
    }

    /// Returns the value of a key, after inserting that of `value` if there is none.
    pub fn or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let (at, index) = match self.find(&key) {
            Ok(place) => place,
            Err(place) => self.put(place, (key, value())),
        };
        &mut self.chunks[at][index].1
    }

    /// Removes an entry. Returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        Some(self.take(place).1)
    }

    /// Returns a key as the map has it, with its value.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (at, index) = self.find(key).ok()?;
        let (key, value) = &self.chunks[at][index];
        Some((key, value))
    }

    /// Returns the value of a key.
    #[inline]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// Returns the value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (at, index) = self.find(key).ok()?;
        Some(&mut self.chunks[at][index].1)
    }

    /// Returns whether the map has a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Returns the entries from a key on, which need not be there.
    pub fn range_from<'a>(&'a self, first: &K) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let (Ok((at, index)) | Err((at, index))) = self.find(first);
        self.chunks.iter().skip(at).flatten().skip(index).map(|(key, value)| (key, value))
    }
}

impl<K: Ord, V> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

/// A set in the order of its members: a [`SortedMap`] without values.
///
/// ```
/// let set: hopmq_proto::SortedSet<u64> = [3, 1, 2, 3].into_iter().collect();
/// assert_eq!(set.iter().collect::<Vec<_>>(), [&1, &2, &3]);
/// ```
#[derive(Clone, Debug)]
pub struct SortedSet<K>(SortedMap<K, ()>);

impl<K> Default for SortedSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> SortedSet<K> {
    /// Returns a set without members.
    pub const fn new() -> Self {
        Self(SortedMap::new())
    }

    /// Returns the number of members, which are counted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the set has no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the members, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    /// Returns the lowest member.
    #[inline]
    pub fn first(&self) -> Option<&K> {
        self.0.first().map(|(key, ())| key)
    }

    /// Removes the lowest member.
    pub fn pop_first(&mut self) -> Option<K> {
        self.0.pop_first().map(|(key, ())| key)
    }
}

impl<K: Ord> SortedSet<K> {
    /// Inserts a member.
    pub fn insert(&mut self, key: K) {
        self.0.insert(key, ());
    }

    /// Removes a member.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.0.remove(key);
    }

    /// Returns whether a key is a member.
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Returns the members from a key on, which need not be one.
    pub fn range_from<'a>(&'a self, first: &K) -> impl Iterator<Item = &'a K> + use<'a, K> {
        self.0.range_from(first).map(|(key, ())| key)
    }
}

impl<K: Ord> Extend<K> for SortedSet<K> {
    fn extend<T: IntoIterator<Item = K>>(&mut self, keys: T) {
        keys.into_iter().for_each(|key| self.insert(key));
    }
}

impl<K: Ord> FromIterator<K> for SortedSet<K> {
    fn from_iter<T: IntoIterator<Item = K>>(keys: T) -> Self {
        let mut set = Self::new();
        set.extend(keys);
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16),
        OrDefault(u16),
        Remove(u16),
        PopFirst,
        Retain(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..2000u16).prop_map(Step::Insert),
            2 => (0..2000u16).prop_map(Step::OrDefault),
            6 => (0..2000u16).prop_map(Step::Remove),
            2 => Just(Step::PopFirst),
            1 => (2..9u16).prop_map(Step::Retain),
        ]
    }

    proptest! {
        #[test]
        fn the_map_does_what_a_tree_does(
            before in 0..3000u16, steps in prop::collection::vec(step(), 0..600), from in 0..2100u16,
        ) {
            let mut map = SortedMap::new();
            let mut tree = BTreeMap::new();
            for key in 0..before {
                map.insert(key, 0);
                tree.insert(key, 0);
            }
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(key) => prop_assert_eq!(map.insert(key, number), tree.insert(key, number)),
                    Step::OrDefault(key) => {
                        prop_assert_eq!(map.or_default(key), tree.entry(key).or_default());
                    }
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), tree.remove(&key)),
                    Step::PopFirst => prop_assert_eq!(map.pop_first(), tree.pop_first()),
                    Step::Retain(divisor) => {
                        map.retain(|key, _| key % divisor > 0);
                        tree.retain(|key, _| key % divisor > 0);
                    }
                }
                prop_assert_eq!(map.first(), tree.first_key_value());
                prop_assert_eq!(map.is_empty(), tree.is_empty());
            }
            prop_assert_eq!(map.len(), tree.len());
            prop_assert!(map.iter().eq(tree.iter()));
            prop_assert!(map.range_from(&from).eq(tree.range(from..)));
            prop_assert!((0..2000).all(|key| map.get(&key) == tree.get(&key)));
            let chunks: Vec<usize> = map.chunks.iter().map(Vec::len).collect();
            prop_assert!(chunks.len() == 1 || chunks.iter().all(|len| (1..=CHUNK_MAX).contains(len)), "{chunks:?}");
        }
    }

    #[test]
    fn a_map_that_most_entries_left_is_short() {
        let mut map: SortedMap<u32, ()> = SortedMap::new();
        (0..10_000).for_each(|key| _ = map.insert(key, ()));
        assert_eq!(map.chunks.len(), 10_000 / CHUNK_MAX + 1, "keys that grow fill their chunks");
        (0..10_000).filter(|key| key % 100 > 0).for_each(|key| _ = map.remove(&key));
        assert_eq!((map.len(), map.chunks.len() < 15), (100, true), "{} chunks", map.chunks.len());
    }
}
