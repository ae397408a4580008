//! Random bytes, random operations, and transcripts with random damage. A failure prints the shortest failing input.

mod common;

use common::robust::{
    busy_client, client_bytes, operations, outcome, server_bytes, transcript_to_client, transcript_to_open_server,
};
use common::{Script, robust};
use proptest::collection::vec;
use proptest::prelude::*;

/// A way to damage a transcript.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Cut(usize),
    Drop(usize),
    Repeat(usize),
    Swap(usize, usize),
    Insert(usize, Vec<u8>),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let mutation = prop_oneof![
        4 => (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => any::<usize>().prop_map(Mutation::Cut),
        2 => any::<usize>().prop_map(Mutation::Drop),
        2 => any::<usize>().prop_map(Mutation::Repeat),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        1 => (any::<usize>(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
    ];
    vec(mutation, 0..4)
}

fn mutated(mut frames: Vec<Vec<u8>>, mutations: &[Mutation]) -> Vec<u8> {
    let count = frames.len();
    let mut cut = usize::MAX;
    let mut flips = Vec::new();
    for mutation in mutations {
        match mutation {
            Mutation::Flip(at, bit) => flips.push((*at, *bit)),
            Mutation::Cut(at) => cut = *at,
            Mutation::Drop(at) => frames[at % count].clear(),
            Mutation::Repeat(at) => frames[at % count] = frames[at % count].repeat(2),
            Mutation::Swap(a, b) => frames.swap(a % count, b % count),
            Mutation::Insert(at, bytes) => frames[at % count].splice(0..0, bytes.iter().copied()).for_each(drop),
        }
    }
    let mut bytes = frames.concat();
    for (at, bit) in flips {
        let size = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at % size) {
            *byte ^= 1 << bit;
        }
    }
    if cut != usize::MAX {
        bytes.truncate(cut % (bytes.len() + 1));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_survives_random_bytes(bytes in vec(any::<u8>(), 0..600)) {
        client_bytes(&bytes);
    }

    #[test]
    fn a_server_survives_random_bytes(bytes in vec(any::<u8>(), 0..600)) {
        server_bytes(&bytes);
    }

    #[test]
    fn both_ends_survive_random_methods(
        methods in vec((0..4_u16, 0..12_u16, 1..14_u16, vec(0..4_u8, 0..24)), 1..12), stage in any::<u8>(),
    ) {
        let mut input = vec![stage | 4];
        for (channel, class, method, arguments) in methods {
            input.extend([1, channel as u8, arguments.len() as u8 + 4, 0, class as u8 * 10, 0, method as u8 * 10]);
            input.extend(arguments);
        }
        client_bytes(&input);
        server_bytes(&input);
    }

    #[test]
    fn both_ends_agree_after_any_operations(input in vec(any::<u8>(), 0..400)) {
        operations(&input);
    }

    #[test]
    fn a_client_survives_a_damaged_transcript(mutations in mutations(), step in 1..200_u64, seed: u64) {
        let bytes = mutated(transcript_to_client(), &mutations);
        let whole = outcome(busy_client(), &bytes, u64::MAX, 0);
        prop_assert_eq!(outcome(busy_client(), &bytes, step, seed), whole);
    }

    #[test]
    fn a_client_survives_a_damaged_handshake(mutations in mutations(), step in 1..50_u64, seed: u64) {
        let bytes = mutated(robust::transcript_to_new_client(), &mutations);
        let whole = outcome(Script::client(), &bytes, u64::MAX, 0);
        prop_assert_eq!(outcome(Script::client(), &bytes, step, seed), whole);
    }

    #[test]
    fn a_server_survives_a_damaged_handshake(mutations in mutations(), step in 1..50_u64, seed: u64) {
        let bytes = mutated(robust::transcript_to_server(), &mutations);
        let whole = outcome(Script::server(), &bytes, u64::MAX, 0);
        prop_assert_eq!(outcome(Script::server(), &bytes, step, seed), whole);
    }

    #[test]
    fn a_server_survives_a_damaged_transcript(mutations in mutations(), step in 1..200_u64, seed: u64) {
        let bytes = mutated(transcript_to_open_server(), &mutations);
        let whole = outcome(Script::server_channel(), &bytes, u64::MAX, 0);
        prop_assert_eq!(outcome(Script::server_channel(), &bytes, step, seed), whole);
    }
}

#[test]
fn the_undamaged_transcripts_cause_no_errors() {
    let (events, code, _) = outcome(busy_client(), &transcript_to_client().concat(), u64::MAX, 0);
    assert_eq!((code, events.len()), (None, 14), "{events:#?}");
    let (events, code, _) = outcome(Script::server_channel(), &transcript_to_open_server().concat(), u64::MAX, 0);
    assert_eq!((code, events.len()), (None, 8), "{events:#?}");
}
