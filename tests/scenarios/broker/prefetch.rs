//! Prefetch: the number of unacked deliveries.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Whether a channel's consumers share its prefetch. Since 4.3 each consumer has it for itself, and `releases.rs` has
/// the scenarios of that.
fn channels_share() -> bool {
    let share = release() < Release::V4_3;
    if !share {
        eprintln!("SKIPPED: since RabbitMQ 4.3 the consumers of a channel share no prefetch");
    }
    share
}

fn fill(ch: &Channel<'_>, queue: &str, count: u32) {
    for body in 1..=count {
        ch.publish_to(queue, &body.to_string());
    }
    ch.wait_for_messages(queue, count);
}

#[test]
fn a_prefetch_applies_to_each_consumer_started_after_it() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 10);
    ch.prefetch(1, false);
    ch.consume("q", "one");
    ch.expect("basic.deliver one 1 /q: 1");
    ch.prefetch(2, false);
    ch.consume("q", "two");
    ch.expect("basic.deliver two 2 /q: 2");
    ch.expect("basic.deliver two 3 /q: 3");
    ch.expect_nothing("q");
    ch.ack(1, false);
    ch.expect("basic.deliver one 4 /q: 4");
    ch.expect_nothing("q");
    ch.ack(3, true);
    ch.expect("basic.deliver two 5 /q: 5");
    ch.expect("basic.deliver two 6 /q: 6");
    ch.expect_nothing("q");
}

#[test]
fn a_prefetch_of_zero_is_no_limit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 50);
    ch.prefetch(1, false);
    ch.prefetch(0, false);
    ch.consume("q", "c");
    for number in 1..=50 {
        ch.expect(&format!("basic.deliver c {number} /q: {number}"));
    }
}

#[test]
fn a_global_prefetch_is_shared_by_all_consumers_of_the_channel() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("a", &[]);
    ch.queue("b", &[]);
    ch.prefetch(2, true);
    ch.consume("a", "a");
    ch.consume("b", "b");
    ch.publish_to("a", "a1");
    ch.expect("basic.deliver a 1 /a: a1");
    ch.publish_to("b", "b1");
    ch.expect("basic.deliver b 2 /b: b1");
    ch.publish_to("a", "a2");
    ch.publish_to("b", "b2");
    ch.wait_for_messages("a", 1);
    ch.wait_for_messages("b", 1);
    ch.ack(2, true);
    let mut came = [ch.message().text(), ch.message().text()];
    came.sort();
    assert_eq!(came, ["a2", "b2"]);
}

#[test]
fn global_and_consumer_prefetch_both_apply() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 10);
    ch.prefetch(2, false);
    ch.prefetch(3, true);
    ch.consume("q", "a");
    ch.expect("basic.deliver a 1 /q: 1");
    ch.expect("basic.deliver a 2 /q: 2");
    ch.expect_nothing("q");
    ch.consume("q", "b");
    ch.expect("basic.deliver b 3 /q: 3");
    ch.expect_nothing("q");
    ch.ack(1, false);
    assert_eq!(ch.message().text(), "4");
    ch.expect_nothing("q");
}

#[test]
fn a_consumer_prefetch_ends_the_global_one() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 3);
    ch.prefetch(1, true);
    ch.prefetch(2, false);
    ch.consume("q", "c");
    ch.expect("basic.deliver c 1 /q: 1");
    ch.expect("basic.deliver c 2 /q: 2");
    ch.expect_nothing("q");
}

#[test]
fn a_larger_global_prefetch_applies_at_once() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 5);
    ch.prefetch(1, true);
    ch.consume("q", "c");
    ch.expect("basic.deliver c 1 /q: 1");
    ch.expect_nothing("q");
    ch.send(&basic::Qos { prefetch_count: 3, global: true });
    let mut came = [ch.next(), ch.next(), ch.next()];
    came.sort();
    assert_eq!(came, ["basic.deliver c 2 /q: 2", "basic.deliver c 3 /q: 3", "basic.qos-ok"]);
    ch.expect_nothing("q");
}

#[test]
fn removing_the_global_prefetch_delivers_everything() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 3);
    ch.prefetch(1, true);
    ch.consume("q", "c");
    ch.expect("basic.deliver c 1 /q: 1");
    ch.send(&basic::Qos { prefetch_count: 0, global: true });
    let mut came = [ch.next(), ch.next(), ch.next()];
    came.sort();
    assert_eq!(came, ["basic.deliver c 2 /q: 2", "basic.deliver c 3 /q: 3", "basic.qos-ok"]);
}

