//! Consumers: tags, exclusive and single active consumers, priorities, dispatch, and cancellation.

use super::prelude::*;

#[test]
fn consumer_tags_chosen_by_the_broker_are_unique() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let queue = &ch.name("q");
    let mut tags: Vec<String> =
        (0..2).map(|_| ch.ask(&basic::Consume { queue, no_ack: true, ..Default::default() })).collect();
    assert!(tags.iter().all(|tag| tag.starts_with("basic.consume-ok amq.ctag-") && tag.len() == 48), "{tags:?}");
    tags.dedup();
    assert_eq!(tags.len(), 2);
}

#[test]
fn a_duplicate_consumer_tag_on_a_channel_ends_the_connection_with_530() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    ch.consume("q", "c");
    other.consume("q", "c");
    let queue = &ch.name("q");
    let again = basic::Consume { queue, consumer_tag: "c", ..Default::default() };
    peer.expect_connection_error(1, &again, "530 NOT_ALLOWED - attempt to reuse consumer tag 'c' (basic.consume)");
}

#[test]
fn a_consumer_tag_may_be_reused_after_cancelling() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.cancel("c");
    ch.consume("q", "c");
    ch.publish_to("q", "m");
    ch.expect("basic.deliver c 1 /q: m");
}

#[test]
fn cancelling_an_unknown_consumer_tag_is_not_an_error() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.cancel("unknown");
}

#[test]
fn deliveries_of_a_cancelled_consumer_stay_unacked() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.publish_to("q", "1");
    ch.expect("basic.deliver c 1 /q: 1");
    ch.cancel("c");
    ch.publish_to("q", "2");
    assert_eq!(ch.get("q"), "basic.get-ok 2 /q: 2 (+0)");
    ch.nack(1, false, true);
    assert_eq!(ch.get("q"), "basic.get-ok 3 redelivered /q: 1 (+0)");
}

#[test]
fn consumers_are_served_round_robin() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for tag in ["a", "b", "c"] {
        ch.consume("q", tag);
    }
    for body in ["1", "2", "3", "4", "5", "6"] {
        ch.publish_to("q", body);
    }
    for (number, tag) in (1..=6).zip(["a", "b", "c", "a", "b", "c"]) {
        ch.expect(&format!("basic.deliver {tag} {number} /q: {number}"));
    }
}

#[test]
fn a_no_ack_delivery_is_settled_when_it_is_sent() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    let consume = basic::Consume { queue: &ch.name("q"), consumer_tag: "c", no_ack: true, ..Default::default() };
    other.expect_reply(&consume, "basic.consume-ok c");
    ch.publish_to("q", "m");
    other.expect("basic.deliver c 1 /q: m");
    other.close();
    ch.expect_nothing("q");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn an_exclusive_consumer_excludes_others() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    let queue = &ch.name("q");
    let consume = basic::Consume { queue, consumer_tag: "c", exclusive: true, ..Default::default() };
    ch.expect_reply(&consume, "basic.consume-ok c");
    let refused = "403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use (basic.consume)";
    other.expect_refusal(&basic::Consume { exclusive: false, ..consume }, refused);
    other.expect_refusal(&consume, refused);
    ch.cancel("c");
    other.expect_reply(&consume, "basic.consume-ok c");
    other.cancel("c");
    other.consume("q", "plain");
    ch.expect_refusal(&consume, refused);
}

#[test]
fn deleting_a_queue_cancels_its_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.consume("q", "a");
    other.consume("q", "b");
    ch.expect_reply(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    let mut received = [other.next(), other.next()];
    received.sort();
    assert_eq!(received, ["basic.cancel a", "basic.cancel b"]);
    other.queue("next", &[]);
    other.consume("next", "a");
}

#[test]
fn delete_ok_comes_before_the_cancels_of_the_queues_consumers() {
    for kind in ["classic", "quorum"] {
        let stage = Stage::new();
        stage.delete_at_end(&["q"]);
        let peer = stage.connect();
        let ch = peer.channel(1);
        let other = peer.channel(2);
        ch.durable_queue("q", &[("x-queue-type", kind.into())]);
        ch.consume("q", "own");
        other.consume("q", "other");
        ch.expect_reply(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
        ch.expect("basic.cancel own");
        other.expect("basic.cancel other");
    }
}

#[test]
fn a_client_without_consumer_cancel_notify_is_not_notified() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &hopmq_proto::FieldTable::new());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.expect_reply(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    ch.queue("other", &[]);
    ch.expect_nothing("other");
}

#[test]
fn a_consumer_is_cancelled_when_another_connection_deletes_its_queue() {
    let stage = Stage::new();
    let (owner, peer) = (stage.connect(), stage.connect());
    let q = &stage.name("q");
    let ch = owner.channel(1);
    // Not exclusive, so that other connections may consume.
    let declare = queue::Declare { queue: q, durable: true, auto_delete: true, ..Default::default() };
    ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
    let watcher = peer.channel(1);
    watcher.consume("q", "watcher");
    let unused = queue::Delete { queue: q, ..Default::default() };
    ch.expect_reply(&unused, "queue.delete-ok 0");
    watcher.expect("basic.cancel watcher");
}

