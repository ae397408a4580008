//! Acks, nacks, rejects, recover: what is settled, what comes back, and where to.

use super::prelude::*;

/// A queue `q` with the messages 1 to `count`, of which the first `taken` are under way to the channel.
fn taken(ch: &Channel<'_>, count: u32, taken: u32) {
    ch.queue("q", &[]);
    for body in 1..=count {
        ch.to("q", &body.to_string());
    }
    for number in 1..=taken {
        let left = count - number;
        assert_eq!(ch.get("q"), format!("basic.get-ok {number} /q: {number} (+{left})"));
    }
}

#[test]
fn an_ack_of_a_tag_that_was_never_given_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 1, 1);
    let unknown = |tag, method| format!("406 PRECONDITION_FAILED - unknown delivery tag {tag} ({method})");
    ch.refuses(&basic::Ack { delivery_tag: 9, multiple: false }, &unknown(9, "basic.ack"));
    ch.refuses(&basic::Ack { delivery_tag: 9, multiple: true }, &unknown(9, "basic.ack"));
    ch.refuses(&basic::Nack { delivery_tag: 9, ..Default::default() }, &unknown(9, "basic.nack"));
    ch.refuses(&basic::Reject { delivery_tag: 9, requeue: true }, &unknown(9, "basic.reject"));
    ch.refuses(&basic::Ack { delivery_tag: 0, multiple: false }, &unknown(0, "basic.ack"));
    ch.has("q", 1);
}

#[test]
fn a_second_ack_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 2, 2);
    ch.ack(1, false);
    ch.ack(1, false);
    ch.closes("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
    ch.has("q", 1);
    assert_eq!(ch.get("q"), "basic.get-ok 1 redelivered /q: 2 (+0)");
}

#[test]
fn an_ack_on_another_channel_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    taken(&ch, 1, 1);
    other.ack(1, false);
    other.closes("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
    ch.ack(1, false);
    ch.quiet("q");
}

#[test]
fn an_ack_of_what_was_delivered_without_acks_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.to("q", "m");
    assert_eq!(ch.take("q").as_deref(), Some("m"));
    ch.ack(1, false);
    ch.closes("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
}

#[test]
fn an_ack_of_all_with_tag_zero_settles_whatever_there_is() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 3, 2);
    ch.ack(0, true);
    ch.ack(0, true);
    ch.ack(1, false);
    ch.closes("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
    assert_eq!(ch.drain("q"), ["3"]);
}

#[test]
fn an_ack_of_many_settles_what_came_before_and_leaves_what_came_after() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 4, 4);
    ch.ack(2, false);
    ch.ack(3, true);
    ch.close();
    let other = peer.channel(2);
    other.has("q", 1);
    assert_eq!(other.drain("q"), ["4"]);
}

#[test]
fn an_ack_of_many_up_to_a_tag_that_is_settled_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 3, 3);
    ch.ack(2, false);
    ch.ack(2, true);
    ch.closes("406 PRECONDITION_FAILED - unknown delivery tag 2 (basic.ack)");
    ch.has("q", 2);
}

#[test]
fn what_is_given_back_takes_its_old_place() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 5, 3);
    ch.nack(2, false, true);
    ch.has("q", 3);
    assert_eq!(ch.get("q"), "basic.get-ok 4 redelivered /q: 2 (+2)");
    ch.nack(3, false, true);
    ch.nack(1, false, true);
    ch.nack(4, false, true);
    assert_eq!(ch.drain("q"), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_nack_of_many_gives_all_back_in_their_order() {
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
fn a_nack_of_many_may_give_all_up() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 4, 3);
    ch.nack(2, true, false);
    ch.nack(3, true, true);
    assert_eq!(ch.drain("q"), ["3", "4"]);
}

#[test]
fn only_what_came_back_is_marked_as_redelivered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 2, 1);
    ch.reject(1, true);
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: 1 (+1)");
    assert_eq!(ch.get("q"), "basic.get-ok 3 /q: 2 (+0)");
}

#[test]
fn what_a_closed_connection_had_comes_back_in_its_order() {
    let stage = Stage::new();
    stage.leaves(&["q"]);
    let (gone, peer) = (stage.connect(), stage.connect());
    let ch = gone.channel(1);
    let declare = queue::Declare { queue: &ch.name("q"), ..Default::default() };
    ch.answers(&declare, "queue.declare-ok q messages=0 consumers=0");
    for body in ["1", "2", "3"] {
        ch.to("q", body);
    }
    ch.got("q");
    ch.got("q");
    gone.cut();
    let ch = peer.channel(1);
    ch.has("q", 3);
    assert_eq!(ch.get("q"), "basic.get-ok 1 redelivered /q: 1 (+2)");
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: 2 (+1)");
    assert_eq!(ch.get("q"), "basic.get-ok 3 /q: 3 (+0)");
}

#[test]
fn a_get_of_an_empty_queue_is_empty() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn recover_gives_back_what_is_under_way() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 3, 2);
    ch.answers(&basic::Recover { requeue: true }, "basic.recover-ok");
    assert_eq!(ch.get("q"), "basic.get-ok 3 redelivered /q: 1 (+2)");
    ch.ack(1, false);
    ch.closes("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
}

#[test]
fn recover_lets_consumers_get_it_again() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.consume("q", "c");
    ch.to("q", "m");
    ch.expect("basic.deliver c 1 /q: m");
    ch.sends(&basic::Recover { requeue: true });
    let mut came = [ch.next(), ch.next()];
    came.sort();
    assert_eq!(came, ["basic.deliver c 2 redelivered /q: m", "basic.recover-ok"]);
}

#[test]
fn recover_async_gives_back_and_does_not_answer() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    taken(&ch, 1, 1);
    ch.sends(&basic::RecoverAsync { requeue: true });
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: 1 (+0)");
}

#[test]
fn recover_to_the_same_consumer_ends_the_connection_with_540() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.dies(1, &basic::Recover { requeue: false }, "540 NOT_IMPLEMENTED - requeue=false (basic.recover)");
    let peer = stage.connect();
    peer.channel(1);
    peer.dies(1, &basic::RecoverAsync { requeue: false }, "540 NOT_IMPLEMENTED - requeue=false (basic.recover-async)");
}

#[test]
fn delivery_tags_count_deliveries_and_gets_alike_on_each_channel() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    taken(&ch, 4, 1);
    assert_eq!(other.get("q"), "basic.get-ok 1 /q: 2 (+2)");
    assert_eq!(ch.take("q").as_deref(), Some("3"));
    ch.consume("q", "c");
    ch.expect("basic.deliver c 3 /q: 4");
}
