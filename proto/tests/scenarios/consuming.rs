use hopmq_proto::method::basic;
use hopmq_proto::{Body, Fault, Properties};

use crate::common::Pair;

fn consuming(tags: &[&str], no_ack: bool) -> Pair {
    let mut pair = Pair::with_channel();
    for (key, tag) in tags.iter().enumerate() {
        let consume = basic::Consume { queue: "q", consumer_tag: tag, no_ack, ..Default::default() };
        pair.client.connection.consume(1, &consume, key as u64, Some(key as u64)).unwrap();
        pair.flow();
        pair.server.connection.answer(1, &basic::ConsumeOk { consumer_tag: tag }).unwrap();
    }
    pair.flow();
    assert_eq!(pair.client.take().len(), tags.len());
    pair.server.take();
    pair
}

fn deliver(pair: &mut Pair, consumer_tag: &str, delivery_tag: u64) {
    let deliver = basic::Deliver { consumer_tag, delivery_tag, redelivered: false, exchange: "", routing_key: "q" };
    pair.server.connection.answer_content(1, &deliver, Properties::EMPTY, Body::Borrowed(b"m")).unwrap();
    pair.flow();
}

#[test]
fn deliveries_go_to_their_consumers() {
    let mut pair = consuming(&["a", "b", "c"], false);
    for (delivery_tag, tag) in (1..).zip(["c", "a", "c", "b", "c", "c", "a"]) {
        deliver(&mut pair, tag, delivery_tag);
        let key = ["a", "b", "c"].iter().position(|known| *known == tag).unwrap();
        assert_eq!(pair.client.take(), [format!("1: delivery {key} {delivery_tag} /q m")]);
    }
    assert_eq!(pair.client.connection.unacked(1), 7);
    pair.client.connection.ack(1, 7, true).unwrap();
    pair.flow();
    assert_eq!(pair.server.take(), ["1: basic.ack"]);
    pair.assert_healthy();
}

#[test]
fn a_delivery_may_arrive_before_consume_ok() {
    let mut pair = Pair::with_channel();
    let consume = basic::Consume { queue: "q", consumer_tag: "c", ..Default::default() };
    pair.client.connection.consume(1, &consume, 4, Some(1)).unwrap();
    pair.flow();
    deliver(&mut pair, "c", 1);
    pair.server.connection.answer(1, &basic::ConsumeOk { consumer_tag: "c" }).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: delivery 4 1 /q m", "1: reply 1 basic.consume-ok"]);
    pair.assert_healthy();
}

#[test]
fn a_consumer_tag_must_be_unique_and_not_empty() {
    let mut pair = consuming(&["a"], false);
    for consumer_tag in ["", "a"] {
        let consume = basic::Consume { consumer_tag, ..Default::default() };
        let error = pair.client.connection.consume(1, &consume, 1, None).unwrap_err();
        assert_eq!(error.fault(), Fault::Caller);
    }
    assert_eq!(pair.client.connection.queued(), 0);
}

/// In RabbitMQ, the process of the queue sends these replies, so replies to later requests may overtake them.
#[test]
fn replies_to_consume_and_cancel_may_arrive_late() {
    let mut pair = consuming(&["a"], false);
    let client = &mut pair.client.connection;
    client.cancel(1, "a", Some(1)).unwrap();
    client.request(1, &basic::Qos { prefetch_count: 1, global: false }, Some(2)).unwrap();
    client.consume(1, &basic::Consume { consumer_tag: "b", ..Default::default() }, 8, Some(3)).unwrap();
    client.request(1, &basic::Qos { prefetch_count: 2, global: false }, Some(4)).unwrap();
    for answer in [2, 4] {
        pair.server.connection.answer(1, &basic::QosOk {}).unwrap();
        pair.flow();
        assert_eq!(pair.client.take(), [format!("1: reply {answer} basic.qos-ok")]);
    }
    pair.server.connection.answer(1, &basic::ConsumeOk { consumer_tag: "b" }).unwrap();
    pair.server.connection.answer(1, &basic::CancelOk { consumer_tag: "a" }).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: reply 3 basic.consume-ok", "1: reply 1 basic.cancel-ok"]);
    pair.assert_healthy();
}

#[test]
fn deliveries_continue_until_cancel_ok() {
    let mut pair = consuming(&["a"], false);
    pair.client.connection.cancel(1, "a", Some(1)).unwrap();
    deliver(&mut pair, "a", 1);
    pair.server.connection.answer(1, &basic::CancelOk { consumer_tag: "a" }).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: delivery 0 1 /q m", "1: reply 1 basic.cancel-ok"]);
    // The tag is free again.
    let consume = basic::Consume { consumer_tag: "a", ..Default::default() };
    pair.client.connection.consume(1, &consume, 8, None).unwrap();
    pair.assert_healthy();
}

