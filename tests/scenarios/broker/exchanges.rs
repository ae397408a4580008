//! Exchanges: declaring, deleting, and which declarations are equivalent.

use super::prelude::*;
use hopmq_tests::{Release, release};

#[test]
fn a_differing_declaration_names_the_first_difference() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    let x = &ch.name("x");
    let same = exchange::Declare { exchange: x, kind: "direct", ..Default::default() };
    let expect = |declare: &exchange::Declare<'_>, what: &str, received: &str, current: &str| {
        ch.expect_refusal(
            declare,
            &format!(
                "406 PRECONDITION_FAILED - inequivalent arg '{what}' for exchange 'x' in vhost '/': \
                 received '{received}' but current is '{current}' (exchange.declare)"
            ),
        );
    };
    ch.expect_reply(&same, "exchange.declare-ok");
    expect(&exchange::Declare { kind: "topic", ..same }, "type", "topic", "direct");
    expect(&exchange::Declare { durable: true, ..same }, "durable", "true", "false");
    expect(&exchange::Declare { auto_delete: true, ..same }, "auto_delete", "true", "false");
    expect(&exchange::Declare { internal: true, ..same }, "internal", "true", "false");
    expect(&exchange::Declare { kind: "fanout", durable: true, internal: true, ..same }, "type", "fanout", "direct");
}

#[test]
fn a_different_alternate_exchange_is_406() {
    let stage = Stage::new();
    stage.delete_at_end(&["plain", "x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("plain", "direct", &[]);
    ch.exchange("x", "direct", &[("alternate-exchange", "amq.fanout".into())]);
    let declare = |stem: &str, arguments: &[(&str, Value<'_>)], reason: &str| {
        let name = ch.name(stem);
        let arguments = table(arguments);
        let arguments = arguments.as_ref_table();
        let declare = exchange::Declare { exchange: &name, kind: "direct", arguments, ..Default::default() };
        ch.expect_refusal(
            &declare,
            &format!(
                "406 PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{stem}' in vhost '/': \
                 {reason} (exchange.declare)"
            ),
        );
    };
    declare(
        "plain",
        &[("alternate-exchange", "amq.fanout".into())],
        "received the value 'amq.fanout' of type 'longstr' but current is none",
    );
    declare("x", &[("alternate-exchange", "amq.topic".into())], "received 'amq.topic' but current is 'amq.fanout'");
    declare("x", &[], "received none but current is the value 'amq.fanout' of type 'longstr'");
}

#[test]
fn unknown_arguments_make_no_difference() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[("colour", "red".into())]);
    ch.exchange("x", "direct", &[("colour", 5.into())]);
    ch.exchange("x", "direct", &[]);
}

#[test]
fn an_unknown_exchange_type_ends_the_connection_with_503_or_the_channel_with_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let declare = exchange::Declare { exchange: &stage.name("x"), kind: "magic", ..Default::default() };
    if release() >= Release::V4_0 {
        ch.expect_refusal(&declare, "406 PRECONDITION_FAILED - unknown exchange type 'magic' (exchange.declare)");
    } else {
        let reason = "503 COMMAND_INVALID - unknown exchange type 'magic' (exchange.declare)";
        peer.expect_connection_error(1, &declare, reason);
    }
}

#[test]
fn declaring_a_name_that_begins_with_amq_is_403() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let declare = exchange::Declare { exchange: "amq.mine", kind: "direct", ..Default::default() };
    ch.expect_refusal(
        &declare,
        "403 ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*' (exchange.declare)",
    );
    ch.expect_refusal(
        &exchange::Declare { passive: true, ..declare },
        "404 NOT_FOUND - no exchange 'amq.mine' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn a_predeclared_exchange_cannot_be_deleted() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for exchange in ["amq.direct", "amq.topic", "amq.rabbitmq.trace"] {
        ch.expect_refusal(
            &exchange::Delete { exchange, ..Default::default() },
            &format!(
                "403 ACCESS_REFUSED - deletion of system exchange '{exchange}' in vhost '/' not allowed \
                 (exchange.delete)"
            ),
        );
    }
}

#[test]
fn a_passive_declare_checks_only_the_name() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    let (x, missing) = (&ch.name("x"), &ch.name("missing"));
    let declare = exchange::Declare { exchange: x, kind: "topic", passive: true, durable: true, ..Default::default() };
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.expect_reply(&exchange::Declare { kind: "", ..declare }, "exchange.declare-ok");
    ch.expect_refusal(
        &exchange::Declare { exchange: missing, ..declare },
        "404 NOT_FOUND - no exchange 'missing' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn deleting_a_missing_exchange_is_not_an_error() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let exchange = &ch.name("missing");
    ch.expect_reply(&exchange::Delete { exchange, ..Default::default() }, "exchange.delete-ok");
    ch.expect_reply(&exchange::Delete { exchange, if_unused: true, ..Default::default() }, "exchange.delete-ok");
}

