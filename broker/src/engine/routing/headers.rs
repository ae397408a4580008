//! Matches the headers of a message against the arguments of a binding (RabbitMQ's page "Exchanges", headers).
//!
//! The table of the message is sorted once it was searched a few times; so a match takes time linear in the arguments
//! times the logarithm of the number of headers, and the message costs its own size once. It must never know the
//! destination of the binding.

use hopmq_proto::{FieldTable, Value};

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

/// Returns what `x-match` is in the arguments of a binding, if it is no mode.
pub(crate) fn unknown_mode<'a>(arguments: &FieldTable<&'a [u8]>) -> Option<Value<'a>> {
    arguments.get("x-match").filter(|_| Match::of(arguments).is_none())
}

/// Which numbers can be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// All, and timestamps as the numbers of their seconds.
    Any,
    /// Integers with integers, and floats with floats, of any width.
    OfAKind,
}

/// The headers of one message.
#[derive(Debug)]
pub(crate) struct Headers<'a> {
    table: FieldTable<&'a [u8]>,
    /// How often the table was searched from its start.
    searches: u32,
    /// The headers by name, once that pays.
    sorted: Vec<(&'a [u8], Value<'a>)>,
    /// The work that was done: bytes of tables read, in units of an argument, and headers looked up.
    pub(crate) steps: u64,
}

/// After this number of searches the table is sorted.
const SEARCHES: u32 = 16;

impl<'a> Headers<'a> {
    pub(crate) fn new(table: FieldTable<&'a [u8]>) -> Self {
        Self { table, searches: 0, sorted: Vec::new(), steps: 0 }
    }

    /// Returns the value of a header: the first of several.
    fn get(&mut self, name: &[u8]) -> Option<Value<'a>> {
        if self.searches < SEARCHES {
            self.searches += 1;
            self.steps += steps_of(self.table.as_bytes());
            return self.table.get_bytes(name);
        }
        if self.sorted.is_empty() {
            self.sorted.extend(self.table.iter_bytes());
            // The sort keeps the order of equal names.
            self.sorted.sort_by_key(|(name, _)| *name);
            self.sorted.dedup_by_key(|(name, _)| *name);
            self.steps += steps_of(self.table.as_bytes());
        }
        self.steps += 1;
        let index = self.sorted.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.sorted[index].1)
    }

    /// Whether the headers match the encoded arguments of a binding. Arguments that are no table match nothing.
    pub(crate) fn match_arguments(&mut self, arguments: &[u8], numbers: Numbers) -> bool {
        self.steps += steps_of(arguments);
        FieldTable::parse(arguments).is_ok_and(|arguments| self.match_table(&arguments, numbers))
    }

    fn match_table(&mut self, arguments: &FieldTable<&[u8]>, numbers: Numbers) -> bool {
        let Some(kind) = Match::of(arguments) else { return false };
        let with_x = matches!(kind, Match::AllWithX | Match::AnyWithX);
        let counts = |name: &[u8]| name != b"x-match" && (with_x || !name.starts_with(b"x-"));
        let mut wanted = arguments.iter_bytes().filter(|(name, _)| counts(name));
        let fits =
            |(name, wanted): (&[u8], Value<'_>)| self.get(name).is_some_and(|value| same(wanted, value, numbers));
        match kind {
            Match::All | Match::AllWithX => wanted.all(fits),
            Match::Any | Match::AnyWithX => wanted.any(fits),
        }
    }
}

/// Returns the steps that it takes to read a table: one for a header of a usual size.
fn steps_of(table: &[u8]) -> u64 {
    table.len() as u64 / 16 + 1
}

/// Whether a header has the wanted value. An argument without a value matches any value of its header; numbers of any
/// width are compared by value.
pub(super) fn same(wanted: Value<'_>, value: Value<'_>, numbers: Numbers) -> bool {
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
    use crate::engine::routing::naive;
    use crate::random::Random;

    fn goes(arguments: &[(&str, Value<'_>)], headers: &[(&str, Value<'_>)]) -> bool {
        let table = |entries: &[(&str, Value<'_>)]| entries.iter().copied().collect::<FieldTable>();
        let (arguments, headers) = (table(arguments), table(headers));
        Headers::new(headers.as_ref_table()).match_arguments(arguments.as_bytes(), Numbers::Any)
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
    fn an_unknown_x_match_is_told() {
        let table = FieldTable::new().with("x-match", "some");
        assert_eq!(unknown_mode(&table.as_ref_table()), Some(Value::Str(b"some")));
        assert_eq!(unknown_mode(&FieldTable::new().with("x-match", "any-with-x").as_ref_table()), None);
        assert_eq!(unknown_mode(&FieldTable::new().as_ref_table()), None);
    }

    #[test]
    fn headers_match_as_they_do_in_naive_matching() {
        let mut random = Random(1);
        for _ in 0..500 {
            let input: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
            naive::check_headers(&input);
        }
    }

    #[test]
    fn a_match_costs_its_own_size_however_many_headers_the_message_has() {
        let table = |range: std::ops::Range<u32>, mode: &str| {
            range
                .map(|number| (format!("{number:06}"), 1))
                .fold(FieldTable::new().with("x-match", mode), |table, entry| table.with(&entry.0, entry.1))
        };
        let headers = table(0..1_000, "-");
        let bindings = [table(0..1_000, "all"), table(1_000..2_000, "any")];
        let mut message = Headers::new(headers.as_ref_table());
        for number in 0..100 {
            let matches = message.match_arguments(bindings[number % 2].as_bytes(), Numbers::Any);
            assert_eq!(matches, number % 2 == 0, "{number}");
        }
        let read = (SEARCHES as usize + 1) * headers.as_bytes().len() / 16 + 100 * bindings[0].as_bytes().len() / 16;
        let steps = message.steps;
        assert!(steps < (read + 100 * 1_000 + 200) as u64, "{steps}");
    }
}
