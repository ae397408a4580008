//! Field arrays.

use std::fmt;

use super::value::{Value, check_values, read, write};
use super::{IntoValue, MAX_DEPTH};
use crate::error::{Error, Flaw, sound};
use crate::octets::Octets;
use crate::wire::{Reader, whole};

/// A list of values of any types, in encoded form without the length in front.
///
/// A value that is nested deeper than [`MAX_DEPTH`] is left out; [`validity`](Self::validity) then reports the error.
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
    /// Checks and wraps encoded values, without the length in front. Never allocates.
    ///
    /// # Errors
    /// 502 (syntax error), the peer's fault, if the values are malformed or the nesting exceeds [`MAX_DEPTH`].
    pub fn parse(bytes: B) -> Result<Self, Error> {
        check(bytes.as_ref(), 1)?;
        Ok(Self { bytes, flaw: None })
    }

    /// Returns the values in order.
    pub fn iter<'i, 'o>(&'i self) -> impl Iterator<Item = Value<'o>> + use<'o, B>
    where
        B: Octets<'i, 'o>,
    {
        values(self.bytes.octets())
    }

    /// Returns the number of values, by walking the array.
    pub fn len(&self) -> usize {
        values(self.as_bytes()).count()
    }

    /// Returns whether the array has no values.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Returns the encoded values, without the length in front.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Returns the array, borrowed.
    pub fn as_ref_array(&self) -> FieldArray<&[u8]> {
        FieldArray { bytes: self.as_bytes(), flaw: self.flaw }
    }

    /// Returns a copy of the array.
    pub fn to_owned_array(&self) -> FieldArray {
        FieldArray { bytes: self.as_bytes().to_vec(), flaw: self.flaw }
    }

    /// Checks that every pushed value can be sent.
    ///
    /// # Errors
    /// The caller's fault, if the nesting was too deep or an integer was above `i64::MAX`.
    pub fn validity(&self) -> Result<(), Error> {
        sound(self.flaw)
    }

    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
}

impl<'a> FieldArray<&'a [u8]> {
    /// Wraps bytes that were checked before.
    pub(super) fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes, flaw: None }
    }
}

impl FieldArray {
    /// Returns an empty array.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), flaw: None }
    }

    /// Returns an empty array, like [`new`](Self::new). The storage is `Vec<u8>` without a type annotation.
    #[allow(clippy::should_implement_trait, reason = "the trait is implemented for every storage")]
    pub const fn default() -> Self {
        Self::new()
    }

    /// Appends a value.
    pub fn push(&mut self, value: impl IntoValue) -> &mut Self {
        let pushed = value.with_value(|value| {
            value.check(MAX_DEPTH - 1)?;
            whole(&mut self.bytes, |out| write(out, value))
        });
        if let Err(flaw) = pushed {
            self.flaw.get_or_insert(flaw);
        }
        self
    }

    /// Appends a value, and returns the array.
    #[must_use]
    pub fn with(mut self, value: impl IntoValue) -> Self {
        self.push(value);
        self
    }
}

fn values(bytes: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || read(&mut reader).ok())
}

/// Checks the values of an array at nesting level `depth`, and everything nested in them.
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

impl<V: IntoValue> FromIterator<V> for FieldArray {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        let mut array = Self::new();
        array.extend(values);
        array
    }
}

impl<V: IntoValue> Extend<V> for FieldArray {
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
