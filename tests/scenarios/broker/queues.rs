//! Queues: declaring, deleting, purging, counting, and exclusive queues.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Returns a declaration of the durable queue `name`. RabbitMQ 4.3 refuses one that is neither durable nor exclusive.
fn named(name: &str) -> queue::Declare<'_> {
    queue::Declare { queue: name, durable: true, ..Default::default() }
}

#[test]
fn a_differing_declaration_names_the_first_difference() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    // 4.3 has no queue that is neither durable nor exclusive.
    let durable = release() >= Release::V4_3;
    let plain = queue::Declare { durable, ..named(q) };
    ch.expect_reply(&plain, "queue.declare-ok q messages=0 consumers=0");
    let mut others = vec![(queue::Declare { auto_delete: true, ..plain }, "auto_delete")];
    if !durable {
        others.push((named(q), "durable"));
        others.push((queue::Declare { auto_delete: true, ..named(q) }, "durable"));
    }
    for (declare, what) in others {
        ch.expect_refusal(
            &declare,
            &format!(
                "406 PRECONDITION_FAILED - inequivalent arg '{what}' for queue 'q' in vhost '/': \
                 received 'true' but current is 'false' (queue.declare)"
            ),
        );
    }
    // This comes before all other differences.
    ch.expect_refusal(
        &queue::Declare { exclusive: true, auto_delete: true, ..plain },
        "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not match that of the \
         original declaration. (queue.declare)",
    );
}

#[test]
fn an_exclusive_queue_is_never_durable() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let own = queue::Declare { queue: &ch.name("q"), exclusive: true, ..Default::default() };
    for durable in [false, true, false] {
        ch.expect_reply(&queue::Declare { durable, ..own }, "queue.declare-ok q messages=0 consumers=0");
    }
}

