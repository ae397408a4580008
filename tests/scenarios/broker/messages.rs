//! Messages: bodies, properties, and the headers that a broker interprets.

use super::prelude::*;
use hopmq_tests::peer::encoded;
use hopmq_tests::{Release, release};

#[test]
fn a_message_without_a_body_has_no_body_frame() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to("q", "");
    assert!(ch.get_message("q").body.is_empty());
    assert!(peer.body_frames().is_empty());
}

#[test]
fn a_body_is_split_at_the_maximum_frame_size() {
    let stage = Stage::new();
    let peer = Peer::started(&stage, &hopmq_tests::peer::capabilities());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 8192, heartbeat: 0 });
    assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for (size, frames) in [(1, vec![1]), (8184, vec![8184]), (8185, vec![8184, 1]), (20_000, vec![8184, 8184, 3632])] {
        let body = "x".repeat(size);
        ch.publish_to("q", &body);
        assert!(ch.get_message("q").body == body.as_bytes());
        assert_eq!(peer.body_frames(), frames);
    }
}

#[test]
fn a_body_may_come_in_frames_of_any_size() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let publish = basic::Publish { routing_key: &ch.name("q"), ..Default::default() };
    ch.send(&publish);
    let mut header = vec![0, 60, 0, 0];
    header.extend(6_u64.to_be_bytes());
    header.extend([0, 0]);
    peer.frame(2, 1, &header);
    for part in [&b"ab"[..], b"", b"c", b"def"] {
        peer.frame(3, 1, part);
    }
    assert_eq!(ch.get("q"), "basic.get-ok 1 /q: abcdef (+0)");
}

#[test]
fn messages_of_two_channels_may_be_interleaved() {
    let stage = Stage::new();
    let peer = stage.connect();
    let (one, two) = (peer.channel(1), peer.channel(2));
    one.queue("q", &[]);
    let publish = basic::Publish { routing_key: &one.name("q"), ..Default::default() };
    let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0];
    one.send(&publish);
    two.send(&publish);
    peer.frame(2, 2, &header);
    peer.frame(2, 1, &header);
    peer.frame(3, 1, b"a");
    peer.frame(3, 2, b"c");
    peer.frame(3, 2, b"d");
    peer.frame(3, 1, b"b");
    one.wait_for_messages("q", 2);
    let mut bodies = one.drain("q");
    bodies.sort();
    assert_eq!(bodies, ["ab", "cd"]);
}

#[test]
fn a_body_of_8_mib_is_delivered_whole() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let body: Vec<u8> = (0..8 * 1024 * 1024_u32).map(|index| (index % 251) as u8).collect();
    ch.send_message(basic::Publish { routing_key: &ch.name("q"), ..Default::default() }, &Properties::new(), &body);
    assert!(ch.get_message("q").body == body);
}

#[test]
fn every_property_is_delivered_unchanged() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let all = Properties::new()
        .with_content_type("text/plain")
        .with_content_encoding("gzip")
        .with_headers(&table(&[("a", 1.into())]))
        .with_delivery_mode(1)
        .with_priority(200)
        .with_correlation_id("c")
        .with_reply_to("r")
        .with_expiration("100000")
        .with_message_id("m")
        .with_timestamp(u64::MAX)
        .with_kind("k")
        .with_user_id("guest")
        .with_app_id("")
        .with_cluster_id("cluster");
    ch.publish_to_with("q", "all", &all);
    ch.publish_to("q", "none");
    let (full, empty) = (ch.get_message("q"), ch.get_message("q"));
    assert_eq!((full.properties().flags(), full.properties().as_bytes()), (all.flags(), all.as_bytes()));
    assert!(empty.properties().is_empty());
}

#[test]
fn headers_of_every_type_are_delivered_unchanged() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let inner = table(&[("z", 1.into()), ("a", "two".into())]);
    let mut array = FieldArray::new();
    array.push(1).push("two").push(&inner).push(()).push(&FieldArray::new());
    let headers = table(&[
        ("void", ().into()),
        ("bool", true.into()),
        ("i8", Value::I8(-8)),
        ("u8", Value::U8(200)),
        ("i16", Value::I16(-16_000)),
        ("u16", Value::U16(60_000)),
        ("i32", Value::I32(i32::MIN)),
        ("u32", Value::U32(u32::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f32", Value::F32(1.5)),
        ("f64", Value::F64(-2.25)),
        ("decimal", Value::Decimal { scale: 2, value: 314 }),
        ("string", "größe 🐇".into()),
        ("bytes", Value::Bytes(&[0, 255])),
        ("timestamp", Value::Timestamp(1_700_000_000)),
        ("array", (&array).into()),
        ("table", (&inner).into()),
        ("", "an empty name".into()),
    ]);
    ch.publish_to_with("q", "m", &Properties::new().with_headers(&headers));
    let back = ch.get_message("q");
    let back = back.properties().headers().expect("the headers were checked");
    if release() >= Release::V4_0 {
        // Since 4.0 the headers come sorted by key, those within a table as they were.
        let mut sorted: Vec<_> = headers.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        assert_eq!(back.as_bytes(), table(&sorted).as_bytes());
    } else {
        assert_eq!(back.as_bytes(), headers.as_bytes());
    }
}

#[test]
fn cc_and_bcc_are_additional_keys_and_bcc_is_removed() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for queue in ["to", "copied", "hidden"] {
        ch.queue(queue, &[]);
    }
    let (mut cc, mut bcc) = (FieldArray::new(), FieldArray::new());
    cc.push(&ch.name("copied"));
    bcc.push(&ch.name("hidden")).push(&ch.name("to"));
    let headers = table(&[("CC", (&cc).into()), ("BCC", (&bcc).into()), ("kept", 1.into())]);
    ch.publish_to_with("to", "m", &Properties::new().with_headers(&headers));
    for (tag, queue) in (1..).zip(["to", "copied", "hidden"]) {
        let message = ch.get_message(queue);
        assert_eq!((message.tag(), message.header_names()), (tag, vec!["CC".to_owned(), "kept".to_owned()]));
        let line = ch.get(queue);
        assert_eq!(line, "basic.get-empty", "one copy for each queue");
    }
}

