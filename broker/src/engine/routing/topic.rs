//! The patterns of a topic exchange: words between dots, `*` for one word, `#` for any number of them.
//!
//! Owns a trie of words. All keys of a message are matched against all patterns at once: each node of the trie is
//! visited at most once for each [chunk of the keys](crate::engine::routing::words), with the set of the places that
//! the keys have come to there. So a match takes time linear in the nodes that it visits times the width of a set,
//! which is at most 5 for one routing key of 255 bytes, whatever the patterns are; the nodes are at most the words of
//! all patterns. Without `#` a key visits no more nodes than it has ways through the trie. Adding or removing a pattern
//! takes time linear in its words. It must never know what the destinations are.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::destinations::Destinations;
use super::places::Set;
use super::words::{Chunk, Keys, NARROW, WIDE, Words, words};

/// Patterns and their destinations. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Patterns<D> {
    nodes: Vec<Node<D>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<D> {
    words: Children,
    star: Option<u32>,
    hash: Option<u32>,
    destinations: Destinations<D>,
}

/// The nodes below another for words, by the numbers of the words.
#[derive(Debug, Default)]
enum Children {
    #[default]
    None,
    One(u32, u32),
    Many(HashMap<u32, u32, BuildHasherDefault<NumberHasher>>),
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

/// What a node takes that no other pattern needs, in bytes: with its entry in the table of its parent.
pub(crate) const NODE_SIZE: usize = size_of::<Node<()>>() + 64;

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
            Self::One(known, other) => *self = Self::Many([(*known, *other), (word, child)].into_iter().collect()),
            Self::Many(all) => drop(all.insert(word, child)),
        }
    }

    fn remove(&mut self, word: u32) {
        match self {
            Self::Many(all) => {
                all.remove(&word);
                if let (1, Some((word, child))) = (all.len(), all.iter().next()) {
                    *self = Self::One(*word, *child);
                } else if all.len() < all.capacity() / 4 {
                    // A walk through all takes time linear in the capacity.
                    all.shrink_to(all.len() * 2);
                }
            }
            _ => *self = Self::None,
        }
    }
}

impl<D: Copy + Ord> Node<D> {
    fn new() -> Self {
        Self { words: Children::None, star: None, hash: None, destinations: Destinations::None }
    }

    fn child(&self, word: &[u8], dictionary: &Words) -> Option<u32> {
        match word {
            b"*" => self.star,
            b"#" => self.hash,
            _ => self.words.get(dictionary.number(word)?),
        }
    }

    fn is_bare(&self) -> bool {
        matches!(self.words, Children::None)
            && self.star.is_none()
            && self.hash.is_none()
            && self.destinations.is_empty()
    }
}

