//! The patterns of a topic exchange: words between dots, `*` for one word, `#` for any number of them.
//!
//! Owns a trie of words, in which words that no two patterns tell apart share a node. All keys of a message are matched
//! against all patterns at once: each word in the trie is visited at most once for each
//! [chunk of the keys](crate::engine::routing::words), with the set of the places that the keys have come to there. So
//! a match takes time linear in the words that it visits times the width of a set, which is at most 5 for one routing
//! key of 255 bytes, whatever the patterns are; they are at most the words of all patterns. Without `#` a key visits no
//! more words than it has ways through the trie. Adding or removing a pattern takes time linear in its words. It must
//! never know what the destinations are.

use std::hash::{BuildHasherDefault, Hasher};

use super::destinations::Destinations;
use super::nodes::{NONE, Nodes};
use super::places::Set;
use super::table::Table;
use super::words::{Chunk, ENTRY_SIZE, Keys, NARROW, WIDE, Words, words};

/// Patterns and their destinations. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Patterns<D> {
    nodes: Nodes<Node<D>>,
}

#[derive(Debug)]
struct Node<D> {
    /// The words that follow the first one of this node, by their numbers, before anything below.
    tail: Box<[u32]>,
    below: Below,
    destinations: Destinations<D>,
}

/// The nodes below another one, by their first words.
#[derive(Debug)]
struct Below {
    words: Children,
    star: u32,
    hash: u32,
}

/// The nodes below another for words, by the numbers of the words.
#[derive(Debug, Default)]
enum Children {
    #[default]
    None,
    One(u32, u32),
    Many(Box<Table<u32, u32, BuildHasherDefault<NumberHasher>>>),
}

/// Hashes the number of a word. Clients do not choose the numbers.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        let product = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ product >> 32;
    }
}

const ROOT: u32 = 0;

/// What `*` is among the numbers of words.
const STAR: u32 = u32::MAX;
/// What `#` is among the numbers of words.
const HASH: u32 = u32::MAX - 1;

/// Returns what a pattern of this many words takes at most that no other one needs, in bytes.
pub(crate) fn size_of_pattern(words: usize) -> usize {
    // A node for its end and one that it splits, with their entries in the tables of their parents; and for each word
    // its number, its entry in the dictionary, and its bytes there.
    2 * (size_of::<Node<()>>() + 64) + words * (size_of::<u32>() + ENTRY_SIZE)
}

impl Children {
    fn get(&self, word: u32) -> Option<u32> {
        match self {
            Self::None => None,
            Self::One(known, child) => (*known == word).then_some(*child),
            Self::Many(all) => all.get(&word).copied(),
        }
    }

    fn insert(&mut self, word: u32, child: u32) {
        match self {
            Self::None => *self = Self::One(word, child),
            Self::One(known, other) => {
                let mut all = Box::<Table<_, _, _>>::default();
                all.insert(*known, *other);
                all.insert(word, child);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.insert(word, child),
        }
    }

    fn remove(&mut self, word: u32) {
        match self {
            Self::Many(all) => {
                all.remove(&word);
                let last = if all.len() == 1 { all.iter().next().map(|(word, child)| (*word, *child)) } else { None };
                if let Some((word, child)) = last {
                    *self = Self::One(word, child);
                }
            }
            _ => *self = Self::None,
        }
    }
}

impl Below {
    const NOTHING: Self = Self { words: Children::None, star: NONE, hash: NONE };

    fn get(&self, word: u32) -> Option<u32> {
        match word {
            STAR => Some(self.star).filter(|child| *child != NONE),
            HASH => Some(self.hash).filter(|child| *child != NONE),
            _ => self.words.get(word),
        }
    }

    fn insert(&mut self, word: u32, child: u32) {
        match word {
            STAR => self.star = child,
            HASH => self.hash = child,
            _ => self.words.insert(word, child),
        }
    }

