//! Messages of other clients with bytes that are not UTF-8, which RabbitMQ forwards unchanged.

use futures_lite::StreamExt;
use hopmq::{Message, Value};

use crate::common::{World, frame};

/// The header of an empty message: `content-type` and `correlation-id` that are not UTF-8, `message-id`, and the
/// headers `\xfek` = 1 and `next` = 2.
const HEADER: &[u8] = b"\0\x3c\0\0\0\0\0\0\0\0\0\0\xa4\x80\x03a/\xff\
    \0\0\0\x12\x02\xfekI\0\0\0\x01\x04nextI\0\0\0\x02\x02\xc3(\x02id";

/// Sends a method that announces a message, and the message.
fn send(world: &mut World, method: &[u8]) {
    world.server.raw(&frame(1, 1, method));
    world.server.raw(&frame(2, 1, HEADER));
}

#[track_caller]
fn check(message: &Message) {
    assert_eq!((message.exchange_bytes(), message.exchange()), (&b"e\xff"[..], "\u{fffd}"));
    assert_eq!((message.routing_key_bytes(), message.routing_key()), (&b"\xfe.key"[..], "\u{fffd}"));
    let properties = message.properties();
    assert_eq!(properties.content_type_bytes(), Some(&b"a/\xff"[..]));
    assert_eq!(properties.correlation_id_bytes(), Some(&b"\xc3("[..]));
    assert_eq!((properties.content_type(), properties.correlation_id()), (Some("\u{fffd}"), Some("\u{fffd}")));
    assert_eq!((properties.message_id(), properties.message_id_bytes()), (Some("id"), Some(&b"id"[..])));
    assert_eq!((properties.reply_to(), properties.reply_to_bytes()), (None, None));
    assert_eq!(message.header("next"), Some(Value::I32(2)));
    let headers = message.headers().unwrap();
    assert_eq!(headers.get_bytes(b"\xfek"), Some(Value::I32(1)));
    assert_eq!(headers.iter_bytes().count(), 2);
    let shown = format!("{message:?}");
    assert!(shown.contains("\u{fffd}.key") && shown.contains(r#""next": 2"#), "{shown}");
}

#[test]
fn bytes_that_are_not_utf8_reach_the_program_and_hide_nothing() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    let mut consumer = world.run(channel.consume("q").tag("c").start()).unwrap();
    send(&mut world, b"\0\x3c\0\x3c\x01c\0\0\0\0\0\0\0\x01\0\x02e\xff\x05\xfe.key");
    check(&world.run(consumer.next()).unwrap().unwrap());

    world.server.holds = vec!["basic.get"];
    let get = channel.get("q");
    world.settle();
    send(&mut world, b"\0\x3c\0\x47\0\0\0\0\0\0\0\x02\0\x02e\xff\x05\xfe.key\0\0\0\0");
    check(&world.run(get).unwrap().unwrap());

    let mut returns = channel.returns();
    send(&mut world, b"\0\x3c\0\x32\x01\x38\x08NO_ROUTE\x02e\xff\x05\xfe.key");
    let returned = world.run(returns.next()).unwrap();
    check(&returned);
    assert_eq!((returned.code(), returned.reason()), (312, "NO_ROUTE"));
}
