//! A list in pieces of one size.
//!
//! Owns elements in their order. Whatever its length, no operation moves more elements than a piece has, because a list
//! in one block is copied when it grows, and when it gives memory back. It must never know what it holds.

use std::collections::VecDeque;

/// The elements of a piece. Every piece between the first and the last is full.
const PIECE: usize = 256;

/// See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Pieces<T> {
    /// None is empty, unless it is the only one, which stays for the next element.
    all: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { all: VecDeque::new(), len: 0 }
    }
}

impl<T> Pieces<T> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.all.front()?.front()
    }

    #[inline]
    pub(crate) fn push_back(&mut self, element: T) {
        self.len += 1;
        match self.all.back_mut() {
            Some(last) if last.len() < PIECE => last.push_back(element),
            _ => self.all.push_back(self.new_piece(element)),
        }
    }

    #[inline]
    pub(crate) fn push_front(&mut self, element: T) {
        self.len += 1;
        match self.all.front_mut() {
            Some(first) if first.len() < PIECE => first.push_front(element),
            _ => self.all.push_front(self.new_piece(element)),
        }
    }

    /// Returns a piece with one element. The only piece of a short list grows as it is filled.
    #[cold]
    fn new_piece(&self, element: T) -> VecDeque<T> {
        let mut piece = if self.all.is_empty() { VecDeque::new() } else { VecDeque::with_capacity(PIECE) };
        piece.push_back(element);
        piece
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.all.front_mut()?;
        let element = first.pop_front()?;
        self.len -= 1;
        if first.is_empty() && self.all.len() > 1 {
            self.all.pop_front();
            // A list of pieces that was long is short now. It holds a number for each piece only.
            if self.all.capacity() > PIECE && self.all.len() < self.all.capacity() / 8 {
                self.all.shrink_to(2 * self.all.len());
            }
        }
        Some(element)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().flatten()
    }

    /// Returns the elements from the index `from` on, to be changed.
    pub(crate) fn iter_mut_from(&mut self, from: usize) -> impl Iterator<Item = &mut T> {
        let first = self.all.front().map_or(0, VecDeque::len);
        let (piece, skipped) = match from.checked_sub(first) {
            None => (0, from),
            Some(behind) => (1 + behind / PIECE, behind % PIECE),
        };
        self.all.range_mut(piece.min(self.all.len())..).flatten().skip(skipped)
    }

    /// Returns the element with a key. The keys rise with the elements.
    pub(crate) fn get_mut_by_key<K: Ord>(&mut self, key: &K, key_of: impl Fn(&T) -> K) -> Option<&mut T> {
        let piece = self.all.partition_point(|piece| piece.back().is_some_and(|last| key_of(last) < *key));
        let piece = self.all.get_mut(piece)?;
        let index = piece.binary_search_by_key(key, key_of).ok()?;
        piece.get_mut(index)
    }
}

impl<T> IntoIterator for Pieces<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::collections::vec_deque::IntoIter<VecDeque<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter().flatten()
    }
}

impl<T> FromIterator<T> for Pieces<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut pieces = Self::default();
        elements.into_iter().for_each(|element| pieces.push_back(element));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_list_in_pieces_is_that_of_a_list_in_one() {
        let mut random = Random(7);
        for _ in 0..40 {
            let mut pieces = Pieces::default();
            let mut list: VecDeque<u64> = VecDeque::new();
            let (mut low, mut high) = (1_000_000, 1_000_000);
            for _ in 0..3_000 {
                let grows = random.next() % 8;
                match random.next() % 8 {
                    0 | 1 => {
                        low -= 1;
                        pieces.push_front(low);
                        list.push_front(low);
                    }
                    2..6 if grows > 1 => {
                        pieces.push_back(high);
                        list.push_back(high);
                        high += 1;
                    }
                    _ => assert_eq!(pieces.pop_front(), list.pop_front()),
                }
                low = list.front().copied().unwrap_or(high);
                assert_eq!((pieces.len(), pieces.front()), (list.len(), list.front()));
            }
            assert!(pieces.iter().eq(&list));
            for from in [0, 1, PIECE - 1, PIECE, list.len() / 2, list.len(), list.len() + PIECE] {
                assert!(pieces.iter_mut_from(from).map(|element| *element).eq(list.iter().copied().skip(from)));
            }
            for key in low.saturating_sub(2)..high + 2 {
                assert_eq!(
                    pieces.get_mut_by_key(&key, |element| *element).copied(),
                    list.contains(&key).then_some(key)
                );
            }
            assert!(pieces.all.iter().rev().skip(1).rev().skip(1).all(|piece| piece.len() == PIECE));
            assert!(pieces.into_iter().eq(list));
        }
    }

    #[test]
    fn a_long_list_keeps_one_piece_when_it_is_drained() {
        let mut pieces: Pieces<u64> = (0..1_000_000).collect();
        assert!(pieces.all.iter().all(|piece| piece.capacity() <= PIECE));
        while pieces.pop_front().is_some() {}
        assert_eq!(pieces.all.len(), 1);
        assert!(pieces.all.capacity() <= PIECE, "{}", pieces.all.capacity());
    }
}
