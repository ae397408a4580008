//! Transactions.

use super::prelude::*;
use hopmq_tests::{Release, release};

#[test]
fn published_messages_arrive_with_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    ch.select_transactions();
    ch.publish_to("q", "1");
    ch.publish_to("q", "2");
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
    assert_eq!(other.take("q"), None);
    ch.expect_reply(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(other.drain("q"), ["1", "2"]);
    ch.publish_to("q", "3");
    assert_eq!(other.take("q"), None, "the next transaction has begun");
    ch.expect_reply(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(other.drain("q"), ["3"]);
}

#[test]
fn a_message_whose_queue_was_deleted_before_the_commit_is_not_lost_without_a_word() {
    let refused = "channel.close 406 PRECONDITION_FAILED - partial tx completion (tx.commit)";
    for (kind, mandatory) in [("classic", true), ("classic", false), ("quorum", true)] {
        let stage = Stage::new();
        let peer = stage.connect();
        let (ch, other) = (peer.channel(1), peer.channel(2));
        stage.delete_at_end(&["gone"]);
        other.durable_queue("gone", &[("x-queue-type", kind.into())]);
        ch.queue("kept", &[]);
        ch.select_transactions();
        let gone = &ch.name("gone");
        let publish = basic::Publish { routing_key: gone, mandatory, ..Default::default() };
        ch.send_message(publish, &Properties::new(), b"lost");
        ch.publish_to("kept", "kept");
        // The reply shows that both were routed.
        ch.counts("kept");
        other.expect_reply(&queue::Delete { queue: gone, ..Default::default() }, "queue.delete-ok 0");
        ch.send(&tx::Commit {});
        if release() >= Release::V4_0 && kind == "classic" {
            ch.expect(refused);
        } else {
            if release() < Release::V4_0 && mandatory {
                ch.expect("basic.return 312 NO_ROUTE /gone: lost");
            }
            ch.expect("tx.commit-ok");
        }
        assert_eq!(other.drain("kept"), ["kept"]);
    }
}

#[test]
fn a_commit_finds_a_queue_that_was_declared_again_by_its_name_or_not_at_all() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    ch.select_transactions();
    ch.publish_to("q", "m");
    ch.counts("q");
    other.expect_reply(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    other.queue("q", &[]);
    ch.send(&tx::Commit {});
    if release() >= Release::V4_0 {
        ch.expect("channel.close 406 PRECONDITION_FAILED - partial tx completion (tx.commit)");
        assert_eq!(other.take("q"), None);
    } else {
        ch.expect("tx.commit-ok");
        assert_eq!(other.drain("q"), ["m"]);
    }
}

#[test]
fn rolled_back_publishes_are_discarded() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.select_transactions();
    ch.publish_to("q", "gone");
    ch.expect_reply(&tx::Rollback {}, "tx.rollback-ok");
    ch.publish_to("q", "kept");
    ch.expect_reply(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(ch.drain("q"), ["kept"]);
}

#[test]
fn acks_take_effect_with_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.publish_to("q", "1");
    other.publish_to("q", "2");
    other.wait_for_messages("q", 2);
    ch.select_transactions();
    ch.get_message("q");
    ch.get_message("q");
    ch.ack(1, false);
    ch.expect_reply(&tx::Commit {}, "tx.commit-ok");
    ch.ack(2, false);
    ch.close();
    other.wait_for_messages("q", 1);
    assert_eq!(other.get("q"), "basic.get-ok 1 redelivered /q: 2 (+0)");
}

#[test]
fn a_rollback_discards_acks_and_keeps_messages_unacked() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "m");
    ch.select_transactions();
    ch.get_message("q");
    ch.ack(1, false);
    ch.expect_reply(&tx::Rollback {}, "tx.rollback-ok");
    assert_eq!(ch.get("q"), "basic.get-empty");
    ch.ack(1, false);
    ch.expect_reply(&tx::Commit {}, "tx.commit-ok");
    ch.ack(1, false);
    ch.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
}

#[test]
fn rejects_take_effect_with_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "m");
    ch.select_transactions();
    ch.get_message("q");
    ch.reject(1, true);
    assert_eq!(ch.get("q"), "basic.get-empty");
    ch.expect_reply(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: m (+0)");
}

#[test]
fn a_mandatory_message_is_returned_with_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.select_transactions();
    ch.publish_mandatory("amq.direct", &stage.name("nowhere"), "m");
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
    ch.send(&tx::Commit {});
    ch.expect("basic.return 312 NO_ROUTE amq.direct/nowhere: m");
    ch.expect("tx.commit-ok");
}

#[test]
fn a_publish_to_a_missing_exchange_closes_the_channel_at_once() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.select_transactions();
    ch.publish_to("q", "in the transaction");
    ch.publish("missing", "k", "m");
    ch.expect_close("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn an_unknown_tag_is_refused_at_once() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.select_transactions();
    ch.ack(5, false);
    ch.expect_close("406 PRECONDITION_FAILED - unknown delivery tag 5 (basic.ack)");
}

#[test]
fn a_commit_without_tx_select_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.expect_refusal(&tx::Commit {}, "406 PRECONDITION_FAILED - channel is not transactional (tx.commit)");
    ch.expect_refusal(&tx::Rollback {}, "406 PRECONDITION_FAILED - channel is not transactional (tx.rollback)");
}

#[test]
fn transactions_and_confirms_exclude_each_other() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.select_transactions();
    ch.select_transactions();
    ch.expect_refusal(
        &confirm::Select { nowait: false },
        "406 PRECONDITION_FAILED - cannot switch from tx to confirm mode (confirm.select)",
    );
    ch.select_confirms();
    ch.select_confirms();
    ch.expect_refusal(&tx::Select {}, "406 PRECONDITION_FAILED - cannot switch from confirm to tx mode (tx.select)");
}

#[test]
fn closing_a_channel_discards_its_transaction() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.select_transactions();
    other.publish_to("q", "gone");
    other.close();
    ch.expect_nothing("q");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn declarations_do_not_wait_for_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.select_transactions();
    ch.queue("q", &[]);
    ch.expect_reply(&tx::Rollback {}, "tx.rollback-ok");
    assert_eq!(other.counts("q"), "messages=0 consumers=0");
}
