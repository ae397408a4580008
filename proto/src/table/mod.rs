//! Field tables and arrays (specification §4.2.5.5), with the type tags of RabbitMQ.
//!
//! Tables and arrays are their encoded bytes. A table from a peer is checked once and then read in place; a table that
//! the program builds is encoded entry by entry. Entries keep their order.

mod array;
mod into_value;
mod value;

use std::fmt;

pub use self::array::FieldArray;
pub use self::into_value::IntoValue;
pub use self::value::Value;
use self::value::{check_values, read, write};
use crate::error::{Error, Flaw, sound};
use crate::octets::Octets;
use crate::violation::ShortString;
use crate::wire::{self, Reader};

/// How deep tables and arrays may be nested, including the outermost. Deeper ones are refused.
pub const MAX_DEPTH: usize = 32;

/// A table of named values, in encoded form without the length in front.
///
/// Reading works over any storage; writing needs the default, `Vec<u8>`. A key from a peer need not be UTF-8. Lookups
/// walk the table from its start, since tables are small. An entry with a key longer than 255 bytes, or nested deeper
/// than [`MAX_DEPTH`], is left out; [`validity`](Self::validity) and encoding the table then report the error.
///
/// ```
/// use hopmq_proto::FieldTable;
///
/// let table = FieldTable::new().with("x-queue-type", "quorum").with("x-delivery-limit", 5);
/// assert_eq!(table.get("x-queue-type").and_then(|value| value.as_str()), Some("quorum"));
/// assert_eq!(FieldTable::parse(table.as_bytes())?, table);
/// # Ok::<(), hopmq_proto::Error>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct FieldTable<B: AsRef<[u8]> = Vec<u8>> {
    bytes: B,
    flaw: Option<Flaw>,
}

impl<B: AsRef<[u8]>> FieldTable<B> {
    /// Checks and wraps encoded entries, without the length in front. Never allocates.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault, if a length or a type tag is malformed or the nesting exceeds
    /// [`MAX_DEPTH`].
    pub fn parse(bytes: B) -> Result<Self, Error> {
        check(bytes.as_ref(), 1)?;
        Ok(Self { bytes, flaw: None })
    }

    /// Returns the value of `key`, the first of several.
    pub fn get<'i, 'o>(&'i self, key: &str) -> Option<Value<'o>>
    where
        B: Octets<'i, 'o>,
    {
        self.get_bytes(key.as_bytes())
    }

    /// Returns the value of a key that need not be UTF-8, the first of several.
    pub fn get_bytes<'i, 'o>(&'i self, key: &[u8]) -> Option<Value<'o>>
    where
        B: Octets<'i, 'o>,
    {
        let mut reader = Reader::new(self.bytes.octets());
        while !reader.is_empty() {
            let name = reader.short_bytes().ok()?;
            let value = read(&mut reader).ok()?;
            if name == key {
                return Some(value);
            }
        }
        None
    }

    /// Returns the entries in order. A key that is not UTF-8 reads as U+FFFD: [`iter_bytes`](Self::iter_bytes) has its
    /// bytes.
    pub fn iter<'i, 'o>(&'i self) -> impl Iterator<Item = (&'o str, Value<'o>)> + use<'o, B>
    where
        B: Octets<'i, 'o>,
    {
        self.iter_bytes().map(|(key, value)| (wire::text(key), value))
    }

    /// Returns the entries in order, with the bytes of the keys.
    pub fn iter_bytes<'i, 'o>(&'i self) -> impl Iterator<Item = (&'o [u8], Value<'o>)> + use<'o, B>
    where
        B: Octets<'i, 'o>,
    {
        entries(self.bytes.octets())
    }

    /// Returns the table with its entries sorted by the bytes of their keys, or `None` if they are sorted. Equal keys
    /// keep their order.
    pub fn sorted(&self) -> Option<FieldTable> {
        if entries(self.as_bytes()).is_sorted_by_key(|(key, _)| key) {
            return None;
        }
        let bytes = self.as_bytes();
        let mut reader = Reader::new(bytes);
        let mut spans = Vec::new();
        while !reader.is_empty() {
            let start = bytes.len() - reader.remaining();
            let key = reader.short_bytes().ok()?;
            read(&mut reader).ok()?;
            spans.push((key, &bytes[start..bytes.len() - reader.remaining()]));
        }
        spans.sort_by_key(|(key, _)| *key);
        Some(FieldTable { bytes: spans.into_iter().flat_map(|(_, entry)| entry).copied().collect(), flaw: self.flaw })
    }

    /// Returns whether the table has the key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.as_ref_table().get(key).is_some()
    }

    /// Returns the number of entries, by walking the table.
    pub fn len(&self) -> usize {
        entries(self.as_bytes()).count()
    }

    /// Returns whether the table has no entries.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Returns the encoded entries, without the length in front.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Returns the table, borrowed.
    pub fn as_ref_table(&self) -> FieldTable<&[u8]> {
        FieldTable { bytes: self.as_bytes(), flaw: self.flaw }
    }

    /// Returns a copy of the table.
    pub fn to_owned_table(&self) -> FieldTable {
        FieldTable { bytes: self.as_bytes().to_vec(), flaw: self.flaw }
    }

    /// Checks that every inserted entry can be sent.
    ///
    /// # Errors
    /// The caller's fault, if a key was longer than 255 bytes, the nesting was too deep, or an integer was above
    /// `i64::MAX`.
    pub fn validity(&self) -> Result<(), Error> {
        sound(self.flaw)
    }

    fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
}

impl<'a> FieldTable<&'a [u8]> {
    /// Wraps bytes that were checked before.
    fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes, flaw: None }
    }

    /// Returns a table that can't be sent.
    fn flawed(flaw: Flaw) -> Self {
        Self { bytes: &[], flaw: Some(flaw) }
    }
}

impl FieldTable {
    /// Returns an empty table.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), flaw: None }
    }

