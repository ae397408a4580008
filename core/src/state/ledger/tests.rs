//! The ledger does what a plain list does, over random sequences of operations.

use std::collections::BTreeSet;
use std::sync::Arc;

use hopmq_proto::method::{Encode, exchange, queue};
use hopmq_proto::{FieldTable, SortedMap};

use super::{Key, Ledger, Node};
use crate::common::Random;

/// A list in the order of declaration, each of whose operations looks at all entries.
#[derive(Default)]
struct Model {
    entries: Vec<Item>,
}

#[derive(Clone, Debug)]
struct Item {
    what: What,
    auto_delete: bool,
    missing: bool,
    /// The names that the broker gave the queue.
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Exchange(String),
    Queue(String),
    Binding { to_queue: bool, destination: String, source: String, routing_key: String },
}

impl Model {
    fn find(&mut self, what: &What) -> Option<&mut Item> {
        self.entries.iter_mut().find(|item| item.what == *what)
    }

    fn declare(&mut self, what: What, auto_delete: bool, names: &[String]) {
        match self.find(&what) {
            Some(item) => (item.auto_delete, item.missing) = (auto_delete, false),
            None => self.entries.push(Item { what, auto_delete, missing: false, names: names.to_vec() }),
        }
    }

    fn forget(&mut self, what: &What) {
        let is_gone = |item: &Item| match (&item.what, what) {
            (What::Binding { to_queue: true, destination, .. }, What::Queue(name)) => destination == name,
            (What::Binding { to_queue, destination, source, .. }, What::Exchange(name)) => {
                source == name || !to_queue && destination == name
            }
            (other, what) => other == what,
        };
        let (gone, left): (Vec<Item>, Vec<Item>) = self.entries.drain(..).partition(is_gone);
        self.entries = left;
        for item in gone {
            let What::Binding { source, .. } = item.what else { continue };
            let used = |item: &Item| matches!(&item.what, What::Binding { source: other, .. } if *other == source);
            let exchange = What::Exchange(source.clone());
            if !self.entries.iter().any(used) && self.find(&exchange).is_some_and(|item| item.auto_delete) {
                self.forget(&exchange);
            }
        }
    }

    fn consumers_gone(&mut self, queue: &str) {
        let queue = What::Queue(queue.to_owned());
        if self.find(&queue).is_some_and(|item| item.auto_delete) {
            self.forget(&queue);
        }
    }

    fn rename(&mut self, index: usize, name: &str) {
        let What::Queue(old) = &self.entries[index].what else { return };
        let old = old.clone();
        self.entries[index].names.push(name.to_owned());
        self.entries[index].what = What::Queue(name.to_owned());
        for item in &mut self.entries {
            if let What::Binding { to_queue: true, destination, .. } = &mut item.what
                && *destination == old
            {
                name.clone_into(destination);
            }
        }
    }

    fn current(&self, name: &str) -> String {
        let known = self.entries.iter().find(|item| item.names.iter().any(|known| known == name));
        known.and_then(|item| item.names.last()).map_or(name, |latest| latest).to_owned()
    }

    fn lacks(&self, what: &What) -> bool {
        self.entries.iter().any(|item| item.what == *what && item.missing)
    }

    /// Returns what a replay declares: exchanges, queues, and bindings between entities that exist.
    fn replay(&self) -> Vec<What> {
        let rank = |what: &What| match what {
            What::Exchange(_) => 0,
            What::Queue(_) => 1,
            What::Binding { .. } => 2,
        };
        let bindable = |what: &What| match what {
            What::Binding { to_queue, destination, source, .. } => {
                let end = if *to_queue { What::Queue } else { What::Exchange }(destination.clone());
                !self.lacks(&end) && !self.lacks(&What::Exchange(source.clone()))
            }
            What::Exchange(_) | What::Queue(_) => true,
        };
        let missing = self.entries.iter().filter(|item| item.missing && bindable(&item.what));
        let mut missing: Vec<What> = missing.map(|item| item.what.clone()).collect();
        missing.sort_by_key(rank);
        missing
    }
}

impl What {
    fn of(key: &Key) -> Self {
        match key {
            Key::Exchange(name) => Self::Exchange(name.to_string()),
            Key::Queue(name) => Self::Queue(name.to_string()),
            Key::Binding(binding) => Self::Binding {
                to_queue: binding.to_queue,
                destination: binding.destination.to_string(),
                source: binding.source.to_string(),
                routing_key: binding.routing_key.to_string(),
            },
        }
    }
}

fn encoded(method: &impl Encode) -> Vec<u8> {
    let mut payload = Vec::new();
    method.encode(&mut payload).expect("the method can be encoded");
    payload
}

/// The ledger, the list, and what a program would know.
struct Pair {
    ledger: Ledger,
    model: Model,
    random: Random,
    last: String,
    /// The names that the broker gave queues.
    named: Vec<String>,
}

impl Pair {
    fn name(&mut self, kind: &str) -> String {
        if kind == "q" && !self.named.is_empty() && self.random.below(2) == 0 {
            return self.named[self.random.below(self.named.len())].clone();
        }
        format!("{kind}{}", self.random.below(4))
    }

