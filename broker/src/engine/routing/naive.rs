//! Naive matching, and checks of the fast kinds against it for inputs of any bytes, which the fuzz targets run too.

use std::collections::BTreeSet;

use hopmq_proto::{FieldTable, Value};

use super::headers::{Headers, Numbers, Wanted, same};
use super::topic::{Patterns, Walk};
use super::words::{Keys, Words};

/// The specification's rules (section 3.1.3.3), written as simply as possible.
fn topic(pattern: &[u8], key: &[u8]) -> bool {
    let words = |text: &[u8]| match text {
        b"" => Vec::new(),
        text => text.split(|byte| *byte == b'.').map(<[u8]>::to_vec).collect::<Vec<_>>(),
    };
    let key = words(key);
    // Whether the words so far match the key's first words, for each number of these.
    let mut fits = vec![false; key.len() + 1];
    fits[0] = true;
    for word in words(pattern) {
        let before = fits.clone();
        fits = match &word[..] {
            b"#" => (0..=key.len()).map(|count| before[..=count].contains(&true)).collect(),
            _ => (0..=key.len())
                .map(|count| count > 0 && before[count - 1] && (word == b"*" || word == key[count - 1]))
                .collect(),
        };
    }
    fits[key.len()]
}

/// Reads lines: `=` and a key of the message, `-` and a pattern to remove, anything else and a pattern to add.
/// Checks that the message finds all patterns that match it, in a number of steps linear in the patterns.
pub(crate) fn check_topic(input: &[u8]) {
    let mut dictionary = Words::default();
    let mut patterns = Patterns::default();
    let mut all: Vec<(&[u8], usize)> = Vec::new();
    let mut keys = Vec::new();
    for (number, line) in input.split(|byte| *byte == b'\n').enumerate() {
        match line.split_first() {
            Some((b'=', key)) => keys.push(key),
            Some((b'-', pattern)) => {
                if let Some(index) = all.iter().position(|(other, _)| *other == pattern) {
                    let (pattern, number) = all.remove(index);
                    patterns.remove(pattern, number, &mut dictionary);
                }
            }
            Some((_, pattern)) => {
                patterns.insert(pattern, number, &mut dictionary);
                all.push((pattern, number));
            }
            None => {}
        }
    }
    let mut read = Keys::default();
    read.read(&keys, &dictionary);
    let mut found = BTreeSet::new();
    let steps = patterns.matches(&mut read, &mut Walk::default(), |number| {
        found.insert(number);
    });
    let expected = all.iter().filter(|(pattern, _)| keys.iter().any(|key| topic(pattern, key)));
    assert_eq!(found, expected.map(|(_, number)| *number).collect());
    let nodes: usize = all.iter().map(|(pattern, _)| pattern.len() + 2).sum::<usize>() + 1;
    // A set is as wide as a 64th of the places, or 5; each key has one more than words.
    let widths: usize = keys.iter().map(|key| key.len() + 2).sum::<usize>() / 32 + 10;
    assert!(steps <= (3 * nodes * widths) as u64, "{steps} steps for {nodes} nodes and {widths} widths");
    for (pattern, number) in all {
        patterns.remove(pattern, number, &mut dictionary);
    }
    assert!(patterns.is_empty() && dictionary.is_empty(), "words or nodes are left over");
}

/// Whether headers match the arguments of a binding, searching the table for each.
fn headers(arguments: &FieldTable, headers: &FieldTable, numbers: Numbers) -> bool {
    let (is_all, with_x) = match arguments.get("x-match") {
        None | Some(Value::Str(b"all")) => (true, false),
        Some(Value::Str(b"any")) => (false, false),
        Some(Value::Str(b"all-with-x")) => (true, true),
        Some(Value::Str(b"any-with-x")) => (false, true),
        Some(_) => return false,
    };
    let fits = arguments.iter_bytes().filter(|(name, _)| *name != b"x-match" && (with_x || !name.starts_with(b"x-")));
    let mut fits = fits.map(|(name, wanted)| {
        let found = headers.iter_bytes().find(|(other, _)| *other == name);
        found.is_some_and(|(_, value)| same(wanted, value, numbers))
    });
    if is_all { fits.all(|fits| fits) } else { fits.any(|fits| fits) }
}

