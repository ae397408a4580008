//! Malformed frames, which no client would send.
//!
//! RabbitMQ accepts some of them, or closes the socket without a reason. A broker may be stricter and give a reason: so
//! these scenarios require that the connection ends soon, with one of the named codes or none, and that the broker
//! continues.

use super::prelude::*;
use hopmq_proto::PROTOCOL_HEADER;
use hopmq_tests::peer::{capabilities, encoded, frame};
use hopmq_tests::{Release, release};

/// Sends `bytes` on a connection with channel 1 open, and checks that the connection ends, with one of `codes` or none.
fn ends(bytes: &[u8], codes: &[&str]) {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.bytes(bytes);
    expect_end(&peer, codes);
    stage.connect().channel(1).queue("the broker continues", &[]);
}

/// Checks that the connection ends, with one of `codes` or none.
fn expect_end(peer: &Peer, codes: &[&str]) {
    let line = peer.next();
    let is_expected = codes.iter().any(|code| line.starts_with(&format!("connection.close {code} ")));
    assert!(line == "end" || is_expected, "{line}");
}

/// Returns a method frame on channel 1.
fn method(payload: &[u8]) -> Vec<u8> {
    frame(1, 1, payload)
}

#[test]
fn an_unknown_class_ends_the_connection() {
    ends(&method(&[0, 99, 0, 10]), &["540", "503"]);
}

#[test]
fn an_unknown_method_of_a_known_class_ends_the_connection() {
    ends(&method(&[0, 50, 0, 99]), &["540", "503"]);
}

#[test]
fn a_method_frame_too_short_for_its_id_ends_the_connection() {
    ends(&method(&[0, 50]), &["501", "502"]);
}

#[test]
fn a_truncated_method_ends_the_connection() {
    let declare = encoded(&queue::Declare { queue: "orders", ..Default::default() });
    ends(&method(&declare[..10]), &["501", "502"]);
}

#[test]
fn a_string_longer_than_its_frame_ends_the_connection() {
    ends(&method(&[0, 50, 0, 10, 0, 0, 200, b'a', b'b']), &["501", "502"]);
}

#[test]
fn a_table_longer_than_its_frame_ends_the_connection() {
    let mut declare = vec![0, 50, 0, 10, 0, 0, 0, 0];
    declare.extend([0x7F, 0xFF, 0xFF, 0xFF, 1, b'a']);
    ends(&method(&declare), &["501", "502"]);
}

#[test]
fn an_unknown_type_in_a_table_ends_the_connection() {
    let mut declare = vec![0, 50, 0, 10, 0, 0, 0, 0];
    declare.extend([0, 0, 0, 3, 1, b'a', b'?']);
    ends(&method(&declare), &["501", "502"]);
}

#[test]
fn a_frame_with_an_enormous_size_ends_the_connection() {
    ends(&[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 50], &["501"]);
}

#[test]
fn a_channel_method_on_channel_0_ends_the_connection() {
    ends(
        &frame(1, 0, &encoded(&queue::Declare { queue: "q", passive: true, ..Default::default() })),
        &["503", "504", "505"],
    );
}

#[test]
fn a_connection_method_on_channel_1_ends_the_connection() {
    ends(&method(&encoded(&connection::Open { virtual_host: "/" })), &["503", "504", "505", "530", "540"]);
}

#[test]
fn a_second_connection_open_ends_the_connection() {
    ends(&frame(1, 0, &encoded(&connection::Open { virtual_host: "/" })), &["503", "504", "505", "530"]);
}

#[test]
fn content_on_channel_0_ends_the_connection() {
    ends(&frame(3, 0, b"body"), &["501", "503", "504", "505"]);
}

#[test]
fn a_content_header_without_a_publish_ends_the_connection() {
    ends(&frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), &["505"]);
}

#[test]
fn a_truncated_content_header_ends_the_connection() {
    let publish = method(&encoded(&basic::Publish { routing_key: "q", ..Default::default() }));
    ends(&[publish, frame(2, 1, &[0, 60, 0, 0, 0])].concat(), &["501", "502"]);
}

#[test]
fn truncated_properties_end_the_connection() {
    let publish = method(&encoded(&basic::Publish { routing_key: "q", ..Default::default() }));
    let header = frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 50, b'a']);
    ends(&[publish, header, method(&encoded(&tx::Commit {}))].concat(), &["501", "502", "541"]);
}

#[test]
fn a_table_nested_15_000_deep_does_not_crash_the_broker() {
    let mut table: Vec<u8> = Vec::new();
    for _ in 0..15_000 {
        let mut outer = vec![1, b'a', b'F'];
        outer.extend((table.len() as u32).to_be_bytes());
        outer.extend(&table);
        table = outer;
    }
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = stage.name("q");
    let mut declare = vec![0, 50, 0, 10, 0, 0, q.len() as u8];
    declare.extend(q.as_bytes());
    declare.push(0b0_0100);
    declare.extend((table.len() as u32).to_be_bytes());
    declare.extend(table);
    peer.bytes(&method(&declare));
    let line = ch.next();
    assert!(line.starts_with("queue.declare-ok q") || line.starts_with("connection.close 50"), "{line}");
}

#[test]
fn an_http_request_is_answered_with_the_protocol_header() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    peer.bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let right = if release() >= Release::V4_0 { *b"AMQP\x03\x01\x00\x00" } else { PROTOCOL_HEADER };
    assert_eq!(peer.header(), right);
}

#[test]
fn a_protocol_header_may_arrive_byte_by_byte() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    for byte in PROTOCOL_HEADER {
        peer.bytes(&[byte]);
    }
    assert!(peer.next().starts_with("connection.start 0.9 "));
}

#[test]
fn frames_may_arrive_byte_by_byte() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let q = stage.name("q");
    let declare = |queue| queue::Declare { queue, exclusive: true, ..Default::default() };
    for byte in method(&encoded(&declare(&q))) {
        peer.bytes(&[byte]);
    }
    ch.expect("queue.declare-ok q messages=0 consumers=0");
}

#[test]
fn a_frame_max_below_4096_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert!(peer.next().starts_with("connection.tune "));
    peer.send(&connection::TuneOk { channel_max: 10, frame_max: 100, heartbeat: 0 });
    expect_end(&peer, &["530", "501", "502"]);
}

#[test]
fn a_frame_max_above_the_offer_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert!(peer.next().starts_with("connection.tune "));
    peer.send(&connection::TuneOk { channel_max: 10, frame_max: 1 << 24, heartbeat: 0 });
    expect_end(&peer, &["530", "501", "502"]);
}

#[test]
fn a_channel_max_above_the_offer_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert!(peer.next().starts_with("connection.tune "));
    peer.send(&connection::TuneOk { channel_max: 5000, frame_max: 131_072, heartbeat: 0 });
    expect_end(&peer, &["530", "501", "502"]);
}

#[test]
fn a_connection_open_before_tune_ok_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    peer.bytes(&PROTOCOL_HEADER);
    assert!(peer.next().starts_with("connection.start 0.9 "));
    peer.send(&connection::Open { virtual_host: "/" });
    expect_end(&peer, &["503", "504", "505"]);
}

#[test]
fn a_channel_open_before_connection_open_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    peer.bytes(&method(&encoded(&channel::Open {})));
    expect_end(&peer, &["503", "504", "505"]);
}
