use std::collections::BTreeMap;

use hopmq_proto::method::{Method, basic};
use hopmq_proto::{Body, Fault, Properties};

use crate::common::{Pair, Random};

/// Opens a channel and makes deliveries 1 to `count`.
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
    pair.assert_healthy();
}

#[test]
fn a_multiple_ack_settles_all_up_to_an_unacked_delivery() {
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
    pair.assert_healthy();
}

#[test]
fn recover_requeues_all_deliveries_before_its_reply() {
    let mut pair = delivered(3);
    pair.client.connection.request(1, &basic::Recover { requeue: true }, Some(1)).unwrap();
    assert_eq!(pair.client.connection.unacked(1), 0);
    assert!(pair.client.connection.ack(1, 1, false).is_err(), "the ack would follow the recover");
    // This delivery was in transit when the recover arrived.
    deliver(&mut pair, 4);
    assert!(pair.client.connection.ack(1, 4, false).is_err());
    pair.server.connection.answer(1, &basic::RecoverOk {}).unwrap();
    deliver(&mut pair, 5);
    assert_eq!(pair.client.connection.unacked(1), 1);
    pair.client.connection.ack(1, 5, false).unwrap();
    pair.flow();
    assert_eq!(pair.server.take(), ["1: basic.recover", "1: basic.ack"]);
    pair.assert_healthy();
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
    pair.assert_healthy();
}

#[test]
fn a_delivery_that_stays_unacked_does_not_disturb_later_acks() {
    let mut pair = delivered(1);
    for tag in 2..20_000 {
        deliver(&mut pair, tag);
        pair.client.take();
        pair.client.connection.ack(1, tag, false).unwrap();
    }
    assert_eq!(pair.client.connection.unacked(1), 1);
    pair.client.connection.ack(1, 1, false).unwrap();
    pair.assert_healthy();
}

/// The result of each delivery: `None` while unacked.
type Results = BTreeMap<u64, Option<char>>;

/// Settles like a broker, which refuses an unknown tag.
fn settle(results: &mut Results, tag: u64, multiple: bool, result: char) {
    assert_eq!(results.get(&tag), Some(&None), "{tag} is unacked");
    let settled = results.range_mut(if multiple { 0 } else { tag }..=tag).filter(|(_, known)| known.is_none());
    settled.for_each(|(_, known)| *known = Some(result));
}

/// Applies the output of the client like a broker. Returns the number of frames.
fn apply_frames(results: &mut Results, mut bytes: &[u8]) -> usize {
    let mut frames = 0;
    while let [kind, _, _, a, b, c, d, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        // Other frame types belong to messages.
        let method = (*kind == 1).then(|| Method::decode(payload).unwrap());
        match method {
            Some(Method::BasicAck(ack)) => settle(results, ack.delivery_tag, ack.multiple, 'a'),
            Some(Method::BasicNack(nack)) => settle(results, nack.delivery_tag, nack.multiple, 'n'),
            Some(Method::BasicReject(reject)) => settle(results, reject.delivery_tag, false, 'n'),
            _ => {}
        }
        bytes = &rest[1..];
        frames += 1;
    }
    frames
}

#[test]
fn consecutive_acks_are_merged_into_one() {
    let mut pair = delivered(6);
    let mut results: Results = (1..=6).map(|tag| (tag, None)).collect();
    for tag in [1, 2, 3] {
        pair.client.connection.ack(1, tag, false).unwrap();
    }
    assert_eq!(apply_frames(&mut results, &pair.client.drain(pair.now)), 1);
    assert!((1..=3).all(|tag| results[&tag] == Some('a')));
    // Delivery 4 stays unacked, so the acks of 5 and 6 are not merged.
    pair.client.connection.ack(1, 5, false).unwrap();
    pair.client.connection.ack(1, 6, false).unwrap();
    assert_eq!(apply_frames(&mut results, &pair.client.drain(pair.now)), 2);
    assert_eq!(results[&4], None);
}

#[test]
fn merged_acks_settle_the_same_deliveries_as_single_acks() {
    let mut frames = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut pair = delivered(0);
        let mut expected = Results::new();
        let mut applied = Results::new();
        let mut next = 1;
        for _ in 0..200 {
            let unacked: Vec<u64> =
                expected.iter().filter(|(_, result)| result.is_none()).map(|(tag, _)| *tag).collect();
            let oldest_first = random.below(4) > 0;
            let index = if oldest_first { 0 } else { random.below(unacked.len() as u64) as usize };
            let client = &mut pair.client.connection;
            match (random.below(16), unacked.get(index)) {
                (0..=7, Some(tag)) => {
                    let multiple = random.below(8) == 0;
                    client.ack(1, *tag, multiple).unwrap();
                    settle(&mut expected, *tag, multiple, 'a');
                }
                (8, Some(tag)) => {
                    client.reject(1, *tag, true).unwrap();
                    settle(&mut expected, *tag, false, 'n');
                }
                (9, Some(tag)) => {
                    client.nack(1, *tag, true, true).unwrap();
                    settle(&mut expected, *tag, true, 'n');
                }
                (10, _) => {
                    let route = hopmq_proto::Route { exchange: "", routing_key: "q", mandatory: false };
                    client.publish(1, route, Properties::EMPTY, Body::Borrowed(b"")).unwrap();
                }
                (11, _) => frames += apply_frames(&mut applied, &pair.client.drain(pair.now)),
                _ => {
                    frames += apply_frames(&mut applied, &pair.client.drain(pair.now));
                    deliver(&mut pair, next);
                    pair.client.take();
                    expected.insert(next, None);
                    applied.insert(next, None);
                    next += 1;
                }
            }
        }
        apply_frames(&mut applied, &pair.client.drain(pair.now));
        assert_eq!(applied, expected, "seed {seed}");
    }
    assert!(frames > 1000, "only {frames} frames");
}
