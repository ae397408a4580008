//! What is remembered until a time, in bounded memory.
//!
//! Owns keys and their times. A key comes in with the time at which it is forgotten; that time goes out. It must never
//! know what a key stands for. Each operation costs a logarithm of the keys.

use std::collections::{BTreeMap, BTreeSet};

use hopmq_proto::Time;

/// Keys that are remembered until a time each. If there are too many, the one that would be forgotten first goes.
#[derive(Debug)]
pub(super) struct Recent<K> {
    until: BTreeMap<K, Time>,
    order: BTreeSet<(Time, K)>,
    most: usize,
}

impl<K: Copy + Ord> Recent<K> {
    pub(super) fn new(most: usize) -> Self {
        Self { until: BTreeMap::new(), order: BTreeSet::new(), most }
    }

    /// Returns until when a key is remembered.
    pub(super) fn until(&self, now: Time, key: K) -> Option<Time> {
        self.until.get(&key).copied().filter(|until| *until > now)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.until.len()
    }

    /// Remembers a key until a time, instead of until another one.
    pub(super) fn set(&mut self, now: Time, key: K, until: Time) {
        if let Some(old) = self.until.insert(key, until) {
            self.order.remove(&(old, key));
        }
        self.order.insert((until, key));
        while let Some(&(until, key)) = self.order.first()
            && (until <= now || self.order.len() > self.most)
        {
            self.order.pop_first();
            self.until.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_key_is_remembered_until_its_time() {
        let mut recent = Recent::new(10);
        recent.set(at(0), 1, at(5));
        assert_eq!((recent.until(at(4), 1), recent.until(at(5), 1), recent.until(at(0), 2)), (Some(at(5)), None, None));
        recent.set(at(1), 1, at(9));
        recent.set(at(6), 2, at(7));
        assert_eq!(recent.until(at(6), 1), Some(at(9)));
        recent.set(at(20), 3, at(30));
        assert_eq!((recent.until.len(), recent.order.len()), (1, 1), "what is forgotten takes no memory");
    }

    #[test]
    fn many_keys_take_bounded_memory_and_the_longest_times_stay() {
        let mut recent = Recent::new(100);
        recent.set(at(0), 0, at(1_000));
        for key in 1..100_000 {
            recent.set(at(0), key, at(1 + key % 900));
        }
        assert_eq!((recent.until.len(), recent.order.len()), (100, 100));
        assert_eq!(recent.until(at(0), 0), Some(at(1_000)));
    }
}
