//! A message as exchanges route it: its routing keys and its headers, made ready at most once for all exchanges that it
//! comes to.
//!
//! Owns what is made of the keys and headers, and counts the steps of the route. It must never know exchanges or
//! queues.

use std::collections::HashSet;

use hopmq_proto::Properties;

use crate::engine::routing::destinations::Destinations;
use crate::engine::routing::headers::{Headers, Numbers, Wanted};
use crate::engine::routing::topic::{Patterns, Walk};
use crate::engine::routing::words::{Keys, Words};
use crate::engine::table::Table;

/// Memory that routes use one after the other.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    keys: Keys,
    walk: Walk,
}

/// A message that is being routed. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Addressed<'a> {
    keys: &'a [&'a [u8]],
    pub(crate) properties: &'a Properties<&'a [u8]>,
    headers: Headers<'a>,
    words: &'a Words,
    scratch: &'a mut Scratch,
    /// Whether the scratch has the keys' words.
    is_read: bool,
    /// The keys, once that pays.
    set: HashSet<&'a [u8]>,
    /// The bindings, words of tries, and keys that were visited.
    pub(crate) steps: u64,
    /// The steps after which the route stops where it can.
    most: u64,
}

impl<'a> Addressed<'a> {
    pub(crate) fn new(
        keys: &'a [&'a [u8]],
        properties: &'a Properties<&'a [u8]>,
        words: &'a Words,
        scratch: &'a mut Scratch,
        most: u64,
    ) -> Self {
        let headers = Headers::new(properties.headers().unwrap_or_default());
        Self { keys, properties, headers, words, scratch, is_read: false, set: HashSet::new(), steps: 0, most }
    }

    pub(crate) fn first_key(&self) -> &'a [u8] {
        self.keys.first().copied().unwrap_or_default()
    }

    /// Calls `found` with the destinations of all keys.
    pub(crate) fn look_up<D: Copy + Ord>(&mut self, all: &Table<Box<[u8]>, Destinations<D>>, mut found: impl FnMut(D)) {
        if self.keys.len() <= all.span() {
            for key in self.keys {
                let count = all.get(*key).map_or(0, |destinations| destinations.each(&mut found));
                self.steps += 1 + count as u64;
            }
            return;
        }
        if self.set.is_empty() {
            self.set.extend(self.keys);
            self.steps += self.keys.len() as u64;
        }
        self.steps += all.span() as u64;
        for (_, destinations) in all.iter().filter(|(key, _)| self.set.contains(&key[..])) {
            self.steps += destinations.each(&mut found) as u64;
        }
    }

    /// Calls `found` with the destinations of all patterns that match a key.
    pub(crate) fn match_patterns<D: Copy + Ord>(&mut self, patterns: &Patterns<D>, found: impl FnMut(D)) {
        let Scratch { keys, walk } = &mut *self.scratch;
        if !std::mem::replace(&mut self.is_read, true) {
            keys.read(self.keys, self.words);
            self.steps += keys.places() as u64;
        }
        self.steps += patterns.matches(keys, walk, found);
    }

    /// Whether the headers match the arguments of a binding.
    pub(crate) fn match_headers(&mut self, wanted: &Wanted, numbers: Numbers) -> bool {
        self.headers.matches(wanted, numbers, self.words)
    }

    /// Whether the route must stop. What it takes to read the message, each time that the route goes on, is left out.
    pub(crate) fn must_stop(&self) -> bool {
        self.steps + self.headers.matching >= self.most
    }

    /// Ends the route, or the part of it. Returns the steps.
    pub(crate) fn finish(self) -> u64 {
        if self.is_read {
            self.scratch.keys.shrink();
            self.scratch.walk.shrink();
        }
        self.steps + self.headers.reading + self.headers.matching
    }
}
