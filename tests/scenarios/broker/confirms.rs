//! Confirms and returns, and their order.

use super::prelude::*;

#[test]
fn every_publish_is_confirmed_with_its_sequence_number() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "not counted");
    ch.select_confirms();
    for tag in 1..=3 {
        ch.publish_to("q", "m");
        ch.expect_ack(tag);
    }
    for _ in 0..100 {
        ch.publish_to("q", "m");
    }
    // The sequence numbers continue from 4.
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
fn an_unroutable_message_is_confirmed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.select_confirms();
    ch.publish("amq.direct", &stage.name("nowhere"), "m");
    ch.expect_ack(1);
}

#[test]
fn a_return_comes_before_its_confirm() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.select_confirms();
    ch.publish_mandatory("amq.direct", &stage.name("nowhere"), "1");
    ch.expect("basic.return 312 NO_ROUTE amq.direct/nowhere: 1");
    ch.expect_ack(1);
    ch.publish_mandatory("", &ch.name("q"), "2");
    ch.expect_ack(2);
}

#[test]
fn a_returned_message_equals_the_published_one() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let publish = basic::Publish { exchange: "amq.topic", routing_key: "no.where", mandatory: true, immediate: false };
    let properties = Properties::new().with_header("h", 1).with_expiration("5").with_persistent().with_message_id("7");
    ch.send_message(publish, &properties, b"body");
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
        ch.publish_mandatory("amq.direct", &stage.name("nowhere"), body);
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
    ch.send_message(publish, &Properties::new(), b"now");
    peer.expect_connection_close("540 NOT_IMPLEMENTED - immediate=true (basic.publish)");
}

#[test]
fn a_publish_that_closes_the_channel_is_not_confirmed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.select_confirms();
    ch.publish_to("q", "m");
    ch.expect_ack(1);
    ch.publish("missing", "k", "m");
    ch.expect_close("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
    ch.select_confirms();
    ch.publish_to("q", "m");
    ch.expect_ack(1);
}

#[test]
fn a_persistent_message_to_a_durable_queue_is_confirmed() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.durable_queue("q", &[]);
    ch.select_confirms();
    for _ in 0..10 {
        ch.publish_to_with("q", "m", &Properties::new().with_persistent());
    }
    assert!(ch.wait_for_confirms(10).is_empty());
    ch.wait_for_messages("q", 10);
}

#[test]
fn a_message_for_many_queues_is_confirmed_once() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "fanout", &[]);
    for queue in ["a", "b", "c"] {
        ch.queue(queue, &[]);
        ch.bind(queue, "x", "", &[]);
    }
    ch.select_confirms();
    ch.publish("x", "", "m");
    ch.expect_ack(1);
    ch.expect_nothing("a");
    assert_eq!(ch.drain("c"), ["m"]);
}

#[test]
fn a_nowait_confirm_select_gets_no_reply() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.send(&confirm::Select { nowait: true });
    ch.publish_to("q", "m");
    ch.expect_ack(1);
}

#[test]
fn each_channel_numbers_its_own_confirms() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    ch.select_confirms();
    other.select_confirms();
    ch.publish_to("q", "m");
    ch.expect_ack(1);
    other.publish_to("q", "m");
    other.expect_ack(1);
    ch.publish_to("q", "m");
    ch.expect_ack(2);
}
