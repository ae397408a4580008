//! Connections: saying hello, agreeing on limits, and what ends them.

use super::prelude::*;
use hopmq_proto::PROTOCOL_HEADER;
use hopmq_tests::peer::{capabilities, encoded, frame};

/// Opens a connection that agreed on these limits.
fn limited(stage: &Stage, channel_max: u16, frame_max: u32) -> Peer {
    let peer = Peer::started(stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max, frame_max, heartbeat: 0 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    peer
}

#[test]
fn another_protocols_header_is_answered_with_the_right_one() {
    let stage = Stage::new();
    for header in [*b"AMQP\x01\x01\x00\x0a", *b"AMQP\x02\x00\x00\x00", *b"GET / HT", *b"AMQP\x00\x00\x09\x02"] {
        let peer = Peer::silent(&stage);
        peer.bytes(&header);
        assert_eq!(peer.header(), PROTOCOL_HEADER, "{}", header.escape_ascii());
    }
}

#[test]
fn the_start_offers_plain_and_amqplain_and_says_what_the_broker_can_do() {
    let stage = Stage::new();
    let peer = Peer::silent(&stage);
    peer.bytes(&PROTOCOL_HEADER);
    let start = peer.next();
    assert!(start.contains("PLAIN") && start.contains("AMQPLAIN"), "{start}");
}

#[test]
fn the_tuning_offers_2047_channels_frames_of_128_kib_and_a_heartbeat_a_minute() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    assert_eq!(peer.next(), "connection.tune channels=2047 frame=131072 heartbeat=60");
}

#[test]
fn a_wrong_password_is_403_for_those_who_understand_it() {
    let stage = Stage::new();
    let peer = Peer::login(&stage, &capabilities(), "PLAIN", b"\0guest\0wrong");
    peer.ends(
        "403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker \
         logfile.",
    );
    let peer = Peer::login(&stage, &hopmq_proto::FieldTable::new(), "PLAIN", b"\0guest\0wrong");
    assert_eq!(peer.next(), "end");
    let peer = Peer::login(&stage, &capabilities(), "PLAIN", b"\0nobody\0guest");
    assert!(peer.next().starts_with("connection.close 403 ACCESS_REFUSED - Login was refused"));
}

#[test]
fn an_unknown_mechanism_is_a_fault() {
    let stage = Stage::new();
    let peer = Peer::login(&stage, &capabilities(), "TELEPATHY", b"");
    // RabbitMQ goes without a word.
    let line = peer.next();
    assert!(line == "end" || line.starts_with("connection.close 5"), "{line}");
}

#[test]
fn a_virtual_host_that_is_not_there_is_530() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    peer.dies(
        0,
        &connection::Open { virtual_host: "nowhere" },
        "530 NOT_ALLOWED - vhost nowhere not found (connection.open)",
    );
}

#[test]
fn a_channel_above_the_clients_own_limit_is_opened_by_rabbitmq_and_refused_by_the_strict() {
    let stage = Stage::new();
    let peer = limited(&stage, 5, 131_072);
    peer.channel(5);
    peer.frame(1, 6, &encoded(&channel::Open {}));
    let (id, line) = peer.next_of_any();
    let is_refused = id == 0 && line.starts_with("connection.close 504 CHANNEL_ERROR");
    assert!(is_refused || (id == 6 && line == "channel.open-ok"), "{line}");
}

#[test]
fn a_frame_of_the_largest_size_is_taken_and_a_much_larger_one_is_501() {
    let stage = Stage::new();
    let peer = limited(&stage, 10, 4096);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.to("q", &"x".repeat(4088));
    assert_eq!(ch.got("q").body.len(), 4088);
    ch.sends(&basic::Publish { routing_key: "q", ..Default::default() });
    let mut header = vec![0, 60, 0, 0];
    header.extend(4097_u64.to_be_bytes());
    header.extend([0, 0]);
    peer.frame(2, 1, &header);
    peer.frame(3, 1, &[0; 4097]);
    peer.faults("501 FRAME_ERROR");
}

#[test]
fn a_frame_without_its_end_is_501() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    let mut bytes = frame(1, 1, &encoded(&tx::Select {}));
    *bytes.last_mut().expect("it has an end") = 0xCD;
    peer.bytes(&bytes);
    peer.faults("501 FRAME_ERROR");
}

#[test]
fn a_body_where_a_method_is_due_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.frame(3, 1, b"body");
    peer.faults("505 UNEXPECTED_FRAME");
}

#[test]
fn a_method_where_a_header_is_due_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.sends(&basic::Publish { routing_key: "q", ..Default::default() });
    ch.sends(&tx::Select {});
    peer.faults("505 UNEXPECTED_FRAME");
}

#[test]
fn a_header_where_a_body_is_due_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.sends(&basic::Publish { routing_key: "q", ..Default::default() });
    let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0];
    peer.frame(2, 1, &header);
    peer.frame(2, 1, &header);
    peer.faults("505 UNEXPECTED_FRAME");
}

#[test]
fn a_header_of_another_class_is_505() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.sends(&basic::Publish { routing_key: "q", ..Default::default() });
    peer.frame(2, 1, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]);
    peer.faults("505 UNEXPECTED_FRAME");
}

#[test]
fn a_heartbeat_is_taken_at_any_time() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.frame(8, 0, &[]);
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.sends(&basic::Publish { routing_key: &ch.name("q"), ..Default::default() });
    peer.frame(8, 0, &[]);
    peer.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    peer.frame(8, 0, &[]);
    peer.frame(3, 1, b"x");
    assert_eq!(ch.take("q").as_deref(), Some("x"));
}

#[test]
fn a_method_that_a_server_sends_is_refused() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.frame(1, 1, &encoded(&queue::DeclareOk::default()));
    peer.faults("503 COMMAND_INVALID");
}

#[test]
fn a_secret_may_be_renewed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let update = connection::UpdateSecret { new_secret: b"guest", reason: "it was due" };
    assert_eq!(peer.ask(&update), "connection.update-secret-ok");
}

#[test]
fn a_close_is_answered_and_nothing_comes_after_it() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let close = connection::Close { reply_code: 200, reply_text: "goodbye", ..Default::default() };
    assert_eq!(peer.ask(&close), "connection.close-ok");
    peer.hangs_up();
    assert_eq!(peer.next(), "end");
}

#[test]
fn a_frame_of_no_known_type_is_501() {
    let stage = Stage::new();
    let peer = stage.connect();
    peer.channel(1);
    peer.frame(7, 1, b"?");
    peer.faults("501 FRAME_ERROR");
}

#[test]
fn the_broker_sends_heartbeats() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 1 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    assert_eq!(peer.next(), "heartbeat");
}
