//! An exchange and its bindings.
//!
//! Owns the bindings that start at the exchange, and the index that routing reads. It must never know what the
//! destinations do with a message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use hopmq_proto::FieldTable;

use crate::engine::invariant::Invariant;
use crate::engine::keys::{ExchangeKey, QueueKey, VhostKey};
use crate::engine::name::Name;
use crate::engine::routing::headers;
use crate::engine::routing::topic::Patterns;

/// The type of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl Kind {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// The end of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Destination {
    Queue(QueueKey),
    Exchange(ExchangeKey),
}

/// A binding without its source. No two of an exchange are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binding {
    pub(crate) destination: Destination,
    pub(crate) key: Box<[u8]>,
    /// The encoded arguments.
    pub(crate) arguments: Box<[u8]>,
}

/// The declaration of an exchange.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeSpec {
    pub(crate) kind: Kind,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: FieldTable,
}

/// An exchange. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) name: Name,
    pub(crate) vhost: VhostKey,
    pub(crate) spec: ExchangeSpec,
    /// The alternate exchange, for messages that match no binding.
    pub(crate) alternate: Option<Name>,
    /// The exchanges that are bound to this one.
    pub(crate) sources: BTreeSet<ExchangeKey>,
    bindings: BTreeMap<Binding, ()>,
    index: Index,
}

#[derive(Debug)]
enum Index {
    Direct(HashMap<Box<[u8]>, Vec<Destination>>),
    Fanout(Vec<Destination>),
    Topic(Patterns<Destination>),
    /// No index: the bindings themselves are read.
    Headers,
}

impl Exchange {
    pub(crate) fn new(name: Name, vhost: VhostKey, spec: ExchangeSpec) -> Self {
        let index = match spec.kind {
            Kind::Direct => Index::Direct(HashMap::new()),
            Kind::Fanout => Index::Fanout(Vec::new()),
            Kind::Topic => Index::Topic(Patterns::default()),
            Kind::Headers => Index::Headers,
        };
        let alternate = spec.arguments.get("alternate-exchange").and_then(|value| value.as_str()).map(Name::from);
        Self { name, vhost, spec, alternate, sources: BTreeSet::new(), bindings: BTreeMap::new(), index }
    }

    /// Adds a binding. Returns whether it is new.
    pub(crate) fn bind(&mut self, binding: Binding) -> bool {
        if self.bindings.contains_key(&binding) {
            return false;
        }
        let destination = binding.destination;
        match &mut self.index {
            Index::Direct(keys) => keys.entry(binding.key.clone()).or_default().push(destination),
            Index::Fanout(all) => all.push(destination),
            Index::Topic(patterns) => patterns.insert(&binding.key, destination),
            Index::Headers => {}
        }
        self.bindings.insert(binding, ());
        true
    }

    /// Removes a binding. Returns whether it existed.
    pub(crate) fn unbind(&mut self, binding: &Binding) -> bool {
        if self.bindings.remove(binding).is_none() {
            return false;
        }
        let destination = binding.destination;
        let take = |all: &mut Vec<Destination>| {
            if let Some(index) = all.iter().position(|other| *other == destination) {
                all.remove(index);
            }
        };
        match &mut self.index {
            Index::Direct(keys) => {
                if let Some(all) = keys.get_mut(&binding.key) {
                    take(all);
                    if all.is_empty() {
                        keys.remove(&binding.key);
                    }
                }
            }
            Index::Fanout(all) => take(all),
            Index::Topic(patterns) => patterns.remove(&binding.key, destination),
            Index::Headers => {}
        }
        true
    }

    /// Removes all bindings to a destination. Returns them.
    pub(crate) fn unbind_all(&mut self, destination: Destination) -> Vec<Binding> {
        let first = Binding { destination, key: Box::default(), arguments: Box::default() };
        let from = self.bindings.range((Bound::Included(&first), Bound::Unbounded));
        let gone: Vec<Binding> = from
            .map(|(binding, ())| binding)
            .take_while(|binding| binding.destination == destination)
            .cloned()
            .collect();
        for binding in &gone {
            self.unbind(binding);
        }
        gone
    }

    /// Returns the bindings, by destination, key and arguments.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.keys()
    }

    /// Whether no binding starts here.
    pub(crate) fn is_unbound(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Calls `found` with the destinations of a message with any of these keys; with the same one several times if
    /// several bindings match. Only a headers exchange asks for `headers`.
    pub(crate) fn route<'a>(
        &self,
        keys: &[&[u8]],
        headers: impl FnOnce() -> FieldTable<&'a [u8]>,
        mut found: impl FnMut(Destination),
    ) {
        match &self.index {
            Index::Direct(all) => {
                for key in keys {
                    all.get(*key).into_iter().flatten().for_each(|destination| found(*destination));
                }
            }
            Index::Fanout(all) => all.iter().for_each(|destination| found(*destination)),
            Index::Topic(patterns) => keys.iter().for_each(|key| patterns.matches(key, &mut found)),
            Index::Headers => {
                let headers = headers();
                for binding in self.bindings.keys() {
                    // They were validated by [`bind`](crate::engine::Engine::bind).
                    let arguments = FieldTable::parse(&binding.arguments[..]).ok();
                    let Some(arguments) = arguments.invariant("field table") else { continue };
                    if headers::matches(&arguments, &headers) {
                        found(binding.destination);
                    }
                }
            }
        }
    }
}
