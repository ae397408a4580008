use hopmq_proto::method::{basic, queue};
use hopmq_proto::{Body, Properties};

use crate::common::Pair;

fn got(tag: u64) -> basic::GetOk<'static> {
    basic::GetOk { delivery_tag: tag, exchange: "e", routing_key: "k", message_count: 3, redelivered: true }
}

#[test]
fn each_get_returns_a_message_or_none_in_order() {
    let mut pair = Pair::with_channel();
    let get = basic::Get { queue: "q", no_ack: false };
    pair.client.connection.get(1, &get, Some(1)).unwrap();
    pair.client.connection.get(1, &get, Some(2)).unwrap();
    pair.client.connection.request(1, &queue::Purge::default(), Some(3)).unwrap();
    pair.client.connection.get(1, &get, None).unwrap();
    pair.flow();
    let server = &mut pair.server.connection;
    server.answer_content(1, &got(1), Properties::EMPTY, Body::Borrowed(b"one")).unwrap();
    server.answer(1, &basic::GetEmpty {}).unwrap();
    server.answer(1, &queue::PurgeOk::default()).unwrap();
    server.answer_content(1, &got(2), Properties::EMPTY, Body::Borrowed(b"two")).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: got 1 e/k one", "1: reply 2 basic.get-empty", "1: reply 3 queue.purge-ok"]);
    // The get without a request key has no event, but its message is unacked too.
    assert_eq!(pair.client.connection.unacked(1), 2);
    pair.client.connection.ack(1, 1, false).unwrap();
    pair.client.connection.reject(1, 2, true).unwrap();
    pair.assert_healthy();
}

#[test]
fn a_get_without_ack_leaves_nothing_to_ack() {
    let mut pair = Pair::with_channel();
    pair.client.connection.get(1, &basic::Get { queue: "q", no_ack: true }, Some(1)).unwrap();
    pair.client.connection.get(1, &basic::Get { queue: "q", no_ack: false }, Some(2)).unwrap();
    pair.client.connection.get(1, &basic::Get { queue: "q", no_ack: true }, Some(3)).unwrap();
    pair.flow();
    for tag in 1..=3 {
        pair.server.connection.answer_content(1, &got(tag), Properties::EMPTY, Body::Borrowed(b"")).unwrap();
    }
    pair.flow();
    assert_eq!(pair.client.take(), ["1: got 1 e/k ", "1: got 2 e/k ", "1: got 3 e/k "]);
    assert_eq!(pair.client.connection.unacked(1), 1);
    assert!(pair.client.connection.ack(1, 1, false).is_err());
    assert!(pair.client.connection.ack(1, 3, false).is_err());
    pair.client.connection.ack(1, 2, false).unwrap();
    pair.assert_healthy();
}
