//! Acks, nacks, rejects and recover: what they settle, what they requeue, and at which place.

use super::prelude::*;

/// Declares a queue `q` with the messages 1 to `count`, of which the channel holds the first `taken` unacked.
fn taken(ch: &Channel<'_>, count: u32, taken: u32) {
    ch.queue("q", &[]);
    for body in 1..=count {
        ch.publish_to("q", &body.to_string());
    }
    for number in 1..=taken {
        let left = count - number;
        assert_eq!(ch.get("q"), format!("basic.get-ok {number} /q: {number} (+{left})"));
    }
}

#[test]
fn an_ack_of_an_unknown_tag_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 1, 1);
    let unknown = |tag, method| format!("406 PRECONDITION_FAILED - unknown delivery tag {tag} ({method})");
    ch.expect_refusal(&basic::Ack { delivery_tag: 9, multiple: false }, &unknown(9, "basic.ack"));
    ch.expect_refusal(&basic::Ack { delivery_tag: 9, multiple: true }, &unknown(9, "basic.ack"));
    ch.expect_refusal(&basic::Nack { delivery_tag: 9, ..Default::default() }, &unknown(9, "basic.nack"));
    ch.expect_refusal(&basic::Reject { delivery_tag: 9, requeue: true }, &unknown(9, "basic.reject"));
    ch.expect_refusal(&basic::Ack { delivery_tag: 0, multiple: false }, &unknown(0, "basic.ack"));
    ch.wait_for_messages("q", 1);
}

#[test]
fn a_second_ack_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 2, 2);
    ch.ack(1, false);
    ch.ack(1, false);
    ch.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
    ch.wait_for_messages("q", 1);
    assert_eq!(ch.get("q"), "basic.get-ok 1 redelivered /q: 2 (+0)");
}

#[test]
fn an_ack_on_another_channel_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    taken(&ch, 1, 1);
    other.ack(1, false);
    other.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
    ch.ack(1, false);
    ch.expect_nothing("q");
}

#[test]
fn an_ack_of_a_no_ack_delivery_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "m");
    assert_eq!(ch.take("q").as_deref(), Some("m"));
    ch.ack(1, false);
    ch.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
}

#[test]
fn a_multiple_ack_of_tag_zero_settles_everything() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 3, 2);
    ch.ack(0, true);
    ch.ack(0, true);
    ch.ack(1, false);
    ch.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
    assert_eq!(ch.drain("q"), ["3"]);
}

#[test]
fn a_multiple_ack_settles_earlier_deliveries_only() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 4, 4);
    ch.ack(2, false);
    ch.ack(3, true);
    ch.close();
    let other = peer.channel(2);
    other.wait_for_messages("q", 1);
    assert_eq!(other.drain("q"), ["4"]);
}

#[test]
fn a_multiple_ack_of_a_settled_tag_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 3, 3);
    ch.ack(2, false);
    ch.ack(2, true);
    ch.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 2 (basic.ack)");
    ch.wait_for_messages("q", 2);
}

#[test]
fn a_requeued_message_returns_to_its_old_place() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 5, 3);
    ch.nack(2, false, true);
    ch.wait_for_messages("q", 3);
    assert_eq!(ch.get("q"), "basic.get-ok 4 redelivered /q: 2 (+2)");
    ch.nack(3, false, true);
    ch.nack(1, false, true);
    ch.nack(4, false, true);
    assert_eq!(ch.drain("q"), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_multiple_nack_requeues_all_in_order() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 5, 4);
    ch.nack(3, true, true);
    assert_eq!(ch.drain("q"), ["1", "2", "3", "5"]);
    ch.nack(0, true, true);
    assert_eq!(ch.drain("q"), ["4"]);
}

#[test]
fn a_multiple_nack_may_drop_all() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 4, 3);
    ch.nack(2, true, false);
    ch.nack(3, true, true);
    assert_eq!(ch.drain("q"), ["3", "4"]);
}

#[test]
fn only_requeued_messages_are_marked_as_redelivered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 2, 1);
    ch.reject(1, true);
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: 1 (+1)");
    assert_eq!(ch.get("q"), "basic.get-ok 3 /q: 2 (+0)");
}

#[test]
fn unacked_messages_of_a_closed_connection_are_requeued_in_order() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let (gone, peer) = (stage.connect(), stage.connect());
    let ch = gone.channel(1);
    let declare = queue::Declare { queue: &ch.name("q"), durable: true, ..Default::default() };
    ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    ch.get_message("q");
    ch.get_message("q");
    gone.cut();
    let ch = peer.channel(1);
    ch.wait_for_messages("q", 3);
    assert_eq!(ch.get("q"), "basic.get-ok 1 redelivered /q: 1 (+2)");
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: 2 (+1)");
    assert_eq!(ch.get("q"), "basic.get-ok 3 /q: 3 (+0)");
}

#[test]
fn a_get_from_an_empty_queue_returns_get_empty() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn recover_requeues_unacked_messages() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 3, 2);
    ch.expect_reply(&basic::Recover { requeue: true }, "basic.recover-ok");
    assert_eq!(ch.get("q"), "basic.get-ok 3 redelivered /q: 1 (+2)");
    ch.ack(1, false);
    ch.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
}

#[test]
fn recover_redelivers_to_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.publish_to("q", "m");
    ch.expect("basic.deliver c 1 /q: m");
    ch.send(&basic::Recover { requeue: true });
    let mut came = [ch.next(), ch.next()];
    came.sort();
    assert_eq!(came, ["basic.deliver c 2 redelivered /q: m", "basic.recover-ok"]);
}

#[test]
fn recover_async_requeues_without_a_reply() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 1, 1);
    ch.send(&basic::RecoverAsync { requeue: true });
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: 1 (+0)");
}

#[test]
fn recover_to_the_same_consumer_ends_the_connection_with_540() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.expect_connection_error(
        1,
        &basic::Recover { requeue: false },
        "540 NOT_IMPLEMENTED - requeue=false (basic.recover)",
    );
    let peer = stage.connect();
    peer.channel(1);
    peer.expect_connection_error(
        1,
        &basic::RecoverAsync { requeue: false },
        "540 NOT_IMPLEMENTED - requeue=false (basic.recover-async)",
    );
}

#[test]
fn each_channel_numbers_deliveries_and_gets_together() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    taken(&ch, 4, 1);
    assert_eq!(other.get("q"), "basic.get-ok 1 /q: 2 (+2)");
    assert_eq!(ch.take("q").as_deref(), Some("3"));
    ch.consume("q", "c");
    ch.expect("basic.deliver c 3 /q: 4");
}
