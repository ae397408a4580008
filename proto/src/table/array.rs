//! Field arrays.

use std::fmt;

use super::MAX_DEPTH;
use super::value::{Value, check_values, read, write};
use crate::Error;
use crate::error::{Flaw, sound};
use crate::octets::Octets;
use crate::wire::{Reader, whole};

/// A list of values of any types, in its encoded form without the length in front.
///
/// ```
/// use hopmq_proto::{FieldArray, FieldTable};
///
/// let hosts: FieldArray = ["a", "b"].into_iter().collect();
/// let table = FieldTable::new().with("hosts", &hosts);
/// assert_eq!(table.get("hosts").and_then(|value| value.as_array()).map(|array| array.len()), Some(2));
/// ```
#[derive(Clone, Copy, Default)]
pub struct FieldArray<B: AsRef<[u8]> = Vec<u8>> {
    pub(super) bytes: B,
    flaw: Option<Flaw>,
}

impl<B: AsRef<[u8]>> FieldArray<B> {
    /// Takes the encoded values (without the length in front), if they are well-formed. Never allocates.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault.
    pub fn parse(bytes: B) -> Result<Self, Error> {
        check(bytes.as_ref(), 1)?;
        Ok(Self { bytes, flaw: None })
    }

    /// The values, in their order.
    pub fn iter<'i, 'o>(&'i self) -> impl Iterator<Item = Value<'o>> + use<'o, B>
    where
        B: Octets<'i, 'o>,
    {
        values(self.bytes.octets())
    }

    /// How many values there are. Walks the array.
    pub fn len(&self) -> usize {
        values(self.as_bytes()).count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The encoded values, without the length in front.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The same array, borrowed.
    pub fn as_ref_array(&self) -> FieldArray<&[u8]> {
        FieldArray { bytes: self.as_bytes(), flaw: self.flaw }
    }

    /// The same array, in memory of its own.
    pub fn to_owned_array(&self) -> FieldArray {
        FieldArray { bytes: self.as_bytes().to_vec(), flaw: self.flaw }
    }

    /// Whether everything that was pushed can be sent.
    ///
    /// # Errors
    /// The nesting is too deep: the caller's fault.
    pub fn validity(&self) -> Result<(), Error> {
        sound(self.flaw)
    }

    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
}

impl<'a> FieldArray<&'a [u8]> {
    /// Bytes that were checked before.
    pub(super) fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes, flaw: None }
    }
}

impl FieldArray {
    /// An empty array.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), flaw: None }
    }

    /// Adds a value at the end.
    pub fn push<'v>(&mut self, value: impl Into<Value<'v>>) -> &mut Self {
        let value = value.into();
        let pushed = value.check(MAX_DEPTH - 1).and_then(|()| whole(&mut self.bytes, |out| write(out, value)));
        if let Err(flaw) = pushed {
            self.flaw.get_or_insert(flaw);
        }
        self
    }

    /// Adds a value at the end, in a chain.
    #[must_use]
    pub fn with<'v>(mut self, value: impl Into<Value<'v>>) -> Self {
        self.push(value);
        self
    }
}

fn values(bytes: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || read(&mut reader).ok())
}

/// Checks the values of an array that is `depth` deep, and everything in them.
pub(super) fn check(bytes: &[u8], depth: usize) -> Result<(), Error> {
    check_values(bytes, depth, |_| Ok(()))
}

impl<B: AsRef<[u8]>> fmt::Debug for FieldArray<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(values(self.as_bytes())).finish()
    }
}

impl<A: AsRef<[u8]>, B: AsRef<[u8]>> PartialEq<FieldArray<B>> for FieldArray<A> {
    fn eq(&self, other: &FieldArray<B>) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<B: AsRef<[u8]>> Eq for FieldArray<B> {}

impl<'v, V: Into<Value<'v>>> FromIterator<V> for FieldArray {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        let mut array = Self::new();
        array.extend(values);
        array
    }
}

impl<'v, V: Into<Value<'v>>> Extend<V> for FieldArray {
    fn extend<I: IntoIterator<Item = V>>(&mut self, values: I) {
        for value in values {
            self.push(value);
        }
    }
}

impl From<FieldArray<&[u8]>> for FieldArray {
    fn from(array: FieldArray<&[u8]>) -> Self {
        array.to_owned_array()
    }
}
