//! An exchange and its bindings.
//!
//! Owns the bindings that start at the exchange, and the index that routing reads. It must never know what the
//! destinations do with a message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use hopmq_proto::{FieldTable, Properties};

use crate::engine::invariant::Invariant;
use crate::engine::keys::{ExchangeKey, QueueKey, VhostKey};
use crate::engine::meter::{Charge, Meter, Purpose, TABLES};
use crate::engine::name::Name;
use crate::engine::profile::Profile;
use crate::engine::routing::headers::{self, Numbers};
use crate::engine::routing::topic::{self, Patterns};
use crate::engine::routing::weighted::{self, Hashed, Random, Weighted};

/// The type of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
    /// One destination for each value, of RabbitMQ's plugin "consistent hash exchange".
    ConsistentHash,
    /// Any one destination, of RabbitMQ's plugin "random exchange".
    Random,
    /// Any one queue of the node that the publisher is connected to.
    LocalRandom,
    /// Another type, after a time that each message has in a header: RabbitMQ's plugin "delayed message exchange".
    DelayedMessage,
}

impl Kind {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            "x-consistent-hash" => Self::ConsistentHash,
            "x-random" => Self::Random,
            "x-local-random" => Self::LocalRandom,
            "x-delayed-message" => Self::DelayedMessage,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::DelayedMessage => "x-delayed-message",
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

impl ExchangeSpec {
    /// Returns the type that routes: of a delayed-message exchange, the one that its argument names.
    pub(crate) fn routing(&self) -> Kind {
        if self.kind != Kind::DelayedMessage {
            return self.kind;
        }
        // The argument was validated when the exchange was declared.
        let inner = self.arguments.get(DELAYED_TYPE).and_then(|kind| Kind::of(kind.as_str()?));
        inner.invariant("type of a delayed-message exchange").unwrap_or(Kind::Direct)
    }
}

/// The argument that names the type of a delayed-message exchange.
pub(crate) const DELAYED_TYPE: &str = "x-delayed-type";

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
    /// The queue of the messages that a delayed-message exchange delays.
    pub(crate) delayed: Option<QueueKey>,
    bindings: BTreeMap<Binding, Charge>,
    index: Index,
    meter: Meter,
    #[allow(dead_code, reason = "dropping it gives the bytes back")]
    charge: Charge,
}

#[derive(Debug)]
enum Index {
    Direct(HashMap<Box<[u8]>, Vec<Destination>>),
    Fanout(Vec<Destination>),
    Topic(Patterns<Destination>),
    /// No index: the bindings themselves are read.
    Headers(Numbers),
    Weighted(Weighted),
    Random(Random),
}

/// What routes depend on besides the exchange and the routing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DependsOn {
    Nothing,
    /// The properties of the message, or chance.
    More,
}

impl Exchange {
    /// Returns an exchange without bindings. The seed is for random choices.
    pub(crate) fn new(
        name: Name,
        vhost: VhostKey,
        spec: ExchangeSpec,
        profile: Profile,
        seed: u64,
        meter: Meter,
    ) -> Self {
        let index = match spec.routing() {
            Kind::Direct | Kind::DelayedMessage => Index::Direct(HashMap::new()),
            Kind::Fanout => Index::Fanout(Vec::new()),
            Kind::Topic => Index::Topic(Patterns::default()),
            Kind::Headers => Index::Headers(Numbers::of(profile)),
            Kind::ConsistentHash => {
                // The arguments were validated when the exchange was declared.
                let hashed = Hashed::of(&spec.arguments.as_ref_table()).ok().invariant("hash of an exchange");
                Index::Weighted(Weighted::new(hashed.unwrap_or(Hashed::RoutingKey)))
            }
            Kind::Random | Kind::LocalRandom => Index::Random(Random::new(seed)),
        };
        let alternate = spec.arguments.get("alternate-exchange").and_then(|value| value.as_str()).map(Name::from);
        let stored = if spec.durable { 2 } else { 1 };
        let size = size_of::<Self>() + stored * (TABLES + name.len() + spec.arguments.as_bytes().len());
        Self {
            name,
            vhost,
            spec,
            alternate,
            sources: BTreeSet::new(),
            delayed: None,
            bindings: BTreeMap::new(),
            index,
            meter,
            charge: Charge::new(meter, Purpose::Exchanges, size),
        }
    }

