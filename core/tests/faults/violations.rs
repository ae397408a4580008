//! A server that violates the protocol: the client closes with the right code, and every wait fails.

use futures_lite::StreamExt;
use hopmq::{Connection, ErrorKind};
use hopmq_proto::method::{basic, channel, confirm, queue};

use crate::common::{World, fault, frame, header, payload, seconds};

/// What the server sends, and the code with which the client must close.
fn violations() -> Vec<(&'static str, Vec<u8>, u16)> {
    let deliver = |channel, tag: &str| {
        let mut bytes =
            frame(1, channel, &payload(&basic::Deliver { consumer_tag: tag, delivery_tag: 1, ..Default::default() }));
        bytes.extend(frame(2, channel, &header(3)));
        bytes
    };
    let mut wrong_end = frame(8, 0, b"");
    wrong_end[7] = 0;
    let mut long_body = deliver(1, "c");
    long_body.extend(frame(3, 1, b"12345678"));
    let mut stray = deliver(9, "c");
    stray.extend(frame(3, 9, b"123"));
    let mut huge = frame(1, 1, &payload(&basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() }));
    huge.extend(frame(2, 1, &header(1 << 62)));
    let mut no_header = frame(1, 1, &payload(&basic::Deliver { consumer_tag: "c", ..Default::default() }));
    no_header.extend(frame(1, 1, &payload(&queue::BindOk {})));
    let declare_ok = payload(&queue::DeclareOk { queue: "q", ..Default::default() });
    vec![
        ("a wrong frame end", wrong_end, 501),
        ("a frame of 4 GiB", vec![1, 0, 1, 0xff, 0xff, 0xff, 0xff], 501),
        ("a frame above the agreed size", vec![3, 0, 1, 0, 2, 0, 1], 501),
        ("an unknown frame type", vec![7, 0, 0, 0, 0, 0, 0, 0xce], 501),
        ("a heartbeat on a channel", frame(8, 1, b""), 505),
        ("a body longer than announced", long_body, 501),
        ("a body of 2⁶² bytes", huge, 311),
        ("a method where a header is due", no_header, 505),
        ("a content header without a method", frame(2, 1, &header(3)), 505),
        ("a reply without a request", frame(1, 1, &declare_ok), 505),
        ("a delivery on a channel that is not open", stray, 504),
        ("a frame for a channel above the highest", frame(1, 2048, &declare_ok), 504),
        ("an unknown method", frame(1, 1, &[0, 60, 0, 99]), 540),
        (
            "a confirm without confirm mode",
            frame(1, 1, &payload(&basic::Ack { delivery_tag: 1, multiple: false })),
            503,
        ),
        ("a request only clients make", frame(1, 1, &payload(&queue::Purge { queue: "q", nowait: false })), 503),
        ("a channel.close-ok without a close", frame(1, 1, &payload(&channel::CloseOk {})), 505),
        ("a confirm.select-ok without a request", frame(1, 1, &payload(&confirm::SelectOk {})), 505),
        ("an HTTP answer in the middle", b"HTTP/1.1 200 OK".to_vec(), 501),
    ]
}

#[test]
fn a_violation_is_answered_with_its_code_and_fails_everything_that_waits() {
    for (name, bytes, code) in violations() {
        for slice in [usize::MAX, 1] {
            let mut world = World::new();
            let (connection, channel) = world.open();
            world.run(channel.queue("q").declare()).unwrap();
            let mut consumer = world.run(channel.consume("q").tag("c").start()).unwrap();
            world.server.wire.slice(&crate::common::Slice::Bytes(slice));
            let other = connection.clone();
            let again = connection.clone();
            let closed = world.start(async move { other.closed().await });
            let delivery = world.start(async move { consumer.next().await });
            let close = world.start(async move { again.closed().await });
            world.server.raw(&bytes);
            world.settle();
            let error = closed.take().unwrap_or_else(|| panic!("{name}: not noticed"));
            assert_eq!(fault(&error), (ErrorKind::Protocol, Some(code)), "{name}: {error}");
            assert_eq!(delivery.done().unwrap().unwrap_err().to_string(), error.to_string(), "{name}");
            assert_eq!(close.done().to_string(), error.to_string(), "{name}");
            assert_eq!(world.server.count(&format!("0 connection.close {code}")), 1, "{name}");
            assert!(world.server.wire.is_closed(), "{name}");
        }
    }
}

#[test]
fn frames_received_before_a_violation_are_processed() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.server.broker.confirms_by_hand = true;
    let first = world.run(channel.publish("", "q", "1").confirm_later()).unwrap();
    let second = world.run(channel.publish("", "q", "2").confirm_later()).unwrap();
    let mut bytes = frame(1, 1, &payload(&basic::Ack { delivery_tag: 1, multiple: false }));
    bytes.extend([7; 20]);
    world.server.raw(&bytes);
    world.settle();
    world.run(first).unwrap();
    assert_eq!(world.run(second).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn a_delivery_to_an_unknown_consumer_is_requeued_and_counted() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.server.holds = vec!["basic.reject"];
    world.server.message(1, &basic::Deliver { consumer_tag: "ghost", delivery_tag: 7, ..Default::default() }, b"boo");
    world.settle();
    assert_eq!(world.server.count("1 basic.reject 7 requeue"), 1);
    assert_eq!(connection.stats().unknown_deliveries, 1);
    assert!(channel.is_open());
}

#[test]
fn a_violation_while_the_socket_is_full_still_ends_the_connection_in_time() {
    let mut world = World::new();
    let (connection, _channel) = world.open_by(&Connection::builder().heartbeat(seconds(0)));
    world.server.wire.stall_writes(true);
    world.server.raw(&[7; 20]);
    world.settle();
    assert!(!connection.is_open());
    assert!(!world.server.wire.is_closed(), "the close is still to be written");
    world.advance(seconds(2));
    assert!(world.server.wire.is_closed());
}
