//! What a table or an array takes as a value.

use std::borrow::Cow;

use bytes::Bytes;

use super::{FieldArray, FieldTable, Value};

/// What a table or an array takes as a value: all that converts into a [`Value`], and owned strings, bytes, tables and
/// arrays. They are encoded at once, so nothing needs to outlive the call.
///
/// ```
/// use hopmq_proto::FieldTable;
///
/// let parts = vec!["a", "b"];
/// let table = FieldTable::default().with("count", parts.len()).with("name", format!("{} parts", parts.len()));
/// assert_eq!(table.get("count").and_then(|value| value.as_i64()), Some(2));
/// assert_eq!(table.get("name").and_then(|value| value.as_str()), Some("2 parts"));
/// ```
pub trait IntoValue {
    /// Calls `take` with the value.
    fn with_value<R>(self, take: impl FnOnce(Value<'_>) -> R) -> R;
}

impl<'v, T: Into<Value<'v>>> IntoValue for T {
    #[inline]
    fn with_value<R>(self, take: impl FnOnce(Value<'_>) -> R) -> R {
        take(self.into())
    }
}

macro_rules! owned {
    ($($ty:ty: $value:ident => $convert:expr),* $(,)?) => {$(
        impl IntoValue for $ty {
            fn with_value<R>(self, take: impl FnOnce(Value<'_>) -> R) -> R {
                let $value = &self;
                take($convert)
            }
        }
    )*};
}

owned! {
    String: text => Value::Str(text.as_bytes()),
    Box<str>: text => Value::Str(text.as_bytes()),
    Cow<'_, str>: text => Value::Str(text.as_bytes()),
    Vec<u8>: bytes => Value::Bytes(bytes),
    Bytes: bytes => Value::Bytes(bytes),
    FieldTable: table => Value::Table(table.as_ref_table()),
    FieldArray: array => Value::Array(array.as_ref_array()),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;
    use crate::violation::Violation;

    #[test]
    fn owned_values_and_counts_are_taken() {
        let inner = FieldTable::default().with("n", u64::from(u32::MAX) + 1);
        let table = FieldTable::default()
            .with("usize", vec![0; 7].len())
            .with("largest", i64::MAX as u64)
            .with("isize", -7_isize)
            .with("string", String::from("s"))
            .with("cow", Cow::Borrowed("c"))
            .with("bytes", vec![1, 2])
            .with("shared", Bytes::from_static(b"b"))
            .with("table", inner)
            .with("array", FieldArray::default().with(String::from("x")));
        table.validity().unwrap();
        assert_eq!(table.get("usize"), Some(Value::I64(7)));
        assert_eq!(table.get("largest"), Some(Value::I64(i64::MAX)));
        assert_eq!(table.get("isize"), Some(Value::I64(-7)));
        assert_eq!(table.get("string"), Some(Value::Str(b"s")));
        assert_eq!(table.get("cow"), Some(Value::Str(b"c")));
        assert_eq!(table.get("bytes"), Some(Value::Bytes(&[1, 2])));
        assert_eq!(table.get("shared"), Some(Value::Bytes(b"b")));
        let n = table.get("table").and_then(|inner| inner.as_table()?.get("n"));
        assert_eq!(n, Some(Value::I64(1 << 32)));
        assert_eq!(table.get("array").and_then(|array| array.as_array()?.iter().next()), Some(Value::Str(b"x")));
        let pairs = FieldTable::from([("a", String::from("1")), ("b", String::from("2"))]);
        assert_eq!(pairs.get("b").and_then(|value| value.as_str()), Some("2"));
        assert_eq!(["a".to_owned(), "b".to_owned()].into_iter().collect::<FieldArray>().len(), 2);
    }

    #[test]
    fn an_integer_that_no_type_holds_is_reported() {
        for error in [
            FieldTable::default().with("n", u64::MAX).validity().unwrap_err(),
            FieldTable::default().with("inner", FieldTable::default().with("n", 1_u64 << 63)).validity().unwrap_err(),
            FieldArray::default().with(usize::MAX).validity().unwrap_err(),
        ] {
            assert_eq!((error.fault(), error.violation()), (Fault::Caller, Violation::IntegerTooLarge));
            assert!(error.message().contains("9223372036854775807"), "{}", error.message());
        }
    }
}
