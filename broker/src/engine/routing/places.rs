//! Sets of places in the routing keys of a message, as rows of bits.
//!
//! A set of a usual key is one number and one of any key of 255 bytes five; wider ones are on the heap. It must never
//! know words or patterns.

/// A set of places.
pub(super) trait Set: AsRef<[u64]> + AsMut<[u64]> + Clone {
    fn empty(width: usize) -> Self;

    fn len(&self) -> usize {
        self.as_ref().iter().map(|set| set.count_ones() as usize).sum()
    }

    /// Returns the first place of a set that is not empty.
    fn first(&self) -> usize {
        let index = self.as_ref().iter().position(|set| *set != 0).unwrap_or_default();
        index * 64 + self.as_ref()[index].trailing_zeros() as usize
    }

    /// Returns the places of this set that are in another.
    fn and(&self, other: &[u64]) -> Self {
        let mut set = self.clone();
        set.as_mut().iter_mut().zip(other).for_each(|(set, other)| *set &= other);
        set
    }

    fn is_empty(&self) -> bool {
        self.as_ref().iter().all(|set| *set == 0)
    }

    /// Returns the places that follow those of this set.
    fn next(&self) -> Self {
        let mut set = self.clone();
        let mut carry = 0;
        for set in set.as_mut() {
            (*set, carry) = (*set << 1 | carry, *set >> 63);
        }
        set
    }

    /// Returns the places of this set with all that follow them in their keys.
    fn onward(&self, inner: &[u64]) -> Self {
        let mut set = self.clone();
        let mut carry = false;
        for (set, inner) in set.as_mut().iter_mut().zip(inner) {
            // The sum carries from each place through those inside its key to the last one of the key.
            let (sum, first) = (*set & inner).overflowing_add(*inner);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *set |= sum ^ inner;
        }
        set
    }
}

impl<const WIDTH: usize> Set for [u64; WIDTH] {
    fn empty(_: usize) -> Self {
        [0; WIDTH]
    }
}

impl Set for Vec<u64> {
    fn empty(width: usize) -> Self {
        vec![0; width]
    }
}
