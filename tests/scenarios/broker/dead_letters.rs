//! Dead letters: where they are routed, and which headers they get.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Declares a queue `dead` with a consumer `c`, and a queue `q` with these arguments that dead-letters to `dead`.
fn dead_lettering(ch: &Channel<'_>, arguments: &[(&str, Value<'_>)]) {
    ch.queue("dead", &[]);
    ch.consume("dead", "c");
    let dead = &ch.name("dead");
    let letters = [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())];
    ch.queue("q", &[&letters, arguments].concat());
}

/// Returns the deaths of a message, with the scenario's own names.
fn deaths(ch: &Channel<'_>, message: &Message) -> Vec<String> {
    message.deaths().iter().map(|death| ch.peer().plain(death)).collect()
}

/// Returns a death in the format of `deaths`.
fn death(count: u32, reason: &str, queue: &str, exchange: &str, keys: &str) -> String {
    format!(
        "count: l {count}, exchange: '{exchange}', queue: '{queue}', reason: '{reason}', routing-keys: [{keys}], \
         time: now"
    )
}

/// Returns the value of a message's header, with the scenario's own names.
fn header(ch: &Channel<'_>, message: &Message, name: &str) -> String {
    ch.peer().plain(&message.header(name).unwrap_or_else(|| "nothing".to_owned()))
}

#[test]
fn a_rejected_message_records_its_death() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_header("kept", "yes").with_message_id("7"));
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
    ch.reject(1, false);
    let dead = ch.message();
    assert_eq!(deaths(&ch, &dead), [death(1, "rejected", "q", "", "'q'")]);
    assert_eq!(header(&ch, &dead, "x-first-death-reason"), "'rejected'");
    assert_eq!(header(&ch, &dead, "x-first-death-queue"), "'q'");
    assert_eq!(header(&ch, &dead, "x-first-death-exchange"), "''");
    assert_eq!((header(&ch, &dead, "kept").as_str(), dead.properties().message_id()), ("'yes'", Some("7")));
    assert!(!dead.redelivered());
}

#[test]
fn an_expired_message_records_its_original_expiration() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_expiration("5"));
    let dead = ch.message();
    assert_eq!(
        deaths(&ch, &dead),
        ["count: l 1, exchange: '', original-expiration: '5', queue: 'q', reason: 'expired', routing-keys: ['q'], \
          time: now"]
    );
    assert_eq!(dead.properties().expiration(), None);
}

#[test]
fn a_rejected_message_loses_its_expiration() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_expiration("60000"));
    ch.get_message("q");
    ch.reject(1, false);
    let dead = ch.message();
    assert_eq!(dead.properties().expiration(), None);
    assert!(header(&ch, &dead, "x-death").contains("original-expiration: '60000'"));
}

#[test]
fn a_message_dropped_from_a_full_queue_records_maxlen() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-max-length", 1.into())]);
    ch.publish_to("q", "1");
    ch.publish_to("q", "2");
    let dead = ch.message();
    assert_eq!(deaths(&ch, &dead), [death(1, "maxlen", "q", "", "'q'")]);
}

#[test]
fn every_reject_and_nack_is_recorded_as_rejected() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    for _ in 0..3 {
        ch.get_message("q");
    }
    ch.nack(2, true, false);
    ch.reject(3, false);
    for body in ["1", "2", "3"] {
        let dead = ch.message();
        let reason = header(&ch, &dead, "x-first-death-reason");
        assert_eq!((dead.text().as_str(), reason.as_str()), (body, "'rejected'"));
    }
}