    fn fresh(&mut self) -> String {
        self.named.push(format!("amq.gen-{}", self.named.len()));
        self.named[self.named.len() - 1].clone()
    }

    fn step(&mut self) {
        let (auto_delete, key) = (self.random.below(2) == 0, ["a", "b"][self.random.below(2)]);
        let (source, exchange, queue) = (self.name("e"), self.name("e"), self.name("q"));
        let arguments = FieldTable::<&[u8]>::default();
        let binding = |to_queue: bool, destination: &str| What::Binding {
            to_queue,
            destination: destination.to_owned(),
            source: source.clone(),
            routing_key: key.to_owned(),
        };
        let last = self.model.current(&self.last);
        match self.random.below(16) {
            0 | 1 => {
                let declare = exchange::Declare { exchange: &exchange, auto_delete, ..exchange::Declare::default() };
                self.record(&declare, &exchange::DeclareOk {});
                self.model.declare(What::Exchange(exchange), auto_delete, &[]);
            }
            2 | 3 => {
                let by_broker = self.random.below(2) == 0;
                let (asked, name) = if by_broker { (String::new(), self.fresh()) } else { (queue.clone(), queue) };
                let declare = queue::Declare { queue: &asked, auto_delete, ..queue::Declare::default() };
                self.record(&declare, &queue::DeclareOk { queue: &name, message_count: 0, consumer_count: 0 });
                let names = if by_broker { vec![name.clone()] } else { Vec::new() };
                self.model.declare(What::Queue(name), auto_delete, &names);
            }
            4..=6 => {
                let queue = if self.random.below(4) == 0 { String::new() } else { queue };
                let bind = queue::Bind { queue: &queue, exchange: &source, routing_key: key, nowait: false, arguments };
                self.record(&bind, &queue::BindOk {});
                self.model.declare(binding(true, if queue.is_empty() { &last } else { &queue }), false, &[]);
            }
            7 => {
                let unbind = queue::Unbind { queue: &queue, exchange: &source, routing_key: key, arguments };
                self.record(&unbind, &queue::UnbindOk {});
                self.model.forget(&binding(true, &queue));
            }
            8 | 9 => {
                let (destination, source) = (&*exchange, &*source);
                let bind = exchange::Bind { destination, source, routing_key: key, nowait: false, arguments };
                self.record(&bind, &exchange::BindOk {});
                self.model.declare(binding(false, destination), false, &[]);
            }
            10 => {
                let (destination, source) = (&*exchange, &*source);
                let unbind = exchange::Unbind { destination, source, routing_key: key, nowait: false, arguments };
                self.record(&unbind, &exchange::UnbindOk {});
                self.model.forget(&binding(false, destination));
            }
            11 => {
                let delete = exchange::Delete { exchange: &exchange, if_unused: false, nowait: false };
                self.record(&delete, &exchange::DeleteOk {});
                self.model.forget(&What::Exchange(exchange));
            }
            12 => {
                let delete = queue::Delete { queue: &queue, if_unused: false, if_empty: false, nowait: false };
                self.record(&delete, &queue::DeleteOk { message_count: 0 });
                self.model.forget(&What::Queue(queue));
            }
            13 => {
                self.ledger.consumers_gone(&queue);
                self.model.consumers_gone(&queue);
            }
            14 => {
                self.ledger.lose();
                self.model.entries.iter_mut().for_each(|item| item.missing = true);
            }
            _ => self.restore(),
        }
    }

    fn record(&mut self, request: &impl Encode, reply: &impl Encode) {
        self.ledger.record(&encoded(request), &encoded(reply), &mut self.last);
    }

    /// Restores some of what is missing. The broker gives queues that it named new names.
    fn restore(&mut self) {
        let bindings = self.random.below(2) == 0;
        let missing: Vec<u64> = match bindings {
            false => self.ledger.missing().map(|(serial, _)| serial).collect(),
            true => self.ledger.missing_bindings().map(|(serial, _)| serial).collect(),
        };
        for serial in missing {
            if self.random.below(4) == 0 {
                continue;
            }
            let what = What::of(&self.ledger.restored(serial).expect("it was missing"));
            let index = self.model.entries.iter().position(|item| item.what == what).expect("both have it");
            self.model.entries[index].missing = false;
            if !self.model.entries[index].names.is_empty() {
                let name = self.fresh();
                let old = self.ledger.rename(serial, &name).expect("the name is new");
                assert_eq!(What::Queue(old.to_string()), what);
                self.model.rename(index, &name);
            }
        }
    }

    fn compare(&self) {
        let entries: Vec<What> = self.ledger.entries.values().map(|entry| What::of(&entry.key)).collect();
        let expected: Vec<What> = self.model.entries.iter().map(|item| item.what.clone()).collect();
        assert_eq!(entries, expected);
        let replay = self.ledger.missing().chain(self.ledger.missing_bindings());
        let replay: Vec<What> = replay.map(|(_, entry)| What::of(&entry.key)).collect();
        assert_eq!(replay, self.model.replay());
        for name in &self.named {
            assert_eq!(self.ledger.current(name), self.model.current(name));
        }
        for item in &self.model.entries {
            if let What::Queue(name) = &item.what {
                assert_eq!((self.ledger.declares(name), self.ledger.lacks_queue(name)), (true, item.missing));
            }
        }
    }

