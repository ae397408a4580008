//! Connections: the handshake, negotiated limits, and what ends a connection.

use super::prelude::*;
use hopmq_proto::PROTOCOL_HEADER;
use hopmq_tests::peer::{capabilities, encoded, frame};
use hopmq_tests::{Release, release};

/// Opens a connection with these negotiated limits.
fn limited(stage: &Stage, channel_max: u16, frame_max: u32) -> Peer {
    let peer = Peer::started(stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max, frame_max, heartbeat: 0 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    peer
}

#[test]
fn a_wrong_protocol_header_is_answered_with_the_right_one() {
    let stage = Stage::new();
    // Since 4.0 the broker answers strangers with AMQP 1.0's header, and a wrong revision of 0-9 as before.
    let for_strangers = if release() >= Release::V4_0 { *b"AMQP\x03\x01\x00\x00" } else { PROTOCOL_HEADER };
    for (header, right) in [
        (*b"AMQP\x01\x01\x00\x0a", for_strangers),
        (*b"AMQP\x02\x00\x00\x00", for_strangers),
        (*b"GET / HT", for_strangers),
        (*b"AMQP\x00\x00\x09\x02", PROTOCOL_HEADER),
    ] {
        let peer = Peer::silent(&stage);
        peer.bytes(&header);
        assert_eq!(peer.header(), right, "{}", header.escape_ascii());
    }
}

#[test]
fn connection_start_offers_plain_and_amqplain_and_the_brokers_capabilities() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    peer.bytes(&PROTOCOL_HEADER);
    let start = peer.next();
    assert!(start.contains("PLAIN") && start.contains("AMQPLAIN"), "{start}");
}

#[test]
fn connection_tune_offers_2047_channels_128_kib_frames_and_a_60_s_heartbeat() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert_eq!(peer.next(), "connection.tune channels=2047 frame=131072 heartbeat=60");
}

#[test]
fn a_wrong_password_is_403_for_clients_with_authentication_failure_close() {
    let stage = Stage::new();
    let peer = Peer::login(&stage, &capabilities(), "PLAIN", b"\0guest\0wrong");
    peer.expect_connection_close(
        "403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker \
         logfile.",
    );
    let peer = Peer::login(&stage, &hopmq_proto::FieldTable::new(), "PLAIN", b"\0guest\0wrong");
    assert_eq!(peer.next(), "end");
    let peer = Peer::login(&stage, &capabilities(), "PLAIN", b"\0unknown\0guest");
    assert!(peer.next().starts_with("connection.close 403 ACCESS_REFUSED - Login was refused"));
}

#[test]
fn an_unknown_mechanism_ends_the_connection() {
    let stage = Stage::new();
    let peer = Peer::login(&stage, &capabilities(), "TELEPATHY", b"");
    // RabbitMQ closes the socket without `connection.close`.
    let line = peer.next();
    assert!(line == "end" || line.starts_with("connection.close 5"), "{line}");
}

#[test]
fn a_missing_virtual_host_is_530() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    peer.expect_connection_error(
        0,
        &connection::Open { virtual_host: "nowhere" },
        "530 NOT_ALLOWED - vhost nowhere not found (connection.open)",
    );
}

#[test]
fn a_channel_above_the_negotiated_limit_may_be_refused() {
    let stage = Stage::new();
    let peer = limited(&stage, 5, 131_072);
    peer.channel(5);
    peer.frame(1, 6, &encoded(&channel::Open {}));
    let (id, line) = peer.next_of_any();
    let is_refused = id == 0 && line.starts_with("connection.close 504 CHANNEL_ERROR");
    assert!(is_refused || (id == 6 && line == "channel.open-ok"), "{line}");
}

#[test]
fn a_frame_of_the_maximum_size_is_accepted_and_a_much_larger_one_is_501() {
    let stage = Stage::new();
    let peer = limited(&stage, 10, 8192);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", &"x".repeat(8184));
    assert_eq!(ch.get_message("q").body.len(), 8184);
    // Some clients do not count the 8 bytes around the payload.
    let queue = ch.name("q");
    let publish = |size: u16| {
        ch.send(&basic::Publish { routing_key: &queue, ..Default::default() });
        let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0];
        header.extend(size.to_be_bytes());
        header.extend([0, 0]);
        peer.frame(2, 1, &header);
        peer.frame(3, 1, &vec![0; size.into()]);
    };
    publish(8192);
    assert_eq!(ch.get_message("q").body.len(), 8192);
    publish(8193);
    peer.expect_violation("501 FRAME_ERROR");
}

#[test]
fn headers_above_the_frame_size_of_their_consumer_are_delivered() {
    let stage = Stage::new();
    let publisher = stage.connect();
    let ch = publisher.channel(1);
    stage.delete_at_end(&["q"]);
    ch.durable_queue("q", &[]);
    ch.select_confirms();
    let large = Properties::new().with_header("large", "x".repeat(10_000).as_str());
    for _ in 0..2 {
        ch.publish_to_with("q", "body", &large);
    }
    ch.wait_for_confirms(2);
    let peer = limited(&stage, 10, 8192);
    let small = peer.channel(1);
    assert_eq!(small.get_message("q").text(), "body");
    small.consume("q", "c");
    assert_eq!(small.message().text(), "body");
}

