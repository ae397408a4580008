//! Quorum queues, on one node.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Declares a quorum queue `q` with these arguments.
fn quorum(stage: &Stage, ch: &Channel<'_>, arguments: &[(&str, Value<'_>)]) {
    stage.delete_at_end(&["q"]);
    ch.durable_queue("q", &[&[("x-queue-type", "quorum".into())], arguments].concat());
}

#[test]
fn a_quorum_queue_delivers_in_order_and_confirms() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    ch.select_confirms();
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    assert!(ch.wait_for_confirms(3).is_empty());
    ch.consume("q", "c");
    for (tag, body) in [(1, "1"), (2, "2"), (3, "3")] {
        ch.expect(&format!("basic.deliver c {tag} /q: {body}"));
    }
    ch.ack(3, true);
    ch.wait_for_messages("q", 0);
}

#[test]
fn a_new_consumer_of_the_same_tag_counts_the_unacked_messages_of_the_old_one() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    for body in ["1", "2", "3", "4", "5"] {
        ch.publish_to("q", body);
    }
    ch.wait_for_messages("q", 5);
    ch.prefetch(2, false);
    ch.consume("q", "c");
    ch.expect("basic.deliver c 1 /q: 1");
    ch.expect("basic.deliver c 2 /q: 2");
    ch.cancel("c");
    ch.consume("q", "c");
    ch.expect_nothing("q");
    // RabbitMQ 3.10 ends the connection with 541 here.
    if release() >= Release::V4_0 {
        ch.ack(1, false);
        ch.expect("basic.deliver c 3 /q: 3");
        ch.reject(2, false);
        ch.expect("basic.deliver c 4 /q: 4");
        ch.expect_nothing("q");
        // A consumer of another tag has its own limit.
        ch.cancel("c");
        ch.consume("q", "d");
        ch.expect("basic.deliver d 5 /q: 5");
    }
}

#[test]
fn a_full_queue_that_rejects_publishes_takes_one_message_more_than_its_limit() {
    for (limit, taken) in [("x-max-length", 3), ("x-max-length-bytes", 1)] {
        let stage = Stage::new();
        let peer = stage.connect();
        let ch = peer.channel(1);
        quorum(&stage, &ch, &[(limit, 2.into()), ("x-overflow", "reject-publish".into())]);
        ch.select_confirms();
        for tag in 1..=taken + 2 {
            ch.publish_to("q", "four");
            let outcome = if tag > taken { "nack" } else { "ack" };
            let line = ch.next();
            assert!(line.starts_with(&format!("basic.{outcome} {tag}")), "{limit}: {line}");
            // The queue tells the channel later.
            ch.wait_for_messages("q", tag.min(taken));
        }
    }
}

#[test]
fn a_redelivery_carries_its_delivery_count() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    ch.consume("q", "c");
    ch.publish_to("q", "m");
    let first = ch.message();
    assert_eq!((first.redelivered(), first.header("x-delivery-count")), (false, None));
    for count in 1..=3 {
        ch.reject(count, true);
        let again = ch.message();
        assert_eq!(again.header("x-delivery-count"), Some(format!("l {count}")));
        assert!(again.redelivered());
    }
}

#[test]
fn a_message_over_the_delivery_limit_is_dead_lettered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = &ch.name("dead");
    ch.queue("dead", &[]);
    quorum(
        &stage,
        &ch,
        &[
            ("x-delivery-limit", 2.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", dead.into()),
        ],
    );
    ch.consume("dead", "dead");
    ch.consume("q", "c");
    ch.publish_to("q", "poison");
    for tag in 1..=3 {
        assert_eq!(ch.message().tag(), tag);
        ch.reject(tag, true);
    }
    let buried = ch.message();
    assert_eq!(
        (buried.text().as_str(), buried.header("x-first-death-reason")),
        ("poison", Some("'delivery_limit'".into()))
    );
}

#[test]
fn a_message_over_the_delivery_limit_is_dropped_without_a_dead_letter_exchange() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[("x-delivery-limit", 1.into())]);
    ch.consume("q", "c");
    ch.publish_to("q", "poison");
    ch.expect("basic.deliver c 1 /q: poison");
    ch.reject(1, true);
    ch.expect("basic.deliver c 2 redelivered /q: poison");
    ch.reject(2, true);
    ch.publish_to("q", "good");
    ch.expect("basic.deliver c 3 /q: good");
}

