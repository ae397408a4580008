//! Messages that contradict their announcement, sent to both ends.

mod common;

use common::faults::{Case, refused};
use common::{Peer, Script, server_config, wire};
use hopmq_proto::method::{basic, channel, queue};
use hopmq_proto::{Config, Fault, Properties, Role, ShortString, Violation};

/// A client with one consumer.
fn consuming() -> Script {
    let mut script = Script::client_channel();
    script.peer.connection.consume(1, &basic::Consume { consumer_tag: "c", ..Default::default() }, 1, None).unwrap();
    script.send(&wire::method(1, &basic::ConsumeOk { consumer_tag: "c" }));
    script.output();
    script
}

/// A header frame with any payload.
fn raw_header(payload: &[u8]) -> Vec<u8> {
    wire::frame(wire::HEADER, 1, payload)
}

fn cases(announced: &[u8]) -> Vec<Case> {
    let after = |frames: &[Vec<u8>]| [announced, &frames.concat()].concat();
    vec![
        ("a method in place of the header", after(&[wire::method(1, &channel::Flow { active: true })]), 505),
        ("a body in place of the header", after(&[wire::body(1, b"m")]), 505),
        ("a second message in place of the header", after(&[announced.to_vec()]), 505),
        (
            "a method in place of the body",
            after(&[wire::header(1, 3), wire::method(1, &channel::Flow { active: true })]),
            505,
        ),
        ("a header in place of the body", after(&[wire::header(1, 3), wire::header(1, 3)]), 505),
        (
            "a method in the middle of the body",
            after(&[wire::header(1, 3), wire::body(1, b"a"), wire::method(1, &channel::FlowOk { active: true })]),
            505,
        ),
        ("a body longer than its header said", after(&[wire::header(1, 3), wire::body(1, b"12345678")]), 501),
        (
            "a second part that is too long",
            after(&[wire::header(1, 3), wire::body(1, b"12"), wire::body(1, b"34")]),
            501,
        ),
        ("a body where none was announced", after(&[wire::header(1, 0), wire::body(1, b"x")]), 505),
        ("a body of four exbibytes", after(&[wire::header(1, 1 << 62)]), 311),
        ("a body of the largest size", after(&[wire::header(1, u64::MAX)]), 311),
        ("a body of one byte above the limit", after(&[wire::header(1, 128 * 1024 * 1024 + 1)]), 311),
        ("an empty header", after(&[raw_header(b"")]), 502),
        ("a header of 13 bytes", after(&[raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0")]), 502),
        ("a header of another class", after(&[raw_header(b"\0\x32\0\0\0\0\0\0\0\0\0\0\0\0")]), 505),
        ("a header with a second word of flags", after(&[raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0\x01\0\0")]), 502),
    ]
}

#[test]
fn a_delivery_that_contradicts_its_announcement_closes_the_connection() {
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    refused(consuming, &cases(&wire::method(1, &deliver)));
}

#[test]
fn a_publish_that_contradicts_its_announcement_closes_the_connection() {
    refused(Script::server_channel, &cases(&wire::method(1, &basic::Publish::default())));
    let after = |header: Vec<u8>| [wire::method(1, &basic::Publish::default()), header].concat();
    let cases: &[Case] = &[
        ("truncated properties", after(raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x80\0\x05ab")), 502),
        ("properties with extra bytes", after(raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x80\0\x01ab")), 502),
        ("flags of properties that don't exist", after(raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0\x02")), 502),
        ("headers of an unknown type", after(raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x20\0\0\0\0\x03\x01aZ")), 502),
    ];
    refused(Script::server_channel, cases);
}

#[test]
fn a_malformed_announcement_closes_the_connection() {
    let rest = [wire::header(1, 1), wire::body(1, b"m")].concat();
    let announced = |payload: &[u8]| [wire::frame(1, 1, payload), rest.clone()].concat();
    let deliver = wire::payload(&basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() });
    let cases: &[Case] = &[
        ("a delivery without arguments", announced(b"\0\x3c\0\x3c"), 502),
        ("a truncated delivery", announced(&deliver[..deliver.len() - 1]), 502),
        ("a delivery with an extra byte", announced(&[&deliver[..], b"x"].concat()), 502),
        ("a delivery with 70,000 extra bytes", announced(&[&deliver[..], &[b'x'; 70_000]].concat()), 502),
        ("a truncated return", announced(b"\0\x3c\0\x32\x01"), 502),
        ("a truncated get-ok", announced(b"\0\x3c\0\x47\x01"), 502),
        (
            "delivery tag zero",
            wire::content(1, &basic::Deliver { consumer_tag: "c", ..Default::default() }, b"m", 10),
            503,
        ),
    ];
    refused(consuming, cases);
    let publish = wire::payload(&basic::Publish::default());
    let cases: &[Case] = &[
        ("a truncated publish", announced(&publish[..publish.len() - 1]), 502),
        ("a publish with an extra byte", announced(&[&publish[..], b"x"].concat()), 502),
        ("a delivery from a client", announced(&deliver), 503),
    ];
    refused(Script::server_channel, cases);
}

#[test]
fn a_repeated_delivery_tag_closes_the_connection() {
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 7, ..Default::default() };
    let twice = wire::content(1, &deliver, b"m", 10).repeat(2);
    refused(consuming, &[("a delivery tag that is not settled yet", twice, 503)]);
}

#[test]
fn malformed_properties_of_a_delivery_read_as_absent() {
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    let mut script = consuming();
    script.send(&wire::method(1, &deliver));
    script.send(&raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\xa0\0\x09ab"));
    let [hopmq_proto::Event::Delivery { content, .. }] = &script.peer.events[..] else { panic!("no delivery") };
    assert_eq!(content.properties().content_type(), None);
    assert_eq!(content.properties().headers().unwrap_err().code(), 502);
    assert_eq!(content.properties().check().unwrap_err().code(), 502);
}

#[test]
fn the_limit_on_messages_is_configurable() {
    for (size, code) in [(1000, None), (1001, Some(311))] {
        let config = Config { message_max: 1000, ..server_config() };
        let mut script = Script::server_channel();
        let limits = Peer::new(Role::Server, config).receiver.limits();
        script.peer.receiver.set_limits(hopmq_proto::ReceiveLimits {
            message_max: limits.message_max,
            ..script.peer.receiver.limits()
        });
        script.send(&wire::content(1, &basic::Publish::default(), &vec![1; size], 400));
        assert_eq!(script.peer.code(), code, "{size} bytes");
    }
}

#[test]
fn names_that_are_too_long_are_the_callers_fault() {
    let mut script = Script::client_channel();
    let long = "x".repeat(256);
    let connection = &mut script.peer.connection;
    let consume = basic::Consume { consumer_tag: &long, ..Default::default() };
    let errors = [
        (ShortString::Queue, connection.request(1, &queue::Declare { queue: &long, ..Default::default() }, None)),
        (ShortString::ConsumerTag, connection.consume(1, &consume, 1, None)),
        (ShortString::Queue, connection.get(1, &basic::Get { queue: &long, no_ack: true }, None)),
        (ShortString::MessageId, Properties::new().with_message_id(&long).validity()),
    ];
    for (string, error) in errors {
        let error = error.unwrap_err();
        assert_eq!(error.fault(), Fault::Caller);
        assert_eq!(error.violation(), Violation::ShortStringTooLong { string, size: 256 });
    }
    assert_eq!(connection.queued(), 0);
    // Failed calls leave no state: the tag is free, and no reply is expected.
    let short = "x".repeat(255);
    connection.consume(1, &basic::Consume { consumer_tag: &short, ..Default::default() }, 1, Some(1)).unwrap();
    script.send(&wire::method(1, &basic::ConsumeOk { consumer_tag: &short }));
    assert_eq!(script.peer.take(), ["1: reply 1 basic.consume-ok"]);
}
