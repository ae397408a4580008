//! Transactions.

use super::prelude::*;

#[test]
fn what_is_published_is_there_after_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    ch.transactions();
    ch.to("q", "1");
    ch.to("q", "2");
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
    assert_eq!(other.take("q"), None);
    ch.answers(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(other.drain("q"), ["1", "2"]);
    ch.to("q", "3");
    assert_eq!(other.take("q"), None, "the next transaction has begun");
    ch.answers(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(other.drain("q"), ["3"]);
}

#[test]
fn what_is_rolled_back_was_never_published() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.transactions();
    ch.to("q", "gone");
    ch.answers(&tx::Rollback {}, "tx.rollback-ok");
    ch.to("q", "kept");
    ch.answers(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(ch.drain("q"), ["kept"]);
}

#[test]
fn acks_count_from_the_commit_on() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.to("q", "1");
    other.to("q", "2");
    other.has("q", 2);
    ch.transactions();
    ch.got("q");
    ch.got("q");
    ch.ack(1, false);
    ch.answers(&tx::Commit {}, "tx.commit-ok");
    ch.ack(2, false);
    ch.close();
    other.has("q", 1);
    assert_eq!(other.get("q"), "basic.get-ok 1 redelivered /q: 2 (+0)");
}

#[test]
fn a_rollback_forgets_acks_and_the_messages_stay_under_way() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.to("q", "m");
    ch.transactions();
    ch.got("q");
    ch.ack(1, false);
    ch.answers(&tx::Rollback {}, "tx.rollback-ok");
    assert_eq!(ch.get("q"), "basic.get-empty");
    ch.ack(1, false);
    ch.answers(&tx::Commit {}, "tx.commit-ok");
    ch.ack(1, false);
    ch.closes("406 PRECONDITION_FAILED - unknown delivery tag 1 (basic.ack)");
}

#[test]
fn a_reject_counts_from_the_commit_on_as_well() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.to("q", "m");
    ch.transactions();
    ch.got("q");
    ch.reject(1, true);
    assert_eq!(ch.get("q"), "basic.get-empty");
    ch.answers(&tx::Commit {}, "tx.commit-ok");
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: m (+0)");
}

#[test]
fn a_mandatory_message_is_returned_by_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.transactions();
    ch.mandatory("amq.direct", &stage.name("nowhere"), "m");
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
    ch.sends(&tx::Commit {});
    ch.expect("basic.return 312 NO_ROUTE amq.direct/nowhere: m");
    ch.expect("tx.commit-ok");
}

#[test]
fn a_publish_to_an_exchange_that_is_not_there_closes_the_channel_at_once() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.transactions();
    ch.to("q", "in the transaction");
    ch.publish("missing", "k", "m");
    ch.closes("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn an_unknown_tag_is_refused_at_once() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.transactions();
    ch.ack(5, false);
    ch.closes("406 PRECONDITION_FAILED - unknown delivery tag 5 (basic.ack)");
}

#[test]
fn a_channel_without_transactions_commits_nothing() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.refuses(&tx::Commit {}, "406 PRECONDITION_FAILED - channel is not transactional (tx.commit)");
    ch.refuses(&tx::Rollback {}, "406 PRECONDITION_FAILED - channel is not transactional (tx.rollback)");
}

#[test]
fn transactions_and_confirms_exclude_each_other() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.transactions();
    ch.transactions();
    ch.refuses(
        &confirm::Select { nowait: false },
        "406 PRECONDITION_FAILED - cannot switch from tx to confirm mode (confirm.select)",
    );
    ch.confirms();
    ch.confirms();
    ch.refuses(&tx::Select {}, "406 PRECONDITION_FAILED - cannot switch from confirm to tx mode (tx.select)");
}

#[test]
fn a_transaction_that_is_open_when_its_channel_closes_is_forgotten() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.transactions();
    other.to("q", "gone");
    other.close();
    ch.quiet("q");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn declarations_do_not_wait_for_the_commit() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.transactions();
    ch.queue("q", &[]);
    ch.answers(&tx::Rollback {}, "tx.rollback-ok");
    assert_eq!(other.counts("q"), "messages=0 consumers=0");
}