#[test]
fn each_differing_argument_is_named_with_both_values() {
    let stage = Stage::new();
    stage.delete_at_end(&["q", "plain"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let full: [(&str, Value<'_>); 9] = [
        ("x-expires", 60_000.into()),
        ("x-message-ttl", 60_000.into()),
        ("x-dead-letter-exchange", "amq.fanout".into()),
        ("x-dead-letter-routing-key", "k".into()),
        ("x-max-length", 10.into()),
        ("x-max-length-bytes", 100.into()),
        ("x-overflow", "drop-head".into()),
        ("x-max-priority", 5.into()),
        ("x-single-active-consumer", true.into()),
    ];
    let q = &ch.name("q");
    let arguments = table(&full);
    ch.expect_reply(
        &queue::Declare { arguments: arguments.as_ref_table(), ..named(q) },
        "queue.declare-ok q messages=0 consumers=0",
    );
    let others: [(Value<'_>, &str, &str); 9] = [
        (7.into(), "received '7' but current is '60000'", "the value '60000' of type 'signedint'"),
        (7.into(), "received '7' but current is '60000'", "the value '60000' of type 'signedint'"),
        (
            "amq.topic".into(),
            "received 'amq.topic' but current is 'amq.fanout'",
            "the value 'amq.fanout' of type 'longstr'",
        ),
        ("other".into(), "received 'other' but current is 'k'", "the value 'k' of type 'longstr'"),
        (7.into(), "received '7' but current is '10'", "the value '10' of type 'signedint'"),
        (7.into(), "received '7' but current is '100'", "the value '100' of type 'signedint'"),
        (
            "reject-publish".into(),
            "received 'reject-publish' but current is 'drop-head'",
            "the value 'drop-head' of type 'longstr'",
        ),
        (7.into(), "received '7' but current is '5'", "the value '5' of type 'signedint'"),
        (false.into(), "received 'false' but current is 'true'", "the value 'true' of type 'bool'"),
    ];
    for (at, (value, changed, current)) in others.into_iter().enumerate() {
        let name = full[at].0;
        let mut arguments = table(&full);
        arguments.insert(name, value);
        let refused = format!("406 PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'q' in vhost '/': ");
        ch.expect_refusal(
            &queue::Declare { arguments: arguments.as_ref_table(), ..named(q) },
            &format!("{refused}{changed} (queue.declare)"),
        );
        // A dead-letter routing key needs a dead-letter exchange.
        let without: Vec<_> =
            full.iter().copied().enumerate().filter(|&(index, _)| index != at).map(|(_, entry)| entry).collect();
        if name == "x-dead-letter-exchange" {
            continue;
        }
        ch.expect_refusal(
            &queue::Declare { arguments: table(&without).as_ref_table(), ..named(q) },
            &format!("{refused}received none but current is {current} (queue.declare)"),
        );
    }
}

#[test]
fn an_additional_argument_is_a_difference() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    ch.expect_reply(&named(q), "queue.declare-ok q messages=0 consumers=0");
    for (name, value, shown) in [
        ("x-message-ttl", Value::from(5), "the value '5' of type 'signedint'"),
        ("x-max-length", Value::I64(5), "the value '5' of type 'long'"),
        ("x-dead-letter-exchange", "amq.fanout".into(), "the value 'amq.fanout' of type 'longstr'"),
        ("x-single-active-consumer", true.into(), "the value 'true' of type 'bool'"),
    ] {
        ch.expect_queue_refusal(
            "q",
            &[(name, value)],
            &format!(
                "406 PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'q' in vhost '/': received {shown} \
                 but current is none"
            ),
        );
    }
}

#[test]
fn number_widths_and_unknown_arguments_make_no_difference() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    for ttl in [Value::I32(100), Value::I64(100), Value::U8(100), Value::I16(100), Value::U32(100)] {
        let arguments = table(&[("x-message-ttl", ttl), ("colour", ttl)]);
        ch.expect_reply(
            &queue::Declare { arguments: arguments.as_ref_table(), ..named(q) },
            "queue.declare-ok q messages=0 consumers=0",
        );
    }
}

#[test]
fn queue_names_chosen_by_the_broker_are_unique() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let mut names = Vec::new();
    for _ in 0..2 {
        let line = ch.ask(&queue::Declare { exclusive: true, ..Default::default() });
        let name = line.split(' ').nth(1).expect("declare-ok has a name").to_owned();
        assert!(name.starts_with("amq.gen-") && name.len() == 30, "{line}");
        names.push(name);
    }
    assert_ne!(names[0], names[1]);
    for name in ["amq.gen-mine", &names[0]] {
        ch.expect_refusal(
            &queue::Declare { exclusive: true, ..named(name) },
            &format!("403 ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*' (queue.declare)"),
        );
    }
    let passive = queue::Declare { passive: true, ..named(&names[0]) };
    ch.expect_reply(&passive, &format!("queue.declare-ok {} messages=0 consumers=0", names[0]));
}

#[test]
fn a_passive_declare_of_a_missing_queue_is_404() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let passive = queue::Declare { passive: true, ..named("amq.gen-missing") };
    ch.expect_refusal(&passive, "404 NOT_FOUND - no queue 'amq.gen-missing' in vhost '/' (queue.declare)");
    let missing = &ch.name("missing");
    let not_found = |method| format!("404 NOT_FOUND - no queue 'missing' in vhost '/' ({method})");
    ch.expect_refusal(&queue::Declare { passive: true, ..named(missing) }, &not_found("queue.declare"));
    ch.expect_refusal(&queue::Purge { queue: missing, ..Default::default() }, &not_found("queue.purge"));
    ch.expect_refusal(&basic::Get { queue: missing, ..Default::default() }, &not_found("basic.get"));
    ch.expect_refusal(&basic::Consume { queue: missing, ..Default::default() }, &not_found("basic.consume"));
    ch.expect_reply(&queue::Delete { queue: missing, ..Default::default() }, "queue.delete-ok 0");
}

