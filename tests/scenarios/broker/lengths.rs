//! Full queues: limits by messages or bytes, and what each overflow mode does.

use super::prelude::*;

/// Declares a queue `dead` with a consumer `c`, and a queue `q` with these arguments that dead-letters to `dead`.
fn dead_lettering(ch: &Channel<'_>, arguments: &[(&str, Value<'_>)]) {
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
        ch.publish_to("q", body);
    }
    assert_eq!(ch.drain("q"), ["3", "4"]);
}

#[test]
fn a_queue_that_drops_messages_still_confirms() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 1.into())]);
    ch.select_confirms();
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    assert!(ch.wait_for_confirms(3).is_empty());
    assert_eq!(ch.drain("q"), ["3"]);
}

#[test]
fn unacked_messages_do_not_count_towards_the_limit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 2.into())]);
    ch.publish_to("q", "1");
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: 1 (+0)");
    ch.publish_to("q", "2");
    ch.publish_to("q", "3");
    ch.wait_for_messages("q", 2);
    ch.nack(1, false, true);
    ch.wait_for_messages("q", 2);
    assert_eq!(ch.drain("q"), ["2", "3"]);
}

#[test]
fn a_queue_of_length_zero_delivers_to_a_waiting_consumer() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 0.into())]);
    ch.select_confirms();
    ch.publish_to("q", "lost");
    assert!(ch.wait_for_confirms(1).is_empty());
    ch.wait_for_messages("q", 0);
    ch.consume("q", "c");
    ch.publish_to("q", "found");
    let mut came = [ch.next(), ch.next()];
    came.sort();
    assert_eq!(came, ["basic.ack 2", "basic.deliver c 1 /q: found"]);
}

#[test]
fn a_queue_full_by_bytes_drops_until_the_message_fits() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 10.into())]);
    for body in ["aaaa", "bbb", "ccc"] {
        ch.publish_to("q", body);
    }
    ch.wait_for_messages("q", 3);
    ch.publish_to("q", "dddd");
    ch.wait_for_messages("q", 3);
    ch.publish_to("q", "");
    ch.wait_for_messages("q", 4);
    ch.publish_to("q", "eeeeee");
    assert_eq!(ch.drain("q"), ["dddd", "", "eeeeee"]);
}

#[test]
fn a_message_larger_than_the_queue_is_dropped_itself() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 10.into())]);
    ch.publish_to("q", "small");
    ch.publish_to("q", "much larger than that");
    assert!(ch.drain("q").is_empty());
}

#[test]
fn only_bodies_count_towards_the_byte_limit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 5.into())]);
    ch.publish_to_with("q", "12345", &Properties::new().with_header("long", "x".repeat(1000)));
    ch.publish_to("q", "");
    assert_eq!(ch.drain("q"), ["12345", ""]);
}

#[test]
fn the_stricter_of_two_limits_applies() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 2.into()), ("x-max-length-bytes", 8.into())]);
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    ch.wait_for_messages("q", 2);
    ch.publish_to("q", "12345678");
    assert_eq!(ch.drain("q"), ["12345678"]);
}

#[test]
fn a_message_dropped_by_a_full_queue_is_dead_lettered_as_maxlen() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-max-length", 1.into())]);
    ch.publish_to("q", "old");
    ch.publish_to("q", "new");
    let old = ch.message();
    assert_eq!((old.text().as_str(), old.header("x-first-death-reason").as_deref()), ("old", Some("'maxlen'")));
    assert_eq!(ch.drain("q"), ["new"]);
}

#[test]
fn reject_publish_nacks_new_messages_and_keeps_the_old_ones() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-max-length", 2.into()), ("x-overflow", "reject-publish".into())]);
    ch.select_confirms();
    for body in ["1", "2"] {
        ch.publish_to("q", body);
    }
    assert!(ch.wait_for_confirms(2).is_empty());
    ch.publish_to("q", "3");
    ch.expect_nack(3);
    assert_eq!(ch.drain("q"), ["1", "2"]);
    ch.publish_to("q", "4");
    ch.expect_ack(4);
    ch.expect_nothing("dead");
}

#[test]
fn reject_publish_drops_silently_without_confirms() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())]);
    ch.publish_to("q", "1");
    ch.wait_for_messages("q", 1);
    ch.publish_to("q", "2");
    ch.expect_nothing("q");
    assert_eq!(ch.drain("q"), ["1"]);
}

#[test]
fn reject_publish_by_bytes_accepts_what_fits() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length-bytes", 4.into()), ("x-overflow", "reject-publish".into())]);
    ch.select_confirms();
    ch.publish_to("q", "123");
    ch.expect_ack(1);
    ch.publish_to("q", "45678");
    ch.expect_nack(2);
    ch.publish_to("q", "9");
    ch.expect_ack(3);
}

#[test]
fn one_full_queue_of_several_causes_a_nack() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "fanout", &[]);
    ch.queue("full", &[("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())]);
    ch.queue("free", &[]);
    ch.bind("full", "x", "", &[]);
    ch.bind("free", "x", "", &[]);
    ch.select_confirms();
    ch.publish("x", "", "1");
    ch.expect_ack(1);
    ch.publish("x", "", "2");
    ch.expect_nack(2);
    assert_eq!((ch.drain("full"), ch.drain("free")), (vec!["1".to_owned()], vec!["1".to_owned(), "2".to_owned()]));
}

#[test]
fn reject_publish_dlx_dead_letters_what_it_rejects() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    dead_lettering(&ch, &[("x-max-length", 1.into()), ("x-overflow", "reject-publish-dlx".into())]);
    let confirming = peer.channel(2);
    confirming.select_confirms();
    confirming.publish_to("q", "1");
    confirming.expect_ack(1);
    confirming.publish_to("q", "2");
    confirming.expect_nack(2);
    let dead = ch.message();
    assert_eq!((dead.text().as_str(), dead.header("x-first-death-reason").as_deref()), ("2", Some("'maxlen'")));
    assert_eq!(ch.drain("q"), ["1"]);
}

#[test]
fn a_rejected_mandatory_message_is_not_returned() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-length", 0.into()), ("x-overflow", "reject-publish".into())]);
    ch.select_confirms();
    ch.publish_mandatory("", &ch.name("q"), "m");
    ch.expect_nack(1);
    ch.expect_nothing("q");
}
