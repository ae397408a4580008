//! The import of any definitions: the seeds of the fuzz target, and changed ones.

mod bodies;

use std::fs;
use std::path::Path;

/// A text of JSON, or a piece of one, that takes the place of another.
const PIECES: [&str; 24] = [
    "null",
    "true",
    "-1",
    "1e300",
    "18446744073709551616",
    "\"\"",
    "[]",
    "{}",
    "\"/\"",
    "\"guest\"",
    "\"stream\"",
    "\"x-queue-type\"",
    "\"quorum\"",
    "\"amq.gen-x\"",
    "\"argon2\"",
    "\"topic\"",
    "\"(\"",
    "\"exchange\"",
    "[[\"a\",1]]",
    "{\"a\":[1,[null]]}",
    "\"\\u0000\"",
    "1.5",
    "\"classic\"",
    "\"{username}\"",
];

/// Returns where each value or name in a text of JSON begins and ends.
fn atoms(json: &str) -> Vec<(usize, usize)> {
    let mut atoms = Vec::new();
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || b"-.+".contains(&bytes[at])) {
                    at += 1;
                }
            }
            _ => {
                at += 1;
                continue;
            }
        }
        atoms.push((start, at.min(bytes.len())));
    }
    atoms
}

fn seeds() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/definitions");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "{paths:?}");
    paths.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_seeds_hold() {
    seeds().iter().for_each(|(_, json)| bodies::definitions(json.as_bytes()));
}

#[test]
fn a_changed_value_is_refused_without_a_change_or_taken_as_it_is_exported() {
    let mut changed = 0;
    for (_, json) in seeds() {
        let atoms = atoms(&json);
        for (number, (start, end)) in atoms.iter().enumerate().step_by(2) {
            // A piece, or another value of the same text.
            let (from, to) = atoms[(number * 31 + 17) % atoms.len()];
            let piece = if number % 3 == 0 { &json[from..to] } else { PIECES[number * 7 % PIECES.len()] };
            bodies::definitions([&json[..*start], piece, &json[*end..]].concat().as_bytes());
            changed += 1;
        }
    }
    assert!(changed > 300, "{changed}");
}

#[test]
fn a_text_that_ends_early_is_refused() {
    for (_, json) in seeds() {
        (0..json.len()).step_by(37).for_each(|end| bodies::definitions(&json.as_bytes()[..end]));
    }
}

#[test]
fn deep_or_long_definitions_cost_what_they_are_long() {
    for json in ["[".repeat(200_000), format!(r#"{{"queues":{}"#, r#"[{"arguments":"#.repeat(50_000))] {
        bodies::definitions(json.as_bytes());
    }
    let bindings = r#"{"source":"amq.topic","vhost":"/","destination":"q","destination_type":"queue","routing_key":"#;
    let bindings: Vec<String> = (0..2_000).map(|number| format!("{bindings}\"k{number}\"}}")).collect();
    let queue = r#"{"name":"q","vhost":"/","durable":true,"auto_delete":false}"#;
    bodies::definitions(format!(r#"{{"queues":[{queue}],"bindings":[{}]}}"#, bindings.join(",")).as_bytes());
}
