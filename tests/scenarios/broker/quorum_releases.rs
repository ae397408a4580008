//! What differs between RabbitMQ 3.13, 4.0 and 4.3 on quorum queues, one difference a scenario.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Declares a quorum queue, whose dead letters go to the exclusive queue `dead`, with these arguments.
pub(super) fn quorum(stage: &Stage, ch: &Channel<'_>, arguments: &[(&str, Value<'_>)]) {
    stage.delete_at_end(&["q"]);
    ch.queue("dead", &[]);
    let dead = &ch.name("dead");
    let dead_letters = [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())];
    ch.durable_queue("q", &[&[("x-queue-type", "quorum".into())], &dead_letters[..], arguments].concat());
}

/// Delivers a message up to `most` times, and returns how often until the queue dropped it.
fn deliveries(ch: &Channel<'_>, most: u64, requeue: impl Fn(u64)) -> Option<u64> {
    ch.consume("dead", "dead");
    ch.consume("q", "c");
    ch.publish_to("q", "poison");
    for tag in 1..=most {
        let line = ch.next();
        if line.starts_with("basic.deliver dead ") {
            return Some(tag - 1);
        }
        requeue(tag);
    }
    None
}

#[test]
fn a_quorum_queue_drops_a_message_after_20_rejects_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    let expected = (release() >= Release::V4_0).then_some(21);
    assert_eq!(deliveries(&ch, 30, |tag| ch.reject(tag, true)), expected);
}

#[test]
fn a_quorum_queue_drops_a_message_after_20_ended_channels_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    ch.publish_to("q", "poison");
    ch.wait_for_messages("q", 1);
    for _ in 0..21 {
        let other = peer.channel(2);
        other.consume("q", "c");
        assert_eq!(other.message().text(), "poison");
        other.close();
    }
    match release() >= Release::V4_0 {
        true => ch.wait_for_messages("dead", 1),
        false => ch.wait_for_messages("q", 1),
    }
}

#[test]
fn a_nack_counts_towards_the_delivery_limit_until_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[("x-delivery-limit", 2.into())]);
    let expected = (release() < Release::V4_3).then_some(3);
    assert_eq!(deliveries(&ch, 10, |tag| ch.nack(tag, false, true)), expected);
}

#[test]
fn a_recover_counts_towards_the_delivery_limit_until_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, watcher) = (peer.channel(1), peer.channel(2));
    quorum(&stage, &ch, &[("x-delivery-limit", 1.into())]);
    ch.consume("q", "c");
    ch.publish_to("q", "poison");
    for _ in 0..2 {
        assert_eq!(ch.message().text(), "poison");
        ch.expect_reply(&basic::Recover { requeue: true }, "basic.recover-ok");
    }
    match release() < Release::V4_3 {
        true => watcher.wait_for_messages("dead", 1),
        false => assert_eq!(ch.message().text(), "poison"),
    }
}

#[test]
fn a_returned_message_carries_its_counts() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    ch.consume("q", "c");
    ch.publish_to("q", "m");
    let counts = |message: &Message| (message.header("x-delivery-count"), message.header("x-acquired-count"));
    let first = ch.message();
    assert_eq!(counts(&first), (None, None));
    ch.reject(first.tag(), true);
    let count = |count: u32| Some(format!("l {count}"));
    let again = ch.message();
    ch.nack(again.tag(), false, true);
    let last = ch.message();
    match release() >= Release::V4_3 {
        true => assert_eq!((counts(&again), counts(&last)), ((count(1), count(1)), (count(1), count(2)))),
        false => assert_eq!((counts(&again), counts(&last)), ((count(1), None), (count(2), None))),
    }
}

#[test]
fn the_first_get_from_a_quorum_queue_carries_a_delivery_count_until_3_13() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    ch.publish_to("q", "m");
    ch.wait_for_messages("q", 1);
    let expected = (release() < Release::V4_0).then(|| "l 0".to_owned());
    assert_eq!(ch.get_message("q").header("x-delivery-count"), expected);
}

