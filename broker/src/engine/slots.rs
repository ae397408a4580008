//! A table of things that come and go, each under an id that is never used twice.
//!
//! Owns the things. An id holds the index and the generation of its slot, so that a late word about something long gone
//! finds nothing, instead of whoever has its slot now. What runs through it runs in the order of the slots, which is
//! the same in each run.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// A table. See the [module's documentation](self).
pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// Where a thing is.
pub(crate) struct Id<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    fn new(index: usize, generation: u32) -> Self {
        Self { index: index as u32, generation, of: PhantomData }
    }

    /// The same as one number, for those who don't know what it is of.
    pub(crate) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// What [`Id::number`] made a number of.
    #[cfg(any(test, feature = "definitions", feature = "testing"))]
    pub(crate) fn of_number(number: u64) -> Self {
        Self::new(number as u32 as usize, (number >> 32) as u32)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number().hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T> Slots<T> {
    pub(crate) fn insert(&mut self, value: T) -> Id<T> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            (self.entries.len() - 1) as u32
        }) as usize;
        let entry = &mut self.entries[index];
        entry.value = Some(value);
        Id::new(index, entry.generation)
    }

    #[inline]
    pub(crate) fn get(&self, id: Id<T>) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation == id.generation { entry.value.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation == id.generation { entry.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, id: Id<T>) -> Option<T> {
        self.get(id)?;
        let entry = &mut self.entries[id.index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.index);
        entry.value.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        let with_id = |(index, entry): (usize, &'_ Entry<T>)| Id::new(index, entry.generation);
        let entries = self.entries.iter().enumerate();
        entries.filter_map(move |(index, entry)| Some((with_id((index, entry)), entry.value.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Id<T>, &mut T)> {
        let entries = self.entries.iter_mut().enumerate();
        entries.filter_map(|(index, entry)| Some((Id::new(index, entry.generation), entry.value.as_mut()?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_used_twice() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!((slots.remove(first), slots.remove(first)), (Some("first"), None));
        let second = slots.insert("second");
        assert_eq!((slots.get(first), slots.get(second), slots.len()), (None, Some(&"second"), 1));
        assert_eq!(Id::of_number(second.number()), second);
        assert!(first < second);
    }
}