#[test]
fn a_dead_letter_keeps_its_original_routing_key() {
    let stage = Stage::new();
    stage.delete_at_end(&["x", "dlx"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "topic", &[]);
    ch.exchange("dlx", "topic", &[]);
    ch.queue("q", &[("x-dead-letter-exchange", (&ch.name("dlx")).into())]);
    ch.bind("q", "x", "#", &[]);
    ch.queue("dead", &[]);
    ch.bind("dead", "dlx", "a.*", &[]);
    ch.consume("dead", "c");
    for key in ["b.a", "a.b"] {
        ch.publish("x", key, key);
        let tag = ch.get_message("q").tag();
        ch.reject(tag, false);
    }
    let dead = ch.message();
    assert_eq!((dead.text().as_str(), dead.tag()), ("a.b", 3));
    assert_eq!(deaths(&ch, &dead), [death(1, "rejected", "q", "x", "'a.b'")]);
}

#[test]
fn a_repeated_death_is_counted_and_a_new_kind_comes_first() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("dead", &[]);
    let (dead, q) = (&ch.name("dead"), &ch.name("q"));
    ch.queue("q", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())]);
    ch.queue(
        "back",
        &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", q.into()), ("x-message-ttl", 1.into())],
    );
    ch.consume("q", "q");
    ch.consume("dead", "dead");
    ch.publish_to("q", "m");
    for round in 1..=3 {
        let tag = ch.message().tag();
        ch.reject(tag, false);
        let dead = ch.message();
        ch.ack(dead.tag(), false);
        // Since 4.0 the broker ignores the deaths in a message that a client publishes.
        let earlier = if release() >= Release::V4_0 { 0 } else { round - 1 };
        let mut expected = vec![death(earlier + 1, "rejected", "q", "", "'q'")];
        if round > 1 {
            expected.push(death(earlier.max(1), "expired", "back", "", "'back'"));
        }
        assert_eq!(deaths(&ch, &dead), expected);
        let first = if earlier == 0 && round > 1 { "'expired'" } else { "'rejected'" };
        assert_eq!(header(&ch, &dead, "x-first-death-reason"), first);
        let headers = dead.properties().headers().expect("the headers can be decoded").to_owned_table();
        ch.publish_to_with("back", "m", &Properties::new().with_headers(&headers));
    }
}

#[test]
fn a_message_that_the_broker_returns_again_and_again_counts_its_deaths() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let (q, back) = (&ch.name("q"), &ch.name("back"));
    ch.queue("q", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", back.into())]);
    ch.queue(
        "back",
        &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", q.into()), ("x-message-ttl", 1.into())],
    );
    ch.consume("q", "q");
    ch.publish_to("q", "m");
    for round in 0..4 {
        let message = ch.message();
        if round > 0 {
            let both = [death(round, "expired", "back", "", "'back'"), death(round, "rejected", "q", "", "'q'")];
            assert_eq!(deaths(&ch, &message), both);
            assert_eq!(header(&ch, &message, "x-first-death-reason"), "'rejected'");
        }
        ch.reject(message.tag(), false);
    }
}

