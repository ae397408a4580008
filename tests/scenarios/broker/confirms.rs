//! Confirms and returns, and their order.

use super::prelude::*;

#[test]
fn every_publish_is_confirmed_by_its_number() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.to("q", "not counted");
    ch.confirms();
    for tag in 1..=3 {
        ch.to("q", "m");
        ch.acked(tag);
    }
    for _ in 0..100 {
        ch.to("q", "m");
    }
    // The numbers go on from 4.
    let mut settled = 3;
    while settled < 103 {
        let line = ch.next();
        let words: Vec<&str> = line.split(' ').collect();
        let tag: u64 = words[1].parse().expect("a number");
        assert!(words[0] == "basic.ack" && tag > settled && (tag == settled + 1 || words.len() == 3), "{line}");
        settled = tag;
    }
}

#[test]
fn what_finds_no_queue_is_confirmed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.confirms();
    ch.publish("amq.direct", &stage.name("nowhere"), "m");
    ch.acked(1);
}

#[test]
fn a_return_comes_before_its_confirm() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.confirms();
    ch.mandatory("amq.direct", &stage.name("nowhere"), "1");
    ch.expect("basic.return 312 NO_ROUTE amq.direct/nowhere: 1");
    ch.acked(1);
    ch.mandatory("", &ch.name("q"), "2");
    ch.acked(2);
}

#[test]
fn a_returned_message_is_what_was_published() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let publish = basic::Publish { exchange: "amq.topic", routing_key: "no.where", mandatory: true, immediate: false };
    let properties = Properties::new().with_header("h", 1).with_expiration("5").with_persistent().with_message_id("7");
    ch.publishes(publish, &properties, b"body");
    let returned = ch.message();
    let got = returned.properties();
    assert_eq!((got.expiration(), got.delivery_mode(), got.message_id()), (Some("5"), Some(2), Some("7")));
    assert_eq!((returned.header("h").as_deref(), returned.text().as_str()), (Some("I 1"), "body"));
}

#[test]
fn returns_come_in_the_order_of_publishing() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for body in ["1", "2", "3"] {
        ch.mandatory("amq.direct", &stage.name("nowhere"), body);
    }
    for body in ["1", "2", "3"] {
        ch.expect(&format!("basic.return 312 NO_ROUTE amq.direct/nowhere: {body}"));
    }
}

#[test]
fn an_immediate_publish_ends_the_connection_with_540() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let publish = basic::Publish { routing_key: &ch.name("q"), immediate: true, ..Default::default() };
    ch.publishes(publish, &Properties::new(), b"now");
    peer.ends("540 NOT_IMPLEMENTED - immediate=true (basic.publish)");
}

#[test]
fn a_publish_that_closes_the_channel_is_not_confirmed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.confirms();
    ch.to("q", "m");
    ch.acked(1);
    ch.publish("missing", "k", "m");
    ch.closes("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
    ch.confirms();
    ch.to("q", "m");
    ch.acked(1);
}

#[test]
fn a_persistent_message_to_a_durable_queue_is_confirmed() {
    let stage = Stage::new();
    stage.leaves(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.durable("q", &[]);
    ch.confirms();
    for _ in 0..10 {
        ch.to_with("q", "m", &Properties::new().with_persistent());
    }
    assert!(ch.settled(10).is_empty());
    ch.has("q", 10);
}

#[test]
fn a_message_for_many_queues_is_confirmed_once() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "fanout", &[]);
    for queue in ["a", "b", "c"] {
        ch.queue(queue, &[]);
        ch.bind(queue, "x", "", &[]);
    }
    ch.confirms();
    ch.publish("x", "", "m");
    ch.acked(1);
    ch.quiet("a");
    assert_eq!(ch.drain("c"), ["m"]);
}

#[test]
fn confirms_that_want_no_answer_get_none() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.sends(&confirm::Select { nowait: true });
    ch.to("q", "m");
    ch.acked(1);
}

#[test]
fn each_channel_counts_for_itself() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    ch.confirms();
    other.confirms();
    ch.to("q", "m");
    ch.acked(1);
    other.to("q", "m");
    other.acked(1);
    ch.to("q", "m");
    ch.acked(2);
}
