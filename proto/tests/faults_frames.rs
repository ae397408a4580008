//! Malformed and misplaced frames, sent to an open client.

mod common;

use common::faults::{Case, refused};
use common::{Script, wire};
use hopmq_proto::method::{basic, channel, confirm, connection, queue};

fn broken_end(end: u8) -> Vec<u8> {
    let mut frame = wire::heartbeat();
    frame[7] = end;
    frame
}

#[test]
fn a_malformed_frame_closes_the_connection() {
    let mut cases: Vec<Case> = vec![
        ("a size of 4 GiB", wire::head(1, 0, u32::MAX), 501),
        ("a body of 4 GiB", wire::head(3, 1, u32::MAX), 501),
        ("one byte above the agreed limit", wire::head(3, 1, 131_072 - 7), 501),
        ("a method frame without a method", wire::frame(1, 1, b""), 502),
        ("a method frame with half a method", wire::frame(1, 1, b"\0\x3c\0"), 502),
        ("a channel above the limit", wire::method(2048, &channel::OpenOk {}), 504),
        ("the highest channel number", wire::head(1, u16::MAX, 0), 504),
        ("a heartbeat with a payload", wire::frame(8, 0, b"\0"), 501),
        ("a heartbeat on a channel", wire::frame(8, 1, b""), 505),
        ("a content header without an announcement", wire::header(1, 0), 505),
        ("a body without an announcement", wire::body(1, b"x"), 505),
        ("a body on channel 0", wire::body(0, b"x"), 505),
        ("an empty method on channel 0", wire::frame(1, 0, b""), 502),
    ];
    for end in [0, 1, 0xcd, 0xcf, 0xff] {
        cases.push(("a wrong end octet", broken_end(end), 501));
    }
    for kind in (0..=u8::MAX).filter(|kind| ![1, 2, 3, 8].contains(kind)) {
        cases.push(("an unknown frame type", wire::frame(kind, 0, b""), 501));
    }
    refused(Script::client_channel, &cases);
}

#[test]
fn an_unknown_method_closes_the_connection() {
    let mut cases: Vec<Case> = Vec::new();
    for (class, method) in [(0_u16, 0_u16), (10, 99), (20, 12), (50, 12), (60, 130), (61, 10), (90, 40), (65535, 65535)]
    {
        let payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
        cases.push(("an unknown method", wire::frame(1, u16::from(class != 10), &payload), 540));
    }
    refused(Script::client_channel, &cases);
    refused(Script::server_channel, &cases);
}

#[test]
fn a_misplaced_method_closes_the_connection() {
    let request = queue::Purge { queue: "q", nowait: false };
    let cases: &[Case] = &[
        ("an unrequested reply", wire::method(1, &queue::DeclareOk::default()), 505),
        ("an unrequested get-ok", wire::content(1, &basic::GetOk::default(), b"m", 10), 503),
        ("an unrequested get-empty", wire::method(1, &basic::GetEmpty {}), 505),
        ("channel.open-ok again", wire::method(1, &channel::OpenOk {}), 505),
        ("an unrequested channel.close-ok", wire::method(1, &channel::CloseOk {}), 505),
        ("an unrequested connection.close-ok", wire::method(0, &connection::CloseOk {}), 505),
        ("connection.open-ok again", wire::method(0, &connection::OpenOk {}), 505),
        ("connection.tune again", wire::method(0, &connection::Tune::default()), 505),
        ("an unrequested update-secret-ok", wire::method(0, &connection::UpdateSecretOk {}), 505),
        ("a request that only clients may send", wire::method(1, &request), 503),
        ("an unrequested confirm.select-ok", wire::method(1, &confirm::SelectOk {}), 505),
        ("a confirm on a channel without confirm mode", wire::method(1, &basic::Ack::default()), 503),
        ("a method of the connection on a channel", wire::method(1, &connection::Blocked { reason: "" }), 503),
        ("a method of a channel on channel 0", wire::method(0, &queue::DeclareOk::default()), 503),
        ("a message on channel 0", wire::content(0, &basic::Deliver::default(), b"m", 10), 504),
        ("a delivery on a channel that is not open", wire::content(2, &basic::Deliver::default(), b"m", 10), 504),
        ("a reply on a channel that is not open", wire::method(2, &queue::DeclareOk::default()), 504),
        ("a close of a channel that is not open", wire::method(2, &channel::Close::default()), 504),
        ("a publish from a server", wire::content(1, &basic::Publish::default(), b"m", 10), 503),
    ];
    refused(Script::client_channel, cases);
}

#[test]
fn a_reply_to_another_request_closes_the_connection() {
    let asking = || {
        let mut script = Script::client_channel();
        script.peer.connection.request(1, &queue::Declare::default(), Some(1)).unwrap();
        script.peer.connection.get(1, &basic::Get::default(), Some(2)).unwrap();
        script.output();
        script
    };
    let declared = wire::method(1, &queue::DeclareOk::default());
    let cases: &[Case] = &[
        ("another reply", wire::method(1, &queue::BindOk {}), 505),
        ("the second reply first", wire::method(1, &basic::GetEmpty {}), 505),
        ("a repeated reply", [declared.clone(), declared.clone()].concat(), 505),
        ("a malformed reply", wire::frame(1, 1, b"\0\x32\0\x0b\x09"), 502),
        ("a reply with an extra byte", wire::frame(1, 1, b"\0\x32\0\x0b\0\0\0\0\0\0\0\0\0x"), 502),
        ("a name that is not UTF-8", wire::frame(1, 1, b"\0\x32\0\x0b\x01\xff\0\0\0\0\0\0\0\0"), 502),
    ];
    refused(asking, cases);
}

#[test]
fn a_truncated_message_is_not_delivered() {
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    for chunk in [5, 100] {
        let bytes = wire::content(1, &deliver, b"a message", chunk);
        for end in 0..=bytes.len() {
            let mut script = Script::client_channel();
            let consume = basic::Consume { consumer_tag: "c", ..Default::default() };
            script.peer.connection.consume(1, &consume, 1, None).unwrap();
            script.send(&bytes[..end]);
            assert_eq!(script.peer.take().len(), usize::from(end == bytes.len()), "{end} bytes");
            assert_eq!(script.peer.error, None, "{end} bytes");
        }
    }
}
