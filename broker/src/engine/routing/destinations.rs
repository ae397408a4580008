//! The destinations that a key or pattern leads to, each with the number of its bindings.
//!
//! Adding and removing one takes time logarithmic in their number, however many bindings lead to the same destination,
//! and a route meets each destination once. It must never know what the destinations are.

use std::collections::BTreeMap;

/// Destinations. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) enum Destinations<D> {
    #[default]
    None,
    One(D, u32),
    Many(BTreeMap<D, u32>),
}

impl<D: Copy + Ord> Destinations<D> {
    /// Adds a binding to a destination.
    pub(crate) fn add(&mut self, destination: D) {
        match self {
            Self::None => *self = Self::One(destination, 1),
            Self::One(known, count) if *known == destination => *count += 1,
            Self::One(known, count) => *self = Self::Many([(*known, *count), (destination, 1)].into()),
            Self::Many(all) => *all.entry(destination).or_default() += 1,
        }
    }

    /// Removes a binding to a destination, if there is one.
    pub(crate) fn remove(&mut self, destination: D) {
        match self {
            Self::One(known, count) if *known == destination => {
                *count -= 1;
                if *count == 0 {
                    *self = Self::None;
                }
            }
            Self::Many(all) => {
                let Some(count) = all.get_mut(&destination) else { return };
                *count -= 1;
                if *count == 0 {
                    all.remove(&destination);
                }
                if let (1, Some((destination, count))) = (all.len(), all.first_key_value()) {
                    *self = Self::One(*destination, *count);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Calls `found` with each destination. Returns how many there are.
    pub(crate) fn each(&self, mut found: impl FnMut(D)) -> usize {
        match self {
            Self::None => 0,
            Self::One(destination, _) => {
                found(*destination);
                1
            }
            Self::Many(all) => {
                all.keys().for_each(|destination| found(*destination));
                all.len()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;

    use super::*;

    thread_local! {
        static COMPARISONS: Cell<u64> = const { Cell::new(0) };
    }

    /// A destination that counts how often it is compared.
    #[derive(Clone, Copy, Debug)]
    struct Counted(u32);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Eq for Counted {}

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    #[test]
    fn each_of_many_destinations_is_added_and_removed_in_few_steps() {
        let count = 10_000;
        let mut all = Destinations::default();
        for number in (0..count).chain(0..count) {
            all.add(Counted(number));
        }
        let mut found = 0;
        assert_eq!(all.each(|_| found += 1), found);
        assert_eq!(found, count as usize);
        for number in (0..count).rev().chain(0..count) {
            all.remove(Counted(number));
        }
        assert!(all.is_empty());
        let each = COMPARISONS.get() / (4 * u64::from(count));
        assert!(each < 100, "{each} comparisons");
    }

    #[test]
    fn a_destination_stays_until_its_last_binding_is_removed() {
        let mut all = Destinations::None;
        let mut expected: Vec<u64> = Vec::new();
        let mut random = crate::random::Random(1);
        for _ in 0..5_000 {
            let destination = random.below(4);
            match expected.iter().position(|other| *other == destination) {
                Some(index) if random.below(2) == 0 => {
                    expected.swap_remove(index);
                    all.remove(destination);
                }
                _ => {
                    expected.push(destination);
                    all.add(destination);
                }
            }
            if random.below(10) == 0 {
                expected.drain(..).for_each(|destination| all.remove(destination));
            }
            let mut found = Vec::new();
            all.each(|destination| found.push(destination));
            expected.sort_unstable();
            let mut distinct = expected.clone();
            distinct.dedup();
            assert_eq!((found, all.is_empty()), (distinct, expected.is_empty()));
        }
    }
}