impl<D: Copy + Ord> Default for Patterns<D> {
    fn default() -> Self {
        Self { nodes: vec![Node::new()], free: Vec::new() }
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
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.nodes[at as usize].child(word, dictionary) {
                Some(child) => child,
                None => self.add_child(at, word, dictionary),
            };
        }
        self.nodes[at as usize].destinations.add(destination);
    }

    fn add_child(&mut self, parent: u32, word: &[u8], dictionary: &mut Words) -> u32 {
        let child = match self.free.pop() {
            Some(index) => index,
            None => {
                self.nodes.push(Node::new());
                (self.nodes.len() - 1) as u32
            }
        };
        let parent = &mut self.nodes[parent as usize];
        match word {
            b"*" => parent.star = Some(child),
            b"#" => parent.hash = Some(child),
            _ => parent.words.insert(dictionary.add(word), child),
        }
        child
    }

    /// Removes a destination of a pattern once, if it is there.
    pub(crate) fn remove(&mut self, pattern: &[u8], destination: D, dictionary: &mut Words) {
        let mut path = vec![ROOT];
        let mut at = ROOT;
        for word in words(pattern) {
            let Some(child) = self.nodes[at as usize].child(word, dictionary) else { return };
            at = child;
            path.push(at);
        }
        self.nodes[at as usize].destinations.remove(destination);
        let words: Vec<&[u8]> = words(pattern).collect();
        for (depth, word) in words.iter().enumerate().rev() {
            let (parent, child) = (path[depth], path[depth + 1]);
            if !self.nodes[child as usize].is_bare() {
                break;
            }
            let parent = &mut self.nodes[parent as usize];
            match *word {
                b"*" => parent.star = None,
                b"#" => parent.hash = None,
                word => {
                    if let Some(number) = dictionary.number(word) {
                        parent.words.remove(number);
                        dictionary.remove(word);
                    }
                }
            }
            self.free.push(child);
        }
        if self.free.len() + 1 == self.nodes.len() {
            self.nodes.truncate(1);
            self.nodes.shrink_to_fit();
            self.free = Vec::new();
        }
    }

    #[cfg_attr(not(test), allow(dead_code, reason = "only checks ask"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[0].is_bare()
    }

    /// Calls `found` with the destinations of all patterns that match a key; with each once for a pattern and a chunk
    /// of the keys. Returns the number of steps: each is to visit a node with 64 places.
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
        while let Some((node, now)) = walk.pop() {
            steps += chunk.width;
            let node = &self.nodes[node as usize];
            if !node.destinations.is_empty() && !now.and(chunk.ends()).is_empty() {
                steps += node.destinations.each(&mut *found);
            }
            if let Some(child) = node.hash {
                walk.push((child, now.onward(chunk.inner())));
            }
            let before = now.and(chunk.inner());
            if before.is_empty() {
                continue;
            }
            if let Some(child) = node.star {
                walk.push((child, before.next()));
            }
            steps += node.words.follow(before, chunk, walk);
        }
        steps
    }
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
                for (word, child) in all {
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
        assert!(patterns.nodes[0].is_bare() && patterns.nodes.len() == 1 && patterns.free.is_empty());
        assert_eq!(dictionary.number(b"a"), None);
    }

    /// Returns patterns of 255 bytes that are all different, and the steps of a match with a key of 255 bytes.
    fn attack(count: usize, word: impl Fn(usize, usize) -> &'static str) -> (usize, u64) {
        let mut dictionary = Words::default();
        let mut patterns = Patterns::default();
        for number in 0..count {
            let words: Vec<&str> = (0..128).map(|place| word(number, place)).collect();
            patterns.insert(words.join(".").as_bytes(), number, &mut dictionary);
        }
        let key = vec!["a"; 128].join(".");
        (patterns.nodes.len(), matched(&patterns, &[key.as_bytes()], &dictionary).1)
    }

    #[test]
    fn a_match_visits_each_node_at_most_once_whatever_the_patterns_are() {
        let bit = |number: usize, place: usize| number >> (place / 2).min(63) & 1 == 1;
        let chains = attack(2_500, |number, place| match place % 2 {
            0 => "#",
            _ if bit(number, place) => "a",
            _ => "*",
        });
        let stars = attack(2_500, |number, place| if bit(number, place) || place % 2 == 0 { "*" } else { "#" });
        let words = attack(2_500, |number, place| if bit(number, place) { "a" } else { "#" });
        for (nodes, steps) in [chains, stars, words] {
            assert!(nodes > 200_000, "{nodes}");
            assert!(steps <= (2 * WIDE * nodes) as u64, "{steps} steps in {nodes} nodes");
        }
    }

    #[test]
    fn a_key_visits_few_nodes_of_many_patterns_without_wildcards() {
        let mut dictionary = Words::default();
        let mut patterns = Patterns::default();
        for number in 0..10_000 {
            patterns.insert(format!("a.{}.{number}", number % 100).as_bytes(), number, &mut dictionary);
        }
        assert_eq!(matched(&patterns, &[b"a.7.1007"], &dictionary), (vec![1_007], 8));
    }
}
