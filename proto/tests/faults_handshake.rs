//! Servers that break the rules before the connection is open. The driver of a client decides how long to wait for a
//! silent server; these tests only check the stage that the client waits in.

mod common;

use common::faults::{Case, closed, refused};
use common::{Script, start, wire};
use hopmq_proto::method::{basic, channel, connection};
use hopmq_proto::{Config, FieldTable, HandshakeStage, Role};

/// Tables nested `depth` deep.
fn nested(depth: usize) -> Vec<u8> {
    let mut table = Vec::new();
    for _ in 1..depth {
        let mut outer = b"\x01aF".to_vec();
        outer.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
        outer.extend(table);
        table = outer;
    }
    table
}

/// A `connection.start` with any bytes as the entries of its table.
fn start_with(entries: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 10, 0, 10, 0, 9];
    payload.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(entries);
    payload.extend_from_slice(b"\0\0\0\x05PLAIN\0\0\0\x05en_US");
    wire::frame(wire::METHOD, 0, &payload)
}

fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> Vec<u8> {
    wire::method(0, &connection::Tune { channel_max, frame_max, heartbeat })
}

#[test]
fn other_protocols_on_the_port_are_recognized() {
    let table: &[(&str, &[u8], &str)] = &[
        ("a web server", b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        ("another version of AMQP", b"AMQP0091", "AMQP"),
        ("AMQP 0-9-1 behind a proxy that echoes", b"AMQP\0\0\x09\x01", "version 0-9"),
        ("AMQP 1.0", b"AMQP\0\x01\0\0", "version 1-0"),
        ("AMQP 1.0 with SASL", b"AMQP\x03\x01\0\0", "AMQP"),
        ("AMQP 0-10", b"AMQP\x01\x01\0\x0a", "version 0-10"),
        ("a TLS alert", b"\x15\x03\x01\0\x02\x02\x46", "TLS"),
        ("a TLS handshake", b"\x16\x03\x03\0\x40\x02\0\0\x3c", "TLS"),
        ("a mail server", b"220 mail.example.com ESMTP\r\n", "frame type 50"),
    ];
    for (words, bytes, expected) in table {
        refused(Script::client, &[(words, bytes.to_vec(), 501)]);
        let mut script = Script::client();
        script.send(bytes);
        let message = script.peer.error.unwrap().message().to_owned();
        assert!(message.contains(expected), "{words}: {message}");
    }
}

#[test]
fn a_malformed_start_is_refused_without_a_reply() {
    let future = connection::Start { version_major: 1, version_minor: 0, ..Default::default() };
    let mut cases: Vec<Case> = vec![
        ("another version in connection.start", wire::method(0, &future), 540),
        ("a table of a thousand levels, before login", start_with(&nested(1000)), 502),
        ("a table of 33 levels", start_with(&nested(33)), 502),
        ("a long string of 2 GiB", start_with(b"\x01aS\x80\0\0\0"), 502),
        ("a long string of 4 GiB", start_with(b"\x01aS\xff\xff\xff\xff"), 502),
        ("a table that ends in a key", start_with(b"\x09abc"), 502),
        ("a table longer than its frame", wire::frame(1, 0, b"\0\x0a\0\x0a\0\x09\xff\xff\xff\xff"), 502),
        ("a truncated start", wire::frame(1, 0, b"\0\x0a\0\x0a\0"), 502),
        (
            "an extra byte after the last argument",
            wire::frame(1, 0, &[&start()[7..start().len() - 1], b"x"].concat()),
            502,
        ),
        ("a frame above the limit before tuning", wire::head(1, 0, 8185), 501),
        ("a frame of 4 GiB", wire::head(1, 0, u32::MAX), 501),
        ("a channel before the connection is open", wire::method(1, &channel::OpenOk {}), 504),
        ("connection.tune before connection.start", tune(1, 4096, 0), 505),
        ("an unrequested connection.close-ok", wire::method(0, &connection::CloseOk {}), 505),
        ("a method of another class", wire::method(0, &basic::QosOk {}), 503),
        ("a method that only clients may send", wire::method(0, &connection::TuneOk::default()), 503),
    ];
    for tag in 0..=u8::MAX {
        if !b"VtbBsuIilLfdDSxTAF".contains(&tag) {
            cases.push(("an unknown field type", start_with(&[1, b'a', tag, 0, 0, 0, 0, 0, 0, 0, 0]), 502));
        }
    }
    refused(Script::client, &cases);
}

#[test]
fn a_table_of_32_levels_is_accepted() {
    let mut script = Script::client();
    script.send(&start_with(&nested(32)));
    assert_eq!(script.peer.take(), ["start PLAIN"]);
}

#[test]
fn a_wrong_step_after_the_login_is_refused_with_a_close() {
    let cases: &[Case] = &[
        ("frames of one byte", tune(0, 1, 0), 502),
        ("frames of 4,095 bytes", tune(0, 4095, 0), 502),
        ("connection.start again", start(), 505),
        ("connection.open-ok before connection.tune", wire::method(0, &connection::OpenOk {}), 505),
        ("connection.tune twice", [tune(0, 0, 0), tune(0, 0, 0)].concat(), 505),
        (
            "connection.secure after connection.tune",
            [tune(0, 0, 0), wire::method(0, &connection::Secure { challenge: b"" })].concat(),
            505,
        ),
        ("a heartbeat with a payload", wire::frame(wire::HEARTBEAT, 0, b"x"), 501),
        ("a message", wire::content(0, &basic::Deliver::default(), b"m", 10), 503),
        ("connection.blocked", wire::method(0, &connection::Blocked { reason: "" }), 505),
        ("connection.update-secret-ok", wire::method(0, &connection::UpdateSecretOk {}), 505),
    ];
    refused(Script::client_started, cases);
}

#[test]
fn a_proposal_without_limits_is_answered_with_the_configured_limits() {
    let mut script = Script::client_started();
    script.send(&tune(0, 0, 0));
    assert_eq!(script.peer.connection.tuning().frame_max, 131_072);
    assert_eq!(script.peer.connection.tuning().channel_max, 2047);
    assert_eq!(script.output(), ["0 connection.start-ok", "0 connection.tune-ok", "0 connection.open"]);
}

#[test]
fn a_refusal_before_the_connection_is_open_keeps_its_code_and_text() {
    let close =
        |reply_code, reply_text| wire::method(0, &connection::Close { reply_code, reply_text, ..Default::default() });
    let stages: [(&str, &dyn Fn() -> Script); 3] = [
        ("before the credentials", &Script::client),
        ("after the credentials", &Script::client_started),
        ("after tuning", &|| {
            let mut script = Script::client_started();
            script.send(&tune(0, 0, 0));
            script
        }),
    ];
    for (words, stage) in stages {
        for (code, text) in [(403, "ACCESS_REFUSED - Login was refused"), (530, "NOT_ALLOWED - vhost x not found")] {
            let mut script = stage();
            script.peer.events.clear();
            script.output();
            script.send(&close(code, text));
            assert_eq!(script.peer.take(), [format!("closed {code} {text}")], "{words}");
            assert_eq!(script.output(), ["0 connection.close-ok"], "{words}");
            assert_eq!(script.peer.error, None, "{words}");
            closed(&mut script, words);
        }
    }
}

#[test]
fn a_silent_server_leaves_the_client_in_its_stage() {
    let stages = [(Script::client(), HandshakeStage::Start), (Script::client_started(), HandshakeStage::Login)];
    for (mut script, stage) in stages {
        script.advance(std::time::Duration::from_secs(1_000_000));
        assert_eq!(script.peer.connection.handshake_stage(), Some(stage));
    }
    // Incomplete frames do not change the stage.
    let mut script = Script::client();
    for byte in &start()[..start().len() - 1] {
        script.send(&[*byte]);
    }
    assert_eq!(script.peer.connection.handshake_stage(), Some(HandshakeStage::Start));
    assert_eq!(script.peer.error, None);
}

#[test]
fn credentials_that_are_too_large_are_the_callers_fault() {
    let mut script = Script::new(Role::Client, Config { first_frame_max: 4096, ..Config::default() });
    script.send(&start());
    let table = FieldTable::new();
    let connection = &mut script.peer.connection;
    assert!(connection.start_ok(&table, "PLAIN", &[b'x'; 5000]).is_err());
    assert!(connection.start_ok(&table, &"x".repeat(256), b"").is_err());
    assert!(connection.start_ok(&FieldTable::new().with(&"x".repeat(256), 1), "PLAIN", b"").is_err());
    connection.start_ok(&table, "PLAIN", b"\0me\0me").unwrap();
    assert_eq!(script.output(), ["0 connection.start-ok"]);
}
