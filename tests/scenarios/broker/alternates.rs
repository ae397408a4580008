//! Alternate exchanges: where unroutable messages go.

use super::prelude::*;

#[test]
fn an_unroutable_message_goes_to_the_alternate_exchange_with_its_exchange_and_key() {
    let stage = Stage::new();
    stage.delete_at_end(&["main", "rest"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("rest", "fanout", &[]);
    let rest = &ch.name("rest");
    ch.exchange("main", "direct", &[("alternate-exchange", rest.into())]);
    for queue in ["known", "left"] {
        ch.queue(queue, &[]);
    }
    ch.bind("known", "main", "k", &[]);
    ch.bind("left", "rest", "", &[]);
    ch.publish("main", "k", "found");
    ch.publish("main", "other", "lost");
    assert_eq!(ch.get("known"), "basic.get-ok 1 main/k: found (+0)");
    assert_eq!(ch.get("left"), "basic.get-ok 2 main/other: lost (+0)");
}

#[test]
fn alternate_exchanges_are_tried_in_turn() {
    let stage = Stage::new();
    stage.delete_at_end(&["a", "b", "c"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let (b, c) = (&ch.name("b"), &ch.name("c"));
    ch.exchange("c", "fanout", &[]);
    ch.exchange("b", "direct", &[("alternate-exchange", c.into())]);
    ch.exchange("a", "direct", &[("alternate-exchange", b.into())]);
    for queue in ["in-b", "in-c"] {
        ch.queue(queue, &[]);
    }
    ch.bind("in-b", "b", "b", &[]);
    ch.bind("in-c", "c", "", &[]);
    ch.publish("a", "b", "for b");
    ch.publish("a", "c", "for c");
    assert_eq!(ch.drain("in-b"), ["for b"]);
    assert_eq!(ch.drain("in-c"), ["for c"]);
}

#[test]
fn two_exchanges_may_be_alternates_of_each_other() {
    let stage = Stage::new();
    stage.delete_at_end(&["a", "b"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let (a, b) = (&ch.name("a"), &ch.name("b"));
    ch.exchange("a", "direct", &[("alternate-exchange", b.into())]);
    ch.exchange("b", "direct", &[("alternate-exchange", a.into())]);
    ch.select_confirms();
    ch.publish_mandatory("a", "nowhere", "around");
    ch.expect("basic.return 312 NO_ROUTE a/nowhere: around");
    ch.expect_ack(1);
}

#[test]
fn an_alternate_exchange_may_be_missing() {
    let stage = Stage::new();
    stage.delete_at_end(&["x", "late"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let late = &ch.name("late");
    ch.exchange("x", "direct", &[("alternate-exchange", late.into())]);
    ch.queue("q", &[]);
    ch.publish_mandatory("x", "k", "too early");
    ch.expect("basic.return 312 NO_ROUTE x/k: too early");
    ch.exchange("late", "fanout", &[]);
    ch.bind("q", "late", "", &[]);
    ch.publish_mandatory("x", "k", "in time");
    assert_eq!(ch.drain("q"), ["in time"]);
}

#[test]
fn a_message_routed_by_an_alternate_exchange_is_not_returned() {
    let stage = Stage::new();
    stage.delete_at_end(&["x", "rest"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("rest", "fanout", &[]);
    ch.exchange("x", "direct", &[("alternate-exchange", (&ch.name("rest")).into())]);
    ch.queue("q", &[]);
    ch.bind("q", "rest", "", &[]);
    ch.select_confirms();
    ch.publish_mandatory("x", "k", "kept");
    ch.expect_ack(1);
    assert_eq!(ch.drain("q"), ["kept"]);
}

#[test]
fn a_bound_exchange_without_a_route_uses_its_own_alternate() {
    let stage = Stage::new();
    stage.delete_at_end(&["source", "behind", "rest"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("source", "fanout", &[]);
    ch.exchange("rest", "fanout", &[]);
    ch.exchange("behind", "direct", &[("alternate-exchange", (&ch.name("rest")).into())]);
    ch.bind_exchange("behind", "source", "", &[]);
    ch.queue("direct", &[]);
    ch.queue("left", &[]);
    ch.bind("direct", "source", "", &[]);
    ch.bind("left", "rest", "", &[]);
    ch.publish("source", "k", "both");
    assert_eq!((ch.drain("direct"), ch.drain("left")), (vec!["both".to_owned()], vec!["both".to_owned()]));
}

#[test]
fn an_exchange_bound_to_an_exchange_without_queues_does_not_use_its_alternate() {
    let stage = Stage::new();
    stage.delete_at_end(&["source", "empty", "rest"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("rest", "fanout", &[]);
    ch.exchange("empty", "fanout", &[]);
    ch.exchange("source", "fanout", &[("alternate-exchange", (&ch.name("rest")).into())]);
    ch.bind_exchange("empty", "source", "", &[]);
    ch.queue("left", &[]);
    ch.bind("left", "rest", "", &[]);
    ch.publish_mandatory("source", "k", "lost");
    ch.expect("basic.return 312 NO_ROUTE source/k: lost");
    assert!(ch.drain("left").is_empty());
}

#[test]
fn an_alternate_exchange_that_is_not_a_string_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let arguments = table(&[("alternate-exchange", 5.into())]);
    let arguments = arguments.as_ref_table();
    let declare = exchange::Declare { exchange: &ch.name("x"), kind: "direct", arguments, ..Default::default() };
    ch.expect_refusal(
        &declare,
        "406 PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in \
         vhost '/' (exchange.declare)",
    );
}
