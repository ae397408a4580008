//! Exchanges: declaring, deleting, and what makes two declarations the same.

use super::prelude::*;

#[test]
fn a_declaration_that_differs_names_the_first_difference() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    let x = &ch.name("x");
    let same = exchange::Declare { exchange: x, kind: "direct", ..Default::default() };
    let expect = |declare: &exchange::Declare<'_>, what: &str, received: &str, current: &str| {
        ch.refuses(
            declare,
            &format!(
                "406 PRECONDITION_FAILED - inequivalent arg '{what}' for exchange 'x' in vhost '/': \
                 received '{received}' but current is '{current}' (exchange.declare)"
            ),
        );
    };
    ch.answers(&same, "exchange.declare-ok");
    expect(&exchange::Declare { kind: "topic", ..same }, "type", "topic", "direct");
    expect(&exchange::Declare { durable: true, ..same }, "durable", "true", "false");
    expect(&exchange::Declare { auto_delete: true, ..same }, "auto_delete", "true", "false");
    expect(&exchange::Declare { internal: true, ..same }, "internal", "true", "false");
    expect(&exchange::Declare { kind: "fanout", durable: true, internal: true, ..same }, "type", "fanout", "direct");
}

#[test]
fn a_declaration_with_another_alternate_exchange_differs() {
    let stage = Stage::new();
    stage.leaves(&["plain", "x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("plain", "direct", &[]);
    ch.exchange("x", "direct", &[("alternate-exchange", "amq.fanout".into())]);
    let declare = |stem: &str, arguments: &[(&str, Value<'_>)], reason: &str| {
        let (name, arguments) = (ch.name(stem), table(arguments));
        let arguments = arguments.as_ref_table();
        let declare = exchange::Declare { exchange: &name, kind: "direct", arguments, ..Default::default() };
        ch.refuses(
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
fn arguments_that_mean_nothing_make_no_difference() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[("colour", "red".into())]);
    ch.exchange("x", "direct", &[("colour", 5.into())]);
    ch.exchange("x", "direct", &[]);
}

#[test]
fn an_unknown_kind_of_exchange_ends_the_connection_with_503() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    let declare = exchange::Declare { exchange: &stage.name("x"), kind: "magic", ..Default::default() };
    peer.dies(1, &declare, "503 COMMAND_INVALID - unknown exchange type 'magic' (exchange.declare)");
}

#[test]
fn a_name_that_begins_with_amq_is_403() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let declare = exchange::Declare { exchange: "amq.mine", kind: "direct", ..Default::default() };
    ch.refuses(
        &declare,
        "403 ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*' (exchange.declare)",
    );
    ch.refuses(
        &exchange::Declare { passive: true, ..declare },
        "404 NOT_FOUND - no exchange 'amq.mine' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn a_predeclared_exchange_is_nobodys_to_delete() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for exchange in ["amq.direct", "amq.topic", "amq.rabbitmq.trace"] {
        ch.refuses(
            &exchange::Delete { exchange, ..Default::default() },
            &format!(
                "403 ACCESS_REFUSED - deletion of system exchange '{exchange}' in vhost '/' not allowed \
                 (exchange.delete)"
            ),
        );
    }
}

#[test]
fn a_passive_declare_looks_at_nothing_but_the_name() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    let (x, missing) = (&ch.name("x"), &ch.name("missing"));
    let declare = exchange::Declare { exchange: x, kind: "topic", passive: true, durable: true, ..Default::default() };
    ch.answers(&declare, "exchange.declare-ok");
    ch.answers(&exchange::Declare { kind: "", ..declare }, "exchange.declare-ok");
    ch.refuses(
        &exchange::Declare { exchange: missing, ..declare },
        "404 NOT_FOUND - no exchange 'missing' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn deleting_what_is_not_there_is_no_fault() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let exchange = &ch.name("missing");
    ch.answers(&exchange::Delete { exchange, ..Default::default() }, "exchange.delete-ok");
    ch.answers(&exchange::Delete { exchange, if_unused: true, ..Default::default() }, "exchange.delete-ok");
}

#[test]
fn an_exchange_in_use_is_not_deleted_if_unused() {
    let stage = Stage::new();
    stage.leaves(&["x", "other"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("x", "direct", &[]);
    ch.exchange("other", "fanout", &[]);
    ch.queue("q", &[]);
    let exchange = &ch.name("x");
    let delete = exchange::Delete { exchange, if_unused: true, nowait: false };
    let refused = "406 PRECONDITION_FAILED - exchange 'x' in vhost '/' in use (exchange.delete)";
    ch.bind("q", "x", "k", &[]);
    ch.refuses(&delete, refused);
    ch.unbind("q", "x", "k", &[]);
    ch.bind_exchange("other", "x", "k", &[]);
    ch.refuses(&delete, refused);
    let other = &ch.name("other");
    let unbind = exchange::Unbind { destination: other, source: exchange, routing_key: "k", ..Default::default() };
    ch.answers(&unbind, "exchange.unbind-ok");
    ch.bind_exchange("x", "other", "", &[]);
    ch.answers(&delete, "exchange.delete-ok");
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "direct", auto_delete: true, ..Default::default() };
    ch.answers(&declare, "exchange.declare-ok");
    ch.bind("q", "x", "a", &[]);
    ch.bind("q", "x", "b", &[]);
    ch.unbind("q", "x", "a", &[]);
    ch.answers(&exchange::Declare { passive: true, ..declare }, "exchange.declare-ok");
    ch.unbind("q", "x", "b", &[]);
    ch.refuses(
        &exchange::Declare { passive: true, ..declare },
        "404 NOT_FOUND - no exchange 'x' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_queue() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "direct", auto_delete: true, ..Default::default() };
    ch.answers(&declare, "exchange.declare-ok");
    ch.bind("q", "x", "a", &[]);
    ch.answers(&queue::Delete { queue: &ch.name("q"), ..Default::default() }, "queue.delete-ok 0");
    ch.refuses(
        &exchange::Declare { passive: true, ..declare },
        "404 NOT_FOUND - no exchange 'x' in vhost '/' (exchange.declare)",
    );
}

#[test]
fn an_auto_delete_exchange_that_nothing_was_bound_to_stays() {
    let stage = Stage::new();
    stage.leaves(&["x", "other"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "fanout", auto_delete: true, ..Default::default() };
    ch.answers(&declare, "exchange.declare-ok");
    ch.exchange("other", "fanout", &[]);
    ch.bind_exchange("x", "other", "", &[]);
    ch.answers(&exchange::Delete { exchange: &ch.name("other"), ..Default::default() }, "exchange.delete-ok");
    ch.answers(&exchange::Declare { passive: true, ..declare }, "exchange.declare-ok");
}

#[test]
fn auto_delete_exchanges_go_one_after_the_other() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let (first, second) = (&ch.name("first"), &ch.name("second"));
    let declare = exchange::Declare { exchange: first, kind: "fanout", auto_delete: true, ..Default::default() };
    ch.answers(&declare, "exchange.declare-ok");
    ch.answers(&exchange::Declare { exchange: second, ..declare }, "exchange.declare-ok");
    ch.bind_exchange("second", "first", "", &[]);
    ch.bind("q", "second", "", &[]);
    ch.unbind("q", "second", "", &[]);
    for (name, stem) in [(second, "second"), (first, "first")] {
        ch.refuses(
            &exchange::Declare { exchange: name, passive: true, ..declare },
            &format!("404 NOT_FOUND - no exchange '{stem}' in vhost '/' (exchange.declare)"),
        );
    }
}

#[test]
fn nobody_publishes_to_an_internal_exchange() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "fanout", internal: true, ..Default::default() };
    ch.answers(&declare, "exchange.declare-ok");
    ch.publish("x", "", "no");
    ch.closes("403 ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/' (basic.publish)");
}

#[test]
fn a_deleted_exchange_takes_its_bindings_with_it() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.exchange("x", "fanout", &[]);
    ch.bind("q", "x", "", &[]);
    ch.answers(&exchange::Delete { exchange: &ch.name("x"), ..Default::default() }, "exchange.delete-ok");
    ch.exchange("x", "fanout", &[]);
    ch.publish("x", "", "lost");
    assert!(ch.drain("q").is_empty());
}

#[test]
fn a_line_break_in_a_name_is_taken_out() {
    let stage = Stage::new();
    stage.leaves(&["lines"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.exchange("li\nn\res", "direct", &[]);
    let passive = exchange::Declare { exchange: &ch.name("lines"), passive: true, ..Default::default() };
    ch.answers(&passive, "exchange.declare-ok");
}

#[test]
fn a_declaration_that_wants_no_answer_gets_none() {
    let stage = Stage::new();
    stage.leaves(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let x = &ch.name("x");
    let declare = exchange::Declare { exchange: x, kind: "fanout", nowait: true, ..Default::default() };
    ch.sends(&declare);
    ch.answers(&exchange::Declare { nowait: false, ..declare }, "exchange.declare-ok");
    ch.sends(&exchange::Delete { exchange: x, nowait: true, ..Default::default() });
    ch.sends(&exchange::Declare { passive: true, ..declare });
    ch.closes("404 NOT_FOUND - no exchange 'x' in vhost '/' (exchange.declare)");
}
