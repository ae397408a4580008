//! Scripts of conversations: stored seeds, and random ones.

use std::collections::BTreeMap;
use std::path::Path;

use super::converse;

/// The seeds of the fuzz target, by name.
fn seeds() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        // A login, byte by byte in the script's own words.
        ("login", vec![0, 3, 0, 2, 0, 0, 3, 1, 2, 2, 2, 1, 2, 1, 2, 2, 0, 3, 2, 4, 0, 0, 5, 0, 0]),
        // A message, and one for another that is refused; then the channel again.
        ("refused", vec![1, 6, 0, 1, 3, 0, 1, 0, 0, 0, 1, 6, 0, 1, 4, 0, 1, 0, 0, 0, 1, 5, 0, 2, 4, 0, 2, 4, 0, 0]),
        // A queue that RabbitMQ names, bound and consumed from before and after.
        ("temporary", vec![1, 8, 0, 0, 0, 1, 0, 0, 9, 0, 1, 0, 1, 8, 7, 0, 0, 0, 11, 0, 0, 7, 0, 4, 0, 7, 0, 5, 0]),
        // A ticket, and newer secrets.
        ("secrets", vec![3, 2, 3, 0, 2, 3, 2, 2, 3, 1]),
        // Replies, users and further keys.
        (
            "headers",
            vec![1, 6, 0, 1, 3, 0, 1, 1, 1, 0, 0, 1, 6, 0, 1, 3, 0, 1, 3, 3, 3, 0, 0, 0, 1, 6, 0, 1, 3, 0, 1, 2],
        ),
        // Exchanges, dead letters, and both sides close the channel.
        ("closes", vec![1, 10, 0, 2, 2, 0, 1, 8, 2, 2, 3, 0, 1, 0, 0, 0, 10, 0, 2, 1, 8, 3, 5, 0, 1, 4, 0, 2, 4, 0, 1]),
        ("limits", vec![1, 17, 1, 0, 0, 17, 1, 0, 2, 17, 1, 0, 3]),
    ])
}

#[test]
fn the_stored_seeds_of_the_conversation_are_current_and_keep_the_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/gateway");
    if std::env::var_os("UPDATE_SEEDS").is_some() {
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        for (name, seed) in seeds() {
            std::fs::write(folder.join(name), seed).expect("the seed can be written");
        }
    }
    for (name, seed) in seeds() {
        converse(&seed);
        let stored = std::fs::read(folder.join(name)).unwrap_or_default();
        assert_eq!(stored, seed, "{name}: write the seeds again with UPDATE_SEEDS=1");
    }
}

#[test]
fn random_conversations_keep_the_rules() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let rounds = std::env::var("HOPMQ_CONVERSATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(3_000);
    for round in 0..rounds {
        let size = usize::from(random());
        // Mostly after a handshake, and on channel 1.
        let mut script: Vec<u8> = (0..size).map(|_| if random() % 3 == 0 { 0 } else { random() }).collect();
        if let Some(first) = script.first_mut().filter(|_| round % 4 != 0) {
            *first |= 1;
        }
        converse(&script);
    }
}