/// Reads pairs of bytes, a name and a value: each pair is a header, or an argument of a binding; the name 255 begins
/// a binding whose mode the value selects. Checks that each binding matches as in naive matching, in a number of steps
/// linear in the bindings and headers.
pub(crate) fn check_headers(input: &[u8]) {
    let mut message = FieldTable::new();
    let mut bindings: Vec<FieldTable> = Vec::new();
    for pair in input.chunks_exact(2) {
        let name = match pair[0] % 16 {
            number @ 0..4 => format!("x-{number}"),
            number => number.to_string(),
        };
        let value = match pair[1] % 8 {
            0 => Value::Void,
            1 => Value::Bool(pair[1] > 100),
            2 => Value::I8((pair[1] / 32) as i8),
            3 => Value::I64(i64::from(pair[1] / 32)),
            4 => Value::F64(f64::from(pair[1] / 32)),
            5 => Value::Timestamp(u64::from(pair[1] / 32)),
            6 => Value::Str(&pair[1..]),
            _ => Value::Bytes(&pair[1..]),
        };
        let entry = FieldTable::new().with(&name, value);
        match (pair[0], bindings.last_mut()) {
            (255, _) => {
                let mode =
                    ["all", "any", "all-with-x", "any-with-x", "", "all", "any", "all"][usize::from(pair[1] % 8)];
                bindings.push(FieldTable::new().with("x-match", mode));
            }
            (128.., Some(binding)) => *binding = joined(binding, &entry),
            _ => message = joined(&message, &entry),
        }
    }
    let mut dictionary = Words::default();
    let all: Vec<_> = bindings.iter().map(|binding| Wanted::read(binding.as_bytes(), &mut dictionary)).collect();
    for numbers in [Numbers::Any, Numbers::OfAKind] {
        let mut fast = Headers::new(message.as_ref_table());
        for (binding, wanted) in bindings.iter().zip(&all) {
            let expected = headers(binding, &message, numbers);
            let found = wanted.as_ref().is_some_and(|wanted| fast.matches(wanted, numbers, &dictionary));
            assert_eq!(found, expected, "{binding:?} {message:?}");
        }
        let size: usize = bindings.iter().map(|binding| binding.as_bytes().len()).sum();
        let limit = (message.as_bytes().len() + size) / 16 + bindings.len();
        let steps = fast.reading + fast.matching;
        assert!(steps <= limit as u64, "{steps} steps, of {limit}");
    }
    bindings.iter().for_each(|binding| Wanted::forget(binding.as_bytes(), &mut dictionary));
    assert!(dictionary.is_empty(), "names are left over");
}

/// Returns a table with the entries of both, where names may be repeated.
fn joined(table: &FieldTable, more: &FieldTable) -> FieldTable {
    let bytes = [table.as_bytes(), more.as_bytes()].concat();
    FieldTable::parse(&bytes[..]).expect("it is made of two tables").to_owned_table()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs the stored seeds of a fuzz target. Returns how many there are.
    fn run_seeds(target: &str, check: fn(&[u8])) -> usize {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
        let seeds = std::fs::read_dir(folder).expect("the target has seeds");
        seeds.map(|seed| check(&std::fs::read(seed.unwrap().path()).expect("the seed can be read"))).count()
    }

    #[test]
    fn the_seeds_of_the_fuzz_targets_pass() {
        assert!(run_seeds("topic", check_topic) > 0 && run_seeds("headers", check_headers) > 0);
    }

    #[test]
    fn naive_topics_follow_the_rules_of_the_specification() {
        for (pattern, matching, other) in [
            ("a.b", "a.b", "a.b.c"),
            ("*", "a", ""),
            ("*.*", ".", "a"),
            ("#", "", "\0"),
            ("a.#", "a", "b"),
            ("#.b.#", "a.b.c.d", "a.c"),
            ("#.*", "a.b", ""),
        ] {
            assert!(topic(pattern.as_bytes(), matching.as_bytes()), "{pattern} {matching}");
            assert!(pattern == "#" || !topic(pattern.as_bytes(), other.as_bytes()), "{pattern} {other}");
        }
    }
}
