//! The keys of the tables, and the numbers that stand for them in the protocol.
//!
//! A key names an index and a generation, so that a late answer to a removed entry finds nothing, instead of the entry
//! that reuses the slot.

use slotmap::{Key, KeyData, new_key_type};

new_key_type! {
    pub(crate) struct RequestKey;
    pub(crate) struct ConsumerKey;
    pub(crate) struct WaiterKey;
    pub(crate) struct SubscriberKey;
}

/// Returns the number that the protocol carries for a key.
#[inline]
pub(crate) fn number(key: impl Key) -> u64 {
    key.data().as_ffi()
}

/// Returns the key of a number that [`number`] returned.
#[inline]
pub(crate) fn of_number<K: Key>(number: u64) -> K {
    let data = KeyData::from_ffi(number);
    debug_assert_eq!(data.as_ffi(), number, "the number is no key's");
    data.into()
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::state::REPLAY;

    #[test]
    fn a_number_finds_its_entry_and_no_later_one() {
        let mut table = SlotMap::<RequestKey, _>::with_key();
        let stale = number(table.insert('a'));
        assert_eq!(table.remove(of_number(stale)), Some('a'));
        let reused = number(table.insert('b'));
        assert_eq!(table.get(of_number(reused)), Some(&'b'));
        for other in [stale, reused + 1, REPLAY] {
            assert_eq!(table.get(of_number(other)), None, "{other:#x}");
        }
    }
}
