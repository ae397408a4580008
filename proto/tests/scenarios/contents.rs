use bytes::Bytes;
use hopmq_proto::method::{basic, channel};
use hopmq_proto::{Body, Config, Event, Prepared, Properties, Route, Violation};

use crate::common::{Pair, Script, server_config, wire};

const ROUTE: Route<'static> = Route { exchange: "", routing_key: "q", mandatory: false };

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 7 + index / 256) as u8).collect()
}

#[test]
fn bodies_of_every_size_arrive_complete() {
    let config = || Config { frame_max: 4096, ..Config::default() };
    for step in [u64::MAX, 5000, 600] {
        let mut pair = Pair::new(config(), Config { frame_max: 4096, ..server_config() }).sliced(step, 5).opened();
        pair.open_channel(1);
        for size in [0, 1, 4086, 4087, 4088, 4089, 8175, 8176, 8177, 8192, 100_000] {
            let body = bytes(size);
            for sent in [Body::Borrowed(&body), Body::Shared(Bytes::from(body.clone()))] {
                let properties = Properties::new().with_content_type("x").with_persistent();
                pair.client.connection.publish(1, ROUTE, properties.as_ref_properties(), sent).unwrap();
                pair.flow();
                let Some(Event::Published { content, .. }) = pair.server.events.pop() else { panic!("no message") };
                assert_eq!(content.body(), &body);
                assert_eq!(content.properties(), properties);
                assert_eq!(content.arguments().routing_key, b"q");
            }
        }
        pair.assert_healthy();
    }
}

#[test]
fn no_frame_is_larger_than_the_agreed_limit() {
    let mut script = Script::client().tuned(1, 5000, 0);
    script.peer.connection.open_channel(1, 1).unwrap();
    for size in [4991, 4992, 4993, 20_000] {
        for body in [Body::Borrowed(&bytes(size)), Body::Shared(bytes(size).into())] {
            script.peer.connection.publish(1, ROUTE, Properties::EMPTY, body).unwrap();
        }
    }
    let frames = wire::frames(&script.output_bytes());
    assert_eq!(frames.iter().map(|frame| frame.payload.len() + 8).max(), Some(5000));
    assert!(frames.iter().all(|frame| frame.kind != wire::BODY || !frame.payload.is_empty()));
}

#[test]
fn messages_of_several_channels_may_be_interleaved() {
    let mut script = Script::client_open();
    let sizes = [30, 0, 7, 12];
    for number in 1..=4 {
        script.peer.connection.open_channel(number, 0).unwrap();
        script.send(&wire::method(number, &channel::OpenOk {}));
        let consume = basic::Consume { consumer_tag: "c", ..Default::default() };
        script.peer.connection.consume(number, &consume, number.into(), None).unwrap();
        script.send(&wire::method(number, &basic::ConsumeOk { consumer_tag: "c" }));
    }
    script.peer.take();
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    for number in 1..=4 {
        script.send(&wire::method(number, &deliver));
    }
    for (number, size) in (1..).zip(sizes) {
        script.send(&wire::header(number, size));
    }
    for step in 0..3 {
        script.send(&wire::heartbeat());
        for (number, size) in (1..).zip(sizes) {
            let part = (step * 10).min(size)..(step * 10 + 10).min(size);
            if !part.is_empty() {
                script.send(&wire::body(number, &bytes(size as usize)[part.start as usize..part.end as usize]));
            }
        }
    }
    let mut bodies = script.peer.events.drain(..).map(|event| match event {
        Event::Delivery { consumer, content, .. } => (consumer, content.body_bytes()),
        other => panic!("{other:?}"),
    });
    for number in [2, 3, 4, 1] {
        assert_eq!(bodies.next(), Some((number, Bytes::from(bytes(sizes[number as usize - 1] as usize)))));
    }
    assert!(bodies.next().is_none());
}

#[test]
fn empty_body_frames_are_ignored() {
    let mut script = Script::server_channel();
    script.send(&wire::method(1, &basic::Publish { routing_key: "q", ..Default::default() }));
    script.send(&wire::header(1, 3));
    for part in [&b""[..], b"a", b"", b"", b"bc"] {
        script.send(&wire::body(1, part));
    }
    assert_eq!(script.peer.take(), ["1: published /q abc"]);
}

