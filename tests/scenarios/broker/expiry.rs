//! Expiry of messages, by the queue's TTL and by the message's own.

use super::prelude::*;

/// Declares a queue `dead` with a consumer `c`, and a queue `q` with these arguments that dead-letters to `dead`.
fn dead_lettering(ch: &Channel<'_>, arguments: &[(&str, Value<'_>)]) {
    ch.queue("dead", &[]);
    ch.consume("dead", "c");
    let dead = &ch.name("dead");
    let letters = [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())];
    ch.queue("q", &[&letters, arguments].concat());
}

fn expiring(milliseconds: &str) -> Properties {
    Properties::new().with_expiration(milliseconds)
}

#[test]
fn messages_expire_in_order_after_the_queues_ttl() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-message-ttl", 20.into())]);
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    for (tag, body) in [(1, "1"), (2, "2"), (3, "3")] {
        ch.expect(&format!("basic.deliver c {tag} /dead: {body}"));
    }
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
}

#[test]
fn a_message_expires_after_its_own_ttl_and_loses_it() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "late", &expiring("20"));
    let late = ch.message();
    assert_eq!((late.text().as_str(), late.properties().expiration()), ("late", None));
}

#[test]
fn the_shorter_of_queue_ttl_and_message_ttl_applies() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-message-ttl", 20.into())]);
    ch.publish_to_with("q", "by the queue's", &expiring("60000"));
    ch.expect("basic.deliver c 1 /dead: by the queue's");
    let other = peer.channel(2);
    let dead = &ch.name("dead");
    let letters = [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())];
    other.queue("slow", &[&letters[..], &[("x-message-ttl", 60_000.into())]].concat());
    other.publish_to_with("slow", "by its own", &expiring("20"));
    ch.expect("basic.deliver c 2 /dead: by its own");
}

#[test]
fn an_expired_message_waits_behind_an_unexpired_one() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to("q", "stays");
    ch.publish_to_with("q", "due", &expiring("1"));
    ch.wait_for_expiry(30);
    assert_eq!(ch.counts("q"), "messages=2 consumers=0");
    assert_eq!(ch.take("q").as_deref(), Some("stays"));
    assert_eq!(ch.message().text(), "due");
}

#[test]
fn an_expired_message_is_never_delivered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to("q", "first");
    ch.publish_to_with("q", "due", &expiring("1"));
    ch.publish_to("q", "last");
    ch.wait_for_expiry(30);
    assert_eq!(ch.take("q").as_deref(), Some("first"));
    ch.send(&basic::Get { queue: &ch.name("q"), no_ack: true });
    let mut came = [ch.message().text(), ch.message().text()];
    came.sort();
    assert_eq!(came, ["due", "last"], "one by the consumer of dead letters, one by the get");
}

#[test]
fn a_ttl_of_zero_delivers_only_to_waiting_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-message-ttl", 0.into())]);
    ch.publish_to("q", "no consumer");
    ch.expect("basic.deliver c 1 /dead: no consumer");
    ch.consume("q", "waiting");
    ch.publish_to("q", "a consumer");
    ch.expect("basic.deliver waiting 2 /q: a consumer");
}

#[test]
fn an_expiration_of_zero_delivers_only_to_waiting_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "no consumer", &expiring("0"));
    ch.expect("basic.deliver c 1 /dead: no consumer");
    ch.consume("q", "waiting");
    ch.publish_to_with("q", "a consumer", &expiring("0"));
    let delivered = ch.message();
    assert_eq!((delivered.text().as_str(), delivered.properties().expiration()), ("a consumer", Some("0")));
}

#[test]
fn an_expiration_that_is_not_a_number_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for (expiration, why) in [
        ("soon", "no_integer"),
        ("", "no_integer"),
        ("1.5", "{leftover_string,\\\".5\\\"}"),
        ("10 s", "{leftover_string,\\\" s\\\"}"),
        ("-1", "{value_negative,-1}"),
    ] {
        ch.publish_to_with("q", "m", &expiring(expiration));
        ch.expect_close(&format!(
            "406 PRECONDITION_FAILED - invalid expiration '{expiration}': {} (basic.publish)",
            why.replace('\\', "")
        ));
    }
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn a_requeued_message_keeps_its_expiry_time() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[]);
    ch.publish_to_with("q", "m", &expiring("40"));
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
    ch.nack(1, false, true);
    ch.expect("basic.deliver c 2 /dead: m");
}

#[test]
fn an_unacked_message_expires_only_after_it_is_requeued() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-message-ttl", 10.into())]);
    ch.consume("q", "holds");
    ch.publish_to("q", "held");
    ch.expect("basic.deliver holds 1 /q: held");
    ch.wait_for_expiry(30);
    ch.cancel("holds");
    ch.nack(1, false, true);
    ch.expect("basic.deliver c 2 /dead: held");
}

#[test]
fn an_expired_message_without_a_dead_letter_exchange_is_dropped() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-message-ttl", 10.into())]);
    ch.publish_to("q", "m");
    ch.wait_for_expiry(60);
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn an_expiration_is_at_most_ten_years() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for expiration in ["4294967296", "315360000000", "0000315360000000"] {
        ch.publish_to_with("q", expiration, &expiring(expiration));
        assert_eq!(ch.get_message("q").text(), expiration);
    }
    for expiration in ["315360000001", "999999999999"] {
        ch.publish_to_with("q", "m", &expiring(expiration));
        ch.expect_close(&format!(
            "406 PRECONDITION_FAILED - invalid expiration '{expiration}': {{value_too_large,{expiration}}} \
             (basic.publish)"
        ));
    }
}
