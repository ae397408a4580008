//! Consumers: who gets the next message of a queue.
//!
//! Owns each consumer's settings and what it holds, and the order in which those of one queue take turns. It must never
//! know what a message is.

use std::collections::VecDeque;

use hopmq_proto::FieldTable;

use crate::engine::queue::Queue;
use crate::engine::routing::exchange::Name;
use crate::engine::session::Session;
use crate::engine::slots::Id;

/// One consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) queue: Id<Queue>,
    pub(crate) session: Id<Session>,
    pub(crate) channel: u16,
    pub(crate) tag: Name,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) priority: i32,
    /// Deliveries that it may hold; 0 is any number.
    pub(crate) prefetch: u16,
    /// Deliveries that it holds.
    pub(crate) unacked: u32,
    /// Whether it is out of the turns of its queue, until it has room again.
    pub(crate) waiting: bool,
    pub(crate) arguments: FieldTable,
}

/// The consumers of one queue.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// In the order in which they came.
    all: Vec<Id<Consumer>>,
    /// Those that may have room, by priority, the highest first; each in the order of their turns.
    turns: Vec<(i32, VecDeque<Id<Consumer>>)>,
    /// The one that gets everything, of a queue that is for one at a time.
    pub(crate) single: Option<Id<Consumer>>,
}

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Id<Consumer>> {
        self.all.iter().copied()
    }

    pub(crate) fn add(&mut self, consumer: Id<Consumer>, priority: i32) {
        self.all.push(consumer);
        self.resume(consumer, priority);
    }

    pub(crate) fn remove(&mut self, consumer: Id<Consumer>) {
        self.all.retain(|other| *other != consumer);
        for (_, turns) in &mut self.turns {
            turns.retain(|other| *other != consumer);
        }
        self.turns.retain(|(_, turns)| !turns.is_empty());
        if self.single == Some(consumer) {
            self.single = None;
        }
    }

    /// Whose turn it is.
    #[inline]
    pub(crate) fn next(&self) -> Option<Id<Consumer>> {
        self.turns.iter().find_map(|(_, turns)| turns.front().copied())
    }

    /// The one whose turn it was goes behind the others of its priority.
    #[inline]
    pub(crate) fn rotate(&mut self) {
        if let Some((_, turns)) = self.turns.iter_mut().find(|(_, turns)| !turns.is_empty())
            && turns.len() > 1
        {
            turns.rotate_left(1);
        }
    }

    /// The one whose turn it was has no room: it is out until [`Consumers::resume`].
    #[inline]
    pub(crate) fn pause(&mut self) {
        if let Some((_, turns)) = self.turns.iter_mut().find(|(_, turns)| !turns.is_empty()) {
            turns.pop_front();
        }
    }

    /// One may have room again.
    #[inline]
    pub(crate) fn resume(&mut self, consumer: Id<Consumer>, priority: i32) {
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
    fn turns_go_by_priority_and_then_round() {
        let [a, b, c] = [1, 2, 3].map(Id::of_number);
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
