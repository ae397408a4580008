//! The patterns of a topic exchange: words between dots, `*` for one word, `#` for any number of them.
//!
//! Owns a trie of words. A key is matched word by word against all patterns at once, as a set of nodes that can't be
//! larger than the trie: no pattern makes it grow exponentially. It must never know what the destinations are.

use std::collections::HashMap;

/// Patterns and their destinations. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Patterns<D> {
    nodes: Vec<Node<D>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<D> {
    words: HashMap<Box<[u8]>, u32>,
    star: Option<u32>,
    hash: Option<u32>,
    /// Whether the node stands for `#`, and so matches every further word.
    is_hash: bool,
    destinations: Vec<D>,
}

const ROOT: u32 = 0;

/// What a node takes that no other pattern needs, in bytes: with its entry in the table of its parent.
pub(crate) const NODE_SIZE: usize = size_of::<Node<()>>() + 64;

impl<D> Node<D> {
    fn new(is_hash: bool) -> Self {
        Self { words: HashMap::new(), star: None, hash: None, is_hash, destinations: Vec::new() }
    }

    fn child(&self, word: &[u8]) -> Option<u32> {
        match word {
            b"*" => self.star,
            b"#" => self.hash,
            _ => self.words.get(word).copied(),
        }
    }

    fn is_bare(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none() && self.destinations.is_empty()
    }
}

impl<D> Default for Patterns<D> {
    fn default() -> Self {
        Self { nodes: vec![Node::new(false)], free: Vec::new() }
    }
}

/// Returns the words of a key. The empty key has none.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == b'.').filter(move |_| !key.is_empty())
}

impl<D: Copy + PartialEq> Patterns<D> {
    /// Adds a destination for a pattern. It may be added several times.
    pub(crate) fn insert(&mut self, pattern: &[u8], destination: D) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.nodes[at as usize].child(word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at as usize].destinations.push(destination);
    }

    fn add_child(&mut self, parent: u32, word: &[u8]) -> u32 {
        let node = Node::new(word == b"#");
        let child = match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let parent = &mut self.nodes[parent as usize];
        match word {
            b"*" => parent.star = Some(child),
            b"#" => parent.hash = Some(child),
            _ => drop(parent.words.insert(word.into(), child)),
        }
        child
    }

    /// Removes a destination of a pattern once, if it is there.
    pub(crate) fn remove(&mut self, pattern: &[u8], destination: D) {
        let mut path = vec![ROOT];
        let mut at = ROOT;
        for word in words(pattern) {
            let Some(child) = self.nodes[at as usize].child(word) else { return };
            at = child;
            path.push(at);
        }
        let destinations = &mut self.nodes[at as usize].destinations;
        if let Some(index) = destinations.iter().position(|other| *other == destination) {
            destinations.swap_remove(index);
        }
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
                word => drop(parent.words.remove(word)),
            }
            self.free.push(child);
        }
    }

    /// Calls `found` with the destinations of all matching patterns, once for each pattern.
    pub(crate) fn matches(&self, key: &[u8], mut found: impl FnMut(D)) {
        let mut now = Vec::new();
        self.enter(&mut now, ROOT);
        let mut next = Vec::new();
        for word in words(key) {
            for &at in &now {
                let node = &self.nodes[at as usize];
                if node.is_hash {
                    self.enter(&mut next, at);
                }
                if let Some(&child) = node.words.get(word) {
                    self.enter(&mut next, child);
                }
                if let Some(child) = node.star {
                    self.enter(&mut next, child);
                }
            }
            std::mem::swap(&mut now, &mut next);
            next.clear();
        }
        for at in now {
            self.nodes[at as usize].destinations.iter().for_each(|destination| found(*destination));
        }
    }

    /// Adds a node to a set, with the `#` below it, which also matches no word.
    fn enter(&self, set: &mut Vec<u32>, node: u32) {
        let mut node = Some(node);
        while let Some(at) = node.filter(|at| !set.contains(at)) {
            set.push(at);
            node = self.nodes[at as usize].hash;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's rules (section 3.1.3.3), written as simply as possible.
    fn naive(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&b"#", rest)), _) => naive(rest, key) || !key.is_empty() && naive(pattern, &key[1..]),
            (Some((&b"*", rest)), Some((_, key))) => naive(rest, key),
            (Some((word, rest)), Some((first, key))) => word == first && naive(rest, key),
            _ => false,
        }
    }

    fn text(random: &mut impl FnMut(u64) -> u64, choice: &[&str]) -> String {
        let count = random(5);
        let words: Vec<&str> = (0..count).map(|_| choice[random(choice.len() as u64) as usize]).collect();
        words.join(".")
    }

    #[test]
    fn the_trie_matches_what_naive_matching_does() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let mut fast = Patterns::default();
            let mut patterns: Vec<String> = Vec::new();
            for _ in 0..20 {
                if random(4) == 0 && !patterns.is_empty() {
                    let index = random(patterns.len() as u64) as usize;
                    // The index in the list is the destination.
                    fast.remove(patterns[index].as_bytes(), index);
                    patterns[index] = "\0".to_owned();
                } else {
                    let pattern = text(&mut random, &["a", "b", "", "*", "#"]);
                    fast.insert(pattern.as_bytes(), patterns.len());
                    patterns.push(pattern);
                }
                let key = text(&mut random, &["a", "b", "", "c"]);
                let key_words: Vec<&[u8]> = words(key.as_bytes()).collect();
                let mut found = Vec::new();
                fast.matches(key.as_bytes(), |index| found.push(index));
                found.sort_unstable();
                let fits = |pattern: &String| naive(&words(pattern.as_bytes()).collect::<Vec<_>>(), &key_words);
                let expected: Vec<usize> = (0..patterns.len()).filter(|index| fits(&patterns[*index])).collect();
                assert_eq!(found, expected, "{key:?} in {patterns:?}");
            }
        }
    }

    #[test]
    fn removed_patterns_leave_no_nodes() {
        let mut patterns = Patterns::default();
        for pattern in ["a.b.c", "a.*.#", "", "#"] {
            patterns.insert(pattern.as_bytes(), 1);
        }
        for pattern in ["a.b.c", "a.*.#", "", "#"] {
            patterns.remove(pattern.as_bytes(), 1);
        }
        assert!(patterns.nodes[0].is_bare());
        assert_eq!(patterns.free.len(), patterns.nodes.len() - 1);
    }

    #[test]
    fn a_pattern_of_many_hashes_is_matched_quickly() {
        let mut patterns = Patterns::default();
        patterns.insert(["#"; 128].join(".").as_bytes(), 1);
        patterns.insert([vec!["#"; 126], vec!["x"]].concat().join(".").as_bytes(), 2);
        let mut found = Vec::new();
        patterns.matches(["a"; 128].join(".").as_bytes(), |destination| found.push(destination));
        assert_eq!(found, [1]);
    }
}
