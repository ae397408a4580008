use hopmq_proto::method::{MethodId, basic, channel, connection, queue};
use hopmq_proto::{CloseReason, Event, Fault};

use crate::common::{Pair, Script, wire};

#[test]
fn the_client_closes_the_connection() {
    let mut pair = Pair::with_channel();
    pair.client.connection.close(200, "bye");
    assert!(!pair.client.connection.is_open() && !pair.client.connection.is_closed());
    pair.flow();
    assert_eq!(pair.client.take(), ["closed"]);
    assert_eq!(pair.server.take(), ["closed 200 bye"]);
    assert!(pair.client.connection.is_closed() && pair.server.connection.is_closed());
}

#[test]
fn the_server_closes_the_connection() {
    let mut pair = Pair::with_channel();
    let text = "CONNECTION_FORCED - shutdown".to_owned();
    pair.server.connection.refuse(&CloseReason { code: 320, text, method: MethodId::BASIC_PUBLISH });
    pair.flow();
    let Some(Event::Closed { reason: Some(reason) }) = pair.client.events.pop() else { panic!("no close") };
    assert_eq!((reason.code, reason.method), (320, MethodId::BASIC_PUBLISH));
    assert_eq!(reason.text, "CONNECTION_FORCED - shutdown");
    assert_eq!(pair.server.take(), ["closed"]);
    assert!(pair.client.connection.is_closed() && pair.server.connection.is_closed());
}

#[test]
fn both_ends_may_close_the_connection_at_once() {
    let mut pair = Pair::open();
    pair.client.connection.close(200, "client");
    pair.server.connection.close(320, "server");
    pair.flow();
    assert_eq!(pair.client.take(), ["closed 320 server"]);
    assert_eq!(pair.server.take(), ["closed 200 client"]);
    assert!(pair.client.connection.is_closed() && pair.server.connection.is_closed());
    assert_eq!((&pair.client.error, &pair.server.error), (&None, &None));
}

#[test]
fn everything_is_dropped_while_the_connection_closes() {
    let mut script = Script::client_channel();
    script.peer.connection.request(1, &queue::Purge::default(), Some(5)).unwrap();
    script.peer.connection.close(200, "");
    script.send(&wire::method(1, &queue::PurgeOk::default()));
    script.send(&wire::content(1, &basic::Deliver::default(), b"late", 100));
    script.send(&wire::method(1, &channel::Close::default()));
    script.send(&wire::method(0, &connection::Blocked { reason: "" }));
    script.send(&wire::method(0, &connection::CloseOk {}));
    script.send(&wire::method(0, &connection::CloseOk {}));
    assert_eq!(script.peer.take(), ["closed"]);
    assert_eq!(script.output(), ["1 queue.purge", "0 connection.close"]);
    assert_eq!(script.peer.error, None);
}

#[test]
fn a_closed_connection_refuses_everything_and_writes_nothing() {
    let mut pair = Pair::with_channel();
    pair.client.connection.close(200, "");
    pair.flow();
    let client = &mut pair.client.connection;
    client.close(200, "again");
    let errors = [
        client.open_channel(2, 1),
        client.close_channel(1, 200, "", None),
        client.request(1, &queue::Purge::default(), None),
        client.request(0, &connection::UpdateSecret::default(), None),
        client.get(1, &basic::Get::default(), None),
        client.consume(1, &basic::Consume { consumer_tag: "c", ..Default::default() }, 1, None),
        client.confirm_select(1),
        client.tx_select(1, None),
        client.ack(1, 1, false),
    ];
    assert!(errors.iter().all(|error| error.as_ref().is_err_and(|error| error.fault() == Fault::Caller)));
    assert_eq!(client.queued(), 0);
    assert_eq!(client.poll_timeout(), None);
    assert!(pair.server.connection.answer(0, &connection::Unblocked {}).is_err());
}

#[test]
fn the_reason_of_a_connection_close_is_truncated_to_255_bytes() {
    let mut pair = Pair::open();
    pair.client.connection.close(200, &"€".repeat(100));
    pair.flow();
    assert_eq!(pair.server.take(), [format!("closed 200 {}", "€".repeat(85))]);
}
