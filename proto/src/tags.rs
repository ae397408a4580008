//! A set of rising numbers: delivery tags that are not acked, publishes that are not confirmed.
//!
//! One bit a number between the lowest and the highest member. Tags rise by one and leave roughly in order, so the set
//! stays a few words long.

use std::collections::VecDeque;

/// A set of tags. See the [module's documentation](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct TagSet {
    words: VecDeque<u64>,
    /// The tag of the lowest bit of the first word, a multiple of 64.
    base: u64,
    count: usize,
}

impl TagSet {
    /// Members.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds a tag. Returns whether it is new and not absurdly far from the others.
    #[inline]
    pub(crate) fn insert(&mut self, tag: u64) -> bool {
        if self.words.is_empty() {
            self.base = tag & !63;
        }
        let Some(distance) = tag.checked_sub(self.base) else { return false };
        let index = (distance / 64) as usize;
        if index >= self.words.len() {
            if index - self.words.len() > MAX_GAP {
                return false;
            }
            self.words.resize(index + 1, 0);
        }
        let bit = 1 << (distance % 64);
        let word = &mut self.words[index];
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        new
    }

    /// Whether the tag is a member.
    #[inline]
    pub(crate) fn contains(&self, tag: u64) -> bool {
        tag.checked_sub(self.base)
            .and_then(|distance| Some((self.words.get((distance / 64) as usize)?, distance % 64)))
            .is_some_and(|(word, bit)| word >> bit & 1 == 1)
    }

    /// Removes a tag. Returns whether it was a member.
    #[inline]
    pub(crate) fn remove(&mut self, tag: u64) -> bool {
        if !self.contains(tag) {
            return false;
        }
        let distance = tag - self.base;
        self.words[(distance / 64) as usize] &= !(1 << (distance % 64));
        self.count -= 1;
        self.trim();
        true
    }

    /// Removes all tags up to and including this one. Returns how many.
    pub(crate) fn remove_up_to(&mut self, tag: u64) -> usize {
        let before = self.count;
        while let Some(word) = self.words.front_mut() {
            if tag < self.base {
                break;
            }
            let distance = tag - self.base;
            let mask = if distance >= 63 { u64::MAX } else { (1 << (distance + 1)) - 1 };
            self.count -= (*word & mask).count_ones() as usize;
            *word &= !mask;
            if distance < 63 {
                break;
            }
            self.words.pop_front();
            self.base += 64;
        }
        self.trim();
        before - self.count
    }

    /// The lowest member.
    pub(crate) fn first(&self) -> Option<u64> {
        let (index, word) = self.words.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(self.base + index as u64 * 64 + u64::from(word.trailing_zeros()))
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[inline]
    fn trim(&mut self) {
        while self.words.front() == Some(&0) {
            self.words.pop_front();
            self.base += 64;
        }
    }
}

/// Words that one insertion may add: a peer that jumps further has lost count, and gets no memory for it.
const MAX_GAP: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A linear congruential generator: enough to shuffle operations, and the same on every run.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn behaves_as_a_naive_set() {
        for seed in 0..200 {
            let mut state = seed;
            let (mut fast, mut naive) = (TagSet::default(), BTreeSet::new());
            let mut next = random(&mut state) % 1000 + 1;
            for _ in 0..500 {
                let tag = next.saturating_sub(random(&mut state) % 200);
                match random(&mut state) % 6 {
                    0..=2 => {
                        assert_eq!(fast.insert(next), naive.insert(next));
                        next += 1;
                    }
                    3 => assert_eq!(fast.remove(tag), naive.remove(&tag)),
                    4 => {
                        let kept = naive.split_off(&(tag + 1));
                        assert_eq!(fast.remove_up_to(tag), naive.len());
                        naive = kept;
                    }
                    _ => assert_eq!(fast.contains(tag), naive.contains(&tag)),
                }
                assert_eq!(fast.len(), naive.len(), "seed {seed}");
                assert_eq!(fast.first(), naive.first().copied(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_tag_far_away_takes_no_memory() {
        let mut tags = TagSet::default();
        assert!(tags.insert(1));
        assert!(!tags.insert(u64::MAX));
        assert_eq!(tags.words.len(), 1);
        assert_eq!(tags.remove_up_to(u64::MAX), 1);
    }
}
