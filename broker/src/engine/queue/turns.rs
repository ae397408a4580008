//! The consumers of one queue, and the order in which they get its messages.
//!
//! Owns two orders, as rings of links: that in which the consumers were added, and for each priority the one of turns.
//! Adding, removing, pausing or resuming a consumer takes time logarithmic in the number of priorities, and whose turn
//! it is takes constant time. It must never know what a consumer is.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::engine::keys::ConsumerKey;

/// Where a consumer is among those of its queue, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// The consumers of a queue. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The consumer that was added first.
    first: Option<u32>,
    /// The consumers that may have room: whose turn it is, for each priority.
    turns: BTreeMap<Reverse<i32>, u32>,
    /// The active one of a queue with a single active consumer.
    pub(crate) single: Option<ConsumerKey>,
}

#[derive(Debug)]
struct Slot {
    consumer: ConsumerKey,
    priority: i32,
    /// The neighbours in the order in which they were added, and in that of turns.
    rings: [Option<Neighbours>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Neighbours {
    before: u32,
    after: u32,
}

/// The ring of the consumers in the order in which they were added.
const ADDED: usize = 0;
/// The ring of the consumers of one priority that may have room.
const TURNS: usize = 1;

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the consumers in the order in which they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ConsumerKey> {
        let mut next = self.first;
        std::iter::from_fn(move || {
            let slot = &self.slots[next? as usize];
            next = slot.rings[ADDED].map(|links| links.after).filter(|after| Some(*after) != self.first);
            Some(slot.consumer)
        })
    }

    /// Adds a consumer, with the last turn of its priority.
    pub(crate) fn add(&mut self, consumer: ConsumerKey, priority: i32) -> Place {
        let slot = Slot { consumer, priority, rings: [None; 2] };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.insert(ADDED, self.first, place);
        self.first.get_or_insert(place);
        self.resume(Place(place));
        Place(place)
    }

    pub(crate) fn remove(&mut self, Place(place): Place) {
        self.leave_turns(place);
        let after = self.unlink(ADDED, place);
        if self.first == Some(place) {
            self.first = after;
        }
        if self.single == Some(self.slots[place as usize].consumer) {
            self.single = None;
        }
        self.free.push(place);
        if self.is_empty() {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Returns the consumer whose turn it is.
    #[inline]
    pub(crate) fn next(&self) -> Option<ConsumerKey> {
        let (_, place) = self.turns.first_key_value()?;
        Some(self.slots[*place as usize].consumer)
    }

    /// Moves the consumer whose turn it was behind the others of its priority.
    #[inline]
    pub(crate) fn rotate(&mut self) {
        if let Some(mut entry) = self.turns.first_entry()
            && let Some(links) = self.slots[*entry.get() as usize].rings[TURNS]
        {
            entry.insert(links.after);
        }
    }

    /// Removes the consumer whose turn it was from the turns, until [`Consumers::resume`].
    #[inline]
    pub(crate) fn pause(&mut self) {
        if let Some((_, place)) = self.turns.first_key_value() {
            self.leave_turns(*place);
        }
    }

    /// Puts a consumer that was paused back into the turns, with the last one of its priority.
    #[inline]
    pub(crate) fn resume(&mut self, Place(place): Place) {
        let priority = Reverse(self.slots[place as usize].priority);
        let next = *self.turns.entry(priority).or_insert(place);
        self.insert(TURNS, Some(next).filter(|next| *next != place), place);
    }

    fn leave_turns(&mut self, place: u32) {
        let slot = &self.slots[place as usize];
        let priority = Reverse(slot.priority);
        if slot.rings[TURNS].is_none() {
            return;
        }
        match self.unlink(TURNS, place) {
            None => drop(self.turns.remove(&priority)),
            Some(after) => {
                if let Some(next) = self.turns.get_mut(&priority).filter(|next| **next == place) {
                    *next = after;
                }
            }
        }
    }

    /// Inserts a slot into a ring in front of another, or as the only one of a ring.
    fn insert(&mut self, ring: usize, after: Option<u32>, place: u32) {
        let after = after.unwrap_or(place);
        let before = self.slots[after as usize].rings[ring].map_or(place, |links| links.before);
        self.slots[place as usize].rings[ring] = Some(Neighbours { before, after });
        if let Some(links) = &mut self.slots[before as usize].rings[ring] {
            links.after = place;
        }
        if let Some(links) = &mut self.slots[after as usize].rings[ring] {
            links.before = place;
        }
    }

    /// Removes a slot from a ring. Returns the one after it, if any is left.
    fn unlink(&mut self, ring: usize, place: u32) -> Option<u32> {
        let Neighbours { before, after } = self.slots[place as usize].rings[ring].take()?;
        if after == place {
            return None;
        }
        if let Some(links) = &mut self.slots[before as usize].rings[ring] {
            links.after = after;
        }
        if let Some(links) = &mut self.slots[after as usize].rings[ring] {
            links.before = before;
        }
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::random::Random;

    fn key(number: u64) -> ConsumerKey {
        ConsumerKey::from(slotmap::KeyData::from_ffi(1 << 32 | number))
    }

    #[test]
    fn consumers_take_turns_within_the_highest_priority() {
        let [a, b, c] = [1, 2, 3].map(key);
        let mut consumers = Consumers::default();
        let first = consumers.add(a, 0);
        consumers.add(b, 5);
        let last = consumers.add(c, 5);
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.extend(consumers.next());
            consumers.rotate();
        }
        assert_eq!(turns, [b, c, b]);
        consumers.pause();
        consumers.pause();
        assert_eq!(consumers.next(), Some(a));
        consumers.resume(last);
        assert_eq!(consumers.next(), Some(c));
        consumers.remove(last);
        consumers.remove(first);
        assert_eq!((consumers.next(), consumers.len()), (None, 1));
    }

    /// The consumers as lists that are searched.
    #[derive(Default)]
    struct Naive {
        all: Vec<(u64, i32, Place)>,
        turns: Vec<(i32, VecDeque<u64>)>,
    }

    impl Naive {
        fn resume(&mut self, number: u64, priority: i32) {
            match self.turns.iter_mut().find(|(other, _)| *other == priority) {
                Some((_, turns)) => turns.push_back(number),
                None => {
                    self.turns.push((priority, VecDeque::from([number])));
                    self.turns.sort_by_key(|(priority, _)| Reverse(*priority));
                }
            }
        }

        fn pause(&mut self, number: u64) {
            self.turns.iter_mut().for_each(|(_, turns)| turns.retain(|other| *other != number));
            self.turns.retain(|(_, turns)| !turns.is_empty());
        }

        fn next(&self) -> Option<u64> {
            self.turns.first()?.1.front().copied()
        }
    }

    #[test]
    fn turns_are_those_of_lists_that_are_searched() {
        let mut random = Random(1);
        let (mut fast, mut naive, mut paused) = (Consumers::default(), Naive::default(), Vec::new());
        for number in 1..30_000 {
            match random.below(8) {
                0 | 1 => {
                    let priority = random.below(4) as i32 - 2;
                    naive.all.push((number, priority, fast.add(key(number), priority)));
                    naive.resume(number, priority);
                }
                2 if !naive.all.is_empty() => {
                    let index = random.below(naive.all.len() as u64) as usize;
                    let (gone, _, place) = naive.all.remove(index);
                    naive.pause(gone);
                    paused.retain(|(other, _, _)| *other != gone);
                    fast.single = Some(key(gone));
                    fast.remove(place);
                    assert_eq!(fast.single, None);
                }
                3 => {
                    fast.pause();
                    if let Some(next) = naive.next() {
                        naive.pause(next);
                        paused.extend(naive.all.iter().find(|(other, _, _)| *other == next));
                    }
                }
                4 if !paused.is_empty() => {
                    let (number, priority, place) = paused.swap_remove(random.below(paused.len() as u64) as usize);
                    fast.resume(place);
                    naive.resume(number, priority);
                }
                _ => {
                    fast.rotate();
                    if let Some((_, turns)) = naive.turns.first_mut() {
                        turns.rotate_left(1);
                    }
                }
            }
            if random.below(500) == 0 {
                paused.clear();
                for (gone, _, place) in std::mem::take(&mut naive.all) {
                    naive.pause(gone);
                    fast.remove(place);
                }
            }
            assert_eq!(fast.next(), naive.next().map(key));
            assert_eq!((fast.len(), fast.is_empty()), (naive.all.len(), naive.all.is_empty()));
            assert!(fast.iter().eq(naive.all.iter().map(|(number, _, _)| key(*number))));
        }
    }

    #[test]
    fn many_consumers_of_many_priorities_come_and_go() {
        let mut consumers = Consumers::default();
        let count = 100_000;
        let priority = |number: u64| (number % 50_000) as i32;
        let places: Vec<Place> = (1..=count).map(|number| consumers.add(key(number), priority(number))).collect();
        assert_eq!(consumers.turns.len(), 50_000);
        assert_eq!(consumers.next(), Some(key(49_999)));
        consumers.pause();
        assert_eq!(consumers.next(), Some(key(99_999)));
        consumers.resume(places[49_998]);
        for place in &places[1..] {
            consumers.remove(*place);
        }
        assert_eq!((consumers.next(), consumers.len(), consumers.turns.len()), (Some(key(1)), 1, 1));
    }
}
