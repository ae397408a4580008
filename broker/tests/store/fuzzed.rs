//! The fuzz target `store` with random inputs, and its seed inputs in `fuzz/seeds`. `UPDATE_SEEDS=1 cargo test -p
//! hopmq-broker --test store fuzzed` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::model::Random;
use crate::{mutations, seeds};

/// A program that fills several log files, moves messages to segments and settles some.
fn program(closed: bool) -> Vec<u8> {
    let mut operations: Vec<[u8; 2]> = vec![[4, 0], [4, 1], [4, 2], [5, 1]];
    for nth in 0..14 {
        operations.extend([[0, 2 + nth * 2], [1, 14], [6, 0]]);
        if nth % 4 == 3 {
            operations.extend([[7, 0], [3, 9 + nth % 3]]);
        }
    }
    let mut input = vec![u8::from(closed), operations.len() as u8];
    input.extend(operations.concat());
    input
}

fn inputs() -> BTreeMap<&'static str, Vec<u8>> {
    let with = |closed, change: &[u8]| [program(closed), change.to_vec()].concat();
    BTreeMap::from([
        ("whole", program(false)),
        ("closed", program(true)),
        ("removed", with(true, &[0, 3, 0, 0, 0])),
        ("cut", with(true, &[1, 3, 0x44, 2, 0])),
        ("wiped", with(false, &[2, 4, 0x20, 3, 0])),
        ("inverted", with(false, &[3, 5, 0x10, 2, 9])),
        ("replaced", with(true, &[4, 4, 0, 0, 5])),
        ("flipped", with(false, &[5, 6, 0x30, 2, 4])),
    ])
}

#[test]
fn the_seeds_of_the_fuzz_target_are_stored_and_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/store");
    let inputs = inputs();
    if std::env::var_os("UPDATE_SEEDS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        inputs.iter().for_each(|(name, input)| fs::write(folder.join(name), input).unwrap());
    }
    for (name, input) in inputs {
        mutations::store(&input);
        let stored = fs::read(folder.join(name)).ok();
        assert_eq!(stored, Some(input), "{name}: write it with UPDATE_SEEDS=1");
    }
}

#[test]
fn a_changed_folder_is_refused_or_has_a_state_that_it_was_in() {
    seeds("changed folders", |seed| {
        let mut random = Random(seed);
        let mut input = match random.below(3) {
            0 => program(random.below(2) == 0),
            _ => {
                let count = random.below(64);
                let mut input = vec![random.next() as u8, count as u8];
                input.extend((0..count * 2).map(|_| random.next() as u8));
                input
            }
        };
        let changes = random.below(4) * 5;
        input.extend((0..changes).map(|_| random.next() as u8));
        mutations::store(&input);
        1
    });
}