#[test]
fn an_exclusive_queue_is_405_for_other_connections() {
    let stage = Stage::new();
    let (owner, stranger) = (stage.connect(), stage.connect());
    owner.channel(1).queue("q", &[]);
    let own = &stage.name("own");
    owner.unopened_channel(1).bind("q", "amq.direct", own, &[]);
    let ch = stranger.channel(1);
    let q = &ch.name("q");
    let locked = |method| {
        format!(
            "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
             originally declared on another connection or the exclusive property value does not match that of the \
             original declaration. ({method})"
        )
    };
    ch.expect_refusal(&named(q), &locked("queue.declare"));
    ch.expect_refusal(&queue::Declare { exclusive: true, ..named(q) }, &locked("queue.declare"));
    ch.expect_refusal(&queue::Declare { passive: true, ..named(q) }, &locked("queue.declare"));
    ch.expect_refusal(
        &queue::Bind { queue: q, exchange: "amq.direct", routing_key: own, ..Default::default() },
        &locked("queue.bind"),
    );
    ch.expect_refusal(
        &queue::Unbind { queue: q, exchange: "amq.direct", routing_key: own, ..Default::default() },
        &locked("queue.unbind"),
    );
    ch.expect_refusal(&queue::Purge { queue: q, ..Default::default() }, &locked("queue.purge"));
    ch.expect_refusal(&queue::Delete { queue: q, ..Default::default() }, &locked("queue.delete"));
    ch.expect_refusal(&basic::Get { queue: q, ..Default::default() }, &locked("basic.get"));
    ch.expect_refusal(&basic::Consume { queue: q, ..Default::default() }, &locked("basic.consume"));
    // Other connections may publish to the queue.
    ch.publish_mandatory("", q, "from a stranger");
    ch.expect_reply(&basic::Qos { prefetch_count: 0, global: false }, "basic.qos-ok");
    owner.unopened_channel(1).wait_for_messages("q", 1);
}

#[test]
fn an_exclusive_queue_is_deleted_however_its_connection_ends() {
    let stage = Stage::new();
    let witness = stage.connect();
    let ch = witness.channel(1);
    let (closed, cut) = (stage.connect(), stage.connect());
    closed.channel(1).queue("closed", &[]);
    cut.channel(1).queue("cut", &[]);
    closed.close();
    ch.expect_refusal(
        &queue::Declare { passive: true, ..named(&ch.name("closed")) },
        "404 NOT_FOUND - no queue 'closed' in vhost '/' (queue.declare)",
    );
    cut.cut();
    let name = &ch.name("cut");
    let passive = queue::Declare { passive: true, ..named(name) };
    loop {
        let line = ch.ask(&passive);
        ch.send(&channel::CloseOk {});
        ch.expect_reply(&channel::Open {}, "channel.open-ok");
        if line.starts_with("channel.close 404 ") {
            return;
        }
        assert!(line.starts_with("channel.close 405 "), "{line}");
    }
}

#[test]
fn an_auto_delete_queue_stays_until_its_last_consumer_is_cancelled() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    let declare = queue::Declare { auto_delete: true, ..named(q) };
    ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
    ch.consume("q", "a");
    ch.consume("q", "b");
    ch.cancel("a");
    ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=1");
    ch.cancel("b");
    let gone = "404 NOT_FOUND - no queue 'q' in vhost '/' (queue.declare)";
    ch.expect_refusal(&queue::Declare { passive: true, ..declare }, gone);
}

#[test]
fn an_auto_delete_queue_is_deleted_when_its_consumers_channel_closes() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    let q = &ch.name("q");
    let declare = queue::Declare { auto_delete: true, ..named(q) };
    ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
    other.consume("q", "a");
    other.close();
    let gone = "channel.close 404 NOT_FOUND - no queue 'q' in vhost '/' (queue.declare)";
    while ch.ask(&queue::Declare { passive: true, ..declare }) != gone {}
}

#[test]
fn a_get_does_not_delete_an_auto_delete_queue() {
    let stage = Stage::new();
    stage.delete_at_end(&["q"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    let declare = queue::Declare { auto_delete: true, ..named(q) };
    ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
    ch.publish_to("q", "m");
    assert_eq!(ch.take("q").as_deref(), Some("m"));
    ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
}

#[test]
fn delete_ok_counts_the_ready_messages() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: 1 (+2)");
    let delete = queue::Delete { queue: &ch.name("q"), ..Default::default() };
    ch.expect_reply(&delete, "queue.delete-ok 2");
    ch.expect_reply(&delete, "queue.delete-ok 0");
}

#[test]
fn purge_ok_counts_the_ready_messages_and_unacked_ones_stay() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for body in ["1", "2", "3"] {
        ch.publish_to("q", body);
    }
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: 1 (+2)");
    let purge = queue::Purge { queue: &ch.name("q"), nowait: false };
    ch.expect_reply(&purge, "queue.purge-ok 2");
    ch.expect_reply(&purge, "queue.purge-ok 0");
    ch.nack(1, false, true);
    assert_eq!(ch.get("q"), "basic.get-ok 2 redelivered /q: 1 (+0)");
}

