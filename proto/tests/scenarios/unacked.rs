use hopmq_proto::method::basic;
use hopmq_proto::{Body, Fault, Properties};

use crate::common::Pair;

/// A channel with deliveries 1 to `count`.
fn delivered(count: u64) -> Pair {
    let mut pair = Pair::with_channel();
    let consume = basic::Consume { queue: "q", consumer_tag: "c", ..Default::default() };
    pair.client.connection.consume(1, &consume, 0, None).unwrap();
    pair.flow();
    pair.server.connection.answer(1, &basic::ConsumeOk { consumer_tag: "c" }).unwrap();
    for tag in 1..=count {
        deliver(&mut pair, tag);
    }
    pair.server.take();
    pair.client.take();
    pair
}

fn deliver(pair: &mut Pair, delivery_tag: u64) {
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag, ..Default::default() };
    pair.server.connection.answer_content(1, &deliver, Properties::EMPTY, Body::Borrowed(b"")).unwrap();
    pair.flow();
}

#[test]
fn a_delivery_is_settled_once() {
    let mut pair = delivered(3);
    let client = &mut pair.client.connection;
    client.ack(1, 2, false).unwrap();
    client.nack(1, 1, false, true).unwrap();
    client.reject(1, 3, false).unwrap();
    assert_eq!(client.unacked(1), 0);
    let queued = client.queued();
    for tag in 0..=5 {
        let errors = [client.ack(1, tag, false), client.nack(1, tag, false, true), client.reject(1, tag, true)];
        assert!(errors.iter().all(|error| error.as_ref().is_err_and(|error| error.fault() == Fault::Caller)));
    }
    assert_eq!(client.queued(), queued);
    pair.flow();
    assert_eq!(pair.server.take(), ["1: basic.ack", "1: basic.nack", "1: basic.reject"]);
    pair.assert_well();
}

#[test]
fn multiple_settles_all_up_to_one_that_is_there() {
    let mut pair = delivered(200);
    let client = &mut pair.client.connection;
    client.ack(1, 130, true).unwrap();
    assert_eq!(client.unacked(1), 70);
    assert!(client.ack(1, 130, true).is_err());
    assert!(client.ack(1, 64, true).is_err());
    assert!(client.ack(1, 201, true).is_err());
    client.ack(1, 132, false).unwrap();
    assert!(client.nack(1, 132, true, true).is_err(), "the broker would close the channel");
    client.nack(1, 133, true, true).unwrap();
    assert_eq!(client.unacked(1), 67);
    client.ack(1, 200, true).unwrap();
    assert_eq!(client.unacked(1), 0);
    pair.flow();
    pair.assert_well();
}

#[test]
fn recover_takes_back_all_that_was_delivered_before_its_answer() {
    let mut pair = delivered(3);
    pair.client.connection.request(1, &basic::Recover { requeue: true }, Some(1)).unwrap();
    assert_eq!(pair.client.connection.unacked(1), 0);
    assert!(pair.client.connection.ack(1, 1, false).is_err(), "it would come behind the recover");
    // This one was on its way when the recover came.
    deliver(&mut pair, 4);
    assert!(pair.client.connection.ack(1, 4, false).is_err());
    pair.server.connection.answer(1, &basic::RecoverOk {}).unwrap();
    deliver(&mut pair, 5);
    assert_eq!(pair.client.connection.unacked(1), 1);
    pair.client.connection.ack(1, 5, false).unwrap();
    pair.flow();
    assert_eq!(pair.server.take(), ["1: basic.recover", "1: basic.ack"]);
    pair.assert_well();
}

#[test]
fn a_closed_channel_has_nothing_to_ack() {
    let mut pair = delivered(3);
    pair.close_channel(1);
    assert_eq!(pair.client.connection.unacked(1), 0);
    assert!(pair.client.connection.ack(1, 1, false).is_err());
    pair.server.take();
    pair.open_channel(1);
    assert!(pair.client.connection.ack(1, 1, false).is_err());
    pair.assert_well();
}

#[test]
fn one_delivery_that_is_never_acked_costs_nothing() {
    let mut pair = delivered(1);
    for tag in 2..20_000 {
        deliver(&mut pair, tag);
        pair.client.take();
        pair.client.connection.ack(1, tag, false).unwrap();
    }
    assert_eq!(pair.client.connection.unacked(1), 1);
    pair.client.connection.ack(1, 1, false).unwrap();
    pair.assert_well();
}