    /// Checks that the indexes have what the entries have, and nothing else.
    fn check_indexes(&self) {
        let Ledger { entries, exchanges, queues, bindings, missing, names, .. } = &self.ledger;
        let declared = |nodes: &SortedMap<Arc<str>, Node>, name: &str| nodes.get(name).and_then(|node| node.declared);
        for (serial, entry) in entries.iter() {
            match &entry.key {
                Key::Exchange(name) => assert_eq!(declared(exchanges, name), Some(*serial)),
                Key::Queue(name) => assert_eq!(declared(queues, name), Some(*serial)),
                Key::Binding(binding) => {
                    assert_eq!(bindings.get(binding), Some(serial));
                    let source = exchanges.get(&binding.source);
                    assert!(source.is_some_and(|node| node.outgoing.contains(serial)));
                    let ends = if binding.to_queue { queues } else { exchanges };
                    let end = ends.get(&binding.destination);
                    assert!(end.is_some_and(|node| node.incoming.contains(serial)));
                }
            }
        }
        let nodes = || exchanges.values().chain(queues.values());
        assert!(nodes().all(|node| !node.is_empty()));
        let count = |counts: &mut dyn Iterator<Item = usize>| counts.sum::<usize>();
        let declared = nodes().filter(|node| node.declared.is_some()).count();
        assert_eq!(declared + bindings.len(), entries.len());
        assert_eq!(count(&mut nodes().map(|node| node.outgoing.len())), bindings.len());
        assert_eq!(count(&mut nodes().map(|node| node.incoming.len())), bindings.len());
        assert!(missing.iter().all(|(_, serial)| entries.contains_key(serial)));
        let known = entries.values().filter_map(|entry| entry.name.as_ref());
        let known: BTreeSet<&str> = known.flat_map(|name| name.all()).collect();
        assert_eq!(known, names.keys().map(|name| &**name).collect());
    }
}

#[test]
fn the_ledger_does_what_a_list_does() {
    for seed in 0..60 {
        let (ledger, model, random) = (Ledger::new(true), Model::default(), Random::new(seed));
        let mut pair = Pair { ledger, model, random, last: String::new(), named: Vec::new() };
        for _ in 0..150 {
            pair.step();
            pair.compare();
            pair.check_indexes();
        }
    }
}

#[test]
fn a_chain_of_auto_delete_exchanges_is_forgotten_whatever_its_length() {
    let mut ledger = Ledger::new(true);
    let mut last = String::new();
    let arguments = FieldTable::<&[u8]>::default();
    let length = 20_000;
    for number in 0..length {
        let (exchange, next) = (format!("{number}"), format!("{}", number + 1));
        let declare = exchange::Declare { exchange: &exchange, auto_delete: true, ..exchange::Declare::default() };
        ledger.record(&encoded(&declare), &encoded(&exchange::DeclareOk {}), &mut last);
        let bind = exchange::Bind { destination: &next, source: &exchange, routing_key: "", nowait: false, arguments };
        ledger.record(&encoded(&bind), &encoded(&exchange::BindOk {}), &mut last);
    }
    assert_eq!(ledger.entries.len(), 2 * length);
    let delete = exchange::Delete { exchange: &format!("{length}"), if_unused: false, nowait: false };
    ledger.record(&encoded(&delete), &encoded(&exchange::DeleteOk {}), &mut last);
    assert_eq!((ledger.entries.len(), ledger.exchanges.len(), ledger.bindings.len()), (0, 0, 0));
}

#[test]
fn nothing_is_kept_if_nothing_will_be_declared_again() {
    let mut ledger = Ledger::new(false);
    let mut last = String::new();
    let declare = queue::Declare { queue: "", ..queue::Declare::default() };
    let ok = queue::DeclareOk { queue: "amq.gen-1", message_count: 0, consumer_count: 0 };
    ledger.record(&encoded(&declare), &encoded(&ok), &mut last);
    assert_eq!(last, "amq.gen-1", "an empty name still stands for the queue");
    let arguments = FieldTable::<&[u8]>::default();
    let bind = queue::Bind { queue: "", exchange: "amq.topic", routing_key: "#", nowait: false, arguments };
    ledger.record(&encoded(&bind), &encoded(&queue::BindOk {}), &mut last);
    let declare = exchange::Declare { exchange: "e", ..exchange::Declare::default() };
    ledger.record(&encoded(&declare), &encoded(&exchange::DeclareOk {}), &mut last);
    let Ledger { entries, exchanges, queues, bindings, names, .. } = &ledger;
    let sizes = [entries.len(), exchanges.len(), queues.len(), bindings.len(), names.len()];
    assert_eq!(sizes, [0; 5]);
    assert_eq!(ledger.name("amq.gen-1").map(|name| name.text().to_owned()), None);
}
