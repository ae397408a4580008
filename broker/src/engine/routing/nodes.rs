//! Nodes of a trie, by number.
//!
//! Owns the nodes in blocks, so that neither adding one nor removing one moves others, and a block without nodes is
//! given back. A list in one piece would be copied when it grows, which takes a second where it takes a gigabyte. It
//! must never know what a node is.

use std::ops::{Index, IndexMut};

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// The nodes of a block.
const BLOCK: usize = 256;

/// Nodes. See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Nodes<N> {
    blocks: Vec<Block<N>>,
    /// The blocks that have room, and perhaps some that do not.
    open: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Block<N> {
    nodes: Vec<N>,
    /// The nodes that were removed.
    free: Vec<u8>,
    /// Whether it is in the list of those that have room.
    is_open: bool,
}

impl<N> Block<N> {
    fn has_room(&self) -> bool {
        self.nodes.len() < BLOCK || !self.free.is_empty()
    }
}

impl<N> Default for Nodes<N> {
    fn default() -> Self {
        Self { blocks: Vec::new(), open: Vec::new(), len: 0 }
    }
}

impl<N: Default> Nodes<N> {
    /// Adds a node. Returns its number.
    pub(super) fn add(&mut self, node: N) -> u32 {
        self.len += 1;
        while let Some(last) = self.open.last()
            && !self.blocks[*last as usize].has_room()
        {
            self.blocks[*last as usize].is_open = false;
            self.open.pop();
        }
        let number = *self.open.last().unwrap_or(&(self.blocks.len() as u32));
        if self.open.is_empty() {
            self.blocks.push(Block { nodes: Vec::new(), free: Vec::new(), is_open: true });
            self.open.push(number);
        }
        let block = &mut self.blocks[number as usize];
        let place = match block.free.pop() {
            Some(place) => {
                block.nodes[usize::from(place)] = node;
                usize::from(place)
            }
            None => {
                block.nodes.push(node);
                block.nodes.len() - 1
            }
        };
        number * BLOCK as u32 + place as u32
    }

    /// Removes a node.
    pub(super) fn remove(&mut self, number: u32) -> N {
        self.len -= 1;
        let (index, place) = (number / BLOCK as u32, number as usize % BLOCK);
        let block = &mut self.blocks[index as usize];
        let node = std::mem::take(&mut block.nodes[place]);
        block.free.push(place as u8);
        if block.free.len() == block.nodes.len() {
            (block.nodes, block.free) = (Vec::new(), Vec::new());
        }
        if !std::mem::replace(&mut block.is_open, true) {
            self.open.push(index);
        }
        node
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns all nodes, and places of removed ones.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &N> {
        self.blocks.iter().flat_map(|block| &block.nodes)
    }
}

impl<N> Index<u32> for Nodes<N> {
    type Output = N;

    #[inline]
    fn index(&self, number: u32) -> &N {
        &self.blocks[number as usize / BLOCK].nodes[number as usize % BLOCK]
    }
}

impl<N> IndexMut<u32> for Nodes<N> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut N {
        &mut self.blocks[number as usize / BLOCK].nodes[number as usize % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::Random;

    #[test]
    fn nodes_keep_their_numbers_and_leave_no_memory() {
        let (mut nodes, mut expected) = (Nodes::<u64>::default(), BTreeMap::new());
        let mut random = Random(1);
        for round in 0..4 {
            for value in 1..5_000 {
                let chosen = expected.keys().nth(random.below(100) as usize).copied();
                match chosen.filter(|_| random.below(10) < if round % 2 == 0 { 2 } else { 9 }) {
                    Some(number) => assert_eq!(Some(nodes.remove(number)), expected.remove(&number)),
                    None => {
                        let number = nodes.add(value);
                        assert_eq!(expected.insert(number, value), None);
                    }
                }
                assert_eq!(nodes.len(), expected.len());
            }
            assert!(expected.iter().all(|(number, value)| nodes[*number] == *value));
        }
        expected.into_iter().for_each(|(number, value)| assert_eq!(nodes.remove(number), value));
        assert!(nodes.blocks.iter().all(|block| block.nodes.capacity() == 0));
        assert!(nodes.blocks.len() <= 10_000 / BLOCK && nodes.open.len() <= nodes.blocks.len());
    }
}