#[test]
fn if_unused_keeps_an_exchange_in_use() {
    let stage = Stage::new();
    stage.delete_at_end(&["x", "other"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.exchange("other", "fanout", &[]);
    ch.queue("q", &[]);
    let exchange = &ch.name("x");
    let delete = exchange::Delete { exchange, if_unused: true, nowait: false };
    let refused = "406 PRECONDITION_FAILED - exchange 'x' in vhost '/' in use (exchange.delete)";
    ch.bind("q", "x", "k", &[]);
    ch.expect_refusal(&delete, refused);
    ch.unbind("q", "x", "k", &[]);
    ch.bind_exchange("other", "x", "k", &[]);
    ch.expect_refusal(&delete, refused);
    let other = &ch.name("other");
    let unbind = exchange::Unbind { destination: other, source: exchange, routing_key: "k", ..Default::default() };
    ch.expect_reply(&unbind, "exchange.unbind-ok");
    ch.bind_exchange("x", "other", "", &[]);
    ch.expect_reply(&delete, "exchange.delete-ok");
}

#[test]
fn an_auto_delete_exchange_is_deleted_with_its_last_binding() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "direct", auto_delete: true, ..Default::default() };
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.bind("q", "x", "a", &[]);
    ch.bind("q", "x", "b", &[]);
    ch.unbind("q", "x", "a", &[]);
    ch.expect_reply(&exchange::Declare { passive: true, ..declare }, "exchange.declare-ok");
    ch.unbind("q", "x", "b", &[]);
    ch.expect_refusal(
        &exchange::Declare { passive: true, ..declare },
        "404 NOT_FOUND - no exchange 'x' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn an_auto_delete_exchange_is_deleted_with_its_last_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "direct", auto_delete: true, ..Default::default() };
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.bind("q", "x", "a", &[]);
    ch.expect_reply(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    ch.expect_refusal(
        &exchange::Declare { passive: true, ..declare },
        "404 NOT_FOUND - no exchange 'x' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn an_auto_delete_exchange_that_was_never_bound_stays() {
    let stage = Stage::new();
    stage.delete_at_end(&["x", "other"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "fanout", auto_delete: true, ..Default::default() };
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.exchange("other", "fanout", &[]);
    ch.bind_exchange("x", "other", "", &[]);
    ch.expect_reply(&exchange::Delete { exchange: &ch.name("other"), ..Default::default() }, "exchange.delete-ok");
    ch.expect_reply(&exchange::Declare { passive: true, ..declare }, "exchange.declare-ok");
}

#[test]
fn auto_delete_exchanges_are_deleted_in_turn() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let (first, second) = (&ch.name("first"), &ch.name("second"));
    let declare = exchange::Declare { exchange: first, kind: "fanout", auto_delete: true, ..Default::default() };
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.expect_reply(&exchange::Declare { exchange: second, ..declare }, "exchange.declare-ok");
    ch.bind_exchange("second", "first", "", &[]);
    ch.bind("q", "second", "", &[]);
    ch.unbind("q", "second", "", &[]);
    for (name, stem) in [(second, "second"), (first, "first")] {
        ch.expect_refusal(
            &exchange::Declare { exchange: name, passive: true, ..declare },
            &format!("404 NOT_FOUND - no exchange '{stem}' in vhost '/' (exchange.declare)"),
        );
    }
}

#[test]
fn publishing_to_an_internal_exchange_is_403() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "fanout", internal: true, ..Default::default() };
    ch.expect_reply(&declare, "exchange.declare-ok");
    ch.publish("x", "", "no");
    ch.expect_close("403 ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/' (basic.publish)");
}

#[test]
fn deleting_an_exchange_removes_its_bindings() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.exchange("x", "fanout", &[]);
    ch.bind("q", "x", "", &[]);
    ch.expect_reply(&exchange::Delete { exchange: &ch.name("x"), ..Default::default() }, "exchange.delete-ok");
    ch.exchange("x", "fanout", &[]);
    ch.publish("x", "", "lost");
    assert!(ch.drain("q").is_empty());
}

#[test]
fn line_breaks_are_removed_from_names() {
    let stage = Stage::new();
    stage.delete_at_end(&["lines"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("li\nn\res", "direct", &[]);
    let passive = exchange::Declare { exchange: &ch.name("lines"), passive: true, ..Default::default() };
    ch.expect_reply(&passive, "exchange.declare-ok");
}

#[test]
fn a_nowait_declare_gets_no_reply() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "fanout", nowait: true, ..Default::default() };
    ch.send(&declare);
    ch.expect_reply(&exchange::Declare { nowait: false, ..declare }, "exchange.declare-ok");
    ch.send(&exchange::Delete { exchange: x, nowait: true, ..Default::default() });
    ch.send(&exchange::Declare { passive: true, ..declare });
    ch.expect_close("404 NOT_FOUND - no exchange 'x' in vhost '/' (exchange.declare)");
}
