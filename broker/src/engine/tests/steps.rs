//! The work of routes and deletions, counted in steps: it is linear in what they are about, whatever a client binds.

use std::collections::BTreeSet;

use hopmq_proto::{FieldTable, Properties, Time};

use crate::engine::keys::{ExchangeKey, QueueKey, VhostKey};
use crate::engine::queue::QueueSpec;
use crate::engine::queue::settings::Settings;
use crate::engine::routing::exchange::{Binding, Destination, ExchangeSpec, Kind};
use crate::engine::{Config, Engine, Profile};

struct Broker {
    engine: Engine,
    vhost: VhostKey,
}

impl Broker {
    fn new() -> Self {
        let mut engine = Engine::new(Config {
            seed: 1,
            wall_epoch: 0,
            connection_max: usize::MAX,
            profile: Profile::default(),
            consumer_timeout: None,
            limits: crate::limits::Limits::default(),
            memory_limit: u64::MAX,
            protocol: hopmq_proto::Config::default(),
        });
        let vhost = engine.add_vhost("/");
        Self { engine, vhost }
    }

    fn exchange(&mut self, name: &str, kind: Kind, auto_delete: bool) -> ExchangeKey {
        let spec = ExchangeSpec { kind, durable: false, auto_delete, internal: false, arguments: FieldTable::new() };
        self.engine.add_exchange(self.vhost, name, spec)
    }

    fn queue(&mut self, name: &str) -> QueueKey {
        let spec = QueueSpec { durable: false, auto_delete: false, exclusive: None, arguments: FieldTable::new() };
        self.engine.add_queue(self.vhost, name.into(), spec, Settings::default())
    }

    fn bind(&mut self, source: ExchangeKey, destination: Destination, key: &str) {
        let binding = Binding { destination, key: key.as_bytes().into(), arguments: Box::default() };
        self.engine.bind(source, binding).expect("the binding is valid");
    }

    /// Ends an operation, with all that it has left.
    fn finish(&mut self) {
        self.engine.end();
        self.engine.finish_work(Time::ZERO);
    }

    /// Returns the queues of a message, and the steps of its route.
    fn route(&self, source: ExchangeKey, keys: &[String]) -> (BTreeSet<QueueKey>, u64) {
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let mut queues = Vec::new();
        let before = self.engine.routing.steps.get();
        self.engine.route_from(self.vhost, source, &keys, &Properties::EMPTY, &mut queues);
        (queues.into_iter().collect(), self.engine.routing.steps.get() - before)
    }
}

#[test]
fn a_route_through_many_exchanges_visits_each_once() {
    let mut broker = Broker::new();
    let first = broker.exchange("first", Kind::Fanout, false);
    let queue = broker.queue("q");
    let all: Vec<_> = (0..2_000).map(|number| broker.exchange(&number.to_string(), Kind::Fanout, false)).collect();
    for (index, exchange) in all.iter().enumerate() {
        broker.bind(first, Destination::Exchange(*exchange), "");
        broker.bind(*exchange, Destination::Exchange(first), "");
        broker.bind(*exchange, Destination::Exchange(all[(index + 1) % all.len()]), "");
        broker.bind(*exchange, Destination::Queue(queue), "");
    }
    let (queues, steps) = broker.route(first, &["key".to_owned()]);
    assert_eq!(queues, [queue].into());
    // One for each exchange and for each binding.
    assert_eq!(steps, 2_001 + 4 * 2_000);
}

