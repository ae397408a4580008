//! Frames that no client would send, and what they bring.
//!
//! RabbitMQ is lax here and there, or goes without a word. A broker may be stricter, and say why: so these scenarios
//! ask that the connection ends in good time, by the code that is named or without one, and that the broker goes on.

use super::prelude::*;
use hopmq_proto::PROTOCOL_HEADER;
use hopmq_tests::peer::{capabilities, encoded, frame};

/// Sends `bytes` on an open connection whose channel 1 is open: it has to end, with one of `codes` if with any.
fn ends(bytes: &[u8], codes: &[&str]) {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.bytes(bytes);
    over(&peer, codes);
    stage.connect().channel(1).queue("the broker goes on", &[]);
}

/// Checks that the connection ends, with one of `codes` if with any.
fn over(peer: &Peer, codes: &[&str]) {
    let line = peer.next();
    let is_told = codes.iter().any(|code| line.starts_with(&format!("connection.close {code} ")));
    assert!(line == "end" || is_told, "{line}");
}

/// A method frame on channel 1.
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
fn a_method_that_is_cut_off_ends_the_connection() {
    let declare = encoded(&queue::Declare { queue: "orders", ..Default::default() });
    ends(&method(&declare[..10]), &["501", "502"]);
}

#[test]
fn a_string_that_is_longer_than_its_frame_ends_the_connection() {
    ends(&method(&[0, 50, 0, 10, 0, 0, 200, b'a', b'b']), &["501", "502"]);
}

#[test]
fn a_table_that_is_longer_than_its_frame_ends_the_connection() {
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
fn a_frame_that_says_it_is_enormous_ends_the_connection() {
    ends(&[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 50], &["501"]);
}

#[test]
fn a_method_of_a_channel_on_the_connections_own_ends_the_connection() {
    ends(
        &frame(1, 0, &encoded(&queue::Declare { queue: "q", passive: true, ..Default::default() })),
        &["503", "504", "505"],
    );
}

#[test]
fn a_method_of_the_connection_on_a_channel_ends_the_connection() {
    ends(&method(&encoded(&connection::Open { virtual_host: "/" })), &["503", "504", "505", "530", "540"]);
}

#[test]
fn a_second_opening_of_the_connection_ends_the_connection() {
    ends(&frame(1, 0, &encoded(&connection::Open { virtual_host: "/" })), &["503", "504", "505", "530"]);
}

#[test]
fn content_on_the_connections_own_channel_ends_the_connection() {
    ends(&frame(3, 0, b"body"), &["501", "503", "504", "505"]);
}

#[test]
fn a_header_without_a_publish_ends_the_connection() {
    ends(&frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), &["505"]);
}

#[test]
fn a_header_that_is_cut_off_ends_the_connection() {
    let publish = method(&encoded(&basic::Publish { routing_key: "q", ..Default::default() }));
    ends(&[publish, frame(2, 1, &[0, 60, 0, 0, 0])].concat(), &["501", "502"]);
}

#[test]
fn a_header_whose_properties_are_cut_off_ends_the_connection() {
    let publish = method(&encoded(&basic::Publish { routing_key: "q", ..Default::default() }));
    let header = frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 50, b'a']);
    ends(&[publish, header, method(&encoded(&tx::Commit {}))].concat(), &["501", "502", "541"]);
}

#[test]
fn a_table_nested_fifteen_thousand_deep_does_no_harm() {
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
fn an_http_request_is_answered_with_the_right_header() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    peer.bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(peer.header(), PROTOCOL_HEADER);
}

#[test]
fn a_header_that_comes_byte_by_byte_is_a_header() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    for byte in PROTOCOL_HEADER {
        peer.bytes(&[byte]);
    }
    assert!(peer.next().starts_with("connection.start 0.9 "));
}

#[test]
fn frames_that_come_byte_by_byte_are_frames() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let (q, declare) = (stage.name("q"), |queue| queue::Declare { queue, exclusive: true, ..Default::default() });
    for byte in method(&encoded(&declare(&q))) {
        peer.bytes(&[byte]);
    }
    ch.expect("queue.declare-ok q messages=0 consumers=0");
}

#[test]
fn an_agreed_frame_below_the_least_of_4096_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert!(peer.next().starts_with("connection.tune "));
    peer.send(&connection::TuneOk { channel_max: 10, frame_max: 100, heartbeat: 0 });
    over(&peer, &["530", "501", "502"]);
}

#[test]
fn an_agreed_frame_above_what_was_offered_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert!(peer.next().starts_with("connection.tune "));
    peer.send(&connection::TuneOk { channel_max: 10, frame_max: 1 << 24, heartbeat: 0 });
    over(&peer, &["530", "501", "502"]);
}

#[test]
fn more_agreed_channels_than_were_offered_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert!(peer.next().starts_with("connection.tune "));
    peer.send(&connection::TuneOk { channel_max: 5000, frame_max: 131_072, heartbeat: 0 });
    over(&peer, &["530", "501", "502"]);
}

#[test]
fn an_open_before_the_tuning_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    peer.bytes(&PROTOCOL_HEADER);
    assert!(peer.next().starts_with("connection.start 0.9 "));
    peer.send(&connection::Open { virtual_host: "/" });
    over(&peer, &["503", "504", "505"]);
}

#[test]
fn a_channel_before_the_opening_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    peer.bytes(&method(&encoded(&channel::Open {})));
    over(&peer, &["503", "504", "505"]);
}