#[test]
fn a_channel_may_close_in_the_middle_of_a_message() {
    let close = channel::Close { reply_code: 500, reply_text: "oops", ..Default::default() };
    for frames in 1..=3 {
        let mut script = Script::client_channel();
        let consume = basic::Consume { consumer_tag: "c", ..Default::default() };
        script.peer.connection.consume(1, &consume, 1, None).unwrap();
        script.output();
        let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
        let parts = [wire::method(1, &deliver), wire::header(1, 100), wire::body(1, b"half")];
        script.send(&parts[..frames].concat());
        script.send(&wire::method(1, &close));
        assert_eq!(script.peer.take(), ["1: closed 500 oops"]);
        assert_eq!(script.output(), ["1 channel.close-ok"]);
        // The number is free, and no part of the message is left.
        script.peer.connection.open_channel(1, 1).unwrap();
        script.send(&wire::method(1, &channel::OpenOk {}));
        assert_eq!(script.peer.take(), ["1: reply 1 channel.open-ok"]);
        assert_eq!(script.peer.error, None);
    }
}

#[test]
fn a_connection_may_close_in_the_middle_of_a_message() {
    let mut script = Script::client_channel();
    script.send(&wire::method(1, &basic::Deliver::default())).send(&wire::header(1, 100));
    let close = hopmq_proto::method::connection::Close { reply_code: 320, reply_text: "bye", ..Default::default() };
    script.send(&wire::method(0, &close));
    assert_eq!(script.peer.take(), ["closed 320 bye"]);
    assert_eq!(script.output(), ["0 connection.close-ok"]);
}

#[test]
fn names_that_are_not_utf8_reach_the_consumer() {
    let mut script = Script::client_channel();
    let consume = basic::Consume { consumer_tag: "c", ..Default::default() };
    script.peer.connection.consume(1, &consume, 1, None).unwrap();
    let deliver =
        basic::Deliver { consumer_tag: "c", delivery_tag: 1, exchange: "e", routing_key: "??", ..Default::default() };
    let mut frames = wire::content(1, &deliver, b"m", 10);
    let at = frames.windows(2).position(|pair| pair == b"??").unwrap();
    frames[at..at + 2].copy_from_slice(&[0xff, 0xfe]);
    script.send(&frames);
    assert_eq!(script.peer.take(), ["1: delivery 1 1 e/\\xff\\xfe m"]);
}

#[test]
fn a_prepared_message_is_sent_as_the_same_bytes() {
    let properties = Properties::new().with_persistent().with_header("tenant", 7).with_kind("order");
    // Empty, small, shared without a copy, and of several frames.
    for size in [0, 5, 9_000, 300_000] {
        for mandatory in [false, true] {
            let route = Route { exchange: "shop", routing_key: "order.new", mandatory };
            let prepared = Prepared::new(route, properties.as_ref_properties()).unwrap();
            let body = vec![7; size];
            let mut sent = Vec::new();
            for is_prepared in [false, true] {
                let mut script = Script::client_channel();
                let client = &mut script.peer.connection;
                client.confirm_select(1).unwrap();
                for body in [Body::Borrowed(&body), Body::from(body.clone())] {
                    let tag = match is_prepared {
                        true => client.publish_prepared(1, &prepared, body),
                        false => client.publish(1, route, properties.as_ref_properties(), body),
                    };
                    assert!(tag.unwrap().is_some());
                }
                sent.push(script.output_bytes());
            }
            assert!(sent[0].len() > 2 * size);
            assert!(sent[0] == sent[1], "size {size}");
        }
    }
}

#[test]
fn a_prepared_message_that_the_peer_does_not_take_is_refused_and_not_sent() {
    let mut script = Script::client_channel();
    let client = &mut script.peer.connection;
    let route = Route { exchange: "", routing_key: "q", mandatory: false };
    let huge = Properties::new().with_header("x", "y".repeat(140_000));
    let prepared = Prepared::new(route, huge.as_ref_properties()).unwrap();
    let error = client.publish_prepared(1, &prepared, Body::Borrowed(b"")).unwrap_err();
    assert_eq!(error.violation(), Violation::FrameTooLarge { size: 140_033, limit: 131_072 });
    let small = Prepared::new(route, Properties::EMPTY).unwrap();
    let error = client.publish_prepared(9, &small, Body::Borrowed(b"")).unwrap_err();
    assert_eq!(error.violation(), Violation::ChannelNotOpen { channel: 9 });
    assert_eq!(script.output_bytes(), b"");
}
