//! Each error has a typed violation, for faults of the peer and of the caller.

mod common;

use common::{Script, wire};
use hopmq_proto::method::{Encode, MethodId, basic, channel, connection, queue, tx};
use hopmq_proto::{
    Body, Config, Error, Fault, FieldTable, Properties, ReceiveLimits, Role, Route, ShortString, Violation,
};

const ROUTE: Route<'static> = Route { exchange: "", routing_key: "q", mandatory: false };

/// Sends `bytes` to the end under test, and returns its error.
fn error_of(mut script: Script, bytes: &[u8]) -> Error {
    script.send(bytes);
    script.peer.error.expect("a violation")
}

#[test]
fn violations_by_a_server_are_typed() {
    let client = Script::client_channel;
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    let announced = wire::method(1, &deliver);
    let after = |frame: Vec<u8>| [&announced[..], &frame].concat();
    let purge = MethodId::QUEUE_PURGE;
    let unknown = MethodId { class: 60, method: 61 };
    let limit = 128 * 1024 * 1024;
    let cases = [
        (b"HTTP/1.1 200 OK".to_vec(), Violation::WrongProtocol),
        (wire::frame(9, 1, b""), Violation::MalformedFrame),
        (wire::frame(8, 1, b""), Violation::MalformedFrame),
        (wire::head(3, 1, 200_000), Violation::FrameTooLarge { size: 200_008, limit: 131_072 }),
        (wire::head(3, 2048, 0), Violation::ChannelOutOfRange { channel: 2048, limit: 2047 }),
        (wire::body(1, b"x"), Violation::UnexpectedFrame { channel: 1 }),
        (after(wire::body(1, b"x")), Violation::UnexpectedFrame { channel: 1 }),
        (after(wire::header(1, limit + 1)), Violation::BodyTooLarge { size: limit + 1, limit }),
        (after([wire::header(1, 1), wire::body(1, b"xy")].concat()), Violation::BodyTooLong { channel: 1 }),
        (after(wire::frame(2, 1, b"\0")), Violation::Malformed),
        (wire::frame(1, 1, b"\0\x3c"), Violation::Malformed),
        (wire::frame(1, 1, b"\0\x3c\0\x3d"), Violation::NotImplemented { method: unknown }),
        (wire::method(1, &queue::Purge::default()), Violation::ForbiddenMethod { method: purge }),
        (
            wire::content(1, &basic::Publish::default(), b"m", 10),
            Violation::ForbiddenMethod { method: MethodId::BASIC_PUBLISH },
        ),
        (
            wire::method(0, &queue::PurgeOk::default()),
            Violation::WrongChannel { method: MethodId::QUEUE_PURGE_OK, channel: 0 },
        ),
        (wire::method(1, &queue::BindOk {}), Violation::UnexpectedMethod { method: MethodId::QUEUE_BIND_OK }),
        (wire::method(7, &queue::BindOk {}), Violation::ChannelNotOpen { channel: 7 }),
        (wire::method(1, &basic::Ack::default()), Violation::ChannelMode),
    ];
    for (bytes, violation) in cases {
        let error = error_of(client(), &bytes);
        assert_eq!((error.violation(), error.fault()), (violation, Fault::Peer), "{error}");
    }
    let mut confirming = client();
    confirming.peer.connection.confirm_select(1).unwrap();
    let error = error_of(confirming, &wire::method(1, &basic::Ack { delivery_tag: 9, multiple: false }));
    assert_eq!(error.violation(), Violation::UnknownPublish { tag: 9 });
    let mut consuming = client();
    let consume = basic::Consume { consumer_tag: "c", ..Default::default() };
    consuming.peer.connection.consume(1, &consume, 1, None).unwrap();
    let error = error_of(consuming, &wire::content(1, &deliver, b"m", 10).repeat(2));
    assert_eq!(error.violation(), Violation::DeliveryTag { tag: 1 });
    let tune = wire::method(0, &connection::Tune { channel_max: 0, frame_max: 1, heartbeat: 0 });
    assert_eq!(error_of(Script::client_started(), &tune).violation(), Violation::Negotiation);
    let mut silent = Script::new(Role::Client, Config::default()).tuned(1, 4096, 1);
    silent.advance(std::time::Duration::from_secs(2));
    assert_eq!(silent.peer.error.unwrap().violation(), Violation::HeartbeatTimeout);
}

