use hopmq_proto::method::basic::{Ack, Nack};
use hopmq_proto::method::confirm;
use hopmq_proto::{Body, Properties, Route};

use crate::common::Pair;

const ROUTE: Route<'static> = Route { exchange: "", routing_key: "q", mandatory: false };

/// Opens a channel in confirm mode and makes publishes 1 to `count`.
fn published(count: u64) -> Pair {
    let mut pair = Pair::with_channel();
    pair.client.connection.confirm_select(1).unwrap();
    for tag in 1..=count {
        let published = pair.client.connection.publish(1, ROUTE, Properties::EMPTY, Body::Borrowed(b"m"));
        assert_eq!(published, Ok(Some(tag)));
    }
    pair.flow();
    pair.server.connection.answer(1, &confirm::SelectOk {}).unwrap();
    pair.flow();
    assert_eq!(pair.server.take().len() as u64, count + 1);
    assert_eq!(pair.client.take(), [""; 0]);
    assert_eq!(pair.client.connection.unconfirmed(1) as u64, count);
    pair
}

/// A confirm: tag, `multiple`, and whether it is an ack.
type Confirm = (u64, bool, bool);

fn confirm(pair: &mut Pair, (delivery_tag, multiple, ack): Confirm) {
    if ack {
        pair.server.connection.answer(1, &Ack { delivery_tag, multiple }).unwrap();
    } else {
        pair.server.connection.answer(1, &Nack { delivery_tag, multiple, requeue: false }).unwrap();
    }
    pair.flow();
}

#[test]
fn every_publish_is_settled_by_its_confirm() {
    // The confirms of five publishes, the events, and how many publishes are left unconfirmed.
    let table: &[(&[Confirm], &[&str], usize)] = &[
        (&[(1, false, true)], &["1: confirmed 1..=1"], 4),
        (&[(3, true, true)], &["1: confirmed 1..=3"], 2),
        (&[(5, true, false)], &["1: refused 1..=5"], 0),
        (&[(0, true, true)], &["1: confirmed 1..=5"], 0),
        (&[(2, false, false), (5, true, true)], &["1: refused 2..=2", "1: confirmed 1..=5"], 0),
        (
            &[(5, false, true), (3, false, true), (4, true, true)],
            &["1: confirmed 5..=5", "1: confirmed 3..=3", "1: confirmed 1..=4"],
            0,
        ),
        (&[(1, false, true), (1, false, true)], &["1: confirmed 1..=1"], 4),
        (&[(1, false, true), (1, false, false)], &["1: confirmed 1..=1"], 4),
        (&[(3, true, true), (2, true, false), (2, false, true)], &["1: confirmed 1..=3"], 2),
        (&[(0, true, false), (0, true, true)], &["1: refused 1..=5"], 0),
    ];
    for (confirms, events, left) in table {
        let mut pair = published(5);
        for confirmed in *confirms {
            confirm(&mut pair, *confirmed);
        }
        assert_eq!(pair.client.take(), *events, "{confirms:?}");
        assert_eq!(pair.client.connection.unconfirmed(1), *left, "{confirms:?}");
        pair.assert_healthy();
    }
}

#[test]
fn a_confirm_of_an_unknown_publish_closes_the_connection() {
    for wrong in [(6, false, true), (6, true, true), (u64::MAX, true, false), (0, false, true), (0, false, false)] {
        let mut pair = published(5);
        confirm(&mut pair, wrong);
        assert_eq!(pair.client.code(), Some(503), "{wrong:?}");
        assert_eq!(pair.client.connection.unconfirmed(1), 5, "{wrong:?}");
        assert!(pair.server.take().last().is_some_and(|event| event.starts_with("closed 503")), "{wrong:?}");
    }
    let mut pair = Pair::with_channel();
    confirm(&mut pair, (1, false, true));
    assert_eq!(pair.client.code(), Some(503));
}

#[test]
fn publishes_count_from_confirm_select_on() {
    let mut pair = Pair::with_channel();
    let mut publish = || pair.client.connection.publish(1, ROUTE, Properties::EMPTY, Body::Borrowed(b"m"));
    assert_eq!(publish(), Ok(None));
    pair.client.connection.confirm_select(1).unwrap();
    let publish = pair.client.connection.publish(1, ROUTE, Properties::EMPTY, Body::Borrowed(b"m"));
    assert_eq!(publish, Ok(Some(1)));
    assert!(pair.client.connection.is_unconfirmed(1, 1));
    assert!(!pair.client.connection.is_unconfirmed(1, 2));
}

#[test]
fn a_publish_that_cannot_be_sent_is_not_counted() {
    let mut pair = published(1);
    let long = "x".repeat(256);
    let client = &mut pair.client.connection;
    let huge = Properties::new().with_header("x", "y".repeat(140_000));
    let failed = [
        client.publish(1, Route { exchange: &long, ..ROUTE }, Properties::EMPTY, Body::Borrowed(b"")),
        client.publish(1, Route { routing_key: &long, ..ROUTE }, Properties::EMPTY, Body::Borrowed(b"")),
        client.publish(1, ROUTE, Properties::new().with_app_id(&long).as_ref_properties(), Body::Borrowed(b"")),
        client.publish(1, ROUTE, huge.as_ref_properties(), Body::Borrowed(b"")),
        client.publish(2, ROUTE, Properties::EMPTY, Body::Borrowed(b"")),
    ];
    assert!(failed.iter().all(Result::is_err));
    assert_eq!((client.queued(), client.unconfirmed(1)), (0, 1));
    assert_eq!(client.publish(1, ROUTE, Properties::EMPTY, Body::Borrowed(b"")), Ok(Some(2)));
    pair.flow();
    pair.assert_healthy();
}

#[test]
fn a_new_channel_counts_from_one_again() {
    let mut pair = published(3);
    pair.close_channel(1);
    assert_eq!(pair.client.connection.unconfirmed(1), 0);
    pair.server.take();
    pair.open_channel(1);
    pair.client.connection.confirm_select(1).unwrap();
    let publish = pair.client.connection.publish(1, ROUTE, Properties::EMPTY, Body::Borrowed(b"m"));
    assert_eq!(publish, Ok(Some(1)));
}

#[test]
fn a_hundred_thousand_publishes_are_confirmed_in_any_order() {
    let mut pair = published(100_000);
    for delivery_tag in (1..=100_000).rev().step_by(2) {
        pair.server.connection.answer(1, &Ack { delivery_tag, multiple: false }).unwrap();
    }
    pair.flow();
    assert_eq!(pair.client.take().len(), 50_000);
    confirm(&mut pair, (100_000, true, true));
    assert_eq!(pair.client.take(), ["1: confirmed 1..=100000"]);
    assert_eq!(pair.client.connection.unconfirmed(1), 0);
}