    fn remove(&mut self, word: u32) {
        match word {
            STAR => self.star = NONE,
            HASH => self.hash = NONE,
            _ => self.words.remove(word),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self.words, Children::None) && self.star == NONE && self.hash == NONE
    }
}

impl<D> Default for Node<D> {
    fn default() -> Self {
        Self { tail: Box::default(), below: Below::NOTHING, destinations: Destinations::None }
    }
}

impl<D: Copy + Ord> Node<D> {
    fn is_bare(&self) -> bool {
        self.below.is_empty() && self.destinations.is_empty()
    }
}

impl<D: Copy + Ord> Default for Patterns<D> {
    fn default() -> Self {
        let mut nodes = Nodes::default();
        nodes.add(Node::default());
        Self { nodes }
    }
}

/// Returns the number of a word of a pattern, if it is in use.
fn number_of(word: &[u8], dictionary: &Words) -> Option<u32> {
    match word {
        b"*" => Some(STAR),
        b"#" => Some(HASH),
        _ => dictionary.number(word),
    }
}

/// Returns the number of a word of a pattern that is used once more.
fn add_word(word: &[u8], dictionary: &mut Words) -> u32 {
    match word {
        b"*" => STAR,
        b"#" => HASH,
        _ => dictionary.add(word),
    }
}

/// The nodes that a match has yet to visit, each with the places that the keys have come to there. It is empty between
/// matches.
#[derive(Debug, Default)]
pub(crate) struct Walk(Vec<(u32, [u64; NARROW])>);

impl Walk {
    /// Frees the memory that only a match of many nodes needs.
    pub(crate) fn shrink(&mut self) {
        if self.0.capacity() > 1024 {
            self.0 = Vec::new();
        }
    }
}

impl<D: Copy + Ord> Patterns<D> {
    /// Adds a destination for a pattern. It may be added several times.
    pub(crate) fn insert(&mut self, pattern: &[u8], destination: D, dictionary: &mut Words) {
        let mut rest = words(pattern).peekable();
        let mut at = ROOT;
        loop {
            let tail = &self.nodes[at].tail;
            let is_next = |word: &&[u8], number| number_of(word, dictionary) == Some(number);
            let shared =
                tail.iter().take_while(|number| rest.next_if(|word| is_next(word, **number)).is_some()).count();
            if shared < tail.len() {
                self.split(at, shared);
            }
            let Some(word) = rest.next() else { break };
            if let Some(child) = number_of(word, dictionary).and_then(|number| self.nodes[at].below.get(number)) {
                at = child;
                continue;
            }
            let first = add_word(word, dictionary);
            let tail = rest.map(|word| add_word(word, dictionary)).collect();
            let child = self.nodes.add(Node { tail, ..Node::default() });
            self.nodes[at].below.insert(first, child);
            at = child;
            break;
        }
        self.nodes[at].destinations.add(destination);
    }

    /// Moves what comes after the first words of a node's tail to a new node below it.
    fn split(&mut self, at: u32, shared: usize) {
        let node = &mut self.nodes[at];
        let tail = std::mem::take(&mut node.tail);
        let below = std::mem::replace(&mut node.below, Below::NOTHING);
        let destinations = std::mem::take(&mut node.destinations);
        node.tail = tail[..shared].into();
        let child = self.nodes.add(Node { tail: tail[shared + 1..].into(), below, destinations });
        self.nodes[at].below.insert(tail[shared], child);
    }

    /// Removes a destination of a pattern once, if it is there.
    pub(crate) fn remove(&mut self, pattern: &[u8], destination: D, dictionary: &mut Words) {
        let mut rest = words(pattern);
        let mut at = ROOT;
        // The nodes on the way, each with its first word.
        let mut path = Vec::new();
        while let Some(word) = rest.next() {
            let number = number_of(word, dictionary);
            let child = number.and_then(|number| Some((number, self.nodes[at].below.get(number)?)));
            let Some((number, child)) = child else { return };
            path.push((at, number, word));
            at = child;
            let mut tail = self.nodes[at].tail.iter();
            if !tail.all(|number| rest.next().is_some_and(|word| number_of(word, dictionary) == Some(*number))) {
                return;
            }
        }
        self.nodes[at].destinations.remove(destination);
        let mut end = words(pattern).count();
        while self.nodes[at].is_bare()
            && let Some((parent, first, word)) = path.pop()
        {
            let gone = self.nodes.remove(at);
            self.nodes[parent].below.remove(first);
            end -= gone.tail.len();
            let tail = words(pattern).skip(end).zip(&gone.tail).map(|(word, number)| (word, *number));
            for (word, number) in tail.chain([(word, first)]).filter(|(_, number)| *number < HASH) {
                dictionary.remove(word, number);
            }
            end -= 1;
            at = parent;
        }
    }

    #[cfg_attr(not(test), allow(dead_code, reason = "only checks ask"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[ROOT].is_bare()
    }