#[test]
fn a_message_routed_by_cc_keeps_its_routing_key() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("copied", &[]);
    let mut cc = FieldArray::new();
    cc.push(&ch.name("copied"));
    ch.publish_to_with("nowhere", "m", &Properties::new().with_header("CC", &cc));
    assert_eq!(ch.get("copied"), "basic.get-ok 1 /nowhere: m (+0)");
}

#[test]
fn a_cc_header_that_is_not_an_array_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    for name in ["CC", "BCC"] {
        ch.publish_to_with("q", "m", &Properties::new().with_header(name, "one"));
        ch.expect_close(&format!(
            "406 PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,\"{name}\",longstr}} \
             (basic.publish)"
        ));
    }
}

#[test]
fn publishing_with_another_user_id_is_406() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.publish_to_with("q", "m", &Properties::new().with_user_id("guest"));
    ch.publish_to_with("q", "m", &Properties::new().with_user_id("other"));
    ch.expect_close(
        "406 PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest' \
         (basic.publish)",
    );
    ch.wait_for_messages("q", 1);
}

#[test]
fn a_delivery_mode_is_1_or_2_or_anything_since_4_0() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    for mode in [0, 3, 255] {
        ch.publish_to_with("q", "m", &Properties::new().with_delivery_mode(mode));
        if release() >= Release::V4_0 {
            assert_eq!(ch.get_message("q").properties().delivery_mode(), Some(mode));
            continue;
        }
        ch.expect_close(&format!(
            "406 PRECONDITION_FAILED - invalid message: {{delivery_mode_unknown,{mode}}} (basic.publish)"
        ));
    }
    for mode in [1, 2] {
        ch.publish_to_with("q", "m", &Properties::new().with_delivery_mode(mode));
        assert_eq!(ch.get_message("q").properties().delivery_mode(), Some(mode));
    }
}

/// Bytes that are not UTF-8.
const FOREIGN: &[u8] = b"a\xff\xfeb";

/// Returns the properties with [`FOREIGN`] as every free text, as a header's key, and as its value.
fn foreign_properties() -> Properties {
    let short = [&[FOREIGN.len() as u8], FOREIGN].concat();
    let long = [&(FOREIGN.len() as u32).to_be_bytes(), FOREIGN].concat();
    let headers = [&short, &b"S"[..], &long, b"\x04nextI\0\0\0\x01"].concat();
    let mut list = short.repeat(2);
    list.extend((headers.len() as u32).to_be_bytes());
    list.extend(headers);
    // correlation-id, message-id, type, app-id.
    list.extend(short.repeat(4));
    let flags = 1 << 15 | 1 << 14 | 1 << 13 | 1 << 10 | 1 << 7 | 1 << 5 | 1 << 3;
    Properties::from_parts(flags, list)
}

#[test]
fn bytes_that_are_not_utf8_pass_through_unchanged() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    let properties = foreign_properties();
    ch.publish_to_with("q", "m", &properties);
    ch.wait_for_messages("q", 1);
    let message = ch.get_message("q");
    assert_eq!((message.properties(), message.text()), (&properties, "m".to_owned()));
    ch.close();
    let ch = peer.channel(1);
    ch.wait_for_messages("q", 1);
    assert_eq!(ch.get_message("q").properties(), &properties);
}

#[test]
fn arguments_that_are_not_utf8_are_taken_and_compared() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    let headers = foreign_properties();
    let headers = headers.headers().expect("the headers are well-formed");
    let queue = &ch.name("q");
    let declare = queue::Declare { queue, exclusive: true, arguments: headers, ..Default::default() };
    for _ in 0..2 {
        ch.expect_reply(&declare, "queue.declare-ok q messages=0 consumers=0");
    }
    let bind = queue::Bind { queue, exchange: "amq.headers", arguments: headers, ..Default::default() };
    ch.expect_reply(&bind, "queue.bind-ok");
    ch.publish_with("amq.headers", "", "fits", &foreign_properties());
    ch.publish_with("amq.headers", "", "does not", &Properties::new().with_header("next", 1));
    ch.wait_for_messages("q", 1);
    assert_eq!(ch.drain("q"), ["fits"]);
    let consume = basic::Consume { queue, consumer_tag: "c", arguments: headers, ..Default::default() };
    ch.expect_reply(&consume, "basic.consume-ok c");
}

#[test]
fn a_routing_key_that_is_not_utf8_comes_back_unchanged() {
    let stage = Stage::new();
    let peer = stage.connect();
    let ch = peer.channel(1);
    ch.queue("q", &[]);
    ch.bind("q", "amq.fanout", "", &[]);
    // basic.publish with a key that `basic::Publish` can't express.
    let publish = [&b"\0\x3c\0\x28\0\0\x0aamq.fanout"[..], &[FOREIGN.len() as u8], FOREIGN, b"\0"].concat();
    peer.frame(1, 1, &publish);
    peer.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    ch.wait_for_messages("q", 1);
    peer.frame(1, 1, &encoded(&basic::Get { queue: &ch.name("q"), no_ack: true }));
    let message = ch.message();
    assert!(message.method_bytes().windows(FOREIGN.len()).any(|bytes| bytes == FOREIGN));
}
