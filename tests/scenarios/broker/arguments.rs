//! Invalid arguments of queues, and RabbitMQ's error texts.

use super::prelude::*;
use hopmq_tests::{Release, release};

/// Declares a queue with one invalid argument, and checks the reason of the refusal.
fn invalid(ch: &Channel<'_>, name: &str, value: Value<'_>, reason: &str) {
    ch.expect_queue_refusal(
        "q",
        &[(name, value)],
        &format!("406 PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {reason}"),
    );
}

#[test]
fn a_message_ttl_must_be_a_number_of_at_least_zero() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    invalid(&ch, "x-message-ttl", "5".into(), "\"expected integer, got longstr\"");
    invalid(&ch, "x-message-ttl", true.into(), "\"expected integer, got bool\"");
    invalid(&ch, "x-message-ttl", (-1).into(), "{value_negative,-1}");
    invalid(&ch, "x-message-ttl", Value::I64(1 << 40), "{value_too_large,1099511627776}");
    ch.queue("q", &[("x-message-ttl", Value::I64(4_294_967_295))]);
}

#[test]
fn x_expires_must_be_a_number_above_zero() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    invalid(&ch, "x-expires", 0.into(), "{value_zero,0}");
    invalid(&ch, "x-expires", (-1).into(), "{value_negative,-1}");
    invalid(&ch, "x-expires", "1".into(), "\"expected integer, got longstr\"");
    invalid(&ch, "x-expires", Value::I64(1 << 40), "{value_too_large,1099511627776}");
}

#[test]
fn a_maximum_length_must_be_a_number_of_at_least_zero() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for name in ["x-max-length", "x-max-length-bytes"] {
        invalid(&ch, name, (-1).into(), "{value_negative,-1}");
        invalid(&ch, name, "1".into(), "\"expected integer, got longstr\"");
        invalid(&ch, name, Value::F64(1.5), "\"expected integer, got double\"");
    }
    ch.queue("q", &[("x-max-length", 0.into()), ("x-max-length-bytes", Value::I64(1 << 40))]);
}

#[test]
fn a_maximum_priority_must_fit_a_byte() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    invalid(&ch, "x-max-priority", 256.into(), "{max_value_exceeded,256}");
    invalid(&ch, "x-max-priority", (-1).into(), "{value_negative,-1}");
    invalid(&ch, "x-max-priority", "1".into(), "\"expected integer, got longstr\"");
    ch.queue("zero", &[("x-max-priority", 0.into())]);
    ch.queue("most", &[("x-max-priority", 255.into())]);
}

#[test]
fn x_overflow_must_be_one_of_three_values() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    invalid(&ch, "x-overflow", "drop-tail".into(), "invalid_overflow");
    invalid(&ch, "x-overflow", 1.into(), "{unacceptable_type,signedint}");
    for overflow in ["drop-head", "reject-publish", "reject-publish-dlx"] {
        ch.queue(overflow, &[("x-overflow", overflow.into())]);
    }
}

#[test]
fn dead_letter_arguments_must_be_strings_and_a_key_needs_an_exchange() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.expect_queue_refusal(
        "q",
        &[("x-dead-letter-exchange", 1.into())],
        "406 PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
    );
    invalid(&ch, "x-dead-letter-routing-key", 1.into(), "{unacceptable_type,signedint}");
    invalid(&ch, "x-dead-letter-routing-key", "k".into(), "routing_key_but_no_dlx_defined");
    ch.queue("q", &[("x-dead-letter-exchange", "missing".into()), ("x-dead-letter-routing-key", "k".into())]);
}

#[test]
fn x_single_active_consumer_must_be_a_boolean() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    invalid(&ch, "x-single-active-consumer", 1.into(), "{unacceptable_type,signedint}");
    invalid(&ch, "x-single-active-consumer", "true".into(), "{unacceptable_type,longstr}");
}

#[test]
fn x_queue_mode_must_be_lazy_or_default() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("lazy", &[("x-queue-mode", "lazy".into())]);
    ch.queue("default", &[("x-queue-mode", "default".into())]);
}

#[test]
fn x_queue_type_must_be_classic_quorum_or_stream() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    invalid(&ch, "x-queue-type", "wonderful".into(), "\"unsupported queue type 'wonderful'\"");
    invalid(&ch, "x-queue-type", 1.into(), "{unacceptable_type,signedint}");
    ch.queue("q", &[("x-queue-type", "classic".into())]);
    ch.expect_refusal(
        &queue::Declare {
            queue: &ch.name("q"),
            exclusive: true,
            arguments: table(&[("x-queue-type", "quorum".into())]).as_ref_table(),
            ..Default::default()
        },
        "406 PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': \
         received 'quorum' but current is 'classic' (queue.declare)",
    );
}

#[test]
fn a_quorum_queue_must_be_durable_and_not_exclusive() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    let arguments = table(&[("x-queue-type", "quorum".into())]);
    let declare = queue::Declare { queue: q, arguments: arguments.as_ref_table(), ..Default::default() };
    let invalid = |what: &str| {
        format!("406 PRECONDITION_FAILED - invalid property '{what}' for queue 'q' in vhost '/' (queue.declare)")
    };
    // 4.3 refuses every queue that is neither durable nor exclusive, with another error.
    if release() < Release::V4_3 {
        ch.expect_refusal(&declare, &invalid("non-durable"));
    }
    ch.expect_refusal(&queue::Declare { durable: true, auto_delete: true, ..declare }, &invalid("auto-delete"));
    ch.expect_refusal(&queue::Declare { durable: true, exclusive: true, ..declare }, &invalid("exclusive-owner"));
}

#[test]
fn a_quorum_queue_refuses_priorities_and_lazy_mode() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = &ch.name("q");
    for (name, value) in [("x-max-priority", Value::from(5)), ("x-queue-mode", "lazy".into())] {
        let arguments = table(&[("x-queue-type", "quorum".into()), (name, value)]);
        let arguments = arguments.as_ref_table();
        let declare = queue::Declare { queue: q, durable: true, arguments, ..Default::default() };
        ch.expect_refusal(
            &declare,
            &format!(
                "406 PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/' of queue type \
                 rabbit_quorum_queue (queue.declare)"
            ),
        );
    }
}