#[test]
fn if_empty_deletes_a_queue_only_without_ready_messages() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "m");
    let delete = queue::Delete { queue: &ch.name("q"), if_empty: true, ..Default::default() };
    ch.expect_refusal(&delete, "406 PRECONDITION_FAILED - queue 'q' in vhost '/' not empty (queue.delete)");
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: m (+0)");
    ch.expect_reply(&delete, "queue.delete-ok 0");
}

#[test]
fn if_unused_deletes_a_queue_only_without_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (ch, other) = (peer.channel(1), peer.channel(2));
    ch.queue("q", &[]);
    other.consume("q", "c");
    let delete = queue::Delete { queue: &ch.name("q"), if_unused: true, ..Default::default() };
    ch.expect_refusal(&delete, "406 PRECONDITION_FAILED - queue 'q' in vhost '/' in use (queue.delete)");
    ch.expect_refusal(
        &queue::Delete { if_empty: true, ..delete },
        "406 PRECONDITION_FAILED - queue 'q' in vhost '/' in use (queue.delete)",
    );
    other.cancel("c");
    ch.expect_reply(&queue::Delete { if_empty: true, ..delete }, "queue.delete-ok 0");
}

#[test]
fn declare_ok_counts_ready_messages_and_consumers() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.prefetch(1, false);
    ch.consume("q", "a");
    ch.consume("q", "b");
    for body in ["1", "2", "3", "4"] {
        ch.publish_to("q", body);
    }
    for _ in 0..2 {
        ch.next();
    }
    // RabbitMQ may reply before the queue has all published messages.
    ch.wait_for_messages("q", 2);
    let q = &ch.name("q");
    ch.expect_reply(&queue::Declare { exclusive: true, ..named(q) }, "queue.declare-ok q messages=2 consumers=2");
}

#[test]
fn nowait_queue_methods_get_no_reply() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    ch.send(&queue::Declare { exclusive: true, nowait: true, ..named(q) });
    ch.publish_to("q", "m");
    ch.wait_for_messages("q", 1);
    ch.send(&queue::Purge { queue: q, nowait: true });
    ch.expect_reply(&queue::Declare { passive: true, ..named(q) }, "queue.declare-ok q messages=0 consumers=0");
    ch.send(&queue::Delete { queue: q, nowait: true, ..Default::default() });
    ch.expect_refusal(
        &queue::Declare { passive: true, ..named(q) },
        "404 NOT_FOUND - no queue 'q' in vhost '/' (queue.declare)",
    );
}

#[test]
fn an_unused_queue_expires_and_a_used_one_does_not() {
    let stage = Stage::new();
    stage.delete_at_end(&["x"]);
    let peer = stage.connect();
    let ch = peer.channel(1);
    // The exchange is deleted with its only binding. A passive declare of the exchange is no use of the queue.
    let x = &ch.name("x");
    let exchange = exchange::Declare { exchange: x, kind: "fanout", auto_delete: true, ..Default::default() };
    ch.expect_reply(&exchange, "exchange.declare-ok");
    ch.queue("used", &[("x-expires", 60.into())]);
    ch.consume("used", "c");
    ch.queue("unused", &[("x-expires", 60.into())]);
    ch.bind("unused", "x", "", &[]);
    let passive = exchange::Declare { passive: true, ..exchange };
    while ch.ask(&passive) == "exchange.declare-ok" {}
    ch.send(&channel::CloseOk {});
    let other = peer.channel(2);
    other.expect_refusal(
        &queue::Declare { passive: true, ..named(&other.name("unused")) },
        "404 NOT_FOUND - no queue 'unused' in vhost '/' (queue.declare)",
    );
}

#[test]
fn consumers_gets_and_declares_keep_a_queue_from_expiring() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("kept", &[("x-expires", 40.into())]);
    ch.consume("kept", "c");
    ch.queue("got", &[("x-expires", 4_000.into())]);
    ch.queue("clock", &[]);
    ch.queue(
        "tick",
        &[
            ("x-message-ttl", 100.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", (&ch.name("clock")).into()),
        ],
    );
    ch.consume("clock", "tock");
    ch.publish_to("tick", "100 ms");
    ch.expect("basic.deliver tock 1 /clock: 100 ms");
    assert_eq!(ch.counts("kept"), "messages=0 consumers=1");
    assert_eq!(ch.get("got"), "basic.get-empty");
}
