//! Channels: opening, closing, and reopening them.

use super::prelude::*;

#[test]
fn a_reopened_channel_restarts_its_delivery_tags() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "m");
    ch.select_confirms();
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
    ch.close();
    let ch = peer.channel(1);
    ch.wait_for_messages("q", 1);
    assert_eq!(ch.get("q"), "basic.get-ok 1 redelivered /q: m (+0)");
    ch.publish_to("q", "n");
    ch.expect_nothing("q");
}

#[test]
fn methods_after_a_channel_error_are_ignored_until_close_ok() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish("missing", "k", "m");
    ch.publish_to("q", "ignored");
    ch.send(&queue::Declare { queue: &ch.name("q"), passive: true, ..Default::default() });
    ch.expect_close("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
}

#[test]
fn both_peers_may_close_a_channel_at_once() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.publish("missing", "k", "m");
    ch.send(&channel::Close { reply_code: 200, reply_text: "closed by the test", ..Default::default() });
    let mut came = [ch.next(), ch.next()];
    came.sort();
    let close = "channel.close 404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)";
    assert_eq!(came, [close, "channel.close-ok"]);
    peer.close();
}

#[test]
fn opening_an_open_channel_ends_the_connection_with_504() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.unopened_channel(1).send(&channel::Open {});
    peer.expect_violation("504 CHANNEL_ERROR");
}

#[test]
fn using_a_channel_that_is_not_open_ends_the_connection_with_504() {
    let stage = Stage::new();
    let peer = stage.connect();
    let declare = queue::Declare { queue: "q", passive: true, ..Default::default() };
    peer.unopened_channel(5).send(&declare);
    peer.expect_violation("504 CHANNEL_ERROR");
}

#[test]
fn using_a_channel_that_was_closed_ends_the_connection_with_504() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.close();
    let declare = queue::Declare { queue: "q", passive: true, ..Default::default() };
    peer.unopened_channel(1).send(&declare);
    peer.expect_violation("504 CHANNEL_ERROR");
}

#[test]
fn closing_a_channel_cancels_its_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.consume("q", "c");
    assert_eq!(ch.counts("q"), "messages=0 consumers=1");
    other.close();
    while ch.counts("q") != "messages=0 consumers=0" {}
    ch.publish_to("q", "m");
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
}

#[test]
fn channel_flow_can_be_resumed_but_not_stopped() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.expect_reply(&channel::Flow { active: true }, "channel.flow-ok true");
    peer.expect_connection_error(
        1,
        &channel::Flow { active: false },
        "540 NOT_IMPLEMENTED - active=false (channel.flow)",
    );
}

#[test]
fn an_access_request_is_answered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let request = hopmq_proto::method::access::Request { realm: "/data", ..Default::default() };
    ch.expect_reply(&request, "access.request-ok");
}

#[test]
fn channels_may_be_opened_in_any_order_up_to_the_maximum() {
    let stage = Stage::new();
    let peer = stage.connect();
    for id in [2047, 1, 1000] {
        peer.channel(id);
    }
    for id in [1000, 2047, 1] {
        peer.unopened_channel(id).close();
    }
    peer.close();
}

#[test]
fn an_error_on_one_channel_does_not_affect_others() {
    let stage = Stage::new();
    let peer = stage.connect();
    let one = peer.channel(1);
    let two = peer.channel(2);
    two.queue("q", &[]);
    two.consume("q", "c");
    one.expect_refusal(&tx::Commit {}, "406 PRECONDITION_FAILED - channel is not transactional (tx.commit)");
    two.publish_to("q", "m");
    two.expect("basic.deliver c 1 /q: m");
}
