//! Field tables and arrays (specification §4.2.5.5), with the type tags that RabbitMQ uses.
//!
//! One representation: the encoded bytes. A table from a peer is checked once, as a whole, and then read in place;
//! a table that the program builds is encoded as it is built. The order of the entries is kept.

mod array;
mod value;

use std::fmt;

use bytes::BufMut;

pub use self::array::FieldArray;
pub use self::value::Value;
use self::value::{check_values, read, write};
use crate::Error;
use crate::error::{Flaw, code, sound};
use crate::octets::Octets;
use crate::wire::{self, Reader};

/// How deep tables and arrays may be nested, the outermost counted: what is deeper is refused.
pub const MAX_DEPTH: usize = 32;

/// A table of named values, in its encoded form without the length in front.
///
/// Reading works over any storage; writing needs the default, `Vec<u8>`. Lookups walk the table from its start:
/// tables are small. A key longer than 255 bytes, or a nesting deeper than [`MAX_DEPTH`], is remembered and reported
/// by [`validity`](Self::validity) and by whatever encodes the table; the entry itself is left out.
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
    /// Takes the encoded entries (without the length in front), if they are well-formed: lengths, type tags, UTF-8
    /// keys, and a nesting of at most [`MAX_DEPTH`]. Never allocates.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault.
    pub fn parse(bytes: B) -> Result<Self, Error> {
        check(bytes.as_ref(), 1)?;
        Ok(Self { bytes, flaw: None })
    }

    /// The value of `key`, the first if there are several.
    pub fn get<'i, 'o>(&'i self, key: &str) -> Option<Value<'o>>
    where
        B: Octets<'i, 'o>,
    {
        let mut reader = Reader::new(self.bytes.octets());
        while !reader.is_empty() {
            let name = reader.short_bytes().ok()?;
            let value = read(&mut reader).ok()?;
            if name == key.as_bytes() {
                return Some(value);
            }
        }
        None
    }

    /// The entries, in their order.
    pub fn iter<'i, 'o>(&'i self) -> impl Iterator<Item = (&'o str, Value<'o>)> + use<'o, B>
    where
        B: Octets<'i, 'o>,
    {
        entries(self.bytes.octets())
    }

    /// Whether there is an entry called `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.as_ref_table().get(key).is_some()
    }

    /// How many entries there are. Walks the table.
    pub fn len(&self) -> usize {
        entries(self.as_bytes()).count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The encoded entries, without the length in front.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The same table, borrowed.
    pub fn as_ref_table(&self) -> FieldTable<&[u8]> {
        FieldTable { bytes: self.as_bytes(), flaw: self.flaw }
    }

    /// The same table, in memory of its own.
    pub fn to_owned_table(&self) -> FieldTable {
        FieldTable { bytes: self.as_bytes().to_vec(), flaw: self.flaw }
    }

    /// Whether everything that was inserted can be sent.
    ///
    /// # Errors
    /// A key was longer than 255 bytes, or the nesting too deep: the caller's fault.
    pub fn validity(&self) -> Result<(), Error> {
        sound(self.flaw)
    }

    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
}

impl<'a> FieldTable<&'a [u8]> {
    /// Bytes that were checked before.
    fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes, flaw: None }
    }
}

impl FieldTable {
    /// An empty table.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), flaw: None }
    }

    /// Adds an entry, or replaces the value of an existing one in its place.
    pub fn insert<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) -> &mut Self {
        let table = 0..self.bytes.len();
        if let Err(flaw) = insert_into(&mut self.bytes, table, key, value.into()) {
            self.flaw.get_or_insert(flaw);
        }
        self
    }

    /// Adds or replaces an entry, in a chain.
    #[must_use]
    pub fn with<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.insert(key, value);
        self
    }

    /// Removes an entry, and says whether it was there.
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

/// Adds or replaces an entry of the table that fills `table` in `out`. Says how long the table is now.
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
        wire::put_short_str(out, key)?;
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

fn entries(bytes: &[u8]) -> impl Iterator<Item = (&str, Value<'_>)> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let key = reader.short_str().ok()?;
        Some((key, read(&mut reader).ok()?))
    })
}

/// Checks the entries of a table that is `depth` deep, and everything in them.
fn check(bytes: &[u8], depth: usize) -> Result<(), Error> {
    check_values(bytes, depth, |reader| reader.short_str().map(drop))
}

#[cold]
fn too_deep() -> Error {
    Error::peer(code::SYNTAX_ERROR, "tables and arrays are nested more than 32 deep")
}

impl<B: AsRef<[u8]>> fmt::Debug for FieldTable<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(entries(self.as_bytes())).finish()
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

impl<'v, K: AsRef<str>, V: Into<Value<'v>>, const N: usize> From<[(K, V); N]> for FieldTable {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<'v, K: AsRef<str>, V: Into<Value<'v>>> FromIterator<(K, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut table = Self::new();
        table.extend(entries);
        table
    }
}

impl<'v, K: AsRef<str>, V: Into<Value<'v>>> Extend<(K, V)> for FieldTable {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key.as_ref(), value);
        }
    }
}

fn put_container(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) -> Result<(), Flaw> {
    out.put_u8(tag);
    wire::put_long_str(out, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

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
    fn what_is_malformed_is_the_peers_fault() {
        let malformed: [&[u8]; 7] = [
            b"\x05ab",
            b"\x01a",
            b"\x01a?",
            b"\x01aS\x00\x00\x00\x02x",
            b"\x01\xfft\x01",
            b"\x01aF\x00\x00\x00\x03\x01bI",
            b"\x01aA\xff\xff\xff\xff",
        ];
        for bytes in malformed {
            let error = FieldTable::parse(bytes).unwrap_err();
            assert_eq!((error.code(), error.fault()), (code::SYNTAX_ERROR, Fault::Peer), "{bytes:?}");
        }
    }

    /// `levels` tables, each in the one before.
    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 1..levels {
            let mut outer = b"\x01a".to_vec();
            put_container(&mut outer, b'F', &bytes).unwrap();
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn nesting_is_bounded_both_ways() {
        let deepest = nested(MAX_DEPTH);
        let deepest = FieldTable::parse(&deepest[..]).unwrap();
        assert!(FieldTable::parse(nested(MAX_DEPTH + 1)).is_err());
        assert!(FieldTable::parse(nested(100_000 / 7)).is_err());

        let too_deep = FieldTable::new().with("a", deepest);
        assert_eq!(too_deep.validity().unwrap_err().fault(), Fault::Caller);
        assert!(too_deep.is_empty());
        let array = FieldArray::new().with(deepest);
        assert!(array.validity().is_err());
        assert!(FieldTable::new().with("array", &array).validity().is_err());
    }

    #[test]
    fn a_key_of_256_bytes_is_remembered() {
        let table = FieldTable::new().with("a", 1).with(&"k".repeat(256), 1).with("b", 2);
        assert_eq!(table.len(), 2);
        assert!(table.validity().is_err());
        assert!(table.as_ref_table().validity().is_err());
        assert!(FieldTable::new().with("inner", &table).validity().is_err());
        assert!(wire::put_table(&mut Vec::new(), &table).is_err());
    }

    #[test]
    fn what_converts_into_a_table() {
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
