//! Matches the headers of a message against the arguments of a binding (RabbitMQ's page "Exchanges", headers).
//!
//! It must never know the destination of the binding.

use hopmq_proto::{FieldTable, Value};

use crate::engine::profile::Profile;
use crate::engine::refusal::Refusal;
use crate::engine::values::{shown, type_name};

/// The mode that `x-match` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    All,
    Any,
    AllWithX,
    AnyWithX,
}

impl Match {
    fn of(arguments: &FieldTable<&[u8]>) -> Option<Self> {
        match arguments.get("x-match") {
            None => Some(Self::All),
            Some(Value::Str(b"all")) => Some(Self::All),
            Some(Value::Str(b"any")) => Some(Self::Any),
            Some(Value::Str(b"all-with-x")) => Some(Self::AllWithX),
            Some(Value::Str(b"any-with-x")) => Some(Self::AnyWithX),
            Some(_) => None,
        }
    }
}

/// Checks the arguments of a binding.
pub(crate) fn check(arguments: &FieldTable<&[u8]>) -> Result<(), Refusal> {
    if Match::of(arguments).is_some() {
        return Ok(());
    }
    Err(Refusal::precondition(match arguments.get("x-match") {
        Some(Value::Str(text)) => format!(
            "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
            String::from_utf8_lossy(text)
        ),
        other => {
            let other = other.unwrap_or(Value::Void);
            let kind = type_name(other);
            let value = shown(other);
            format!("Invalid x-match field type {kind} (value {value}); expected longstr")
        }
    }))
}

/// Which numbers can be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// All, and timestamps as the numbers of their seconds.
    Any,
    /// Integers with integers, and floats with floats, of any width.
    OfAKind,
}

impl Numbers {
    pub(crate) fn of(profile: Profile) -> Self {
        if profile.compares_all_numbers() { Self::Any } else { Self::OfAKind }
    }
}

/// Whether headers match the arguments of a binding.
pub(crate) fn matches(arguments: &FieldTable<&[u8]>, headers: &FieldTable<&[u8]>, numbers: Numbers) -> bool {
    let Some(kind) = Match::of(arguments) else { return false };
    let with_x = matches!(kind, Match::AllWithX | Match::AnyWithX);
    let counts = |name: &[u8]| name != b"x-match" && (with_x || !name.starts_with(b"x-"));
    let fits =
        |(name, wanted): (&[u8], Value<'_>)| headers.get_bytes(name).is_some_and(|value| same(wanted, value, numbers));
    let mut wanted = arguments.iter_bytes().filter(|(name, _)| counts(name));
    match kind {
        Match::All | Match::AllWithX => wanted.all(fits),
        Match::Any | Match::AnyWithX => wanted.any(fits),
    }
}

/// Whether a header has the wanted value. An argument without a value matches any value of its header; numbers of any
/// width are compared by value.
fn same(wanted: Value<'_>, value: Value<'_>, numbers: Numbers) -> bool {
    if wanted == Value::Void || wanted == value {
        return true;
    }
    if numbers == Numbers::OfAKind {
        return wanted.as_i64().is_some() && wanted.as_i64() == value.as_i64()
            || wanted.as_f64().is_some() && wanted.as_f64() == value.as_f64()
            || wanted.as_bytes().is_some() && wanted.as_bytes() == value.as_bytes();
    }
    match (whole(wanted), whole(value)) {
        (Some(wanted), Some(value)) => wanted == value,
        _ => match (number(wanted), number(value)) {
            (Some(wanted), Some(value)) => wanted == value,
            _ => wanted.as_bytes().is_some() && wanted.as_bytes() == value.as_bytes(),
        },
    }
}

/// Returns a whole number. RabbitMQ treats a timestamp as the number of its seconds.
fn whole(value: Value<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_timestamp().map(|seconds| seconds as i64))
}

fn number(value: Value<'_>) -> Option<f64> {
    value.as_f64().or_else(|| whole(value).map(|number| number as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(arguments: &[(&str, Value<'_>)], headers: &[(&str, Value<'_>)]) -> bool {
        let table = |entries: &[(&str, Value<'_>)]| entries.iter().copied().collect::<FieldTable>();
        matches(&table(arguments).as_ref_table(), &table(headers).as_ref_table(), Numbers::Any)
    }

    #[test]
    fn x_match_selects_all_or_any_with_or_without_x_headers() {
        let [a, b, x] = [("a", Value::I32(1)), ("b", Value::Str(b"2")), ("x-c", Value::Bool(true))];
        let kind = |name: &'static str| ("x-match", Value::Str(name.as_bytes()));
        for (name, headers, expected) in [
            ("all", &[a, b][..], true),
            ("all", &[a], false),
            ("any", &[a], true),
            ("any", &[x], false),
            ("all-with-x", &[a, b], false),
            ("all-with-x", &[a, b, x], true),
            ("any-with-x", &[x], true),
            ("any-with-x", &[], false),
        ] {
            assert_eq!(goes(&[kind(name), a, b, x], headers), expected, "{name} {headers:?}");
        }
        assert!(goes(&[], &[]) && goes(&[], &[a]) && goes(&[a], &[a, b]));
        assert!(!goes(&[kind("any")], &[a]));
    }

    #[test]
    fn an_argument_without_a_value_matches_any_value() {
        assert!(goes(&[("a", Value::Void)], &[("a", Value::I32(5))]));
        assert!(!goes(&[("a", Value::Void)], &[]));
        assert!(goes(&[("a", Value::I32(5))], &[("a", Value::I64(5))]));
        assert!(!goes(&[("a", Value::I32(5))], &[("a", Value::Str(b"5"))]));
    }

    #[test]
    fn an_unknown_x_match_is_refused() {
        let table = FieldTable::new().with("x-match", "some");
        assert_eq!(check(&table.as_ref_table()).unwrap_err().code, 406);
        assert!(check(&FieldTable::new().with("x-match", "any-with-x").as_ref_table()).is_ok());
    }
}