    /// Calls `found` with the destinations of all patterns that match a key; with each once for a pattern and a chunk
    /// of the keys. Returns the number of steps: each is to visit a node, or [`WORDS_PER_STEP`] words in it, with 64
    /// places.
    pub(crate) fn matches(&self, keys: &mut Keys, walk: &mut Walk, mut found: impl FnMut(D)) -> u64 {
        let mut steps = 0;
        for chunk in keys.chunks() {
            steps += match chunk.width {
                NARROW => self.matches_in(chunk, &mut walk.0, &mut found),
                WIDE => self.matches_in::<[u64; WIDE]>(chunk, &mut Vec::new(), &mut found),
                _ => self.matches_in::<Vec<u64>>(chunk, &mut Vec::new(), &mut found),
            };
        }
        steps as u64
    }

    fn matches_in<S: Set>(&self, chunk: &mut Chunk, walk: &mut Vec<(u32, S)>, found: &mut impl FnMut(D)) -> usize {
        let mut steps = 0;
        let mut starts = S::empty(chunk.width);
        starts.as_mut().copy_from_slice(chunk.starts());
        walk.push((ROOT, starts));
        while let Some((node, mut now)) = walk.pop() {
            steps += chunk.width;
            let node = &self.nodes[node];
            if !node.tail.is_empty() {
                steps += pass(&node.tail, &mut now, chunk);
            }
            if !node.destinations.is_empty() && !now.and(chunk.ends()).is_empty() {
                steps += node.destinations.each(&mut *found);
            }
            if node.below.hash != NONE {
                walk.push((node.below.hash, now.onward(chunk.inner())));
            }
            let before = now.and(chunk.inner());
            if before.is_empty() {
                continue;
            }
            if node.below.star != NONE {
                walk.push((node.below.star, before.next()));
            }
            steps += node.below.words.follow(before, chunk, walk);
        }
        steps
    }
}

/// How many words that follow each other in one node are visited in the time that a step to another node takes.
const WORDS_PER_STEP: usize = 8;

/// Moves a set of places over words that follow each other in patterns. Returns the number of steps.
fn pass<S: Set>(tail: &[u32], now: &mut S, chunk: &mut Chunk) -> usize {
    let mut visited = 0;
    for word in tail {
        visited += 1;
        *now = match *word {
            HASH => now.onward(chunk.inner()),
            STAR => now.and(chunk.inner()).next(),
            word if now.len() == 1 && chunk.word_at(now.first()) == Some(word) => now.next(),
            _ if now.len() == 1 => S::empty(chunk.width),
            word => {
                chunk.index();
                chunk.before(word).map_or_else(|| S::empty(chunk.width), |before| now.and(before).next())
            }
        };
        if now.is_empty() {
            break;
        }
    }
    visited * chunk.width / WORDS_PER_STEP
}

