//! Dead letters at least once: a quorum queue keeps a dead message until its dead letter is taken.

use super::prelude::*;

/// Declares a quorum queue `q` that sends dead letters at least once to the queue `dead`, by this exchange.
fn quorum(stage: &Stage, ch: &Channel<'_>, exchange: &str, arguments: &[(&str, Value<'_>)]) {
    stage.delete_at_end(&["q"]);
    let dead = &ch.name("dead");
    let letters = [
        ("x-queue-type", Value::from("quorum")),
        ("x-dead-letter-exchange", exchange.into()),
        ("x-dead-letter-routing-key", dead.into()),
        ("x-dead-letter-strategy", "at-least-once".into()),
        ("x-overflow", "reject-publish".into()),
    ];
    ch.durable_queue("q", &[&letters[..], arguments].concat());
}

/// Publishes a message to `q`, and rejects it.
fn bury(ch: &Channel<'_>, body: &str) {
    ch.publish_to("q", body);
    ch.wait_for_messages("q", 1);
    let tag = ch.get_message("q").tag();
    ch.reject(tag, false);
    ch.wait_for_messages("q", 0);
}

/// Consumes from `dead`, and checks which messages arrive, in any order, each once.
fn expect_dead(ch: &Channel<'_>, bodies: &[&str]) {
    ch.consume("dead", "dead");
    let mut found: Vec<String> = bodies
        .iter()
        .map(|_| {
            let message = ch.message();
            assert_eq!(message.header("x-first-death-queue").map(|name| ch.peer().plain(&name)), Some("'q'".into()));
            message.text()
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, bodies);
}

#[test]
fn a_dead_letter_waits_for_a_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, "", &[]);
    bury(&ch, "1");
    bury(&ch, "2");
    ch.expect_nothing("q");
    ch.queue("dead", &[]);
    expect_dead(&ch, &["1", "2"]);
}

#[test]
fn a_dead_letter_waits_for_its_exchange() {
    let stage = Stage::new();
    stage.delete_at_end(&["dlx"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &ch.name("dlx"), &[]);
    bury(&ch, "1");
    ch.exchange("dlx", "fanout", &[]);
    ch.queue("dead", &[]);
    ch.bind("dead", "dlx", "", &[]);
    expect_dead(&ch, &["1"]);
}

#[test]
fn a_dead_letter_that_a_full_queue_refuses_is_sent_again() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, "", &[]);
    ch.queue("dead", &[("x-max-length", 0.into()), ("x-overflow", "reject-publish".into())]);
    bury(&ch, "1");
    ch.expect_nothing("dead");
    let dead = &ch.name("dead");
    ch.expect_reply(&queue::Delete { queue: dead, ..Default::default() }, "queue.delete-ok 0");
    ch.queue("dead", &[]);
    expect_dead(&ch, &["1"]);
}

#[test]
fn an_expired_message_waits_as_a_dead_letter() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, "", &[("x-message-ttl", 1.into())]);
    ch.publish_to("q", "1");
    ch.wait_for_expiry(60);
    ch.expect_nothing("q");
    ch.queue("dead", &[]);
    expect_dead(&ch, &["1"]);
}

#[test]
fn a_purge_removes_no_dead_letters() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, "", &[]);
    bury(&ch, "1");
    let queue = &ch.name("q");
    ch.expect_reply(&queue::Purge { queue, nowait: false }, "queue.purge-ok 0");
    ch.queue("dead", &[]);
    expect_dead(&ch, &["1"]);
}

#[test]
fn waiting_dead_letters_count_towards_the_length_of_their_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, "", &[("x-max-length", 2.into())]);
    bury(&ch, "1");
    bury(&ch, "2");
    ch.select_confirms();
    // A quorum queue may take one more message before it refuses.
    for tag in 1..=2 {
        ch.publish_to("q", "3");
        let line = ch.next();
        assert!(line.starts_with(&format!("basic.nack {tag}")) || tag == 1 && line == "basic.ack 1", "{line}");
    }
}

#[test]
fn a_quorum_queue_drops_its_oldest_message_instead_of_refusing_to_dead_letters() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = &ch.name("dead");
    ch.queue("dead", &[]);
    let arguments = [
        ("x-queue-type", Value::from("quorum")),
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.into()),
    ];
    ch.durable_queue("q", &arguments);
    ch.select_confirms();
    for (tag, body) in [(1, "1"), (2, "2"), (3, "3")] {
        ch.publish_to("q", body);
        ch.expect(&format!("basic.ack {tag}"));
    }
    ch.wait_for_messages("dead", 2);
    assert_eq!((ch.drain("dead"), ch.drain("q")), (vec!["1".to_owned(), "2".into()], vec!["3".to_owned()]));
}

#[test]
fn a_message_that_returns_to_a_full_queue_is_kept_if_the_queue_refuses_new_ones() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())]);
    ch.publish_to("q", "1");
    let tag = ch.get_message("q").tag();
    ch.publish_to("q", "2");
    ch.wait_for_messages("q", 1);
    ch.nack(tag, false, true);
    ch.wait_for_messages("q", 2);
    assert_eq!(ch.drain("q"), ["1", "2"]);
}
