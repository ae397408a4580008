//! Gives memory back after a peak: lists keep the capacity of their largest size otherwise.
//!
//! A list shrinks to twice its length when it is filled to less than an eighth, so that shrinking costs each removal a
//! constant share.

use std::collections::VecDeque;

/// Up to this capacity, nothing is gained.
const KEPT: usize = 1024;

#[inline]
fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > KEPT && len < capacity / 8
}

/// A list with a capacity.
pub(crate) trait Shrink {
    /// Gives memory back, if most of it is unused.
    fn shrink_if_sparse(&mut self);
}

impl<T> Shrink for VecDeque<T> {
    #[inline]
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len());
        }
    }
}

impl<T> Shrink for Vec<T> {
    #[inline]
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_list_keeps_little() {
        let mut line: VecDeque<u64> = (0..100_000).collect();
        let mut moved = 0;
        while line.pop_front().is_some() {
            let before = line.capacity();
            line.shrink_if_sparse();
            moved += if line.capacity() == before { 0 } else { line.len() };
        }
        assert!(line.capacity() <= KEPT, "{}", line.capacity());
        assert!(moved < 100_000, "{moved} entries were moved for 100,000 removals");
    }
}
