use hopmq_proto::method::basic;
use hopmq_proto::{Body, Properties, Route};

use crate::common::Pair;

/// Opens a channel in confirm mode, and makes mandatory publishes with the routing keys and bodies.
fn published(messages: &[(&str, &str)]) -> Pair {
    let mut pair = Pair::with_channel();
    pair.client.connection.confirm_select(1).unwrap();
    for (routing_key, body) in messages {
        let route = Route { exchange: "e", routing_key, mandatory: true };
        pair.client.connection.publish(1, route, Properties::EMPTY, Body::Borrowed(body.as_bytes())).unwrap();
    }
    pair.flow();
    pair.server.connection.answer(1, &hopmq_proto::method::confirm::SelectOk {}).unwrap();
    pair
}

fn return_message(pair: &mut Pair, routing_key: &str, properties: Properties<&[u8]>, body: &str) -> String {
    let method = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange: "e", routing_key };
    pair.server.connection.answer_content(1, &method, properties, Body::Borrowed(body.as_bytes())).unwrap();
    pair.flow();
    let [event] = pair.client.take().try_into().expect("one event");
    event
}

fn returned(pair: &mut Pair, routing_key: &str, body: &str) -> String {
    return_message(pair, routing_key, Properties::EMPTY, body)
}

fn confirm(pair: &mut Pair, delivery_tag: u64, multiple: bool) {
    pair.server.connection.answer(1, &basic::Ack { delivery_tag, multiple }).unwrap();
    pair.flow();
    pair.client.take();
}

#[test]
fn a_return_is_matched_with_its_publish() {
    let mut pair = published(&[("good", "1"), ("bad", "2"), ("good", "3"), ("bad", "4"), ("bad", "4")]);
    assert_eq!(returned(&mut pair, "bad", "2"), "1: returned Some(2) e/bad 2");
    confirm(&mut pair, 2, true);
    assert_eq!(returned(&mut pair, "bad", "4"), "1: returned Some(4) e/bad 4");
    assert_eq!(returned(&mut pair, "bad", "4"), "1: returned Some(5) e/bad 4");
    assert_eq!(returned(&mut pair, "bad", "4"), "1: returned None e/bad 4");
    confirm(&mut pair, 0, true);
    pair.assert_healthy();
}

#[test]
fn a_confirmed_publish_is_not_matched_with_a_later_return() {
    // The queue was deleted after the first publish.
    let mut pair = published(&[("k", "same"), ("k", "same"), ("k", "same")]);
    confirm(&mut pair, 1, false);
    assert_eq!(returned(&mut pair, "k", "same"), "1: returned Some(2) e/k same");
    confirm(&mut pair, 2, false);
    assert_eq!(returned(&mut pair, "k", "same"), "1: returned Some(3) e/k same");
    pair.assert_healthy();
}

#[test]
fn returns_are_distinguished_by_their_headers() {
    let mut pair = Pair::with_channel();
    pair.client.connection.confirm_select(1).unwrap();
    let properties = ["routable", "unroutable", "changed"].map(|kind| Properties::new().with_header("kind", kind));
    for properties in &properties {
        let route = Route { exchange: "e", routing_key: "", mandatory: true };
        pair.client.connection.publish(1, route, properties.as_ref_properties(), Body::Borrowed(b"m")).unwrap();
    }
    pair.flow();
    let [_, unroutable, _] = &properties;
    assert_eq!(return_message(&mut pair, "", unroutable.as_ref_properties(), "m"), "1: returned Some(2) e/ m");
    // A broker may encode the properties differently; then the route and the body decide.
    assert_eq!(returned(&mut pair, "", "m"), "1: returned Some(1) e/ m");
    pair.assert_healthy();
}

#[test]
fn a_return_without_a_matching_publish_has_no_tag() {
    let mut pair = published(&[("k", "m")]);
    assert_eq!(returned(&mut pair, "k", "other"), "1: returned None e/k other");
    assert_eq!(returned(&mut pair, "other", "m"), "1: returned None e/other m");
    confirm(&mut pair, 1, false);
    assert_eq!(returned(&mut pair, "k", "m"), "1: returned None e/k m");
    let mut pair = Pair::with_channel();
    assert_eq!(returned(&mut pair, "k", "m"), "1: returned None e/k m");
    pair.assert_healthy();
}

#[test]
fn a_return_has_a_code_and_a_text() {
    let mut pair = published(&[("k", "m")]);
    let method = basic::Return { reply_code: 313, reply_text: "NO_CONSUMERS", exchange: "e", routing_key: "k" };
    pair.server.connection.answer_content(1, &method, Properties::EMPTY, Body::Borrowed(b"m")).unwrap();
    pair.flow();
    let Some(hopmq_proto::Event::Returned { content, .. }) = pair.client.events.pop() else { panic!("no return") };
    let arguments = content.arguments();
    assert_eq!((arguments.reply_code, arguments.reply_text), (313, &b"NO_CONSUMERS"[..]));
}
