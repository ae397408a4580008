//! The keys of the engine's tables.
//!
//! A key names an index and a generation, so that a stale key finds nothing instead of a later occupant of its slot.
//! Key types do not name the types in the tables: a queue can refer to its exchanges, and an exchange to its queues,
//! without one importing the other. A table iterates in the order of its slots, which is the same in each run.

use slotmap::{Key, new_key_type};

new_key_type! {
    pub(crate) struct VhostKey;
    pub(crate) struct ExchangeKey;
    pub(crate) struct QueueKey;
    pub(crate) struct ConsumerKey;
    pub(crate) struct SessionKey;
}

impl SessionKey {
    /// Returns the key as the number that [`crate::inspect`] shows: 0, 1, 2 for the first connections.
    pub(crate) fn number(self) -> u64 {
        let data = self.data().as_ffi();
        // The table counts slots from 1, and two generations for each use of a slot, of which the odd one is occupied.
        let generation = data >> 33;
        let index = (data & 0xFFFF_FFFF).wrapping_sub(1) & 0xFFFF_FFFF;
        generation << 32 | index
    }

    /// Returns the key that [`SessionKey::number`] made this number of.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of_number(number: u64) -> Self {
        let generation = number >> 32 & 0x7FFF_FFFF;
        let index = (number & 0xFFFF_FFFF).wrapping_add(1) & 0xFFFF_FFFF;
        slotmap::KeyData::from_ffi((generation << 1 | 1) << 32 | index).into()
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    #[test]
    fn a_key_is_never_used_twice() {
        let mut table = SlotMap::<SessionKey, _>::with_key();
        let first = table.insert("first");
        assert_eq!((table.remove(first), table.remove(first)), (Some("first"), None));
        let second = table.insert("second");
        assert_eq!((table.get(first), table.get(second), table.len()), (None, Some(&"second"), 1));
        assert!(first < second);
    }

    #[test]
    fn connections_are_numbered_from_zero_and_found_by_their_numbers() {
        let mut table = SlotMap::<SessionKey, _>::with_key();
        let keys = [(); 3].map(|()| table.insert(()));
        assert_eq!(keys.map(SessionKey::number), [0, 1, 2]);
        table.remove(keys[1]);
        let again = table.insert(());
        assert_eq!(again.number(), 1 << 32 | 1);
        assert_eq!([keys[0], again].map(|key| SessionKey::of_number(key.number())), [keys[0], again]);
        assert_eq!(table.get(SessionKey::of_number(7)), None);
    }
}
