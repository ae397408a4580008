//! The routing keys of a message as topic exchanges read them: words between dots, and sets of the places around them.
//!
//! A place is before a word of a key or at the key's end; the places of all keys of a message are numbered in order. So
//! a set of places is a row of bits, and what a pattern's next word does to all places at once is a shift. Keys in
//! excess of some hundred words are read in several chunks, so that no set is much wider than what is in it.
//!
//! Owns the dictionary of the words in patterns, which all topic exchanges share: the words of a message are looked up
//! once, not at each exchange. The names that headers exchanges look for are in it as well. It must never know
//! patterns.

use super::table::Table;

/// The most that a word takes in the dictionary besides a few of its bytes, in bytes.
pub(super) const ENTRY_SIZE: usize = 72;

/// The words in patterns and the names in bindings, as numbers. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Words {
    numbers: Table<Box<[u8]>, u32>,
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

    /// Notes that a word, which has this number, is used once less.
    pub(super) fn remove(&mut self, word: &[u8], number: u32) {
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

/// The most places of several keys in a chunk. One key of up to 255 bytes has fewer.
const CHUNK: usize = 64 * WIDE;

/// The length of a set of up to 64 places.
pub(super) const NARROW: usize = 1;
/// The length of a set of more places, but for a key of more words than fit.
pub(super) const WIDE: usize = 5;

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
    /// For each place the word that follows, [`UNKNOWN`] or [`END`].
    at: Vec<u32>,
    /// Three sets: the first places of the keys, the last ones, and all but these last ones.
    sets: Vec<u64>,
    /// The words that follow, sorted; once they are looked up.
    words: Vec<u32>,
    /// The places before each of these words.
    before: Vec<u64>,
    is_indexed: bool,
}

impl Keys {
    /// Reads the keys of a message. Takes time linear in their size.
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
            while let Some(key) = keys.next_if(|key| chunk.has_room(key)) {
                chunk.push(key, words);
            }
            chunk.finish();
        }
    }

    pub(super) fn chunks(&mut self) -> &mut [Chunk] {
        &mut self.chunks[..self.used]
    }

    /// Returns how many words and ends of keys there are.
    pub(crate) fn places(&self) -> usize {
        self.chunks[..self.used].iter().map(|chunk| chunk.at.len()).sum()
    }

    /// Frees the memory that only a message with many keys needs.
    pub(crate) fn shrink(&mut self) {
        if self.used > 1 || self.places() > CHUNK {
            *self = Self::default();
        }
    }
}

impl Chunk {
    fn has_room(&self, key: &[u8]) -> bool {
        let dots = || key.iter().filter(|byte| **byte == b'.').count();
        self.at.is_empty() || self.at.len() + dots() + 2 <= CHUNK
    }

    fn push(&mut self, key: &[u8], dictionary: &Words) {
        self.at.extend(words(key).map(|word| dictionary.number(word).unwrap_or(UNKNOWN)));
        self.at.push(END);
    }

    fn finish(&mut self) {
        self.is_indexed = false;
        self.width = match self.at.len().div_ceil(64) {
            0..=NARROW => NARROW,
            more => more.max(WIDE),
        };
        self.sets.clear();
        self.sets.resize(3 * self.width, 0);
        let (starts, sets) = self.sets.split_at_mut(self.width);
        let (ends, inner) = sets.split_at_mut(self.width);
        let mut is_first = true;
        for (place, word) in self.at.iter().enumerate() {
            let (index, bit) = (place / 64, 1 << (place % 64));
            if is_first {
                starts[index] |= bit;
            }
            is_first = *word == END;
            let set = if is_first { &mut *ends } else { &mut *inner };
            set[index] |= bit;
        }
    }

    /// Returns the first places of the keys.
    pub(super) fn starts(&self) -> &[u64] {
        &self.sets[..self.width]
    }

    /// Returns the last places of the keys.
    pub(super) fn ends(&self) -> &[u64] {
        &self.sets[self.width..2 * self.width]
    }

    /// Returns all places but the last ones.
    pub(super) fn inner(&self) -> &[u64] {
        &self.sets[2 * self.width..]
    }

    /// Returns the word that follows a place, if it is in a pattern.
    pub(super) fn word_at(&self, place: usize) -> Option<u32> {
        self.at.get(place).copied().filter(|word| *word < END)
    }

    /// Finds the places before each word, unless they are known.
    pub(super) fn index(&mut self) {
        if std::mem::replace(&mut self.is_indexed, true) {
            return;
        }
        self.words.clear();
        self.words.extend(self.at.iter().filter(|word| **word < END));
        self.words.sort_unstable();
        self.words.dedup();
        self.before.clear();
        self.before.resize(self.width * self.words.len(), 0);
        for (place, word) in self.at.iter().enumerate() {
            if let Ok(index) = self.words.binary_search(word) {
                self.before[index * self.width + place / 64] |= 1 << (place % 64);
            }
        }
    }

    /// Returns the places before a word. The chunk must have been [indexed](Chunk::index).
    pub(super) fn before(&self, word: u32) -> Option<&[u64]> {
        let index = self.words.binary_search(&word).ok()?;
        Some(&self.before[index * self.width..][..self.width])
    }
}
