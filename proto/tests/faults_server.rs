//! Clients that break the rules. The broker behind a server refuses other faults (a wrong password, a missing virtual
//! host, an unknown delivery tag) with `refuse` and `refuse_channel`.

mod common;

use common::faults::{Case, closed, refused};
use common::{Script, start_ok, wire};
use hopmq_proto::method::{MethodId, basic, channel, connection, queue};
use hopmq_proto::{CloseReason, PROTOCOL_HEADER};

fn nested(depth: usize) -> Vec<u8> {
    let mut table = Vec::new();
    for _ in 1..depth {
        let size = u32::try_from(table.len()).unwrap().to_be_bytes();
        table = [b"\x01aF", &size[..], &table].concat();
    }
    table
}

#[test]
fn another_protocol_is_answered_with_the_supported_header() {
    let table: &[(&str, &[u8])] = &[
        ("a web browser", b"GET / HTTP/1.1\r\n\r\n"),
        ("a TLS client", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
        ("AMQP 1.0", b"AMQP\0\x01\0\0"),
        ("AMQP 0-8", b"AMQP\x01\x01\x08\0"),
        ("AMQP 0-9-1 in digits", b"AMQP0091"),
        ("one wrong byte", b"AMQP\0\0\x09\x02"),
        ("frames without a header", &wire::method(0, &start_ok())),
    ];
    for (words, bytes) in table {
        for step in [1, bytes.len()] {
            let mut script = Script::server();
            for part in bytes.chunks(step) {
                script.send(part);
            }
            assert_eq!(script.peer.code(), Some(501), "{words}");
            closed(&mut script, words);
            assert_eq!(script.output_bytes(), PROTOCOL_HEADER, "{words}");
        }
    }
}

#[test]
fn a_protocol_header_may_arrive_in_pieces() {
    let mut script = Script::server();
    for byte in &PROTOCOL_HEADER[..7] {
        script.send(&[*byte]);
        assert_eq!(script.output_bytes(), b"");
    }
    script.send(&PROTOCOL_HEADER[7..]);
    assert_eq!(script.output(), ["0 connection.start"]);
}

#[test]
fn a_wrong_step_before_the_login_is_refused() {
    let mut deep = vec![0, 10, 0, 11];
    let table = nested(1000);
    deep.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
    deep.extend(table);
    let cases: &[Case] = &[
        ("another header", PROTOCOL_HEADER.to_vec(), 501),
        ("tune-ok before start-ok", wire::method(0, &connection::TuneOk::default()), 505),
        ("a channel before the login", wire::method(1, &channel::Open {}), 504),
        ("a method of another class", wire::method(0, &queue::Purge::default()), 503),
        ("a method that only servers may send", wire::method(0, &connection::Tune::default()), 503),
        ("a table of a thousand levels", wire::frame(1, 0, &deep), 502),
        ("a frame of 4 GiB", wire::head(1, 0, u32::MAX), 501),
        ("a payload above the limit before tuning", wire::head(1, 0, 8193), 501),
        ("a message", wire::content(0, &basic::Publish::default(), b"m", 10), 503),
    ];
    refused(
        || {
            let mut script = Script::server();
            script.send(&PROTOCOL_HEADER);
            script.output();
            script
        },
        cases,
    );
}

#[test]
fn a_wrong_tune_ok_is_refused_with_a_close() {
    let tune_ok =
        |channel_max, frame_max| wire::method(0, &connection::TuneOk { channel_max, frame_max, heartbeat: 0 });
    let cases: &[Case] = &[
        ("more channels than proposed", tune_ok(2048, 131_072), 530),
        ("no limit on channels", tune_ok(0, 131_072), 530),
        ("larger frames than proposed", tune_ok(2047, 131_073), 530),
        ("no limit on frames", tune_ok(2047, 0), 530),
        ("frames of 4,095 bytes", tune_ok(2047, 4095), 530),
        ("frames of one byte", tune_ok(2047, 1), 530),
        ("connection.open before tune-ok", wire::method(0, &connection::Open { virtual_host: "/" }), 505),
        ("start-ok again", wire::method(0, &start_ok()), 505),
        ("tune-ok twice", tune_ok(1, 4096).repeat(2), 505),
        ("a channel before connection.open", [tune_ok(1, 4096), wire::method(1, &channel::Open {})].concat(), 503),
        ("an unrequested close-ok", wire::method(0, &connection::CloseOk {}), 505),
    ];
    refused(Script::server_tuning, cases);
}

#[test]
fn methods_are_refused_while_the_broker_decides() {
    let mut script = Script::server();
    script.send(&PROTOCOL_HEADER).send(&wire::method(0, &start_ok())).send(&wire::method(0, &start_ok()));
    assert_eq!(script.peer.code(), Some(505));
}

#[test]
fn a_wrong_step_on_an_open_connection_is_refused_with_a_close() {
    let cases: &[Case] = &[
        ("a second channel.open", wire::method(1, &channel::Open {}), 504),
        ("a channel above the limit", wire::method(2048, &channel::Open {}), 504),
        ("a request on a channel that is not open", wire::method(2, &queue::Purge::default()), 504),
        ("a publish on a channel that is not open", wire::content(2, &basic::Publish::default(), b"m", 10), 504),
        ("a close of a channel that is not open", wire::method(2, &channel::Close::default()), 504),
        ("an unrequested close-ok", wire::method(1, &channel::CloseOk {}), 505),
        ("channel.open on channel 0", wire::method(0, &channel::Open {}), 503),
        ("a publish on channel 0", wire::content(0, &basic::Publish::default(), b"m", 10), 504),
        ("a method of the connection on a channel", wire::method(1, &connection::UpdateSecret::default()), 503),
        ("start-ok again", wire::method(0, &start_ok()), 505),
        ("connection.open again", wire::method(0, &connection::Open { virtual_host: "/" }), 505),
        ("a reply that only servers may send", wire::method(1, &queue::DeclareOk::default()), 503),
        ("a size of 4 GiB", wire::head(1, 1, u32::MAX), 501),
        ("a heartbeat on a channel", wire::frame(8, 1, b""), 505),
        ("a wrong end octet", [&wire::heartbeat()[..7], b"\0"].concat(), 501),
    ];
    refused(Script::server_channel, cases);
}

#[test]
fn a_channel_above_the_limit_that_the_client_chose_is_refused() {
    let small = || {
        let mut script = Script::server_tuning();
        script.send(&wire::method(0, &connection::TuneOk { channel_max: 3, frame_max: 4096, heartbeat: 0 }));
        script.send(&wire::method(0, &connection::Open { virtual_host: "/" }));
        script.peer.connection.open_ok().unwrap();
        script.peer.receiver.set_limits(script.peer.connection.receive_limits());
        script.output();
        script
    };
    let cases: &[Case] = &[
        ("the fourth of three channels", wire::method(4, &channel::Open {}), 504),
        ("a payload above the limit that the client chose", wire::head(3, 1, 4097), 501),
    ];
    refused(small, cases);
    let mut script = small();
    script.send(&wire::method(3, &channel::Open {}));
    assert_eq!(script.output(), ["3 channel.open-ok"]);
    // The connection checks the limit as well, in case a driver does not update its receiver.
    let mut script = small();
    script.peer.receiver.set_limits(hopmq_proto::ReceiveLimits { channel_max: 9, ..script.peer.receiver.limits() });
    script.send(&wire::method(4, &channel::Open {}));
    assert_eq!(script.peer.code(), Some(504));
}

#[test]
fn a_refusal_of_the_broker_is_sent_with_its_code() {
    // The method at fault, the code, and whether the connection is closed or only the channel.
    let table = [
        (MethodId::BASIC_ACK, 406, false),
        (MethodId::QUEUE_DECLARE, 403, false),
        (MethodId::QUEUE_BIND, 404, false),
        (MethodId::BASIC_PUBLISH, 540, true),
        (MethodId::CONNECTION_OPEN, 530, true),
    ];
    for (method, code, connection) in table {
        let mut script = Script::server_channel();
        let reason = CloseReason { code, text: format!("{method}"), method };
        if connection {
            script.peer.connection.refuse(&reason);
            assert_eq!(script.close_code(), Some(code));
            script.send(&wire::method(1, &queue::Purge::default())).send(&wire::method(0, &connection::CloseOk {}));
            assert_eq!(script.peer.take(), ["closed"]);
        } else {
            script.peer.connection.refuse_channel(1, &reason).unwrap();
            assert_eq!(script.output(), ["1 channel.close"]);
            script.send(&wire::method(1, &queue::Purge::default())).send(&wire::method(1, &channel::CloseOk {}));
            assert_eq!(script.peer.take(), [""; 0]);
            script.send(&wire::method(1, &channel::Open {}));
            assert_eq!(script.peer.take(), ["1: opened"]);
        }
        assert_eq!(script.peer.error, None);
    }
}

#[test]
fn the_immediate_flag_of_a_publish_reaches_the_broker() {
    let mut script = Script::server_channel();
    script.send(&wire::content(1, &basic::Publish { immediate: true, ..Default::default() }, b"m", 10));
    let [hopmq_proto::Event::Published { content, .. }] = &script.peer.events[..] else { panic!("no message") };
    assert!(content.arguments().immediate && !content.arguments().mandatory);
}
