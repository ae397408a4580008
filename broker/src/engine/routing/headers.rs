//! Matches the headers of a message against the arguments of a binding (RabbitMQ's page "Exchanges", headers).
//!
//! Names are numbers of a dictionary. The arguments of a binding, when it is made, and the headers of a message, when
//! it first comes to a binding with arguments, are sorted by them. So a match takes time linear in the arguments,
//! with a factor logarithmic in how many headers lie between two of them, and the message costs its own size once. It
//! must never know the destination of the binding.

use hopmq_proto::{FieldArray, FieldTable, Value};

use super::words::{self, Words};

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

/// The arguments of a binding, made ready to be matched.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Whether all of them must match, or any.
    is_all: bool,
    /// The names of those that count, by their numbers, in order.
    names: Box<[u32]>,
    /// Their values, in the same order.
    values: FieldArray,
}

impl Wanted {
    /// Reads the encoded arguments of a binding. Those that are no table match nothing, as do those with a mode that is
    /// unknown: `None`.
    pub(crate) fn read(arguments: &[u8], dictionary: &mut Words) -> Option<Self> {
        let (kind, counted) = counted(arguments)?;
        let mut all: Vec<_> = counted.map(|(name, value)| (dictionary.add(name), value)).collect();
        all.sort_by_key(|(name, _)| *name);
        let names = all.iter().map(|(name, _)| *name).collect();
        let values = all.iter().map(|(_, value)| *value).collect();
        Some(Self { is_all: matches!(kind, Match::All | Match::AllWithX), names, values })
    }

    /// Removes the names of encoded arguments that were [read](Wanted::read) from the dictionary.
    pub(crate) fn forget(arguments: &[u8], dictionary: &mut Words) {
        for (name, _) in counted(arguments).into_iter().flat_map(|(_, counted)| counted) {
            if let Some(number) = dictionary.number(name) {
                dictionary.remove(name, number);
            }
        }
    }

    /// Returns what encoded arguments take when they are read, at most, in bytes.
    pub(crate) fn size_of(arguments: &[u8]) -> usize {
        let count = FieldTable::parse(arguments).map_or(0, |arguments| arguments.iter_bytes().count());
        size_of::<Self>() + arguments.len() + count * (size_of::<u32>() + words::ENTRY_SIZE)
    }
}

/// Returns the mode of encoded arguments, and those that count in it.
fn counted<'a>(arguments: &'a [u8]) -> Option<(Match, impl Iterator<Item = (&'a [u8], Value<'a>)>)> {
    let arguments = FieldTable::parse(arguments).ok()?;
    let kind = Match::of(&arguments)?;
    let with_x = matches!(kind, Match::AllWithX | Match::AnyWithX);
    let counts = move |name: &[u8]| name != b"x-match" && (with_x || !name.starts_with(b"x-"));
    Some((kind, arguments.iter_bytes().filter(move |(name, _)| counts(name))))
}

/// The headers of one message.
#[derive(Debug)]
pub(crate) struct Headers<'a> {
    table: FieldTable<&'a [u8]>,
    is_read: bool,
    /// The names of those that are in bindings, by their numbers, in order.
    names: Vec<u32>,
    /// Their values, in the same order.
    values: Vec<Value<'a>>,
    /// The steps that it took to read them.
    pub(crate) reading: u64,
    /// The steps of matches, see [`Headers::matches`].
    pub(crate) matching: u64,
}

/// How many arguments, of which each is searched for or compared, take as long as a step.
const ARGUMENTS_PER_STEP: usize = 16;
/// The bytes of headers whose names are looked up in a step.
const BYTES_PER_STEP: usize = 64;

impl<'a> Headers<'a> {
    pub(crate) fn new(table: FieldTable<&'a [u8]>) -> Self {
        Self { table, is_read: false, names: Vec::new(), values: Vec::new(), reading: 0, matching: 0 }
    }