#[test]
fn a_cancel_by_the_server_is_answered_unless_nowait_is_set() {
    for nowait in [true, false] {
        let mut pair = consuming(&["a", "b"], false);
        pair.server.connection.answer(1, &basic::Cancel { consumer_tag: "a", nowait }).unwrap();
        pair.flow();
        assert_eq!(pair.client.take(), ["1: cancelled 0"]);
        let answers: &[&str] = if nowait { &[] } else { &["1: basic.cancel-ok"] };
        assert_eq!(pair.server.take(), answers);
        deliver(&mut pair, "b", 1);
        assert_eq!(pair.client.take(), ["1: delivery 1 1 /q m"]);
        pair.assert_healthy();
    }
}

#[test]
fn both_ends_may_cancel_at_once() {
    let mut pair = consuming(&["a"], false);
    pair.client.connection.cancel(1, "a", Some(1)).unwrap();
    pair.server.connection.answer(1, &basic::Cancel { consumer_tag: "a", nowait: true }).unwrap();
    pair.flow();
    pair.server.connection.answer(1, &basic::CancelOk { consumer_tag: "a" }).unwrap();
    pair.flow();
    assert_eq!(pair.client.take(), ["1: cancelled 0", "1: reply 1 basic.cancel-ok"]);
    pair.assert_healthy();
}

#[test]
fn a_late_cancel_ok_keeps_a_new_consumer_of_the_same_tag() {
    let mut pair = consuming(&["a"], false);
    pair.client.connection.cancel(1, "a", Some(1)).unwrap();
    pair.server.connection.answer(1, &basic::Cancel { consumer_tag: "a", nowait: true }).unwrap();
    pair.server_writes();
    let consume = basic::Consume { consumer_tag: "a", ..Default::default() };
    pair.client.connection.consume(1, &consume, 7, Some(2)).unwrap();
    pair.server.connection.answer(1, &basic::CancelOk { consumer_tag: "a" }).unwrap();
    pair.server.connection.answer(1, &basic::ConsumeOk { consumer_tag: "a" }).unwrap();
    deliver(&mut pair, "a", 1);
    assert_eq!(
        pair.client.take(),
        ["1: cancelled 0", "1: reply 1 basic.cancel-ok", "1: reply 2 basic.consume-ok", "1: delivery 7 1 /q m"]
    );
    pair.assert_healthy();
}

#[test]
fn a_delivery_for_an_unknown_consumer_is_requeued_and_counted() {
    let mut pair = consuming(&["a"], false);
    deliver(&mut pair, "ghost", 1);
    deliver(&mut pair, "a", 2);
    assert_eq!(pair.client.take(), ["1: delivery 0 2 /q m"]);
    assert_eq!(pair.server.take(), ["1: basic.reject"]);
    assert_eq!(pair.client.connection.unknown_deliveries(), 1);
    assert_eq!(pair.client.connection.unacked(1), 1);
    pair.assert_healthy();
}

#[test]
fn a_late_delivery_of_a_consumer_without_acks_is_not_rejected() {
    // The delivery tag is unknown to the broker, which would close the channel for a reject.
    let mut pair = consuming(&["a", "b"], true);
    pair.server.connection.answer(1, &basic::Cancel { consumer_tag: "a", nowait: true }).unwrap();
    deliver(&mut pair, "a", 1);
    deliver(&mut pair, "b", 2);
    assert_eq!(pair.client.take(), ["1: cancelled 0", "1: delivery 1 2 /q m"]);
    assert_eq!(pair.server.take(), [""; 0]);
    assert_eq!(pair.client.connection.unknown_deliveries(), 1);
    pair.assert_healthy();
}

#[test]
fn delivery_tags_may_be_far_apart_and_out_of_order() {
    let mut pair = consuming(&["a"], false);
    for tag in [1, 10_000_000, u64::MAX / 2, 3, u64::MAX] {
        deliver(&mut pair, "a", tag);
    }
    assert_eq!(pair.client.take().len(), 5);
    assert_eq!(pair.client.connection.unacked(1), 5);
    pair.client.connection.ack(1, 10_000_000, true).unwrap();
    assert_eq!(pair.client.connection.unacked(1), 2);
    pair.assert_healthy();
}
