//! Bindings of queues and of exchanges.

use super::prelude::*;

#[test]
fn binding_twice_creates_one_binding() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "x", "k", &[]);
    ch.bind("q", "x", "k", &[]);
    ch.publish("x", "k", "once");
    assert_eq!(ch.drain("q"), ["once"]);
    ch.unbind("q", "x", "k", &[]);
    ch.publish("x", "k", "never");
    assert!(ch.drain("q").is_empty());
}

#[test]
fn bindings_with_different_arguments_are_separate() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "x", "k", &[("n", 1.into())]);
    ch.bind("q", "x", "k", &[("n", 2.into())]);
    ch.publish("x", "k", "once");
    ch.unbind("q", "x", "k", &[("n", 1.into())]);
    ch.publish("x", "k", "still");
    ch.unbind("q", "x", "k", &[("n", 2.into())]);
    ch.publish("x", "k", "never");
    assert_eq!(ch.drain("q"), ["once", "still"]);
}

#[test]
fn unbinding_a_missing_binding_is_not_an_error() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    ch.unbind("q", "x", "k", &[]);
    ch.unbind("missing", "x", "k", &[]);
    ch.unbind("q", "missing", "k", &[]);
}

#[test]
fn binding_a_missing_queue_or_exchange_is_404() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    let (q, x, missing) = (&ch.name("q"), &ch.name("x"), &ch.name("missing"));
    let bind = queue::Bind { queue: missing, exchange: x, routing_key: "k", ..Default::default() };
    ch.expect_refusal(&bind, "404 NOT_FOUND - no queue 'missing' in vhost '/' (queue.bind)");
    let bind = queue::Bind { queue: q, exchange: missing, routing_key: "k", ..Default::default() };
    ch.expect_refusal(&bind, "404 NOT_FOUND - no exchange 'missing' in vhost '/' (queue.bind)");
    let bind = exchange::Bind { source: x, destination: missing, ..Default::default() };
    ch.expect_refusal(&bind, "404 NOT_FOUND - no exchange 'missing' in vhost '/' (exchange.bind)");
    let bind = exchange::Bind { source: missing, destination: x, ..Default::default() };
    ch.expect_refusal(&bind, "404 NOT_FOUND - no exchange 'missing' in vhost '/' (exchange.bind)");
    let unbind = exchange::Unbind { source: missing, destination: x, ..Default::default() };
    ch.expect_reply(&unbind, "exchange.unbind-ok");
}

#[test]
fn deleting_a_queue_removes_its_bindings() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "fanout", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "x", "", &[]);
    ch.expect_reply(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    ch.queue("q", &[]);
    ch.publish_mandatory("x", "", "lost");
    ch.expect("basic.return 312 NO_ROUTE x/: lost");
}

#[test]
fn exchanges_forward_what_their_bindings_match() {
    let stage = Stage::new();
    stage.delete_at_end(&["source", "middle", "last"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("source", "topic", &[]);
    ch.exchange("middle", "direct", &[]);
    ch.exchange("last", "fanout", &[]);
    ch.bind_exchange("middle", "source", "a.#", &[]);
    ch.bind_exchange("last", "middle", "a.b", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "last", "", &[]);
    for key in ["a.b", "a.c", "b.a"] {
        ch.publish("source", key, key);
    }
    assert_eq!(ch.get("q"), "basic.get-ok 1 source/a.b: a.b (+0)");
    assert_eq!(ch.get("q"), "basic.get-empty");
}

#[test]
fn a_queue_reached_by_several_routes_gets_one_copy() {
    let stage = Stage::new();
    stage.delete_at_end(&["source", "left", "right"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    for exchange in ["source", "left", "right"] {
        ch.exchange(exchange, "fanout", &[]);
    }
    ch.queue("q", &[]);
    for exchange in ["left", "right"] {
        ch.bind_exchange(exchange, "source", "", &[]);
        ch.bind("q", exchange, "", &[]);
    }
    ch.bind("q", "source", "", &[]);
    ch.publish("source", "", "once");
    assert_eq!(ch.drain("q"), ["once"]);
}

#[test]
fn exchanges_bound_in_a_cycle_route_once() {
    let stage = Stage::new();
    stage.delete_at_end(&["a", "b", "c"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    for exchange in ["a", "b", "c"] {
        ch.exchange(exchange, "fanout", &[]);
    }
    for (destination, source) in [("b", "a"), ("c", "b"), ("a", "c"), ("a", "a")] {
        ch.bind_exchange(destination, source, "", &[]);
    }
    ch.queue("q", &[]);
    ch.bind("q", "c", "", &[]);
    ch.publish("a", "", "once");
    assert_eq!(ch.drain("q"), ["once"]);
}

#[test]
fn an_internal_exchange_receives_through_its_bindings() {
    let stage = Stage::new();
    stage.delete_at_end(&["source", "inner"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("source", "fanout", &[]);
    let inner = &ch.name("inner");
    let declare = exchange::Declare { exchange: inner, kind: "fanout", internal: true, ..Default::default() };
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.bind_exchange("inner", "source", "", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "inner", "", &[]);
    ch.publish("source", "", "in");
    assert_eq!(ch.drain("q"), ["in"]);
}

#[test]
fn a_bind_without_a_queue_name_means_the_last_declared_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("first", &[]);
    ch.queue("last", &[]);
    let own = &stage.name("own");
    let bind = queue::Bind { exchange: "amq.topic", routing_key: own, ..Default::default() };
    ch.expect_reply(&bind, "queue.bind-ok");
    ch.publish("amq.topic", own, "for the last");
    assert_eq!(ch.drain("last"), ["for the last"]);
    // Without a queue name and a routing key, the key is the queue's name.
    ch.expect_reply(&queue::Bind { exchange: "amq.direct", routing_key: own, ..Default::default() }, "queue.bind-ok");
    ch.expect_reply(&queue::Bind { exchange: "amq.direct", ..Default::default() }, "queue.bind-ok");
    ch.publish("amq.direct", own, "by its key");
    ch.publish("amq.direct", &ch.name("last"), "by its name");
    assert_eq!(ch.drain("last"), ["by its key", "by its name"]);
}

#[test]
fn an_empty_queue_name_without_a_declaration_is_404() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let reason = "404 NOT_FOUND - no previously declared queue";
    ch.expect_refusal(&queue::Bind { exchange: "amq.fanout", ..Default::default() }, &format!("{reason} (queue.bind)"));
    ch.expect_refusal(&queue::Purge::default(), &format!("{reason} (queue.purge)"));
    ch.expect_refusal(&queue::Delete::default(), &format!("{reason} (queue.delete)"));
    ch.expect_refusal(&basic::Get::default(), &format!("{reason} (basic.get)"));
    ch.expect_refusal(&basic::Consume::default(), &format!("{reason} (basic.consume)"));
}

#[test]
fn a_nowait_bind_gets_no_reply() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let own = &stage.name("own");
    ch.send(&queue::Bind { exchange: "amq.direct", routing_key: own, nowait: true, ..Default::default() });
    ch.publish("amq.direct", own, "m");
    assert_eq!(ch.get("q"), format!("basic.get-ok 1 amq.direct/own: m (+0)"));
}
