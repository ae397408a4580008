//! Times to live: of queues' messages, and of messages' own.

use super::prelude::*;

/// A queue `dead` with a consumer `c`, and a queue `q` whose dead letters go there, with these arguments.
fn mortal(ch: &Channel<'_>, arguments: &[(&str, Value<'_>)]) {
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
fn messages_die_in_their_order_after_the_queues_time_to_live() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[("x-message-ttl", 20.into())]);
    for body in ["1", "2", "3"] {
        ch.to("q", body);
    }
    for (tag, body) in [(1, "1"), (2, "2"), (3, "3")] {
        ch.expect(&format!("basic.deliver c {tag} /dead: {body}"));
    }
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
}

#[test]
fn a_message_dies_after_its_own_time_to_live_and_loses_it() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[]);
    ch.to_with("q", "late", &expiring("20"));
    let late = ch.message();
    assert_eq!((late.text().as_str(), late.properties().expiration()), ("late", None));
}

#[test]
fn of_the_queues_time_to_live_and_the_messages_the_shorter_one_counts() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[("x-message-ttl", 20.into())]);
    ch.to_with("q", "by the queue's", &expiring("60000"));
    ch.expect("basic.deliver c 1 /dead: by the queue's");
    let (other, dead) = (peer.channel(2), &ch.name("dead"));
    let letters = [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())];
    other.queue("slow", &[&letters[..], &[("x-message-ttl", 60_000.into())]].concat());
    other.to_with("slow", "by its own", &expiring("20"));
    ch.expect("basic.deliver c 2 /dead: by its own");
}

#[test]
fn a_message_that_is_due_waits_behind_one_that_is_not() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[]);
    ch.to("q", "stays");
    ch.to_with("q", "due", &expiring("1"));
    ch.waits(30);
    assert_eq!(ch.counts("q"), "messages=2 consumers=0");
    assert_eq!(ch.take("q").as_deref(), Some("stays"));
    assert_eq!(ch.message().text(), "due");
}

#[test]
fn a_message_that_is_due_is_never_delivered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[]);
    ch.to("q", "first");
    ch.to_with("q", "due", &expiring("1"));
    ch.to("q", "last");
    ch.waits(30);
    assert_eq!(ch.take("q").as_deref(), Some("first"));
    ch.sends(&basic::Get { queue: &ch.name("q"), no_ack: true });
    let mut came = [ch.message().text(), ch.message().text()];
    came.sort();
    assert_eq!(came, ["due", "last"], "one by the consumer of the dead, one by the get");
}

#[test]
fn a_time_to_live_of_zero_is_for_consumers_that_wait() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[("x-message-ttl", 0.into())]);
    ch.to("q", "nobody waits");
    ch.expect("basic.deliver c 1 /dead: nobody waits");
    ch.consume("q", "waiting");
    ch.to("q", "somebody waits");
    ch.expect("basic.deliver waiting 2 /q: somebody waits");
}

#[test]
fn an_expiration_of_zero_is_for_consumers_that_wait() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[]);
    ch.to_with("q", "nobody waits", &expiring("0"));
    ch.expect("basic.deliver c 1 /dead: nobody waits");
    ch.consume("q", "waiting");
    ch.to_with("q", "somebody waits", &expiring("0"));
    let delivered = ch.message();
    assert_eq!((delivered.text().as_str(), delivered.properties().expiration()), ("somebody waits", Some("0")));
}

#[test]
fn an_expiration_that_is_no_number_is_406() {
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
        ch.to_with("q", "m", &expiring(expiration));
        ch.closes(&format!(
            "406 PRECONDITION_FAILED - invalid expiration '{expiration}': {} (basic.publish)",
            why.replace('\\', "")
        ));
    }
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn a_requeued_message_keeps_the_time_that_it_has() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[]);
    ch.to_with("q", "m", &expiring("40"));
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
    ch.nack(1, false, true);
    ch.expect("basic.deliver c 2 /dead: m");
}

#[test]
fn a_message_under_way_does_not_die_until_it_is_given_back() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[("x-message-ttl", 10.into())]);
    ch.consume("q", "holds");
    ch.to("q", "held");
    ch.expect("basic.deliver holds 1 /q: held");
    ch.waits(30);
    ch.cancel("holds");
    ch.nack(1, false, true);
    ch.expect("basic.deliver c 2 /dead: held");
}

#[test]
fn what_dies_without_a_place_to_go_is_gone() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-message-ttl", 10.into())]);
    ch.to("q", "m");
    ch.waits(60);
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
    assert_eq!(ch.get("q"), "basic.get-empty");
}
