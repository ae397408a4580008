//! Routing by direct, fanout and default exchanges.

use super::prelude::*;

#[test]
fn the_default_exchange_routes_to_a_queue_by_its_name() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("one", &[]);
    ch.queue("two", &[]);
    ch.publish_to("two", "for two");
    ch.publish_to("three", "for a missing queue");
    assert!(ch.take("one").is_none());
    assert_eq!(ch.get("two"), "basic.get-ok 1 /two: for two (+0)");
}

#[test]
fn the_default_exchange_cannot_be_bound_unbound_or_deleted() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let q = &ch.name("q");
    let refused = "403 ACCESS_REFUSED - operation not permitted on the default exchange";
    ch.expect_refusal(
        &queue::Bind { queue: q, routing_key: "k", ..Default::default() },
        &format!("{refused} (queue.bind)"),
    );
    ch.expect_refusal(
        &queue::Unbind { queue: q, routing_key: q, ..Default::default() },
        &format!("{refused} (queue.unbind)"),
    );
    ch.expect_refusal(&exchange::Delete::default(), &format!("{refused} (exchange.delete)"));
    let bind = exchange::Bind { source: "", destination: "amq.fanout", ..Default::default() };
    ch.expect_refusal(&bind, &format!("{refused} (exchange.bind)"));
    let bind = exchange::Bind { source: "amq.fanout", destination: "", ..Default::default() };
    ch.expect_refusal(&bind, &format!("{refused} (exchange.bind)"));
    let unbind = exchange::Unbind { source: "amq.fanout", destination: "", ..Default::default() };
    ch.expect_refusal(&unbind, &format!("{refused} (exchange.unbind)"));
}

#[test]
fn the_default_exchange_cannot_be_declared() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let declare = exchange::Declare { exchange: "", kind: "direct", durable: true, ..Default::default() };
    let refused = "403 ACCESS_REFUSED - operation not permitted on the default exchange (exchange.declare)";
    ch.expect_refusal(&declare, refused);
    ch.expect_refusal(&exchange::Declare { passive: true, ..declare }, refused);
}

#[test]
fn a_direct_exchange_compares_the_whole_key() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    for key in ["a", "a.*", "#", "", "größe"] {
        ch.bind("q", "x", key, &[]);
    }
    for key in ["a", "A", "a.b", "a.*", "", " ", "#", "größe", "aa"] {
        ch.publish("x", key, key);
    }
    assert_eq!(ch.drain("q"), ["a", "a.*", "", "#", "größe"]);
}

#[test]
fn a_direct_exchange_routes_to_all_queues_bound_with_the_key() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    for queue in ["one", "two", "three"] {
        ch.queue(queue, &[]);
    }
    ch.bind("one", "x", "k", &[]);
    ch.bind("two", "x", "k", &[]);
    ch.bind("three", "x", "other", &[]);
    ch.publish("x", "k", "m");
    assert_eq!((ch.drain("one"), ch.drain("two")), (vec!["m".to_owned()], vec!["m".to_owned()]));
    assert!(ch.drain("three").is_empty());
}

#[test]
fn a_fanout_exchange_ignores_keys_and_delivers_once_for_several_bindings() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "fanout", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "x", "a", &[]);
    ch.bind("q", "x", "b", &[]);
    ch.publish("x", "a", "1");
    ch.publish("x", "zzz", "2");
    assert_eq!(ch.drain("q"), ["1", "2"]);
}

#[test]
fn the_predeclared_exchanges_route_by_their_types() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let own = &stage.name("key");
    ch.bind("q", "amq.direct", own, &[]);
    ch.bind("q", "amq.topic", &format!("{own}.*"), &[]);
    ch.bind("q", "amq.headers", "", &[("own", own.into())]);
    ch.bind("q", "amq.match", "", &[("own", own.into())]);
    ch.publish("amq.direct", own, "direct");
    ch.publish("amq.topic", &format!("{own}.x"), "topic");
    let header = Properties::new().with_header("own", own);
    ch.publish_with("amq.headers", "", "headers", &header);
    ch.publish_with("amq.match", "", "match", &header);
    assert_eq!(ch.drain("q"), ["direct", "topic", "headers", "match"]);
    // Other scenarios use this exchange as well.
    ch.bind("q", "amq.fanout", "", &[]);
    ch.publish("amq.fanout", "", own);
    assert!(ch.drain("q").contains(own));
}

#[test]
fn the_predeclared_exchanges_are_durable_and_of_their_types() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        let declare = exchange::Declare { exchange: name, kind, durable: true, ..Default::default() };
        ch.expect_reply(&declare, "exchange.declare-ok");
        ch.expect_refusal(
            &exchange::Declare { durable: false, ..declare },
            &format!(
                "406 PRECONDITION_FAILED - inequivalent arg 'durable' for exchange '{name}' in vhost '/': \
                 received 'false' but current is 'true' (exchange.declare)"
            ),
        );
    }
}

#[test]
fn publishing_to_a_missing_exchange_is_404() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.publish("missing", "k", "lost");
    ch.expect_close("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
}

#[test]
fn a_key_of_255_bytes_is_routed() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let key = "k".repeat(255);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "x", &key, &[]);
    ch.publish("x", &key, "long");
    ch.publish("x", &key[..254], "short");
    assert_eq!(ch.drain("q"), ["long"]);
}
