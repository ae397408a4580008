//! The consumers of one queue, and the order in which they get its messages.

use std::collections::VecDeque;

use crate::engine::keys::ConsumerKey;

/// The consumers of a queue. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// In the order in which they were added.
    all: Vec<ConsumerKey>,
    /// Those that may have room: by priority, the highest first, and then by turn.
    turns: Vec<(i32, VecDeque<ConsumerKey>)>,
    /// The active one of a queue with a single active consumer.
    pub(crate) single: Option<ConsumerKey>,
}

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ConsumerKey> {
        self.all.iter().copied()
    }

    pub(crate) fn add(&mut self, consumer: ConsumerKey, priority: i32) {
        self.all.push(consumer);
        self.resume(consumer, priority);
    }

    pub(crate) fn remove(&mut self, consumer: ConsumerKey) {
        self.all.retain(|other| *other != consumer);
        for (_, turns) in &mut self.turns {
            turns.retain(|other| *other != consumer);
        }
        self.turns.retain(|(_, turns)| !turns.is_empty());
        if self.single == Some(consumer) {
            self.single = None;
        }
    }

    /// Returns the consumer whose turn it is.
    #[inline]
    pub(crate) fn next(&self) -> Option<ConsumerKey> {
        self.turns.iter().find_map(|(_, turns)| turns.front().copied())
    }

    /// Moves the consumer whose turn it was behind the others of its priority.
    #[inline]
    pub(crate) fn rotate(&mut self) {
        if let Some((_, turns)) = self.turns.iter_mut().find(|(_, turns)| !turns.is_empty())
            && turns.len() > 1
        {
            turns.rotate_left(1);
        }
    }

    /// Removes the consumer whose turn it was from the turns, until [`Consumers::resume`].
    #[inline]
    pub(crate) fn pause(&mut self) {
        if let Some((_, turns)) = self.turns.iter_mut().find(|(_, turns)| !turns.is_empty()) {
            turns.pop_front();
        }
    }

    /// Puts a consumer back into the turns.
    #[inline]
    pub(crate) fn resume(&mut self, consumer: ConsumerKey, priority: i32) {
        match self.turns.iter_mut().find(|(other, _)| *other == priority) {
            Some((_, turns)) => turns.push_back(consumer),
            None => {
                let place = self.turns.partition_point(|(other, _)| *other > priority);
                self.turns.insert(place, (priority, VecDeque::from([consumer])));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_take_turns_within_the_highest_priority() {
        let [a, b, c] = [1, 2, 3].map(|number| ConsumerKey::from(slotmap::KeyData::from_ffi(1 << 32 | number)));
        let mut consumers = Consumers::default();
        consumers.add(a, 0);
        consumers.add(b, 5);
        consumers.add(c, 5);
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.extend(consumers.next());
            consumers.rotate();
        }
        assert_eq!(turns, [b, c, b]);
        consumers.pause();
        consumers.pause();
        assert_eq!(consumers.next(), Some(a));
        consumers.resume(c, 5);
        assert_eq!(consumers.next(), Some(c));
        consumers.remove(c);
        consumers.remove(a);
        assert_eq!((consumers.next(), consumers.len()), (None, 1));
    }
}