impl Children {
    /// Adds the nodes below for the words that follow a set of places, which is not empty. Returns the number of steps:
    /// the words that follow or the nodes below, whichever are fewer.
    fn follow<S: Set>(&self, mut now: S, chunk: &mut Chunk, walk: &mut Vec<(u32, S)>) -> usize {
        let places = now.len();
        match self {
            Self::None => return 0,
            _ if places == 1 => {
                let place = now.first();
                if let Some(child) = chunk.word_at(place).and_then(|word| self.get(word)) {
                    walk.push((child, now.next()));
                }
                return chunk.width;
            }
            _ => chunk.index(),
        }
        let mut steps = 0;
        let mut enter = |now: &S, child: u32, before: &[u64]| {
            let now = now.and(before);
            if !now.is_empty() {
                walk.push((child, now.next()));
            }
        };
        match self {
            Self::Many(all) if all.len() > places => {
                while !now.is_empty() {
                    steps += chunk.width;
                    let place = now.first();
                    let word = chunk.word_at(place);
                    let Some((word, before)) = word.and_then(|word| Some((word, chunk.before(word)?))) else {
                        now.as_mut()[place / 64] &= !(1 << (place % 64));
                        continue;
                    };
                    if let Some(child) = self.get(word) {
                        enter(&now, child, before);
                    }
                    now.as_mut().iter_mut().zip(before).for_each(|(now, before)| *now &= !before);
                }
            }
            Self::Many(all) => {
                for (word, child) in all.iter() {
                    steps += chunk.width;
                    chunk.before(*word).into_iter().for_each(|before| enter(&now, *child, before));
                }
            }
            Self::One(word, child) => {
                steps += chunk.width;
                chunk.before(*word).into_iter().for_each(|before| enter(&now, *child, before));
            }
            Self::None => {}
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::routing::naive;
    use crate::random::Random;

    fn matched(patterns: &Patterns<usize>, keys: &[&[u8]], dictionary: &Words) -> (Vec<usize>, u64) {
        let (mut read, mut found) = (Keys::default(), Vec::new());
        read.read(keys, dictionary);
        let steps = patterns.matches(&mut read, &mut Walk::default(), |destination| found.push(destination));
        found.sort_unstable();
        found.dedup();
        (found, steps)
    }

    #[test]
    fn the_trie_matches_what_naive_matching_does() {
        let mut random = Random(1);
        for _ in 0..1_000 {
            let input: Vec<u8> =
                (0..random.below(400)).map(|_| b"\n\n\n+-=.ab*#.."[random.below(13) as usize]).collect();
            naive::check_topic(&input);
        }
    }

    #[test]
    fn a_long_key_and_many_keys_match_as_a_short_one_does() {
        let mut dictionary = Words::default();
        let mut patterns = Patterns::default();
        for (index, pattern) in ["#.z", "a.#", "*.*", "#.b.#", "#", "b"].iter().enumerate() {
            patterns.insert(pattern.as_bytes(), index, &mut dictionary);
        }
        for length in [62, 63, 64, 65, 127, 128, 255, 256, 257, 5_000] {
            let key = [vec!["a"; length], vec!["z"]].concat().join(".");
            assert_eq!(matched(&patterns, &[key.as_bytes()], &dictionary).0, [0, 1, 4], "{length}");
            let key = vec!["."; length].concat();
            assert_eq!(matched(&patterns, &[key.as_bytes()], &dictionary).0, [4], "{length}");
            let many = vec![&b"c"[..]; length];
            assert_eq!(matched(&patterns, &many, &dictionary).0, [4], "{length}");
            let many = [many, vec![b"b", b"c.c"]].concat();
            assert_eq!(matched(&patterns, &many, &dictionary).0, [2, 3, 4, 5], "{length}");
        }
    }

    #[test]
    fn removed_patterns_leave_no_nodes_and_no_words() {
        let mut dictionary = Words::default();
        let mut patterns = Patterns::default();
        for pattern in ["a.b.c", "a.*.#", "", "#", "a.b", "c"] {
            patterns.insert(pattern.as_bytes(), 1, &mut dictionary);
        }
        for pattern in ["a.b.c", "a.*.#", "", "#", "a.b", "c"] {
            patterns.remove(pattern.as_bytes(), 1, &mut dictionary);
        }
        assert!(patterns.is_empty());
        assert_eq!(dictionary.number(b"a"), None);
    }

    /// Adds patterns of 255 bytes that are all different. Returns the nodes, the words in them, and the steps of a
    /// match with a key of 255 bytes.
    fn attack(count: usize, word: impl Fn(usize, usize) -> &'static str) -> (usize, usize, u64) {
        let mut dictionary = Words::default();
        let mut patterns = Patterns::default();
        for number in 0..count {
            let words: Vec<&str> = (0..128).map(|place| word(number, place)).collect();
            patterns.insert(words.join(".").as_bytes(), number, &mut dictionary);
        }
        let key = vec!["a"; 128].join(".");
        let words = patterns.nodes.iter().map(|node| 1 + node.tail.len()).sum();
        (patterns.nodes.len(), words, matched(&patterns, &[key.as_bytes()], &dictionary).1)
    }

    #[test]
    fn a_match_visits_each_word_at_most_once_whatever_the_patterns_are() {
        let bit = |number: usize, place: usize| number >> (place / 2).min(63) & 1 == 1;
        let chains = attack(2_500, |number, place| match place % 2 {
            0 => "#",
            _ if bit(number, place) => "a",
            _ => "*",
        });
        let stars = attack(2_500, |number, place| if bit(number, place) || place % 2 == 0 { "*" } else { "#" });
        let words = attack(2_500, |number, place| if bit(number, place) { "a" } else { "#" });
        for (nodes, words, steps) in [chains, stars, words] {
            assert!(nodes <= 2 * 2_500 && words > 200_000, "{nodes} nodes, {words} words");
            let limit = WIDE * (2 * nodes + words / WORDS_PER_STEP);
            assert!(steps <= limit as u64, "{steps} steps for {nodes} nodes with {words} words");
        }
    }

    #[test]
    fn a_key_visits_few_words_of_many_patterns_without_wildcards() {
        let mut dictionary = Words::default();
        let mut patterns = Patterns::default();
        for number in 0..10_000 {
            patterns.insert(format!("a.{}.{number}", number % 100).as_bytes(), number, &mut dictionary);
        }
        assert_eq!(matched(&patterns, &[b"a.7.1007"], &dictionary), (vec![1_007], 8));
    }
}