#[test]
fn a_requeue_by_closing_the_channel_counts_as_well() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    quorum(&stage, &ch, &[]);
    ch.publish_to("q", "m");
    ch.wait_for_messages("q", 1);
    other.consume("q", "c");
    other.expect("basic.deliver c 1 /q: m");
    other.close();
    ch.consume("q", "c");
    let again = ch.message();
    assert_eq!((again.redelivered(), again.header("x-delivery-count").as_deref()), (true, Some("l 1")));
}

#[test]
fn a_full_quorum_queue_drops_its_oldest_message() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[("x-max-length", 2.into())]);
    ch.select_confirms();
    for (tag, body) in [(1, "1"), (2, "2"), (3, "3")] {
        ch.publish_to("q", body);
        ch.expect(&format!("basic.ack {tag}"));
    }
    ch.wait_for_messages("q", 2);
    assert_eq!(ch.drain("q"), ["2", "3"]);
}

#[test]
fn a_quorum_queue_rejects_only_publishes_after_it_was_full() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())]);
    ch.select_confirms();
    let mut refused = 0;
    for tag in 1..=10 {
        ch.publish_to("q", &tag.to_string());
        let line = ch.next();
        if line.starts_with(&format!("basic.nack {tag}")) {
            refused += 1;
        } else {
            assert_eq!((line, refused), (format!("basic.ack {tag}"), 0));
        }
    }
    assert!(refused > 0, "a queue for one message took ten");
}

#[test]
fn a_quorum_queue_refuses_consumers_with_a_global_prefetch_until_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(2);
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[]);
    ch.prefetch(10, true);
    let queue = &ch.name("q");
    ch.send(&basic::Consume { queue, consumer_tag: "c", ..Default::default() });
    if release() >= Release::V4_3 {
        return ch.expect("basic.consume-ok c");
    }
    peer.expect_connection_close(
        "540 NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos (basic.consume)",
    );
}

#[test]
fn a_quorum_queue_supports_single_active_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    quorum(&stage, &ch, &[("x-single-active-consumer", true.into())]);
    ch.consume("q", "a");
    ch.consume("q", "b");
    ch.publish_to("q", "1");
    ch.expect("basic.deliver a 1 /q: 1");
    ch.ack(1, false);
    ch.cancel("a");
    ch.publish_to("q", "2");
    ch.expect("basic.deliver b 2 /q: 2");
}

#[test]
fn a_rejected_message_of_a_quorum_queue_records_its_death() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = &ch.name("dead");
    ch.queue("dead", &[]);
    quorum(&stage, &ch, &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", dead.into())]);
    ch.consume("dead", "dead");
    ch.consume("q", "c");
    ch.publish_to("q", "bad");
    ch.expect("basic.deliver c 1 /q: bad");
    ch.reject(1, false);
    let deaths = ch.message().header("x-death").unwrap_or_default();
    assert_eq!(
        peer.plain(&deaths),
        "[{count: l 1, reason: 'rejected', queue: 'q', time: now, exchange: '', routing-keys: ['q']}]"
    );
}

#[test]
fn at_least_once_dead_letters_arrive() {
    let stage = Stage::new();
    stage.delete_at_end(&["dead"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let dead = &ch.name("dead");
    ch.durable_queue("dead", &[("x-queue-type", "quorum".into())]);
    quorum(
        &stage,
        &ch,
        &[
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", dead.into()),
            ("x-dead-letter-strategy", "at-least-once".into()),
            ("x-overflow", "reject-publish".into()),
        ],
    );
    ch.consume("dead", "dead");
    ch.consume("q", "c");
    ch.publish_to("q", "bad");
    ch.expect("basic.deliver c 1 /q: bad");
    ch.reject(1, false);
    let buried = ch.message();
    assert_eq!((buried.text().as_str(), buried.header("x-first-death-reason")), ("bad", Some("'rejected'".into())));
}
