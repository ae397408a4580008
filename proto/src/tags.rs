//! A set of increasing numbers: unacked delivery tags, unconfirmed publishes.
//!
//! One bit per number, in words of 64 bits; nearly all words have members. Tags increase by one and leave roughly in
//! order, so the set stays a few words long. A tag that stays behind, or a jump ahead, costs one word.

use std::collections::VecDeque;

/// A set of tags. See the [module documentation](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct TagSet {
    /// Sorted by index. The first word is never empty.
    words: VecDeque<Word>,
    /// How many words have no members.
    empty: usize,
    count: usize,
}

/// The tags from `index * 64` on.
#[derive(Clone, Copy, Debug)]
struct Word {
    index: u64,
    bits: u64,
}

/// Empty words are removed once they are the majority, and more than this.
const KEPT_EMPTY: usize = 16;

impl TagSet {
    /// Returns how many tags the set has.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds a tag. Returns whether it is new.
    #[inline]
    pub(crate) fn insert(&mut self, tag: u64) -> bool {
        let index = tag / 64;
        let bit = 1 << (tag % 64);
        let place = match self.words.back() {
            Some(last) if last.index == index => self.words.len() - 1,
            Some(last) if last.index > index => self.place_between(index),
            _ => self.place_at(self.words.len(), index),
        };
        let word = &mut self.words[place];
        if word.bits & bit != 0 {
            return false;
        }
        self.empty -= usize::from(word.bits == 0);
        word.bits |= bit;
        self.count += 1;
        true
    }

    #[cold]
    fn place_between(&mut self, index: u64) -> usize {
        self.find(index).unwrap_or_else(|place| self.place_at(place, index))
    }

    fn place_at(&mut self, place: usize, index: u64) -> usize {
        self.words.insert(place, Word { index, bits: 0 });
        self.empty += 1;
        place
    }

    /// Returns the place of the word, or else the place to insert it.
    #[inline]
    fn find(&self, index: u64) -> Result<usize, usize> {
        let Some(distance) = self.words.front().and_then(|first| index.checked_sub(first.index)) else { return Err(0) };
        // Without a gap in the indices, the distance is the place.
        match self.words.get(usize::try_from(distance).unwrap_or(usize::MAX)) {
            Some(word) if word.index == index => Ok(distance as usize),
            _ => self.words.binary_search_by_key(&index, |word| word.index),
        }
    }

    /// Returns whether the set has the tag.
    #[inline]
    pub(crate) fn contains(&self, tag: u64) -> bool {
        self.find(tag / 64).is_ok_and(|place| self.words[place].bits >> (tag % 64) & 1 == 1)
    }

    /// Removes a tag. Returns whether the set had it.
    #[inline]
    pub(crate) fn remove(&mut self, tag: u64) -> bool {
        let Ok(place) = self.find(tag / 64) else { return false };
        let word = &mut self.words[place];
        let bit = 1 << (tag % 64);
        if word.bits & bit == 0 {
            return false;
        }
        word.bits &= !bit;
        self.count -= 1;
        if word.bits == 0 {
            self.empty += 1;
            self.sweep();
        }
        true
    }

    /// Returns how many tags there are up to and including this one.
    pub(crate) fn count_up_to(&self, tag: u64) -> usize {
        let words = self.words.iter().take_while(|word| word.index <= tag / 64);
        let counted = |word: &Word| {
            let mask = if word.index == tag / 64 { u64::MAX >> (63 - tag % 64) } else { u64::MAX };
            (word.bits & mask).count_ones() as usize
        };
        words.map(counted).sum()
    }

    /// Removes all tags up to and including this one. Returns how many.
    pub(crate) fn remove_up_to(&mut self, tag: u64) -> usize {
        let before = self.count;
        while let Some(word) = self.words.front_mut().filter(|word| word.index <= tag / 64) {
            let removed = if word.index == tag / 64 { u64::MAX >> (63 - tag % 64) } else { u64::MAX };
            self.count -= (word.bits & removed).count_ones() as usize;
            self.empty += usize::from(word.bits & !removed == 0 && word.bits != 0);
            word.bits &= !removed;
            if word.bits != 0 {
                break;
            }
            self.words.pop_front();
            self.empty -= 1;
        }
        self.sweep();
        before - self.count
    }

    /// Returns the lowest tag.
    pub(crate) fn first(&self) -> Option<u64> {
        self.words.front().map(|word| word.index * 64 + u64::from(word.bits.trailing_zeros()))
    }

    /// Returns the tags, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        let tags = |word: &Word| {
            let Word { index, bits } = *word;
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        };
        self.words.iter().flat_map(tags)
    }

    /// Removes all tags.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[inline]
    fn sweep(&mut self) {
        while self.words.front().is_some_and(|word| word.bits == 0) {
            self.words.pop_front();
            self.empty -= 1;
        }
        if self.empty > KEPT_EMPTY && self.empty > self.words.len() / 2 {
            self.words.retain(|word| word.bits != 0);
            self.empty = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A linear congruential generator: the same numbers on every run.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn a_tag_set_behaves_like_a_naive_set() {
        for seed in 0..200 {
            let mut state = seed;
            let mut fast = TagSet::default();
            let mut naive = BTreeSet::new();
            let mut next = random(&mut state) % 1000 + 1;
            for _ in 0..500 {
                let tag = next.saturating_sub(random(&mut state) % 200);
                match random(&mut state) % 8 {
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
                    5 => assert_eq!(fast.insert(tag), naive.insert(tag)),
                    6 if random(&mut state) < u64::from(u32::MAX / 40) => next += random(&mut state),
                    _ => assert_eq!(fast.contains(tag), naive.contains(&tag)),
                }
                assert_eq!(fast.empty, fast.words.iter().filter(|word| word.bits == 0).count());
                assert_eq!(fast.len(), naive.len(), "seed {seed}");
                assert_eq!(fast.first(), naive.first().copied(), "seed {seed}");
                assert!(fast.iter().eq(naive.iter().copied()), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_distant_tag_takes_one_word() {
        let mut tags = TagSet::default();
        assert!(tags.insert(1));
        assert!(tags.insert(u64::MAX));
        assert!(tags.insert(0));
        assert_eq!((tags.words.len(), tags.len()), (2, 3));
        assert_eq!(tags.remove_up_to(u64::MAX - 1), 2);
        assert_eq!(tags.remove_up_to(u64::MAX), 1);
        assert_eq!(tags.words.len(), 0);
    }

    #[test]
    fn a_tag_that_stays_behind_takes_one_word() {
        let mut tags = TagSet::default();
        tags.insert(1);
        for tag in 1000..100_000 {
            assert!(tags.insert(tag));
            assert!(tags.remove(tag));
        }
        assert!(tags.words.len() < 3 * KEPT_EMPTY, "{} words", tags.words.len());
    }
}