    /// Returns an empty table, like [`new`](Self::new). The storage is `Vec<u8>` without a type annotation.
    #[allow(clippy::should_implement_trait, reason = "the trait is implemented for every storage")]
    pub const fn default() -> Self {
        Self::new()
    }

    /// Adds an entry, or replaces the value of an existing entry in its place.
    pub fn insert(&mut self, key: &str, value: impl IntoValue) -> &mut Self {
        let table = 0..self.bytes.len();
        if let Err(flaw) = value.with_value(|value| insert_into(&mut self.bytes, table, key, value)) {
            self.flaw.get_or_insert(flaw);
        }
        self
    }

    /// Adds or replaces an entry, and returns the table.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl IntoValue) -> Self {
        self.insert(key, value);
        self
    }

    /// Removes an entry, and returns whether the table had it.
    pub fn remove(&mut self, key: &str) -> bool {
        match find(&self.bytes, key) {
            Some(entry) => {
                self.bytes.drain(entry);
                true
            }
            None => false,
        }
    }
}

/// Adds or replaces an entry of the table that fills the range `table` of `out`. Returns the new length of the table.
pub(crate) fn insert_into(
    out: &mut Vec<u8>,
    table: std::ops::Range<usize>,
    key: &str,
    value: Value<'_>,
) -> Result<usize, Flaw> {
    value.check(MAX_DEPTH - 1)?;
    let len = table.len();
    let old = match find(&out[table.clone()], key) {
        Some(entry) => table.start + entry.start..table.start + entry.end,
        None => table.end..table.end,
    };
    let removed = old.len();
    let added = wire::replace(out, old, |out| {
        wire::put_short_str(out, ShortString::TableKey, key)?;
        write(out, value)
    })?;
    Ok(len - removed + added)
}

fn find(bytes: &[u8], key: &str) -> Option<std::ops::Range<usize>> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let start = bytes.len() - reader.remaining();
        let name = reader.short_bytes().ok()?;
        read(&mut reader).ok()?;
        if name == key.as_bytes() {
            return Some(start..bytes.len() - reader.remaining());
        }
    }
    None
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Value<'_>)> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let key = reader.short_bytes().ok()?;
        Some((key, read(&mut reader).ok()?))
    })
}

/// Checks the entries of a table at nesting level `depth`, and everything nested in them.
fn check(bytes: &[u8], depth: usize) -> Result<(), Error> {
    check_values(bytes, depth, |reader| reader.short_bytes().map(drop))
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn table(&mut self) -> Result<FieldTable<&'a [u8]>, Error> {
        FieldTable::parse(self.long_str()?)
    }
}

#[inline]
pub(crate) fn put_table<B: AsRef<[u8]>>(out: &mut Vec<u8>, table: &FieldTable<B>) -> Result<(), Flaw> {
    match table.flaw {
        None => wire::put_long_str(out, table.as_bytes()),
        Some(flaw) => Err(flaw),
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for FieldTable<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(entries(self.as_bytes()).map(|(key, value)| (String::from_utf8_lossy(key), value)))
            .finish()
    }
}

impl<A: AsRef<[u8]>, B: AsRef<[u8]>> PartialEq<FieldTable<B>> for FieldTable<A> {
    fn eq(&self, other: &FieldTable<B>) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<B: AsRef<[u8]>> Eq for FieldTable<B> {}

impl From<()> for FieldTable {
    fn from((): ()) -> Self {
        Self::new()
    }
}

impl From<FieldTable<&[u8]>> for FieldTable {
    fn from(table: FieldTable<&[u8]>) -> Self {
        table.to_owned_table()
    }
}

impl<B: AsRef<[u8]>> From<&FieldTable<B>> for FieldTable {
    fn from(table: &FieldTable<B>) -> Self {
        table.to_owned_table()
    }
}

impl<K: AsRef<str>, V: IntoValue, const N: usize> From<[(K, V); N]> for FieldTable {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: AsRef<str>, V: IntoValue> FromIterator<(K, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut table = Self::new();
        table.extend(entries);
        table
    }
}

impl<K: AsRef<str>, V: IntoValue> Extend<(K, V)> for FieldTable {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key.as_ref(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Fault, code};
    use crate::violation::Violation;

