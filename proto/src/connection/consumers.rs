//! The active consumers of a channel, by tag.

use crate::sorted::SortedMap;

/// The active consumers of a channel. A search among a few is faster than an index; among many, it is not.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    list: Vec<Consumer>,
    /// The places in the list, by tag; empty while there are few.
    places: SortedMap<Box<[u8]>, usize>,
}

/// An active consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) tag: Box<[u8]>,
    pub(crate) key: u64,
    pub(crate) no_ack: bool,
    /// The value of [`Channel::started`](super::channel::Channel::started) when this consumer started.
    pub(crate) number: u64,
}

/// How many consumers are searched without an index.
const FEW: usize = 16;

impl Consumers {
    /// Returns a consumer.
    #[inline]
    pub(crate) fn find(&mut self, tag: &[u8]) -> Option<&Consumer> {
        if !self.places.is_empty() {
            return self.list.get(*self.places.get(tag)?);
        }
        let index = self.list.iter().position(|consumer| *consumer.tag == *tag)?;
        // Move busy consumers to the front, where the search finds them first.
        let front = index / 2;
        if index != front {
            self.list.swap(index, front);
        }
        self.list.get(front)
    }

    /// Inserts a consumer whose tag no other has.
    pub(crate) fn insert(&mut self, consumer: Consumer) {
        self.list.push(consumer);
        if !self.places.is_empty() {
            self.note(self.list.len() - 1);
        } else if self.list.len() > FEW {
            (0..self.list.len()).for_each(|place| self.note(place));
        }
    }

    /// Removes and returns a consumer.
    pub(crate) fn remove(&mut self, tag: &[u8]) -> Option<Consumer> {
        if self.places.is_empty() {
            let place = self.list.iter().position(|consumer| *consumer.tag == *tag)?;
            return Some(self.list.swap_remove(place));
        }
        let place = self.places.remove(tag)?;
        let consumer = self.list.swap_remove(place);
        if place < self.list.len() {
            self.note(place);
        }
        if self.list.len() <= FEW / 2 {
            self.places = SortedMap::new();
        }
        Some(consumer)
    }

    fn note(&mut self, place: usize) {
        self.places.insert(self.list[place].tag.clone(), place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_are_found_by_tag_whether_few_or_many() {
        let mut consumers = Consumers::default();
        let mut known = Vec::new();
        for step in 0_u64..4000 {
            // Grows to about 60 consumers and shrinks to none, again and again.
            let grows = step % 120 < 60;
            if grows {
                let tag = format!("{step}").into_bytes();
                consumers.insert(Consumer { tag: tag.clone().into(), key: step, no_ack: false, number: step });
                known.push((tag, step));
            } else {
                let (tag, key) = known.swap_remove((step * 7919) as usize % known.len());
                assert_eq!(consumers.remove(&tag).map(|consumer| consumer.key), Some(key));
                assert!(consumers.remove(&tag).is_none() && consumers.find(&tag).is_none());
            }
            for (tag, key) in &known {
                assert_eq!(consumers.find(tag).map(|consumer| consumer.key), Some(*key));
            }
            assert_eq!(consumers.list.len(), known.len());
        }
    }
}