#[test]
fn violations_by_a_client_are_typed() {
    let open = MethodId::CONNECTION_OPEN;
    let cases = [
        (Script::server(), b"GET / HTTP/1.1".to_vec(), Violation::WrongProtocol),
        (Script::server_channel(), wire::method(1, &channel::Open {}), Violation::ChannelInUse { channel: 1 }),
        (
            Script::server_tuning(),
            wire::method(0, &connection::Open { virtual_host: "/" }),
            Violation::UnexpectedMethod { method: open },
        ),
        (
            Script::server_tuning(),
            wire::method(0, &connection::TuneOk { channel_max: 0, frame_max: 4096, heartbeat: 0 }),
            Violation::Negotiation,
        ),
    ];
    for (script, bytes, violation) in cases {
        let error = error_of(script, &bytes);
        assert_eq!((error.violation(), error.fault()), (violation, Fault::Peer), "{error}");
    }
    let text = error_of(Script::server_channel(), &wire::method(7, &queue::Purge::default())).message().to_owned();
    assert_eq!(text, "frame received on channel 7, which is not open");
    let text = error_of(Script::server_channel(), &wire::method(1, &queue::PurgeOk::default())).message().to_owned();
    assert_eq!(text, "received queue.purge-ok, which this peer must not send");
}

#[test]
fn violations_by_the_caller_are_typed() {
    let mut script = Script::client_channel();
    let client = &mut script.peer.connection;
    let long = "k".repeat(300);
    let long_header = Properties::new().with_header(&long, 1);
    let huge_header = Properties::new().with_header("x", "y".repeat(140_000));
    let publish = |client: &mut hopmq_proto::Connection, route, properties: Properties| {
        client.publish(1, route, properties.as_ref_properties(), Body::Borrowed(b"")).map(drop)
    };
    let key = ShortString::RoutingKey;
    let table_key = ShortString::TableKey;
    let size = 300;
    let errors = [
        (client.open_channel(1, 0), Violation::ChannelInUse { channel: 1 }),
        (client.open_channel(0, 0), Violation::ChannelOutOfRange { channel: 0, limit: 2047 }),
        (client.ack(2, 1, false), Violation::ChannelNotOpen { channel: 2 }),
        (client.ack(1, 1, false), Violation::DeliveryTag { tag: 1 }),
        (client.request(1, &tx::Select {}, None), Violation::NotARequest { method: MethodId::TX_SELECT }),
        (
            client.request(0, &queue::Purge::default(), None),
            Violation::WrongChannel { method: MethodId::QUEUE_PURGE, channel: 0 },
        ),
        (client.request_encoded(1, b"\0", None), Violation::Malformed),
        (client.consume(1, &basic::Consume::default(), 1, None), Violation::ConsumerTag),
        (client.start_ok(&FieldTable::new(), "PLAIN", b""), Violation::HandshakeOrder),
        (
            publish(client, Route { routing_key: &long, ..ROUTE }, Properties::new()),
            Violation::ShortStringTooLong { string: key, size },
        ),
        (publish(client, ROUTE, long_header), Violation::ShortStringTooLong { string: table_key, size }),
        (publish(client, ROUTE, huge_header), Violation::FrameTooLarge { size: 140_033, limit: 131_072 }),
    ];
    for (result, violation) in errors {
        let error = result.unwrap_err();
        assert_eq!((error.violation(), error.fault()), (violation, Fault::Caller), "{error}");
    }
    client.confirm_select(1).unwrap();
    assert_eq!(client.tx_select(1, None).unwrap_err().violation(), Violation::ChannelMode);
    client.close(200, "");
    assert_eq!(client.open_channel(2, 0).unwrap_err().violation(), Violation::ConnectionNotOpen);
}

#[test]
fn a_name_that_is_too_long_is_reported_with_its_method_and_length() {
    let name = "q".repeat(300);
    let declare = queue::Declare { queue: &name, ..Default::default() };
    assert_eq!(
        declare.encode(&mut Vec::new()).unwrap_err().message(),
        "queue is 300 bytes long; at most 255 are allowed"
    );
    let mut script = Script::client_channel();
    let error = script.peer.connection.request(1, &declare, None).unwrap_err();
    assert_eq!(error.message(), "queue.declare: queue is 300 bytes long; at most 255 are allowed");
}

#[test]
fn errors_made_outside_of_the_crate_may_have_a_violation() {
    assert_eq!(Error::peer(504, "no").violation(), Violation::Other);
    let violation = Violation::ChannelNotOpen { channel: 3 };
    let error = violation.by_peer(504, "channel 3 is not open");
    assert_eq!((error.violation(), error.code(), error.fault()), (violation, 504, Fault::Peer));
    let limits = ReceiveLimits { frame_max: 4096, channel_max: 1, message_max: 0 };
    let error = hopmq_proto::Frame::parse(&wire::head(1, 0, 5000), &limits).unwrap_err();
    assert_eq!(error.violation(), Violation::FrameTooLarge { size: 5008, limit: 4096 });
}