    #[test]
    fn a_sorted_table_keeps_the_bytes_of_its_entries() {
        let table = FieldTable::parse(&b"\x02b\xffV\x01aI\0\0\0\x02\x01aV"[..]).unwrap();
        let sorted = table.sorted().unwrap();
        assert_eq!(sorted.as_bytes(), b"\x01aI\0\0\0\x02\x01aV\x02b\xffV");
        assert_eq!(sorted.sorted(), None);
    }

    #[test]
    fn inserting_again_replaces_in_place() {
        let mut table = FieldTable::from([("a", 1), ("b", 2), ("c", 3)]);
        table.insert("b", "longer than before");
        assert_eq!(format!("{table:?}"), r#"{"a": 1, "b": "longer than before", "c": 3}"#);
        assert!(table.remove("a") && !table.remove("a"));
        assert_eq!(table.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn values_outlive_a_borrowed_table() {
        let table = FieldTable::new().with("inner", &FieldTable::from([("n", 5)]));
        let n = table.get("inner").and_then(|inner| inner.as_table()?.get("n"));
        assert_eq!(n.and_then(|n| n.as_i64()), Some(5));
    }

    #[test]
    fn both_letters_of_a_64_bit_integer_are_read_signed() {
        let bytes = b"\x01aL\xff\xff\xff\xff\xff\xff\xff\xfe\x01bl\xff\xff\xff\xff\xff\xff\xff\xff";
        let table = FieldTable::parse(bytes).unwrap();
        assert_eq!(table.get("a"), Some(Value::I64(-2)));
        assert_eq!(table.get("b"), Some(Value::I64(-1)));
    }

    #[test]
    fn malformed_tables_are_the_peers_fault() {
        let malformed: [&[u8]; 6] = [
            b"\x05ab",
            b"\x01a",
            b"\x01a?",
            b"\x01aS\x00\x00\x00\x02x",
            b"\x01aF\x00\x00\x00\x03\x01bI",
            b"\x01aA\xff\xff\xff\xff",
        ];
        for bytes in malformed {
            let error = FieldTable::parse(bytes).unwrap_err();
            assert_eq!((error.code(), error.fault()), (code::SYNTAX_ERROR, Fault::Peer), "{bytes:?}");
        }
    }

    /// Returns `levels` tables, each nested in the next.
    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 1..levels {
            let mut outer = b"\x01a".to_vec();
            outer.push(b'F');
            wire::put_long_str(&mut outer, &bytes).unwrap();
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn nesting_is_limited_in_both_directions() {
        let deepest = nested(MAX_DEPTH);
        let deepest = FieldTable::parse(&deepest[..]).unwrap();
        assert!(FieldTable::parse(nested(MAX_DEPTH + 1)).is_err());
        assert!(FieldTable::parse(nested(100_000 / 7)).is_err());

        let too_deep = FieldTable::new().with("a", deepest);
        let error = too_deep.validity().unwrap_err();
        assert_eq!((error.fault(), error.violation()), (Fault::Caller, Violation::NestedTooDeep));
        assert!(too_deep.is_empty());
        let array = FieldArray::new().with(deepest);
        assert!(array.validity().is_err());
        assert!(FieldTable::new().with("array", &array).validity().is_err());
    }

    #[test]
    fn a_key_of_256_bytes_is_reported() {
        let table = FieldTable::new().with("a", 1).with(&"k".repeat(256), 1).with("b", 2);
        assert_eq!(table.len(), 2);
        assert!(table.validity().is_err());
        assert!(table.as_ref_table().validity().is_err());
        assert!(FieldTable::new().with("inner", &table).validity().is_err());
        assert!(put_table(&mut Vec::new(), &table).is_err());
    }

    #[test]
    fn arrays_of_pairs_and_borrowed_tables_convert_into_a_table() {
        fn length(arguments: impl Into<FieldTable>) -> usize {
            arguments.into().len()
        }
        let table = FieldTable::from([("x", Value::from("text")), ("y", Value::Timestamp(1))]);
        assert_eq!(length(()), 0);
        assert_eq!(length([("x", true)]), 1);
        assert_eq!(length(&table), 2);
        assert_eq!(length(table.as_ref_table()), 2);
        assert_eq!(length(table), 2);
    }
}
