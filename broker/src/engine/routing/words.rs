//! The routing keys of a message as topic exchanges read them: words between dots, and sets of the places around them.
//!
//! A place is before a word of a key or at the key's end; the places of all keys of a message are numbered in order. So
//! a set of places is a row of bits, and what a pattern's next word does to all places at once is a shift. Keys in
//! excess of some hundred words are read in several chunks, so that no set is much wider than what is in it.
//!
//! Owns the dictionary of the words in patterns, which all topic exchanges share: the words of a message are looked up
//! once, not at each exchange. It must never know patterns.

use std::collections::HashMap;

/// The words in patterns, as numbers. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Words {
    numbers: HashMap<Box<[u8]>, u32>,
    /// How often each number is in use.
    uses: Vec<u32>,
    free: Vec<u32>,
}

impl Words {
    pub(crate) fn number(&self, word: &[u8]) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    #[cfg_attr(not(test), allow(dead_code, reason = "only checks ask"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Returns the number of a word that is used once more.
    pub(super) fn add(&mut self, word: &[u8]) -> u32 {
        if let Some(number) = self.number(word) {
            self.uses[number as usize] += 1;
            return number;
        }
        let number = self.free.pop().unwrap_or(self.uses.len() as u32);
        match self.uses.get_mut(number as usize) {
            Some(uses) => *uses = 1,
            None => self.uses.push(1),
        }
        self.numbers.insert(word.into(), number);
        number
    }

    /// Notes that a word is used once less.
    pub(super) fn remove(&mut self, word: &[u8]) {
        let Some(number) = self.number(word) else { return };
        let uses = &mut self.uses[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(word);
            self.free.push(number);
        }
        if self.numbers.is_empty() {
            *self = Self::default();
        }
    }
}

/// Returns the words of a key. The empty key has none.
pub(super) fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == b'.').filter(move |_| !key.is_empty())
}

/// A chunk ends with the key that reaches this number of places.
const CHUNK: usize = 256;

/// A place before a word that is in no pattern.
const UNKNOWN: u32 = u32::MAX;
/// The place at the end of a key.
const END: u32 = u32::MAX - 1;

/// The routing keys of one message.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    chunks: Vec<Chunk>,
    /// How many of the chunks are in use.
    used: usize,
}

/// Some whole keys.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The length of a set.
    pub(super) width: usize,
    /// For each place the index of the word that follows, [`UNKNOWN`] or [`END`].
    at: Vec<u32>,
    /// The words that are in patterns, sorted.
    words: Vec<u32>,
    /// The places before each of these words.
    before: Vec<u64>,
    /// The first places of the keys.
    pub(super) starts: Vec<u64>,
    /// The last places of the keys.
    pub(super) ends: Vec<u64>,
    /// All other places than the last ones.
    pub(super) inner: Vec<u64>,
}

impl Keys {
    /// Reads the keys of a message. Takes time linear in their size, and logarithmic in the words of a chunk.
    pub(crate) fn read(&mut self, keys: &[&[u8]], words: &Words) {
        self.used = 0;
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            if self.used == self.chunks.len() {
                self.chunks.push(Chunk::default());
            }
            let chunk = &mut self.chunks[self.used];
            self.used += 1;
            chunk.at.clear();
            while chunk.at.len() < CHUNK
                && let Some(key) = keys.next()
            {
                chunk.push(key, words);
            }
            chunk.finish();
        }
    }

    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks[..self.used]
    }

    /// Returns how many words and ends of keys there are.
    pub(crate) fn places(&self) -> usize {
        self.chunks().iter().map(|chunk| chunk.at.len()).sum()
    }

    /// Frees the memory that only a message with many keys needs.
    pub(crate) fn shrink(&mut self) {
        if self.used > 1 || self.chunks().iter().any(|chunk| chunk.at.len() > 2 * CHUNK) {
            *self = Self::default();
        }
    }
}

impl Chunk {
    fn push(&mut self, key: &[u8], dictionary: &Words) {
        self.at.extend(words(key).map(|word| dictionary.number(word).unwrap_or(UNKNOWN)));
        self.at.push(END);
    }

    fn finish(&mut self) {
        self.words.clear();
        self.words.extend(self.at.iter().filter(|word| **word < END));
        self.words.sort_unstable();
        self.words.dedup();
        self.width = self.at.len().div_ceil(64);
        for set in [&mut self.starts, &mut self.ends, &mut self.inner] {
            set.clear();
            set.resize(self.width, 0);
        }
        self.before.clear();
        self.before.resize(self.width * self.words.len(), 0);
        let mut starts = true;
        for (place, at) in self.at.iter_mut().enumerate() {
            let (index, bit) = (place / 64, 1 << (place % 64));
            if starts {
                self.starts[index] |= bit;
            }
            starts = *at == END;
            match *at {
                END => self.ends[index] |= bit,
                UNKNOWN => self.inner[index] |= bit,
                word => {
                    self.inner[index] |= bit;
                    let word = self.words.partition_point(|other| *other < word);
                    self.before[word * self.width + index] |= bit;
                    *at = word as u32;
                }
            }
        }
    }

    /// Returns the places before a word.
    pub(super) fn before(&self, word: u32) -> Option<&[u64]> {
        self.words.binary_search(&word).ok().map(|index| self.before_index(index))
    }

    fn before_index(&self, index: usize) -> &[u64] {
        &self.before[index * self.width..][..self.width]
    }

    /// Calls `found` with the words that follow the places of a set, each once, and the places before each.
    pub(super) fn following(&self, set: &mut [u64], mut found: impl FnMut(u32, &[u64])) {
        for index in 0..self.width {
            while set[index] != 0 {
                let place = index * 64 + set[index].trailing_zeros() as usize;
                let word = self.at[place];
                if word >= END {
                    set[index] &= set[index] - 1;
                    continue;
                }
                let before = self.before_index(word as usize);
                found(self.words[word as usize], before);
                set[index..].iter_mut().zip(&before[index..]).for_each(|(set, before)| *set &= !before);
            }
        }
    }
}
