//! Channels: opening, closing, and using them again.

use super::prelude::*;

#[test]
fn a_channel_that_was_closed_can_be_opened_again_and_counts_anew() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.to("q", "m");
    ch.confirms();
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
    ch.close();
    let ch = peer.channel(1);
    ch.has("q", 1);
    assert_eq!(ch.get("q"), "basic.get-ok 1 redelivered /q: m (+0)");
    ch.to("q", "n");
    ch.quiet("q");
}

#[test]
fn what_comes_after_a_fault_is_ignored_until_it_is_acknowledged() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish("missing", "k", "m");
    ch.to("q", "ignored");
    ch.sends(&queue::Declare { queue: &ch.name("q"), passive: true, ..Default::default() });
    ch.closes("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
    assert_eq!(ch.counts("q"), "messages=0 consumers=0");
}

#[test]
fn both_ends_may_close_a_channel_at_once() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.publish("missing", "k", "m");
    ch.sends(&channel::Close { reply_code: 200, reply_text: "goodbye", ..Default::default() });
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
    peer.lane(1).sends(&channel::Open {});
    peer.faults("504 CHANNEL_ERROR");
}

#[test]
fn using_a_channel_that_is_not_open_ends_the_connection_with_504() {
    let stage = Stage::new();
    let peer = stage.connect();
    let declare = queue::Declare { queue: "q", passive: true, ..Default::default() };
    peer.lane(5).sends(&declare);
    peer.faults("504 CHANNEL_ERROR");
}

#[test]
fn using_a_channel_that_was_closed_ends_the_connection_with_504() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.close();
    let declare = queue::Declare { queue: "q", passive: true, ..Default::default() };
    peer.lane(1).sends(&declare);
    peer.faults("504 CHANNEL_ERROR");
}

#[test]
fn a_channel_takes_its_consumers_with_it() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.consume("q", "c");
    assert_eq!(ch.counts("q"), "messages=0 consumers=1");
    other.close();
    while ch.counts("q") != "messages=0 consumers=0" {}
    ch.to("q", "m");
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
}

#[test]
fn flow_may_be_asked_to_go_on_but_not_to_stop() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.answers(&channel::Flow { active: true }, "channel.flow-ok true");
    peer.dies(1, &channel::Flow { active: false }, "540 NOT_IMPLEMENTED - active=false (channel.flow)");
}

#[test]
fn an_access_request_is_answered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let request = hopmq_proto::method::access::Request { realm: "/data", ..Default::default() };
    ch.answers(&request, "access.request-ok");
}

#[test]
fn channels_may_be_opened_in_any_order_up_to_the_highest() {
    let stage = Stage::new();
    let peer = stage.connect();
    for id in [2047, 1, 1000] {
        peer.channel(id);
    }
    for id in [1000, 2047, 1] {
        peer.lane(id).close();
    }
    peer.close();
}

#[test]
fn a_fault_on_one_channel_leaves_the_others_alone() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (one, two) = (peer.channel(1), peer.channel(2));
    two.queue("q", &[]);
    two.consume("q", "c");
    one.refuses(&tx::Commit {}, "406 PRECONDITION_FAILED - channel is not transactional (tx.commit)");
    two.to("q", "m");
    two.expect("basic.deliver c 1 /q: m");
}
