//! Consumers: their tags, who else may consume, who gets what, and when they are told of the end.

use super::prelude::*;

#[test]
fn a_tag_that_the_broker_gives_is_unique() {
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
fn the_same_tag_twice_on_a_channel_ends_the_connection_with_530() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    ch.consume("q", "c");
    other.consume("q", "c");
    let queue = &ch.name("q");
    let again = basic::Consume { queue, consumer_tag: "c", ..Default::default() };
    peer.dies(1, &again, "530 NOT_ALLOWED - attempt to reuse consumer tag 'c' (basic.consume)");
}

#[test]
fn a_tag_may_be_used_again_once_it_is_cancelled() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.cancel("c");
    ch.consume("q", "c");
    ch.to("q", "m");
    ch.expect("basic.deliver c 1 /q: m");
}

#[test]
fn cancelling_a_tag_that_nobody_has_is_no_fault() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.cancel("nobody");
}

#[test]
fn what_a_cancelled_consumer_has_stays_under_way() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.to("q", "1");
    ch.expect("basic.deliver c 1 /q: 1");
    ch.cancel("c");
    ch.to("q", "2");
    assert_eq!(ch.get("q"), "basic.get-ok 2 /q: 2 (+0)");
    ch.nack(1, false, true);
    assert_eq!(ch.get("q"), "basic.get-ok 3 redelivered /q: 1 (+0)");
}

#[test]
fn consumers_take_turns() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for tag in ["a", "b", "c"] {
        ch.consume("q", tag);
    }
    for body in ["1", "2", "3", "4", "5", "6"] {
        ch.to("q", body);
    }
    for (number, tag) in (1..=6).zip(["a", "b", "c", "a", "b", "c"]) {
        ch.expect(&format!("basic.deliver {tag} {number} /q: {number}"));
    }
}

#[test]
fn a_consumer_without_acks_settles_by_receiving() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    let consume = basic::Consume { queue: &ch.name("q"), consumer_tag: "c", no_ack: true, ..Default::default() };
    other.answers(&consume, "basic.consume-ok c");
    ch.to("q", "m");
    other.expect("basic.deliver c 1 /q: m");
    other.close();
    ch.quiet("q");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn an_exclusive_consumer_lets_nobody_in() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    let queue = &ch.name("q");
    let consume = basic::Consume { queue, consumer_tag: "c", exclusive: true, ..Default::default() };
    ch.answers(&consume, "basic.consume-ok c");
    let refused = "403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use (basic.consume)";
    other.refuses(&basic::Consume { exclusive: false, ..consume }, refused);
    other.refuses(&consume, refused);
    ch.cancel("c");
    other.answers(&consume, "basic.consume-ok c");
    other.cancel("c");
    other.consume("q", "plain");
    ch.refuses(&consume, refused);
}

#[test]
fn a_consumer_is_told_when_its_queue_is_deleted() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.consume("q", "a");
    other.consume("q", "b");
    ch.answers(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    let mut told = [other.next(), other.next()];
    told.sort();
    assert_eq!(told, ["basic.cancel a", "basic.cancel b"]);
    other.queue("next", &[]);
    other.consume("next", "a");
}

#[test]
fn a_client_that_does_not_understand_cancellation_is_not_told() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &hopmq_proto::FieldTable::new());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.answers(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    ch.queue("other", &[]);
    ch.quiet("other");
}

#[test]
fn a_consumer_of_an_expired_connections_queue_is_told() {
    let stage = Stage::new();
    let (owner, peer) = (stage.connect(), stage.connect());
    let q = &stage.name("q");
    let ch = owner.channel(1);
    // Not exclusive, so that others may consume; it goes with the owner's consumer.
    let declare = queue::Declare { queue: q, auto_delete: true, ..Default::default() };
    ch.answers(&declare, "queue.declare-ok q messages=0 consumers=0");
    let watcher = peer.channel(1);
    watcher.consume("q", "watcher");
    let unused = queue::Delete { queue: q, ..Default::default() };
    ch.answers(&unused, "queue.delete-ok 0");
    watcher.expect("basic.cancel watcher");
}