#[test]
fn the_consumer_with_the_highest_priority_is_served_first() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.prefetch(2, false);
    ch.consume_with("q", "low", &[("x-priority", (-5).into())]);
    ch.consume("q", "none");
    ch.consume_with("q", "high", &[("x-priority", 10.into())]);
    for body in ["1", "2", "3", "4", "5"] {
        ch.publish_to("q", body);
    }
    for (number, tag) in (1..=5).zip(["high", "high", "none", "none", "low"]) {
        ch.expect(&format!("basic.deliver {tag} {number} /q: {number}"));
    }
    ch.ack(1, false);
    ch.publish_to("q", "6");
    ch.expect("basic.deliver high 6 /q: 6");
}

#[test]
fn a_consumer_priority_must_be_a_number() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let arguments = table(&[("x-priority", "high".into())]);
    let arguments = arguments.as_ref_table();
    let consume = basic::Consume { queue: &ch.name("q"), arguments, ..Default::default() };
    ch.expect_refusal(
        &consume,
        "406 PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \
         \"expected integer, got longstr\" (basic.consume)",
    );
}

#[test]
fn the_first_single_active_consumer_gets_all_until_the_next_takes_over() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-single-active-consumer", true.into())]);
    for tag in ["a", "b", "c"] {
        ch.consume("q", tag);
    }
    for body in ["1", "2"] {
        ch.publish_to("q", body);
    }
    ch.expect("basic.deliver a 1 /q: 1");
    ch.expect("basic.deliver a 2 /q: 2");
    ch.cancel("a");
    ch.publish_to("q", "3");
    ch.expect("basic.deliver b 3 /q: 3");
    ch.cancel("b");
    ch.publish_to("q", "4");
    ch.expect("basic.deliver c 4 /q: 4");
    assert_eq!(ch.counts("q"), "messages=0 consumers=1");
}

#[test]
fn a_single_active_consumer_at_its_prefetch_limit_stays_active() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-single-active-consumer", true.into())]);
    ch.prefetch(1, false);
    ch.consume("q", "a");
    ch.consume("q", "b");
    ch.publish_to("q", "1");
    ch.publish_to("q", "2");
    ch.expect("basic.deliver a 1 /q: 1");
    ch.expect_nothing("q");
    ch.ack(1, false);
    ch.expect("basic.deliver a 2 /q: 2");
}

#[test]
fn the_messages_of_a_closed_channel_come_first_to_the_next_single_active_consumer() {
    for kind in ["classic", "quorum"] {
        let stage = Stage::new();
        let peer = stage.connect();
        let (ch, next) = (peer.channel(1), peer.channel(2));
        stage.delete_at_end(&["q"]);
        ch.durable_queue("q", &[("x-queue-type", kind.into()), ("x-single-active-consumer", true.into())]);
        ch.prefetch(2, false);
        ch.consume("q", "a");
        next.consume("q", "b");
        for body in ["1", "2", "3", "4"] {
            next.publish_to("q", body);
        }
        ch.expect("basic.deliver a 1 /q: 1");
        ch.expect("basic.deliver a 2 /q: 2");
        ch.close();
        next.expect("basic.deliver b 1 redelivered /q: 1");
        next.expect("basic.deliver b 2 redelivered /q: 2");
        next.expect("basic.deliver b 3 /q: 3");
        next.expect("basic.deliver b 4 /q: 4");
    }
}

#[test]
fn a_queue_with_single_active_consumer_refuses_exclusive_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-single-active-consumer", true.into())]);
    let consume = basic::Consume { queue: &ch.name("q"), exclusive: true, ..Default::default() };
    ch.expect_refusal(&consume, "403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use (basic.consume)");
}

#[test]
fn unacked_messages_of_a_closed_channel_go_to_other_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.consume("q", "first");
    ch.publish_to("q", "1");
    ch.publish_to("q", "2");
    other.expect("basic.deliver first 1 /q: 1");
    other.expect("basic.deliver first 2 /q: 2");
    ch.consume("q", "second");
    other.close();
    ch.expect("basic.deliver second 1 redelivered /q: 1");
    ch.expect("basic.deliver second 2 redelivered /q: 2");
}

#[test]
fn a_nowait_consume_gets_no_reply() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let queue = &ch.name("q");
    ch.send(&basic::Consume { queue, consumer_tag: "c", nowait: true, ..Default::default() });
    ch.publish_to("q", "m");
    ch.expect("basic.deliver c 1 /q: m");
    ch.send(&basic::Cancel { consumer_tag: "c", nowait: true });
    ch.publish_to("q", "n");
    assert_eq!(ch.get("q"), "basic.get-ok 2 /q: n (+0)");
}

#[test]
fn the_first_delivery_follows_consume_ok() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    ch.consume("q", "c");
    for number in 1..=3 {
        ch.expect(&format!("basic.deliver c {number} /q: {number}"));
    }
}