    /// Looks up the names of the headers. Of several with the same name, the first one counts.
    fn read(&mut self, dictionary: &Words) {
        let known = |(name, value): (&[u8], Value<'a>)| Some((dictionary.number(name)?, value));
        let mut all: Vec<_> = self.table.iter_bytes().filter_map(known).collect();
        // The sort keeps the order of equal names.
        all.sort_by_key(|(name, _)| *name);
        all.dedup_by_key(|(name, _)| *name);
        (self.names, self.values) = all.into_iter().unzip();
        self.reading = (self.table.as_bytes().len() / BYTES_PER_STEP) as u64;
    }

    /// Whether the headers match the arguments of a binding. It takes a step, and one for each
    /// [`ARGUMENTS_PER_STEP`] arguments that are looked at, twice if need be.
    pub(crate) fn matches(&mut self, wanted: &Wanted, numbers: Numbers, dictionary: &Words) -> bool {
        self.matching += 1;
        if wanted.names.is_empty() {
            return wanted.is_all;
        }
        if !std::mem::replace(&mut self.is_read, true) {
            self.read(dictionary);
        }
        // Of most messages, a name is missing.
        if wanted.is_all && !self.have_all(&wanted.names) {
            return false;
        }
        let (mut place, mut looked_at) = (0, 0);
        let mut fits = wanted.names.iter().zip(wanted.values.iter()).map(|(name, wanted)| {
            looked_at += 1;
            place = seek(&self.names, place, *name);
            self.names.get(place) == Some(name) && same(wanted, self.values[place], numbers)
        });
        let matches = if wanted.is_all { fits.all(|fits| fits) } else { fits.any(|fits| fits) };
        self.matching += looked_at / ARGUMENTS_PER_STEP as u64;
        matches
    }

    /// Whether there is a header for each name.
    fn have_all(&mut self, names: &[u32]) -> bool {
        let (mut place, mut looked_at) = (0, 0);
        let have_all = names.iter().all(|name| {
            looked_at += 1;
            place = seek(&self.names, place, *name);
            self.names.get(place) == Some(name)
        });
        self.matching += looked_at / ARGUMENTS_PER_STEP as u64;
        have_all
    }
}

/// Returns the place of the first number from a place on that is not less than another, in ascending numbers. Takes
/// time logarithmic in how far it is.
fn seek(numbers: &[u32], from: usize, wanted: u32) -> usize {
    let rest = &numbers[from..];
    let mut end = 1;
    while rest.get(end - 1).is_some_and(|number| *number < wanted) {
        end *= 2;
    }
    let begin = end / 2;
    from + begin + rest[begin..rest.len().min(end)].partition_point(|number| *number < wanted)
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
        let mut dictionary = Words::default();
        let wanted = Wanted::read(arguments.as_bytes(), &mut dictionary).expect("the mode is known");
        Headers::new(headers.as_ref_table()).matches(&wanted, Numbers::Any, &dictionary)
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
        let bindings = [table(0..1_000, "all"), table(1_000..2_000, "any"), table(999..1_001, "all")];
        let mut dictionary = Words::default();
        let bindings = bindings.map(|binding| Wanted::read(binding.as_bytes(), &mut dictionary).unwrap());
        let mut message = Headers::new(headers.as_ref_table());
        for number in 0..300 {
            let matches = message.matches(&bindings[number % 3], Numbers::Any, &dictionary);
            assert_eq!(matches, number % 3 == 0, "{number}");
        }
        let looked_at = 100 * (2 * 1_000 + 1_000 + 2) / ARGUMENTS_PER_STEP;
        let steps = message.reading + message.matching;
        let limit = headers.as_bytes().len() / BYTES_PER_STEP + 300 + looked_at;
        assert!(steps <= limit as u64, "{steps} steps of {limit}");
    }

    #[test]
    fn a_number_is_found_from_any_place_on() {
        let numbers: Vec<u32> = (0..100).map(|number| 3 * number).collect();
        for from in 0..=100 {
            for wanted in 0..302 {
                let expected = from + numbers[from..].iter().take_while(|number| **number < wanted).count();
                assert_eq!(seek(&numbers, from, wanted), expected, "{wanted} from {from}");
            }
        }
    }
}