    /// Adds a binding to a destination of this name. Returns whether it is new.
    pub(crate) fn bind(&mut self, binding: Binding, name: &str) -> bool {
        if self.bindings.contains_key(&binding) {
            return false;
        }
        let destination = binding.destination;
        match &mut self.index {
            Index::Direct(keys) => keys.entry(binding.key.clone()).or_default().push(destination),
            Index::Fanout(all) => all.push(destination),
            Index::Topic(patterns) => patterns.insert(&binding.key, destination),
            Index::Headers(_) => {}
            Index::Weighted(all) => all.add(destination, name, weighted::weight(&binding.key).unwrap_or(1)),
            Index::Random(random) => random.all.push(destination),
        }
        let charge = Charge::new(self.meter, Purpose::Bindings, self.size_of_binding(&binding));
        self.bindings.insert(binding, charge);
        true
    }

    /// Whether there is this binding.
    pub(crate) fn has(&self, binding: &Binding) -> bool {
        self.bindings.contains_key(binding)
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
            Index::Headers(_) => {}
            Index::Weighted(all) => all.remove(destination, weighted::weight(&binding.key).unwrap_or(1)),
            Index::Random(random) => take(&mut random.all),
        }
        true
    }

    /// Returns what a binding takes, in bytes: in the list, in the index, and in the store.
    fn size_of_binding(&self, binding: &Binding) -> usize {
        let words = match &self.index {
            Index::Topic(_) => binding.key.split(|byte| *byte == b'.').count() * topic::NODE_SIZE,
            _ => 0,
        };
        let stored = if self.spec.durable { 2 } else { 1 };
        words + stored * (TABLES + size_of::<(Binding, Charge)>() + 2 * binding.key.len() + binding.arguments.len())
    }

    /// Removes all bindings to a destination. Returns them.
    pub(crate) fn unbind_all(&mut self, destination: Destination) -> Vec<Binding> {
        let first = Binding { destination, key: Box::default(), arguments: Box::default() };
        let from = self.bindings.range((Bound::Included(&first), Bound::Unbounded));
        let gone: Vec<Binding> = from
            .map(|(binding, _)| binding)
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
    /// several bindings match.
    pub(crate) fn route(
        &self,
        keys: &[&[u8]],
        properties: &Properties<&[u8]>,
        mut found: impl FnMut(Destination),
    ) -> DependsOn {
        match &self.index {
            Index::Direct(all) => {
                for key in keys {
                    all.get(*key).into_iter().flatten().for_each(|destination| found(*destination));
                }
            }
            Index::Fanout(all) => all.iter().for_each(|destination| found(*destination)),
            Index::Topic(patterns) => keys.iter().for_each(|key| patterns.matches(key, &mut found)),
            Index::Headers(numbers) => {
                let headers = properties.headers().unwrap_or_default();
                for binding in self.bindings.keys() {
                    // They were validated by [`bind`](crate::engine::Engine::bind).
                    let arguments = FieldTable::parse(&binding.arguments[..]).ok();
                    let Some(arguments) = arguments.invariant("field table") else { continue };
                    if headers::matches(&arguments, &headers, *numbers) {
                        found(binding.destination);
                    }
                }
                return DependsOn::More;
            }
            Index::Weighted(all) => {
                let hash = all.hashed.hash(keys.first().copied().unwrap_or_default(), properties);
                all.pick(hash).into_iter().for_each(found);
                return DependsOn::More;
            }
            Index::Random(random) => {
                random.pick().into_iter().for_each(found);
                return DependsOn::More;
            }
        }
        DependsOn::Nothing
    }
}
