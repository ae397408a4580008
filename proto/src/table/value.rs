//! The value of an entry in a table or an array, and its encoding.

use std::fmt;

use bytes::BufMut;

use super::{FieldArray, FieldTable, MAX_DEPTH};
use crate::error::{Error, Flaw, code};
use crate::violation::Violation;
use crate::wire::{Reader, put_long_str};

/// A value in a [`FieldTable`] or a [`FieldArray`]. The letter is its type tag on the wire.
///
/// Rust types convert into values: `true`, `5` (an `i32`), `2.5`, `"text"`, `()`, `&table`, …. Where a table takes a
/// value, it also takes owned ones, such as a `String`: see [`IntoValue`](super::IntoValue).
///
/// Accessors such as [`as_str`](Self::as_str) return `None` for a value of another type.
#[derive(Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// No value (`V`).
    Void,
    /// `true` or `false` (`t`).
    Bool(bool),
    /// Signed, 8 bits (`b`).
    I8(i8),
    /// Unsigned, 8 bits (`B`).
    U8(u8),
    /// Signed, 16 bits (`s`).
    I16(i16),
    /// Unsigned, 16 bits (`u`).
    U16(u16),
    /// Signed, 32 bits (`I`).
    I32(i32),
    /// Unsigned, 32 bits (`i`).
    U32(u32),
    /// Signed, 64 bits (`l`; like RabbitMQ, reads `L` as well).
    I64(i64),
    /// A 32-bit float (`f`).
    F32(f32),
    /// A 64-bit float (`d`).
    F64(f64),
    /// `value` / 10^`scale` (`D`).
    Decimal {
        /// The number of decimal digits.
        scale: u8,
        /// All digits, as an integer.
        value: u32,
    },
    /// A string, usually but not necessarily UTF-8 (`S`).
    Str(&'a [u8]),
    /// Bytes (`x`, an extension of RabbitMQ).
    Bytes(&'a [u8]),
    /// Seconds since 1970 (`T`).
    Timestamp(u64),
    /// A list of values (`A`).
    Array(FieldArray<&'a [u8]>),
    /// Named values (`F`).
    Table(FieldTable<&'a [u8]>),
}

impl<'a> Value<'a> {
    /// Returns the text of a string; `None` if the string is not UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Returns the bytes of a string or a byte value.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Str(bytes) | Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the number of an integer of any width.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    /// Returns the number of a float of any width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(n) => Some(n.into()),
            Self::F64(n) => Some(n),
            _ => None,
        }
    }

    /// Returns the boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the seconds since 1970 of a timestamp.
    pub fn as_timestamp(&self) -> Option<u64> {
        match *self {
            Self::Timestamp(seconds) => Some(seconds),
            _ => None,
        }
    }

    /// Returns the array.
    pub fn as_array(&self) -> Option<FieldArray<&'a [u8]>> {
        match *self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Returns the table.
    pub fn as_table(&self) -> Option<FieldTable<&'a [u8]>> {
        match *self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Checks that the value has no flaw and at most `depth` levels.
    pub(super) fn check(&self, depth: usize) -> Result<(), Flaw> {
        let inner = || depth.checked_sub(1).ok_or(Flaw::Depth);
        match self {
            Self::Table(table) => {
                table.flaw().map_or(Ok(()), Err)?;
                let depth = inner()?;
                table.iter().try_for_each(|(_, value)| value.check(depth))
            }
            Self::Array(array) => {
                array.flaw().map_or(Ok(()), Err)?;
                let depth = inner()?;
                array.iter().try_for_each(|value| value.check(depth))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a value, without checking nested values: [`check_values`] has done so.
#[inline]
pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, Error> {
    Ok(match reader.u8()? {
        b'V' => Value::Void,
        b't' => Value::Bool(reader.u8()? != 0),
        b'b' => Value::I8(reader.i8()?),
        b'B' => Value::U8(reader.u8()?),
        b's' => Value::I16(reader.i16()?),
        b'u' => Value::U16(reader.u16()?),
        b'I' => Value::I32(reader.i32()?),
        b'i' => Value::U32(reader.u32()?),
        b'l' | b'L' => Value::I64(reader.i64()?),
        b'f' => Value::F32(reader.f32()?),
        b'd' => Value::F64(reader.f64()?),
        b'D' => Value::Decimal { scale: reader.u8()?, value: reader.u32()? },
        b'S' => Value::Str(reader.long_str()?),
        b'x' => Value::Bytes(reader.long_str()?),
        b'T' => Value::Timestamp(reader.u64()?),
        b'A' => Value::Array(FieldArray::trusted(reader.long_str()?)),
        b'F' => Value::Table(FieldTable::trusted(reader.long_str()?)),
        tag => return Err(unknown(tag)),
    })
}

/// Checks a sequence of values and everything nested in them. `prefix` reads what precedes each value.
pub(super) fn check_values<'a>(
    bytes: &'a [u8],
    depth: usize,
    prefix: impl Fn(&mut Reader<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        prefix(&mut reader)?;
        match read(&mut reader)? {
            Value::Table(table) => super::check(table.bytes, depth + 1)?,
            Value::Array(array) => super::array::check(array.bytes, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn write(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Flaw> {
    match value {
        Value::Void => out.put_u8(b'V'),
        Value::Bool(value) => out.put_slice(&[b't', value.into()]),
        Value::I8(n) => {
            out.put_u8(b'b');
            out.put_i8(n);
        }
        Value::U8(n) => out.put_slice(&[b'B', n]),
        Value::I16(n) => {
            out.put_u8(b's');
            out.put_i16(n);
        }
        Value::U16(n) => {
            out.put_u8(b'u');
            out.put_u16(n);
        }
        Value::I32(n) => {
            out.put_u8(b'I');
            out.put_i32(n);
        }
        Value::U32(n) => {
            out.put_u8(b'i');
            out.put_u32(n);
        }
        Value::I64(n) => {
            out.put_u8(b'l');
            out.put_i64(n);
        }
        Value::F32(n) => {
            out.put_u8(b'f');
            out.put_f32(n);
        }
        Value::F64(n) => {
            out.put_u8(b'd');
            out.put_f64(n);
        }
        Value::Decimal { scale, value } => {
            out.put_slice(&[b'D', scale]);
            out.put_u32(value);
        }
        Value::Timestamp(seconds) => {
            out.put_u8(b'T');
            out.put_u64(seconds);
        }
        Value::Str(bytes) => return put_container(out, b'S', bytes),
        Value::Bytes(bytes) => return put_container(out, b'x', bytes),
        Value::Array(array) => return put_container(out, b'A', array.bytes),
        Value::Table(table) => return put_container(out, b'F', table.bytes),
    }
    Ok(())
}

fn put_container(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) -> Result<(), Flaw> {
    out.put_u8(tag);
    put_long_str(out, bytes)
}

#[cold]
fn unknown(tag: u8) -> Error {
    let text = format!("a table or an array has a value of unknown type '{}'", char::from(tag).escape_default());
    Violation::Malformed.by_peer(code::SYNTAX_ERROR, text)
}

#[cold]
fn too_deep() -> Error {
    Violation::NestedTooDeep.by_peer(code::SYNTAX_ERROR, "tables and arrays are nested more than 32 deep")
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("Void"),
            Self::Bool(value) => value.fmt(f),
            Self::I8(n) => n.fmt(f),
            Self::U8(n) => n.fmt(f),
            Self::I16(n) => n.fmt(f),
            Self::U16(n) => n.fmt(f),
            Self::I32(n) => n.fmt(f),
            Self::U32(n) => n.fmt(f),
            Self::I64(n) => n.fmt(f),
            Self::F32(n) => n.fmt(f),
            Self::F64(n) => n.fmt(f),
            Self::Decimal { scale, value } => write!(f, "{value}e-{scale}"),
            Self::Str(bytes) => String::from_utf8_lossy(bytes).fmt(f),
            Self::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Self::Timestamp(seconds) => write!(f, "Timestamp({seconds})"),
            Self::Array(array) => array.fmt(f),
            Self::Table(table) => table.fmt(f),
        }
    }
}

macro_rules! from {
    ($($ty:ty => $variant:ident),* $(,)?) => {$(
        impl From<$ty> for Value<'_> {
            fn from(value: $ty) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

from!(bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64);
from!(f32 => F32, f64 => F64);

/// A number above [`i64::MAX`], for which AMQP's tables have no type, makes the table or array invalid that it is put
/// into: [`FieldTable::validity`] and sending the table report it.
impl From<u64> for Value<'_> {
    fn from(n: u64) -> Self {
        i64::try_from(n).map_or(Self::Table(FieldTable::flawed(Flaw::Integer)), Self::I64)
    }
}

/// Converts like a `u64`.
impl From<usize> for Value<'_> {
    fn from(n: usize) -> Self {
        Self::from(n as u64)
    }
}

impl From<isize> for Value<'_> {
    fn from(n: isize) -> Self {
        Self::I64(n as i64)
    }
}

impl From<()> for Value<'_> {
    fn from((): ()) -> Self {
        Self::Void
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Str(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Str(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a, B: AsRef<[u8]>> From<&'a FieldTable<B>> for Value<'a> {
    fn from(table: &'a FieldTable<B>) -> Self {
        Self::Table(table.as_ref_table())
    }
}

impl<'a> From<FieldTable<&'a [u8]>> for Value<'a> {
    fn from(table: FieldTable<&'a [u8]>) -> Self {
        Self::Table(table)
    }
}

impl<'a, B: AsRef<[u8]>> From<&'a FieldArray<B>> for Value<'a> {
    fn from(array: &'a FieldArray<B>) -> Self {
        Self::Array(array.as_ref_array())
    }
}

impl<'a> From<FieldArray<&'a [u8]>> for Value<'a> {
    fn from(array: FieldArray<&'a [u8]>) -> Self {
        Self::Array(array)
    }
}
