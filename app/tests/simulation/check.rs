//! The invariants of a run.

use std::collections::{BTreeMap, BTreeSet};

use hopmq_app::test::{TestApp, TestMessage};

use crate::Record;
use crate::plan::{self, Fate, Order, Plan};

pub(crate) fn check(test: &TestApp, plan: &Plan, record: &Record) {
    let mut dead: BTreeMap<u32, Vec<TestMessage>> = BTreeMap::new();
    let ends: BTreeSet<_> = plan.queues.iter().flat_map(plan::Route::ends).collect();
    for message in ends.iter().flat_map(|name| test.queue(name).messages()) {
        dead.entry(message.json::<Order>().id).or_default().push(message);
    }
    for order in &record.published {
        let messages = dead.get(&order.id).map_or(&[][..], Vec::as_slice);
        nothing_is_lost(order, record.succeeded.contains(&order.id), messages);
        for message in messages {
            the_reason_is_told(plan, order, message);
        }
    }
    keys_are_in_order(plan, record, &dead);
    if record.faults.is_empty() && record.restarts == 0 {
        nothing_happens_twice(record, &dead);
    }
}

fn nothing_is_lost(order: &Order, succeeded: bool, dead: &[TestMessage]) {
    assert!(succeeded || !dead.is_empty(), "lost: {order:?}");
    if matches!(order.fate, Fate::AlwaysFails | Fate::Panics | Fate::IsRejected | Fate::IsParked) {
        assert!(!dead.is_empty(), "neither with the dead letters nor parked: {order:?}");
    }
}

fn the_reason_is_told(plan: &Plan, order: &Order, message: &TestMessage) {
    let class = message.error_class().unwrap_or_default();
    let expected = match order.fate {
        Fate::Panics => "panic",
        Fate::IsRejected => "wrong",
        Fate::IsParked => "strange",
        Fate::AlwaysFails | Fate::FailsFirst { .. } => "unwilling",
        // Only a message that came back too often.
        Fate::Succeeds | Fate::IsReleasedFirst | Fate::HangsFirst => "delivery-limit",
    };
    assert!(class == expected || class == "delivery-limit", "{order:?} failed with {message:?}");
    assert!(message.error().is_some_and(|error| !error.is_empty()), "{message:?}");
    let route = &plan.queues[order.queue];
    assert_eq!(message.came_from(), Some(&*route.name));
    assert_eq!(message.origin(), ("shop", &*format!("{}.new", route.name)));
    if class == "unwilling" || class == "panic" {
        let attempt = message.attempt();
        assert_eq!(route.backoff.delay(attempt), None, "attempts were left after {attempt}: {message:?}");
    }
}

/// The first success of each order comes after those of earlier orders with the same key. An order that failed for good
/// had its turn; it may have come again because its link broke before the ack.
fn keys_are_in_order(plan: &Plan, record: &Record, dead: &BTreeMap<u32, Vec<TestMessage>>) {
    let mut latest: BTreeMap<(usize, u32), u32> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for id in &record.succeeded {
        let order = &record.published[*id as usize];
        if !plan.queues[order.queue].ordered || dead.contains_key(id) || !seen.insert(*id) {
            continue;
        }
        let before = latest.insert((order.queue, order.customer), *id);
        assert!(before < Some(*id), "order {id} came after {before:?} of the same customer: {order:?}");
    }
}

fn nothing_happens_twice(record: &Record, dead: &BTreeMap<u32, Vec<TestMessage>>) {
    for order in &record.published {
        let successes = record.succeeded.iter().filter(|id| **id == order.id).count();
        let ends = successes + dead.get(&order.id).map_or(0, Vec::len);
        assert_eq!(ends, 1, "without a fault, handled {successes} times: {order:?}");
        let calls = record.calls.iter().filter(|id| **id == order.id).count();
        let expected = match order.fate {
            Fate::Succeeds | Fate::IsRejected | Fate::IsParked => 1..=1,
            Fate::FailsFirst { calls } => 1..=calls as usize + 1,
            Fate::AlwaysFails | Fate::Panics => 1..=4,
            Fate::IsReleasedFirst => 2..=2,
            // The broker takes it back with the rest of its channel, which may hold others that hang.
            Fate::HangsFirst => 2..=10,
        };
        assert!(expected.contains(&calls), "{calls} calls of {order:?}");
    }
}