#[test]
fn consumers_that_share_a_prefetch_take_turns() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 7);
    ch.prefetch(2, true);
    for tag in ["a", "b", "c"] {
        ch.consume("q", tag);
        if tag == "a" {
            ch.expect("basic.deliver a 1 /q: 1");
            ch.expect("basic.deliver a 2 /q: 2");
        }
    }
    for (settled, tag) in (1..).zip(["a", "b", "c", "a", "b"]) {
        ch.ack(settled, false);
        let next = settled + 2;
        ch.expect(&format!("basic.deliver {tag} {next} /q: {next}"));
    }
}

#[test]
fn queues_whose_consumers_share_a_prefetch_take_turns() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for queue in ["a", "b"] {
        ch.queue(queue, &[]);
        (0..30).for_each(|_| ch.publish_to(queue, queue));
        ch.wait_for_messages(queue, 30);
    }
    ch.prefetch(1, true);
    ch.consume("a", "a");
    ch.expect("basic.deliver a 1 /a: a");
    ch.consume("b", "b");
    let mut from_b = 0;
    for settled in 1..30 {
        ch.ack(settled, false);
        from_b += u32::from(ch.message().text() == "b");
    }
    // RabbitMQ draws lots.
    assert!((1..29).contains(&from_b), "{from_b} of 29 came from the second queue");
}

#[test]
fn a_consumer_without_acks_waits_for_the_prefetch_of_its_channel() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 6);
    ch.prefetch(2, true);
    ch.consume("q", "acks");
    ch.expect("basic.deliver acks 1 /q: 1");
    ch.expect("basic.deliver acks 2 /q: 2");
    let queue = &ch.name("q");
    let consume = basic::Consume { queue, consumer_tag: "free", no_ack: true, ..Default::default() };
    ch.expect_reply(&consume, "basic.consume-ok free");
    ch.expect_nothing("q");
    ch.ack(1, false);
    ch.expect("basic.deliver acks 3 /q: 3");
    ch.ack(2, false);
    // It does not count towards the limit.
    ch.expect("basic.deliver free 4 /q: 4");
    ch.expect("basic.deliver acks 5 /q: 5");
    ch.expect_nothing("q");
}

#[test]
fn a_requeue_frees_the_prefetch_for_the_other_consumers_of_its_channel() {
    if !channels_share() {
        return;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for queue in ["a", "b"] {
        ch.queue(queue, &[]);
    }
    fill(&ch, "a", 1);
    ch.prefetch(1, true);
    ch.consume("a", "a");
    ch.expect("basic.deliver a 1 /a: 1");
    ch.cancel("a");
    ch.consume("b", "b");
    fill(&ch, "b", 1);
    ch.nack(1, false, true);
    ch.expect("basic.deliver b 2 /b: 1");
}

#[test]
fn gets_ignore_the_prefetch() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 4);
    ch.prefetch(1, true);
    ch.consume("q", "c");
    ch.expect("basic.deliver c 1 /q: 1");
    assert_eq!(ch.get("q"), "basic.get-ok 2 /q: 2 (+2)");
    assert_eq!(ch.get("q"), "basic.get-ok 3 /q: 3 (+1)");
    ch.ack(1, false);
    ch.expect("basic.deliver c 4 /q: 4");
}

#[test]
fn a_no_ack_consumer_has_no_prefetch_limit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 5);
    ch.prefetch(1, false);
    let queue = &ch.name("q");
    let consume = basic::Consume { queue, consumer_tag: "c", no_ack: true, ..Default::default() };
    ch.expect_reply(&consume, "basic.consume-ok c");
    for number in 1..=5 {
        ch.expect(&format!("basic.deliver c {number} /q: {number}"));
    }
}

#[test]
fn rejects_and_nacks_free_the_prefetch_as_acks_do() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    fill(&ch, "q", 3);
    ch.prefetch(1, false);
    ch.consume("q", "c");
    ch.expect("basic.deliver c 1 /q: 1");
    ch.reject(1, true);
    ch.expect("basic.deliver c 2 redelivered /q: 1");
    ch.nack(2, false, false);
    ch.expect("basic.deliver c 3 /q: 2");
    ch.ack(3, false);
    ch.expect("basic.deliver c 4 /q: 3");
}

#[test]
fn a_prefetch_by_size_ends_the_connection_with_540() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    // basic.qos with prefetch-size 100, which `basic::Qos` can't express.
    peer.frame(1, 1, &[0, 60, 0, 10, 0, 0, 0, 100, 0, 0, 0]);
    peer.expect_violation("540 NOT_IMPLEMENTED");
}
