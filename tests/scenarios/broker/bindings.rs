//! Bindings: of queues and of exchanges.

use super::prelude::*;

#[test]
fn the_same_binding_twice_is_one() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
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
fn bindings_with_other_arguments_are_others() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
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
fn unbinding_what_is_not_bound_is_no_fault() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    ch.unbind("q", "x", "k", &[]);
    ch.unbind("missing", "x", "k", &[]);
    ch.unbind("q", "missing", "k", &[]);
}

#[test]
fn binding_what_is_not_there_is_404() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.queue("q", &[]);
    let (q, x, missing) = (&ch.name("q"), &ch.name("x"), &ch.name("missing"));
    let bind = queue::Bind { queue: missing, exchange: x, routing_key: "k", ..Default::default() };
    ch.refuses(&bind, "404 NOT_FOUND - no queue 'missing' in vhost '/' (queue.bind)");
    let bind = queue::Bind { queue: q, exchange: missing, routing_key: "k", ..Default::default() };
    ch.refuses(&bind, "404 NOT_FOUND - no exchange 'missing' in vhost '/' (queue.bind)");
    let bind = exchange::Bind { source: x, destination: missing, ..Default::default() };
    ch.refuses(&bind, "404 NOT_FOUND - no exchange 'missing' in vhost '/' (exchange.bind)");
    let bind = exchange::Bind { source: missing, destination: x, ..Default::default() };
    ch.refuses(&bind, "404 NOT_FOUND - no exchange 'missing' in vhost '/' (exchange.bind)");
    let unbind = exchange::Unbind { source: missing, destination: x, ..Default::default() };
    ch.answers(&unbind, "exchange.unbind-ok");
}

#[test]
fn a_deleted_queue_leaves_its_bindings() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "fanout", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "x", "", &[]);
    ch.answers(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    ch.queue("q", &[]);
    ch.mandatory("x", "", "lost");
    ch.expect("basic.return 312 NO_ROUTE x/: lost");
}

#[test]
fn exchanges_pass_on_what_their_bindings_match() {
    let stage = Stage::new();
    stage.leaves(&["source", "middle", "last"]);
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
fn a_queue_that_several_ways_lead_to_gets_one_copy() {
    let stage = Stage::new();
    stage.leaves(&["source", "left", "right"]);
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
fn exchanges_bound_in_a_circle_route_once() {
    let stage = Stage::new();
    stage.leaves(&["a", "b", "c"]);
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
fn an_internal_exchange_takes_what_is_bound_to_it() {
    let stage = Stage::new();
    stage.leaves(&["source", "inner"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("source", "fanout", &[]);
    let inner = &ch.name("inner");
    let declare = exchange::Declare { exchange: inner, kind: "fanout", internal: true, ..Default::default() };
    ch.answers(&declare, "exchange.declare-ok");
    ch.bind_exchange("inner", "source", "", &[]);
    ch.queue("q", &[]);
    ch.bind("q", "inner", "", &[]);
    ch.publish("source", "", "in");
    assert_eq!(ch.drain("q"), ["in"]);
}

#[test]
fn a_bind_without_a_queue_means_the_one_declared_last() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("first", &[]);
    ch.queue("last", &[]);
    let own = &stage.name("own");
    let bind = queue::Bind { exchange: "amq.topic", routing_key: own, ..Default::default() };
    ch.answers(&bind, "queue.bind-ok");
    ch.publish("amq.topic", own, "for the last");
    assert_eq!(ch.drain("last"), ["for the last"]);
    // Without a key as well, the key is the queue's name.
    ch.answers(&queue::Bind { exchange: "amq.direct", routing_key: own, ..Default::default() }, "queue.bind-ok");
    ch.answers(&queue::Bind { exchange: "amq.direct", ..Default::default() }, "queue.bind-ok");
    ch.publish("amq.direct", own, "by its key");
    ch.publish("amq.direct", &ch.name("last"), "by its name");
    assert_eq!(ch.drain("last"), ["by its key", "by its name"]);
}

#[test]
fn without_a_queue_and_without_a_declaration_there_is_404() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let reason = "404 NOT_FOUND - no previously declared queue";
    ch.refuses(&queue::Bind { exchange: "amq.fanout", ..Default::default() }, &format!("{reason} (queue.bind)"));
    ch.refuses(&queue::Purge::default(), &format!("{reason} (queue.purge)"));
    ch.refuses(&queue::Delete::default(), &format!("{reason} (queue.delete)"));
    ch.refuses(&basic::Get::default(), &format!("{reason} (basic.get)"));
    ch.refuses(&basic::Consume::default(), &format!("{reason} (basic.consume)"));
}

#[test]
fn a_bind_that_wants_no_answer_gets_none() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let own = &stage.name("own");
    ch.sends(&queue::Bind { exchange: "amq.direct", routing_key: own, nowait: true, ..Default::default() });
    ch.publish("amq.direct", own, "m");
    assert_eq!(ch.get("q"), format!("basic.get-ok 1 amq.direct/own: m (+0)"));
}