#[test]
fn a_delivery_limit_of_minus_1_is_no_limit_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[("x-delivery-limit", (-1).into())]);
    let expected = (release() < Release::V4_0).then_some(1);
    assert_eq!(deliveries(&ch, 30, |tag| ch.reject(tag, true)), expected);
}

#[test]
fn a_quorum_queue_takes_a_consumer_with_a_channels_prefetch_since_4_3() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    ch.prefetch(1, true);
    let queue = &ch.name("q");
    ch.send(&basic::Consume { queue, consumer_tag: "c", ..Default::default() });
    if release() < Release::V4_3 {
        let text = "540 NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos (basic.consume)";
        return peer.expect_connection_close(text);
    }
    ch.expect("basic.consume-ok c");
    ch.publish_to("q", "1");
    ch.publish_to("q", "2");
    assert_eq!(ch.message().text(), "1");
    ch.wait_for_messages("q", 1);
}

#[test]
fn a_quorum_queue_has_two_priorities_in_4_0_and_32_in_4_3() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    for priority in [Some(0), Some(1), Some(5), Some(4), None, Some(9), Some(255), Some(3)] {
        let properties = match priority {
            Some(priority) => Properties::new().with_priority(priority),
            None => Properties::new(),
        };
        let body = priority.map_or("none".to_owned(), |priority| priority.to_string());
        ch.publish_to_with("q", &body, &properties);
    }
    ch.wait_for_messages("q", 8);
    let expected = match release() {
        old if old < Release::V4_0 => ["0", "1", "5", "4", "none", "9", "255", "3"],
        // Two above 4, then one of the others.
        two if two < Release::V4_3 => ["5", "9", "0", "255", "1", "4", "none", "3"],
        _ => ["255", "9", "5", "4", "none", "3", "1", "0"],
    };
    assert_eq!(ch.drain("q"), expected);
    for _ in 0..2 {
        ch.publish_to_with("q", "0", &Properties::new().with_priority(0));
        ch.wait_for_messages("q", 1);
        assert_eq!(ch.drain("q"), ["0"]);
    }
    for priority in [0, 5, 6, 7] {
        ch.publish_to_with("q", &priority.to_string(), &Properties::new().with_priority(priority));
    }
    ch.wait_for_messages("q", 4);
    let expected = match release() {
        old if old < Release::V4_0 => ["0", "5", "6", "7"],
        // The turn counts every message, even if there is but one class.
        two if two < Release::V4_3 => ["5", "0", "6", "7"],
        _ => ["7", "6", "5", "0"],
    };
    assert_eq!(ch.drain("q"), expected);
}

#[test]
fn a_message_returned_to_a_quorum_queue_goes_first_until_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    // Without a limit, 3.10 returns a message to the end.
    quorum(&stage, &ch, &[("x-delivery-limit", 5.into())]);
    ch.publish_to_with("q", "low", &Properties::new().with_priority(0));
    ch.wait_for_messages("q", 1);
    let low = ch.get_message("q");
    ch.publish_to_with("q", "high", &Properties::new().with_priority(9));
    ch.wait_for_messages("q", 1);
    ch.reject(low.tag(), true);
    ch.wait_for_messages("q", 2);
    let expected = if release() < Release::V4_3 { ["low", "high"] } else { ["high", "low"] };
    assert_eq!(ch.drain("q"), expected);
}

#[test]
fn a_consumer_of_a_higher_priority_becomes_the_single_active_one_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[("x-single-active-consumer", true.into())]);
    ch.consume("q", "first");
    ch.publish_to("q", "1");
    ch.expect("basic.deliver first 1 /q: 1");
    ch.consume_with("q", "higher", &[("x-priority", 5.into())]);
    // The active consumer stays until its deliveries are settled.
    ch.publish_to("q", "2");
    if release() < Release::V4_0 {
        return ch.expect("basic.deliver first 2 /q: 2");
    }
    ch.wait_for_messages("q", 1);
    ch.ack(1, false);
    ch.expect("basic.deliver higher 2 /q: 2");
}