#[test]
fn a_frame_without_its_end_octet_is_501() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    let mut bytes = frame(1, 1, &encoded(&tx::Select {}));
    *bytes.last_mut().expect("a frame has an end octet") = 0xCD;
    peer.bytes(&bytes);
    peer.expect_violation("501 FRAME_ERROR");
}

#[test]
fn a_body_where_a_method_is_expected_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.frame(3, 1, b"body");
    peer.expect_violation("505 UNEXPECTED_FRAME");
}

#[test]
fn a_method_where_a_header_is_expected_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.send(&basic::Publish { routing_key: "q", ..Default::default() });
    ch.send(&tx::Select {});
    peer.expect_violation("505 UNEXPECTED_FRAME");
}

#[test]
fn a_header_where_a_body_is_expected_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.send(&basic::Publish { routing_key: "q", ..Default::default() });
    let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0];
    peer.frame(2, 1, &header);
    peer.frame(2, 1, &header);
    peer.expect_violation("505 UNEXPECTED_FRAME");
}

#[test]
fn a_header_of_another_class_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.send(&basic::Publish { routing_key: "q", ..Default::default() });
    peer.frame(2, 1, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]);
    peer.expect_violation("505 UNEXPECTED_FRAME");
}

/// Frames of eight bytes fill a read exactly, and are as many as a broker may handle at a time.
#[test]
fn a_method_after_any_number_of_heartbeats_is_answered() {
    let stage = Stage::new();
    let peer = stage.connect();
    let channel = peer.channel(1);
    for count in [1, 1_023, 1_024, 1_025, 2_048, 10_000] {
        let qos = frame(1, 1, &encoded(&basic::Qos { prefetch_count: 1, global: false }));
        peer.bytes(&[frame(8, 0, b"").repeat(count), qos].concat());
        channel.expect("basic.qos-ok");
    }
    peer.close();
}

#[test]
fn a_heartbeat_is_accepted_at_any_time() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.frame(8, 0, &[]);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.send(&basic::Publish { routing_key: &ch.name("q"), ..Default::default() });
    peer.frame(8, 0, &[]);
    peer.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    peer.frame(8, 0, &[]);
    peer.frame(3, 1, b"x");
    assert_eq!(ch.take("q").as_deref(), Some("x"));
}

#[test]
fn a_method_that_only_servers_send_is_refused() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.frame(1, 1, &encoded(&queue::DeclareOk::default()));
    peer.expect_violation("503 COMMAND_INVALID");
}

#[test]
fn a_client_may_update_its_secret() {
    let stage = Stage::new();
    let peer = stage.connect();
    let update = connection::UpdateSecret { new_secret: b"guest", reason: "it was due" };
    assert_eq!(peer.ask(&update), "connection.update-secret-ok");
}

#[test]
fn nothing_follows_connection_close_ok() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let close = connection::Close { reply_code: 200, reply_text: "closed by the test", ..Default::default() };
    assert_eq!(peer.ask(&close), "connection.close-ok");
    peer.shut_down_write();
    assert_eq!(peer.next(), "end");
}

#[test]
fn what_a_client_writes_after_connection_close_ok_is_read_and_dropped() {
    let stage = Stage::new();
    for _ in 0..10 {
        let peer = stage.connect();
        peer.channel(1);
        let close = connection::Close { reply_code: 200, reply_text: "closed by the test", ..Default::default() };
        assert_eq!(peer.ask(&close), "connection.close-ok");
        for _ in 0..10 {
            peer.frame(3, 1, &[0; 100_000]);
        }
        // A client reads the end of the stream, or RabbitMQ's reset, only after it has closed its own side.
        peer.shut_down_write();
        assert_eq!(peer.next(), "end");
    }
}

#[test]
fn a_message_above_the_limit_is_406_on_its_channel() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let limit: usize = if release() >= Release::V4_0 { 16 << 20 } else { 128 << 20 };
    ch.publish_to("q", &"x".repeat(limit + 1));
    let text = format!("message size {} is larger than configured max size {limit}", limit + 1);
    ch.expect(&format!("channel.close 406 PRECONDITION_FAILED - {text} (basic.publish)"));
    ch.send(&channel::CloseOk {});
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "small");
    assert_eq!(ch.take("q").as_deref(), Some("small"));
}

#[test]
fn one_channel_too_many_is_530() {
    let stage = Stage::new();
    let peer = limited(&stage, 3, 131_072);
    for id in 1..=3 {
        peer.channel(id);
    }
    let text = "number of channels opened (3) has reached the negotiated channel_max (3)";
    peer.expect_connection_error(4, &channel::Open {}, &format!("530 NOT_ALLOWED - {text}"));
}

#[test]
fn a_heartbeat_on_a_channel_is_505() {
    let stage = Stage::new();
    for id in [1, 2] {
        let peer = stage.connect();
        peer.channel(1);
        peer.frame(8, id, &[]);
        peer.expect_violation("505 UNEXPECTED_FRAME");
    }
    let peer = stage.connect();
    peer.frame(8, 0, b"x");
    peer.expect_violation("501 FRAME_ERROR");
}

#[test]
fn a_frame_of_unknown_type_is_501() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.frame(7, 1, b"?");
    peer.expect_violation("501 FRAME_ERROR");
}

#[test]
fn the_broker_sends_heartbeats() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 1 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    assert_eq!(peer.next(), "heartbeat");
}
