//! Topic exchanges: how patterns match routing keys.

use super::prelude::*;

/// Returns those of `keys` that reach a queue bound with `patterns`.
fn matched(patterns: &[&str], keys: &[&str]) -> Vec<String> {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "topic", &[]);
    ch.queue("q", &[]);
    for pattern in patterns {
        ch.bind("q", "x", pattern, &[]);
    }
    for key in keys {
        ch.publish("x", key, &format!("<{key}>"));
    }
    ch.drain("q")
}

#[test]
fn a_pattern_without_wildcards_matches_only_the_same_key() {
    assert_eq!(matched(&["a.b"], &["a.b", "a", "a.b.c", "a.B", "a.b."]), ["<a.b>"]);
}

#[test]
fn a_star_matches_one_word_that_may_be_empty_in_a_key_that_is_not() {
    assert_eq!(matched(&["*"], &["", "a", "a.b", "."]), ["<a>"]);
    assert_eq!(matched(&["a.*"], &["a", "a.", "a.b", "a.b.c", "a.."]), ["<a.>", "<a.b>"]);
    assert_eq!(matched(&["*.*"], &["a", ".", "a.", ".a", "a.b", "a.b.c"]), ["<.>", "<a.>", "<.a>", "<a.b>"]);
}

#[test]
fn a_hash_matches_any_number_of_words() {
    let keys = ["", "a", "a.b", "a.b.c", ".", "b"];
    assert_eq!(matched(&["#"], &keys), ["<>", "<a>", "<a.b>", "<a.b.c>", "<.>", "<b>"]);
    assert_eq!(matched(&["a.#"], &["", "a", "a.", "a.b", "a.b.c", "ab", "b.a"]), ["<a>", "<a.>", "<a.b>", "<a.b.c>"]);
    assert_eq!(matched(&["#.a"], &["", "a", ".a", "b.a", "c.b.a", "ba", "a.b"]), ["<a>", "<.a>", "<b.a>", "<c.b.a>"]);
}

#[test]
fn a_hash_in_the_middle_matches_any_number_of_words() {
    let keys = ["a.z", "a.b.z", "a.b.c.z", "a", "z", "a.b", "az", "a..z"];
    assert_eq!(matched(&["a.#.z"], &keys), ["<a.z>", "<a.b.z>", "<a.b.c.z>", "<a..z>"]);
    let keys = ["a", "a.a", "a.b.a", "b.a.b", "a.a.a", "b", "a.b"];
    assert_eq!(matched(&["#.a.#"], &keys), ["<a>", "<a.a>", "<a.b.a>", "<b.a.b>", "<a.a.a>", "<a.b>"]);
}

#[test]
fn a_hash_next_to_a_star_matches_at_least_one_word() {
    let keys = ["", "a", "a.b", "a.b.c"];
    assert_eq!(matched(&["#.*"], &keys), ["<a>", "<a.b>", "<a.b.c>"]);
    assert_eq!(matched(&["*.#"], &keys), ["<a>", "<a.b>", "<a.b.c>"]);
    assert_eq!(matched(&["*.#.*"], &keys), ["<a.b>", "<a.b.c>"]);
    assert_eq!(matched(&["#.#"], &keys), ["<>", "<a>", "<a.b>", "<a.b.c>"]);
}

#[test]
fn an_empty_pattern_matches_only_the_empty_key() {
    assert_eq!(matched(&[""], &["", "a", "."]), ["<>"]);
    assert_eq!(matched(&["."], &["", "a", ".", ".."]), ["<.>"]);
    assert_eq!(matched(&["a..b"], &["a..b", "a.b", "a.c.b"]), ["<a..b>"]);
}

#[test]
fn wildcards_are_whole_words() {
    let keys = ["ab", "a*", "a#", "b", "*b"];
    assert_eq!(matched(&["a*"], &keys), ["<a*>"]);
    assert_eq!(matched(&["a#"], &keys), ["<a#>"]);
    assert_eq!(matched(&["*b"], &keys), ["<*b>"]);
}

#[test]
fn wildcards_in_a_key_are_ordinary_words() {
    assert_eq!(matched(&["a.b"], &["a.*", "a.#", "#", "*.*"]), Vec::<String>::new());
    assert_eq!(matched(&["a.*"], &["a.*", "a.#", "#"]), ["<a.*>", "<a.#>"]);
}

#[test]
fn overlapping_patterns_deliver_once() {
    assert_eq!(matched(&["a.*", "a.#", "#", "a.b", "*.b"], &["a.b", "a"]), ["<a.b>", "<a>"]);
}

#[test]
fn many_hashes_match_in_reasonable_time() {
    let key = ["a"; 20].join(".");
    assert_eq!(matched(&["#.a.#.a.#.a.#"], &[&key, "a.b.a", "a.b.a.a"]), [format!("<{key}>"), "<a.b.a.a>".into()]);
}

#[test]
fn unbinding_a_pattern_leaves_the_others_bound() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "topic", &[]);
    ch.queue("q", &[]);
    for pattern in ["a.b.c", "a.b", "a.#", "a.*.c"] {
        ch.bind("q", "x", pattern, &[]);
    }
    ch.unbind("q", "x", "a.#", &[]);
    ch.unbind("q", "x", "a.b", &[]);
    for key in ["a.b.c", "a.b", "a", "a.x.c", "a.x"] {
        ch.publish("x", key, key);
    }
    assert_eq!(ch.drain("q"), ["a.b.c", "a.x.c"]);
}
