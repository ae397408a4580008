//! Direct, fanout and default exchanges: what goes where.

use super::prelude::*;

#[test]
fn the_default_exchange_finds_a_queue_by_its_name() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("one", &[]);
    ch.queue("two", &[]);
    ch.to("two", "for two");
    ch.to("three", "for nobody");
    assert!(ch.take("one").is_none());
    assert_eq!(ch.get("two"), "basic.get-ok 1 /two: for two (+0)");
}

#[test]
fn the_default_exchange_is_nobodys_to_bind_unbind_or_delete() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let (q, refused) = (&ch.name("q"), "403 ACCESS_REFUSED - operation not permitted on the default exchange");
    ch.refuses(&queue::Bind { queue: q, routing_key: "k", ..Default::default() }, &format!("{refused} (queue.bind)"));
    ch.refuses(&queue::Unbind { queue: q, routing_key: q, ..Default::default() }, &format!("{refused} (queue.unbind)"));
    ch.refuses(&exchange::Delete::default(), &format!("{refused} (exchange.delete)"));
    let bind = exchange::Bind { source: "", destination: "amq.fanout", ..Default::default() };
    ch.refuses(&bind, &format!("{refused} (exchange.bind)"));
    let bind = exchange::Bind { source: "amq.fanout", destination: "", ..Default::default() };
    ch.refuses(&bind, &format!("{refused} (exchange.bind)"));
    let unbind = exchange::Unbind { source: "amq.fanout", destination: "", ..Default::default() };
    ch.refuses(&unbind, &format!("{refused} (exchange.unbind)"));
}

#[test]
fn the_default_exchange_is_nobodys_to_declare() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let declare = exchange::Declare { exchange: "", kind: "direct", durable: true, ..Default::default() };
    let refused = "403 ACCESS_REFUSED - operation not permitted on the default exchange (exchange.declare)";
    ch.refuses(&declare, refused);
    ch.refuses(&exchange::Declare { passive: true, ..declare }, refused);
}

#[test]
fn a_direct_exchange_compares_the_whole_key() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
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
fn a_direct_exchange_hands_one_key_to_all_queues_that_are_bound_by_it() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
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
    stage.leaves(&["x"]);
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
fn the_predeclared_exchanges_route_by_their_kinds() {
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
    // Others use this exchange as well.
    ch.bind("q", "amq.fanout", "", &[]);
    ch.publish("amq.fanout", "", own);
    assert!(ch.drain("q").contains(own));
}

#[test]
fn the_predeclared_exchanges_are_durable_and_of_their_kinds() {
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
        ch.answers(&declare, "exchange.declare-ok");
        ch.refuses(
            &exchange::Declare { durable: false, ..declare },
            &format!(
                "406 PRECONDITION_FAILED - inequivalent arg 'durable' for exchange '{name}' in vhost '/': \
                 received 'false' but current is 'true' (exchange.declare)"
            ),
        );
    }
}

#[test]
fn publishing_to_an_exchange_that_is_not_there_is_404_and_names_no_content() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.publish("missing", "k", "lost");
    ch.closes("404 NOT_FOUND - no exchange 'missing' in vhost '/' (basic.publish)");
}

#[test]
fn a_key_of_255_bytes_is_routed() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
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
