//! Queues that are full: by messages or by bytes, and what happens then.

use super::prelude::*;

/// A queue `dead` with a consumer `c`, and a queue `q` whose dead letters go there, with these arguments.
fn mortal(ch: &Channel<'_>, arguments: &[(&str, Value<'_>)]) {
    ch.queue("dead", &[]);
    ch.consume("dead", "c");
    let dead = &ch.name("dead");
    let letters = [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())];
    ch.queue("q", &[&letters, arguments].concat());
}

#[test]
fn a_full_queue_drops_its_oldest_message() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 2.into())]);
    for body in ["1", "2", "3", "4"] {
        ch.to("q", body);
    }
    assert_eq!(ch.drain("q"), ["3", "4"]);
}

#[test]
fn a_queue_that_drops_confirms_all_the_same() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 1.into())]);
    ch.confirms();
    for body in ["1", "2", "3"] {
        ch.to("q", body);
    }
    assert!(ch.settled(3).is_empty());
    assert_eq!(ch.drain("q"), ["3"]);
}

#[test]
fn messages_under_way_do_not_count() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 2.into())]);
    ch.to("q", "1");
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: 1 (+0)");
    ch.to("q", "2");
    ch.to("q", "3");
    ch.has("q", 2);
    ch.nack(1, false, true);
    ch.has("q", 2);
    assert_eq!(ch.drain("q"), ["2", "3"]);
}

#[test]
fn a_queue_that_may_hold_nothing_delivers_what_somebody_waits_for() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 0.into())]);
    ch.confirms();
    ch.to("q", "lost");
    assert!(ch.settled(1).is_empty());
    ch.has("q", 0);
    ch.consume("q", "c");
    ch.to("q", "found");
    let mut came = [ch.next(), ch.next()];
    came.sort();
    assert_eq!(came, ["basic.ack 2", "basic.deliver c 1 /q: found"]);
}

#[test]
fn a_queue_that_is_full_of_bytes_drops_until_there_is_room() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 10.into())]);
    for body in ["aaaa", "bbb", "ccc"] {
        ch.to("q", body);
    }
    ch.has("q", 3);
    ch.to("q", "dddd");
    ch.has("q", 3);
    ch.to("q", "");
    ch.has("q", 4);
    ch.to("q", "eeeeee");
    assert_eq!(ch.drain("q"), ["dddd", "", "eeeeee"]);
}

#[test]
fn a_message_larger_than_the_queue_is_dropped_itself() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 10.into())]);
    ch.to("q", "small");
    ch.to("q", "much larger than that");
    assert!(ch.drain("q").is_empty());
}

#[test]
fn only_bodies_count_as_bytes() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 5.into())]);
    ch.to_with("q", "12345", &Properties::new().with_header("long", &"x".repeat(1000)));
    ch.to("q", "");
    assert_eq!(ch.drain("q"), ["12345", ""]);
}

#[test]
fn the_stricter_of_two_limits_counts() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 2.into()), ("x-max-length-bytes", 8.into())]);
    for body in ["1", "2", "3"] {
        ch.to("q", body);
    }
    ch.has("q", 2);
    ch.to("q", "12345678");
    assert_eq!(ch.drain("q"), ["12345678"]);
}

#[test]
fn what_a_full_queue_drops_is_dead_lettered_as_maxlen() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[("x-max-length", 1.into())]);
    ch.to("q", "old");
    ch.to("q", "new");
    let old = ch.message();
    assert_eq!((old.text().as_str(), old.header("x-first-death-reason").as_deref()), ("old", Some("'maxlen'")));
    assert_eq!(ch.drain("q"), ["new"]);
}

#[test]
fn a_queue_that_rejects_nacks_what_does_not_fit_and_keeps_the_old() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[("x-max-length", 2.into()), ("x-overflow", "reject-publish".into())]);
    ch.confirms();
    for body in ["1", "2"] {
        ch.to("q", body);
    }
    assert!(ch.settled(2).is_empty());
    ch.to("q", "3");
    ch.nacked(3);
    assert_eq!(ch.drain("q"), ["1", "2"]);
    ch.to("q", "4");
    ch.acked(4);
    ch.quiet("dead");
}

#[test]
fn a_queue_that_rejects_says_nothing_to_those_who_do_not_ask() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())]);
    ch.to("q", "1");
    ch.has("q", 1);
    ch.to("q", "2");
    ch.quiet("q");
    assert_eq!(ch.drain("q"), ["1"]);
}

#[test]
fn a_queue_that_rejects_by_bytes_takes_what_fits() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 4.into()), ("x-overflow", "reject-publish".into())]);
    ch.confirms();
    ch.to("q", "123");
    ch.acked(1);
    ch.to("q", "45678");
    ch.nacked(2);
    ch.to("q", "9");
    ch.acked(3);
}

#[test]
fn one_full_queue_of_several_is_enough_for_a_nack() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "fanout", &[]);
    ch.queue("full", &[("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())]);
    ch.queue("free", &[]);
    ch.bind("full", "x", "", &[]);
    ch.bind("free", "x", "", &[]);
    ch.confirms();
    ch.publish("x", "", "1");
    ch.acked(1);
    ch.publish("x", "", "2");
    ch.nacked(2);
    assert_eq!((ch.drain("full"), ch.drain("free")), (vec!["1".to_owned()], vec!["1".to_owned(), "2".to_owned()]));
}

#[test]
fn a_queue_may_dead_letter_what_it_rejects() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    mortal(&ch, &[("x-max-length", 1.into()), ("x-overflow", "reject-publish-dlx".into())]);
    let confirming = peer.channel(2);
    confirming.confirms();
    confirming.to("q", "1");
    confirming.acked(1);
    confirming.to("q", "2");
    confirming.nacked(2);
    let dead = ch.message();
    assert_eq!((dead.text().as_str(), dead.header("x-first-death-reason").as_deref()), ("2", Some("'maxlen'")));
    assert_eq!(ch.drain("q"), ["1"]);
}

#[test]
fn a_mandatory_message_that_is_rejected_is_not_returned() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 0.into()), ("x-overflow", "reject-publish".into())]);
    ch.confirms();
    ch.mandatory("", &ch.name("q"), "m");
    ch.nacked(1);
    ch.quiet("q");
}