#[test]
fn the_highest_priority_gets_everything_it_can_take() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.prefetch(2, false);
    ch.consume_with("q", "low", &[("x-priority", (-5).into())]);
    ch.consume("q", "none");
    ch.consume_with("q", "high", &[("x-priority", 10.into())]);
    for body in ["1", "2", "3", "4", "5"] {
        ch.to("q", body);
    }
    for (number, tag) in (1..=5).zip(["high", "high", "none", "none", "low"]) {
        ch.expect(&format!("basic.deliver {tag} {number} /q: {number}"));
    }
    ch.ack(1, false);
    ch.to("q", "6");
    ch.expect("basic.deliver high 6 /q: 6");
}

#[test]
fn a_consumers_priority_is_a_number() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let arguments = table(&[("x-priority", "high".into())]);
    let arguments = arguments.as_ref_table();
    let consume = basic::Consume { queue: &ch.name("q"), arguments, ..Default::default() };
    ch.refuses(
        &consume,
        "406 PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \
         \"expected integer, got longstr\" (basic.consume)",
    );
}

#[test]
fn of_single_active_consumers_the_first_gets_all_and_the_next_follows() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-single-active-consumer", true.into())]);
    for tag in ["a", "b", "c"] {
        ch.consume("q", tag);
    }
    for body in ["1", "2"] {
        ch.to("q", body);
    }
    ch.expect("basic.deliver a 1 /q: 1");
    ch.expect("basic.deliver a 2 /q: 2");
    ch.cancel("a");
    ch.to("q", "3");
    ch.expect("basic.deliver b 3 /q: 3");
    ch.cancel("b");
    ch.to("q", "4");
    ch.expect("basic.deliver c 4 /q: 4");
    assert_eq!(ch.counts("q"), "messages=0 consumers=1");
}

#[test]
fn a_single_active_consumer_that_can_take_no_more_is_waited_for() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-single-active-consumer", true.into())]);
    ch.prefetch(1, false);
    ch.consume("q", "a");
    ch.consume("q", "b");
    ch.to("q", "1");
    ch.to("q", "2");
    ch.expect("basic.deliver a 1 /q: 1");
    ch.quiet("q");
    ch.ack(1, false);
    ch.expect("basic.deliver a 2 /q: 2");
}

#[test]
fn a_queue_of_single_active_consumers_has_no_exclusive_ones() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[("x-single-active-consumer", true.into())]);
    let consume = basic::Consume { queue: &ch.name("q"), exclusive: true, ..Default::default() };
    ch.refuses(&consume, "403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use (basic.consume)");
}

#[test]
fn the_messages_of_a_channel_that_ends_go_to_the_other_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.consume("q", "first");
    ch.to("q", "1");
    ch.to("q", "2");
    other.expect("basic.deliver first 1 /q: 1");
    other.expect("basic.deliver first 2 /q: 2");
    ch.consume("q", "second");
    other.close();
    ch.expect("basic.deliver second 1 redelivered /q: 1");
    ch.expect("basic.deliver second 2 redelivered /q: 2");
}

#[test]
fn a_consumer_that_wants_no_answer_gets_none() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let queue = &ch.name("q");
    ch.sends(&basic::Consume { queue, consumer_tag: "c", nowait: true, ..Default::default() });
    ch.to("q", "m");
    ch.expect("basic.deliver c 1 /q: m");
    ch.sends(&basic::Cancel { consumer_tag: "c", nowait: true });
    ch.to("q", "n");
    assert_eq!(ch.get("q"), "basic.get-ok 2 /q: n (+0)");
}

#[test]
fn the_first_delivery_comes_after_the_answer_to_consume() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for body in ["1", "2", "3"] {
        ch.to("q", body);
    }
    ch.consume("q", "c");
    for number in 1..=3 {
        ch.expect(&format!("basic.deliver c {number} /q: {number}"));
    }
}