#[test]
fn a_message_with_many_keys_costs_its_keys_once_and_not_at_each_exchange() {
    for kind in [Kind::Direct, Kind::Topic] {
        let mut broker = Broker::new();
        let first = broker.exchange("first", Kind::Fanout, false);
        let mut expected = BTreeSet::new();
        for number in 0..1_000 {
            let exchange = broker.exchange(&number.to_string(), kind, false);
            let queue = broker.queue(&number.to_string());
            broker.bind(first, Destination::Exchange(exchange), "");
            broker.bind(exchange, Destination::Queue(queue), &format!("a.{number}"));
            expected.extend((number >= 500).then_some(queue));
        }
        let keys: Vec<String> = (500..20_500).map(|number| format!("a.{number}")).collect();
        let (queues, steps) = broker.route(first, &keys);
        assert_eq!(queues, expected);
        // The words and ends of the keys, and few steps at each exchange for each 64 of them.
        let limit = match kind {
            Kind::Topic => 3 * 20_000 + 1_000 * (5 * 3 * 20_000 / 64 + 100),
            _ => 20_000 + 1_000 * 10,
        };
        assert!(steps <= limit, "{kind:?}: {steps} steps of {limit}");
    }
}

#[test]
fn a_chain_of_auto_delete_exchanges_is_deleted_without_recursion() {
    let mut broker = Broker::new();
    let before = broker.engine.exchanges.len();
    let all: Vec<_> = (0..100_000).map(|number| broker.exchange(&number.to_string(), Kind::Fanout, true)).collect();
    for pair in all.windows(2) {
        broker.bind(pair[0], Destination::Exchange(pair[1]), "");
    }
    broker.engine.delete_exchanges(vec![all[all.len() - 1]]);
    broker.finish();
    assert_eq!(broker.engine.exchanges.len(), before);
}

#[test]
fn a_destination_loses_its_bindings_one_by_one() {
    let kinds = [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::ConsistentHash, Kind::Random];
    for kind in kinds {
        let mut broker = Broker::new();
        let exchange = broker.exchange("x", kind, false);
        let (gone, other) = (broker.queue("gone"), broker.queue("other"));
        for number in 1..=2_000 {
            broker.bind(exchange, Destination::Queue(gone), &number.to_string());
            broker.bind(exchange, Destination::Queue(other), &number.to_string());
        }
        let mut sources = [exchange].into();
        let (before, mut calls) = (broker.engine.routing.steps.get(), 0);
        while broker.engine.unbind_one_to(Destination::Queue(gone), &mut sources, &mut Vec::new()) {
            calls += 1;
            // A number has at most four digits.
            assert!(broker.engine.routing.steps.get() - before <= 10 * calls, "{kind:?}");
        }
        assert_eq!(calls, 2_000, "{kind:?}");
        assert_eq!(broker.route(exchange, &["7".to_owned()]).0, [other].into(), "{kind:?}");
        while broker.engine.unbind_one_from(exchange) {}
        assert_eq!(broker.route(exchange, &["7".to_owned()]).0, BTreeSet::new(), "{kind:?}");
        assert!(broker.engine.queues[other].sources.is_empty());
    }
}

#[test]
fn a_removed_binding_leaves_nothing_at_its_destination() {
    let mut broker = Broker::new();
    let exchange = broker.exchange("x", Kind::Direct, false);
    let other = broker.exchange("y", Kind::Direct, false);
    let queue = broker.queue("q");
    for destination in [Destination::Queue(queue), Destination::Exchange(other)] {
        broker.bind(exchange, destination, "a");
        broker.bind(exchange, destination, "b");
    }
    for left in [3, 2, 1, 0] {
        assert!(broker.engine.unbind_one_from(exchange));
        assert_eq!(broker.engine.exchanges[exchange].bindings().count(), left);
    }
    assert!(broker.engine.queues[queue].sources.is_empty() && broker.engine.exchanges[other].sources.is_empty());
}

#[test]
fn deleted_topic_exchanges_leave_no_words() {
    let mut broker = Broker::new();
    let queue = broker.queue("q");
    let exchanges = ["x", "y"].map(|name| broker.exchange(name, Kind::Topic, false));
    for exchange in exchanges {
        broker.bind(exchange, Destination::Queue(queue), "a.*.b.#");
    }
    assert!(!broker.engine.routing.words.is_empty());
    broker.engine.delete_exchanges(vec![exchanges[0]]);
    broker.engine.delete_queue(queue);
    broker.finish();
    assert!(broker.engine.routing.words.is_empty());
}
