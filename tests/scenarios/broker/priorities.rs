//! Priorities of messages.

use super::prelude::*;

fn priority(priority: u8) -> Properties {
    Properties::new().with_priority(priority)
}

#[test]
fn the_highest_priority_comes_first_and_equal_ones_keep_their_order() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-priority", 10.into())]);
    for (body, level) in [("1a", 1), ("5a", 5), ("1b", 1), ("9", 9), ("5b", 5), ("0", 0)] {
        ch.publish_to_with("q", body, &priority(level));
    }
    assert_eq!(ch.drain("q"), ["9", "5a", "5b", "1a", "1b", "0"]);
}

#[test]
fn no_priority_is_the_lowest_and_one_above_the_maximum_is_the_highest() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-priority", 2.into())]);
    ch.publish_to("q", "none");
    ch.publish_to_with("q", "0", &priority(0));
    ch.publish_to_with("q", "1", &priority(1));
    ch.publish_to_with("q", "200", &priority(200));
    ch.publish_to_with("q", "2", &priority(2));
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: 200 (+4)");
    assert_eq!(ch.get_message("q").properties().priority(), Some(2), "what it was published with");
    assert_eq!(ch.drain("q"), ["1", "none", "0"]);
}

#[test]
fn a_queue_without_priorities_keeps_the_order_of_publishing() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to_with("q", "low", &priority(1));
    ch.publish_to_with("q", "high", &priority(9));
    assert_eq!(ch.drain("q"), ["low", "high"]);
}

#[test]
fn a_delivered_message_is_not_overtaken() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-priority", 5.into())]);
    ch.prefetch(2, false);
    ch.consume("q", "c");
    for body in ["low 1", "low 2", "low 3"] {
        ch.publish_to_with("q", body, &priority(1));
    }
    ch.expect("basic.deliver c 1 /q: low 1");
    ch.expect("basic.deliver c 2 /q: low 2");
    ch.publish_to_with("q", "high", &priority(5));
    ch.wait_for_messages("q", 2);
    ch.ack(1, false);
    ch.expect("basic.deliver c 3 /q: high");
    ch.ack(3, true);
    ch.expect("basic.deliver c 4 /q: low 3");
}

#[test]
fn a_requeued_message_returns_to_its_place_within_its_priority() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-priority", 5.into())]);
    for (body, level) in [("high 1", 5), ("high 2", 5), ("low", 1)] {
        ch.publish_to_with("q", body, &priority(level));
    }
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: high 1 (+2)");
    assert_eq!(ch.get("q"), "basic.get-ok 2 /q: high 2 (+1)");
    ch.nack(1, false, true);
    ch.nack(2, false, true);
    assert_eq!(ch.drain("q"), ["high 1", "high 2", "low"]);
}

#[test]
fn a_full_priority_queue_drops_the_message_with_the_highest_priority() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-priority", 5.into()), ("x-max-length", 2.into())]);
    for (body, level) in [("high", 5), ("low 1", 1), ("low 2", 1), ("middle", 3)] {
        ch.publish_to_with("q", body, &priority(level));
    }
    assert_eq!(ch.drain("q"), ["low 1", "low 2"]);
}

#[test]
fn an_expired_message_of_low_priority_waits_behind_higher_ones() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-max-priority", 5.into())]);
    ch.publish_to_with("q", "high", &priority(5));
    ch.publish_to_with("q", "low", &priority(1).with_expiration("10"));
    ch.wait_for_expiry(30);
    ch.wait_for_messages("q", 2);
    assert_eq!(ch.drain("q"), ["high"]);
}
