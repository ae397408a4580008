//! The types of exchanges of RabbitMQ's plugins: consistent hash and random.

use super::prelude::*;

/// Declares an exchange with these arguments, and checks that the broker closes the channel with `reason`.
fn refused(ch: &Channel<'_>, kind: &str, arguments: &[(&str, Value<'_>)], reason: &str) {
    let arguments = table(arguments);
    let arguments = arguments.as_ref_table();
    let declare = exchange::Declare { exchange: &ch.name("x"), kind, arguments, ..Default::default() };
    ch.expect_refusal(&declare, &format!("406 PRECONDITION_FAILED - {reason} (exchange.declare)"));
}

/// Publishes messages with these properties, and returns how many came to `a` and to `b`.
fn shares(ch: &Channel<'_>, messages: impl Iterator<Item = (String, Properties)>) -> [usize; 2] {
    ch.select_confirms();
    let mut count = 0;
    for (key, properties) in messages {
        count += 1;
        ch.publish_with("x", &key, "m", &properties);
        ch.expect_ack(count);
    }
    let shares = [ch.drain("a").len(), ch.drain("b").len()];
    assert_eq!(shares[0] + shares[1], count as usize);
    shares
}

/// Declares an exchange `x` and the queues `a` and `b`, bound with these keys.
fn bound(stage: &Stage, ch: &Channel<'_>, kind: &str, arguments: &[(&str, Value<'_>)], keys: [&str; 2]) {
    stage.delete_at_end(&["x"]);
    ch.exchange("x", kind, arguments);
    for (queue, key) in ["a", "b"].into_iter().zip(keys) {
        ch.queue(queue, &[]);
        ch.bind(queue, "x", key, &[]);
    }
}

#[test]
fn a_consistent_hash_exchange_gives_shares_by_weight() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    bound(&stage, &ch, "x-consistent-hash", &[], ["1", "3"]);
    let [a, b] = shares(&ch, (0..400).map(|number| (format!("key-{number}"), Properties::new())));
    assert!(a > 50 && b > 2 * a, "{a} and {b}");
}

#[test]
fn a_consistent_hash_exchange_sends_equal_keys_to_one_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    bound(&stage, &ch, "x-consistent-hash", &[], ["1", "1"]);
    assert!(shares(&ch, (0..20).map(|_| ("one".to_owned(), Properties::new()))).contains(&0));
}

#[test]
fn a_consistent_hash_exchange_can_hash_a_header_or_a_property() {
    for (argument, value) in [("hash-header", "user"), ("hash-property", "message_id")] {
        let stage = Stage::new();
        let peer = stage.connect();
        let ch = peer.channel(1);
        bound(&stage, &ch, "x-consistent-hash", &[(argument, value.into())], ["1", "1"]);
        let with = |id: &str| match argument {
            "hash-header" => Properties::new().with_header("user", id),
            _ => Properties::new().with_message_id(id),
        };
        let [a, b] = shares(&ch, (0..100).map(|number| ("k".to_owned(), with(&number.to_string()))));
        assert!(a > 10 && b > 10, "{argument}: {a} and {b}");
    }
}

#[test]
fn a_consistent_hash_exchange_sends_messages_without_the_header_to_one_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    bound(&stage, &ch, "x-consistent-hash", &[("hash-header", "user".into())], ["1", "1"]);
    let messages = (0..20).map(|number| (number.to_string(), Properties::new().with_header("other", number)));
    assert!(shares(&ch, messages).contains(&0));
}

#[test]
fn the_arguments_of_a_consistent_hash_exchange_are_checked() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let kind = "x-consistent-hash";
    refused(&ch, kind, &[("hash-property", "type".into())], "Unsupported property: type");
    refused(
        &ch,
        kind,
        &[("hash-property", "message_id".into()), ("hash-header", "h".into())],
        "hash-header and hash-property are mutually exclusive",
    );
}

#[test]
fn a_binding_key_of_a_consistent_hash_exchange_is_a_weight() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    bound(&stage, &ch, "x-consistent-hash", &[], ["1", "+3"]);
    let (queue, exchange) = (&ch.name("a"), &ch.name("x"));
    for (routing_key, reason) in [
        ("0", "The binding key must be greater than 0"),
        ("-1", "The binding key must be greater than 0"),
        ("many", "The binding key must be an integer: <<\"many\">>"),
        ("", "The binding key must be an integer: <<>>"),
        ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
    ] {
        let bind = queue::Bind { queue, exchange, routing_key, ..Default::default() };
        ch.expect_refusal(&bind, &format!("406 PRECONDITION_FAILED - {reason} (queue.bind)"));
    }
}

#[test]
fn a_random_exchange_picks_one_binding_whatever_the_key() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    bound(&stage, &ch, "x-random", &[], ["", "any"]);
    let [a, b] = shares(&ch, (0..100).map(|_| ("k".to_owned(), Properties::new())));
    assert!(a > 10 && b > 10, "{a} and {b}");
}