#[test]
fn each_death_records_its_own_exchange_and_routing_keys() {
    let stage = Stage::new();
    stage.delete_at_end(&["dlx"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("dlx", "fanout", &[]);
    let (dlx, last) = (&ch.name("dlx"), &ch.name("last"));
    ch.queue("first", &[("x-dead-letter-exchange", dlx.into()), ("x-dead-letter-routing-key", "dead".into())]);
    ch.queue("second", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", last.into())]);
    ch.bind("second", "dlx", "", &[]);
    ch.queue("last", &[]);
    ch.consume("first", "first");
    ch.consume("second", "second");
    ch.consume("last", "last");
    ch.publish_to("first", "m");
    ch.expect("basic.deliver first 1 /first: m");
    ch.reject(1, false);
    ch.expect("basic.deliver second 2 dlx/dead: m");
    ch.nack(2, false, false);
    let dead = ch.message();
    let last = [death(1, "rejected", "second", "dlx", "'dead'"), death(1, "rejected", "first", "", "'first'")];
    assert_eq!(deaths(&ch, &dead), last);
    assert_eq!(header(&ch, &dead, "x-first-death-queue"), "'first'");
    assert_eq!(header(&ch, &dead, "x-first-death-exchange"), "''");
}

#[test]
fn a_death_records_cc_among_the_routing_keys() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    let mut cc = FieldArray::new();
    cc.push("elsewhere");
    ch.publish_to_with("q", "m", &Properties::new().with_header("CC", &cc));
    ch.get_message("q");
    ch.reject(1, false);
    let dead = ch.message();
    assert_eq!(deaths(&ch, &dead), [death(1, "rejected", "q", "", "'q', 'elsewhere'")]);
    let kept = if release() >= Release::V4_0 { "['elsewhere']" } else { "nothing" };
    assert_eq!(header(&ch, &dead, "CC"), kept, "until 3.13 a new key replaced all keys");
}

/// Rejects a message whose header `copies` has the key that its dead-letter exchange routes, and returns the dead
/// letter.
fn dead_letter_of_a_copy(ch: &Channel<'_>, copies: &str) -> Message {
    ch.exchange("dlx", "direct", &[]);
    ch.queue("q", &[("x-dead-letter-exchange", (&ch.name("dlx")).into())]);
    ch.queue("dead", &[]);
    ch.bind("dead", "dlx", "elsewhere", &[]);
    ch.consume("dead", "c");
    let mut keys = FieldArray::new();
    keys.push("elsewhere");
    ch.publish_to_with("q", "m", &Properties::new().with_header(copies, &keys));
    ch.get_message("q");
    ch.reject(1, false);
    ch.message()
}

#[test]
fn a_dead_letter_with_its_original_key_keeps_cc() {
    let stage = Stage::new();
    stage.delete_at_end(&["dlx"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = dead_letter_of_a_copy(&ch, "CC");
    assert_eq!((dead.text().as_str(), header(&ch, &dead, "CC").as_str()), ("m", "['elsewhere']"));
}

#[test]
fn a_dead_letter_with_its_original_key_keeps_its_bcc_routes() {
    let stage = Stage::new();
    stage.delete_at_end(&["dlx"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = dead_letter_of_a_copy(&ch, "BCC");
    assert_eq!((dead.text().as_str(), header(&ch, &dead, "BCC").as_str()), ("m", "nothing"));
    assert_eq!(deaths(&ch, &dead), [death(1, "rejected", "q", "", "'q'")]);
}

#[test]
fn a_dead_letter_cycle_without_a_rejection_ends() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let (a, b) = (&ch.name("a"), &ch.name("b"));
    let leads_to = |queue| {
        [
            ("x-message-ttl", 5.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", Value::from(queue)),
        ]
    };
    ch.queue("a", &leads_to(b));
    ch.queue("b", &leads_to(a));
    ch.publish_to("a", "m");
    ch.wait_for_expiry(60);
    ch.expect_nothing("a");
    assert_eq!(
        (ch.counts("a").as_str(), ch.counts("b").as_str()),
        ("messages=0 consumers=0", "messages=0 consumers=0")
    );
}

#[test]
fn a_dead_letter_cycle_with_a_rejection_continues() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let (q, wait) = (&ch.name("q"), &ch.name("wait"));
    ch.queue("q", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", wait.into())]);
    ch.queue(
        "wait",
        &[("x-message-ttl", 1.into()), ("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", q.into())],
    );
    ch.consume("q", "c");
    ch.publish_to("q", "m");
    for round in 0..4 {
        let message = ch.message();
        if round > 0 {
            let expected = [death(round, "expired", "wait", "", "'wait'"), death(round, "rejected", "q", "", "'q'")];
            assert_eq!(deaths(&ch, &message), expected);
        }
        ch.reject(message.tag(), false);
    }
}

#[test]
fn a_message_that_would_expire_back_into_its_queue_is_dropped() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    let letters = [("x-dead-letter-exchange", Value::from("")), ("x-dead-letter-routing-key", q.into())];
    ch.queue("q", &[&letters[..], &[("x-message-ttl", 5.into())]].concat());
    ch.publish_to("q", "m");
    ch.wait_for_expiry(60);
    ch.expect_nothing("q");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn a_rejected_message_may_return_to_its_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    ch.queue("q", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", q.into())]);
    ch.consume("q", "c");
    ch.publish_to("q", "m");
    for _ in 0..3 {
        let tag = ch.message().tag();
        ch.reject(tag, false);
    }
    assert_eq!(ch.message().header("x-death").map(|deaths| deaths.contains("count: l 3")), Some(true));
}

#[test]
fn a_dead_letter_for_a_missing_exchange_is_dropped() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-dead-letter-exchange", (&ch.name("missing")).into())]);
    ch.publish_to("q", "m");
    ch.get_message("q");
    ch.reject(1, false);
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn deleting_or_purging_a_queue_dead_letters_nothing() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    let queue = &ch.name("q");
    ch.publish_to("q", "purged");
    ch.expect_reply(&queue::Purge { queue, nowait: false }, "queue.purge-ok 1");
    ch.publish_to("q", "deleted");
    ch.expect_reply(&queue::Delete { queue, ..Default::default() }, "queue.delete-ok 1");
    ch.expect_nothing("dead");
}

#[test]
fn an_invalid_x_death_header_of_the_publisher_is_replaced() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_header("x-death", "a string"));
    ch.get_message("q");
    ch.reject(1, false);
    let dead = ch.message();
    assert_eq!(deaths(&ch, &dead), [death(1, "rejected", "q", "", "'q'")]);
}

#[test]
fn a_dead_letter_keeps_its_delivery_mode() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_persistent().with_priority(3).with_kind("k"));
    ch.get_message("q");
    ch.reject(1, false);
    let dead = ch.message();
    let properties = dead.properties();
    assert_eq!((properties.delivery_mode(), properties.priority(), properties.kind()), (Some(2), Some(3), Some("k")));
}
