//! Messages that contradict their announcement, sent to both ends.

mod common;

use common::faults::{Case, refused};
use common::{Script, wire};
use hopmq_proto::method::{basic, channel, queue};
use hopmq_proto::{Fault, Properties, ShortString, Violation};

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
        ("an empty header", after(&[raw_header(b"")]), 502),
        ("a header of 13 bytes", after(&[raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0")]), 502),
        ("a header of another class", after(&[raw_header(b"\0\x32\0\0\0\0\0\0\0\0\0\0\0\0")]), 505),
        ("a header with a second word of flags", after(&[raw_header(b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0\x01\0\0")]), 502),
    ]
}

#[test]
fn a_delivery_that_contradicts_its_announcement_closes_the_connection() {
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    let announced = wire::method(1, &deliver);
    refused(consuming, &cases(&announced));
    let after = |size| [announced.clone(), wire::header(1, size)].concat();
    let cases: &[Case] = &[
        ("a body of four exbibytes", after(1 << 62), 311),
        ("a body of the largest size", after(u64::MAX), 311),
        ("a body of one byte above the limit", after(128 * 1024 * 1024 + 1), 311),
    ];
    refused(consuming, cases);
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
fn a_published_message_above_the_limit_is_dropped_whole_and_reported() {
    let publish = basic::Publish::default();
    for (size, chunk, expected) in [
        (1000, 400, "1: published / [1000 bytes, ee14ce80]"),
        (1001, 400, "1: oversized 1001"),
        (1001, 2000, "1: oversized 1001"),
    ] {
        let mut script = Script::server_channel();
        let receiver = &mut script.peer.receiver;
        receiver.set_limits(hopmq_proto::ReceiveLimits { message_max: 1000, ..receiver.limits() });
        let large = wire::content(1, &publish, &vec![1; size], chunk);
        script.send(&large[..large.len() - 1]);
        assert_eq!(script.peer.take(), [""; 0], "{size} bytes");
        script.send(&large[large.len() - 1..]);
        script.send(&wire::content(1, &publish, b"next", 400));
        assert_eq!(script.peer.take(), [expected, "1: published / next"]);
        assert_eq!(script.peer.code(), None);
        // Other messages than those of a client's publish are no client's to send.
        script.send(&wire::content(1, &basic::Return::default(), &[1; 1001], 400));
        assert_eq!(script.peer.code(), Some(311));
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
