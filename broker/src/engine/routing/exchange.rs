//! An exchange and its bindings.
//!
//! Owns the bindings that start at the exchange, and the index that routing reads. Adding or removing a binding takes
//! time linear in its size and logarithmic in their number. A route takes time linear in what it finds and, by the type
//! of the exchange: `direct`, the keys of the message or the keys that are bound, whichever are fewer; `topic`, see
//! [`topic`](crate::engine::routing::topic); `headers`, the arguments of all bindings, between which it can stop;
//! `x-consistent-hash`, the number of destinations. It must never know what the destinations do with a message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use hopmq_proto::FieldTable;

use crate::engine::invariant::Invariant;
use crate::engine::keys::{ExchangeKey, QueueKey, VhostKey};
use crate::engine::meter::{Charge, Meter, Purpose, TABLES};
use crate::engine::name::Name;
use crate::engine::profile::Profile;
use crate::engine::routing::addressed::Addressed;
use crate::engine::routing::destinations::Destinations;
use crate::engine::routing::headers::{Numbers, Wanted};
use crate::engine::routing::topic::{self, Patterns};
use crate::engine::routing::weighted::{self, Hashed, Random, Weighted};
use crate::engine::routing::words::Words;
use crate::engine::table::Table;

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
    /// Whether it is deleted, and stays only until its bindings are removed.
    pub(crate) is_deleted: bool,
    /// The queue of the messages that a delayed-message exchange delays.
    pub(crate) delayed: Option<QueueKey>,
    bindings: BTreeMap<Binding, Held>,
    index: Index,
    meter: Meter,
    #[allow(dead_code, reason = "dropping it gives the bytes back")]
    charge: Charge,
}

/// What an exchange keeps of a binding.
#[derive(Debug)]
struct Held {
    /// What a headers exchange looks for; `None` if the binding matches nothing, and of other exchanges.
    wanted: Option<Box<Wanted>>,
    #[allow(dead_code, reason = "dropping it gives the bytes back")]
    charge: Charge,
}

#[derive(Debug)]
enum Index {
    Direct(Table<Box<[u8]>, Destinations<Destination>>),
    Fanout(Destinations<Destination>),
    Topic(Patterns<Destination>),
    /// No index: all bindings are read.
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
            Kind::Direct | Kind::DelayedMessage => Index::Direct(Table::default()),
            Kind::Fanout => Index::Fanout(Destinations::None),
            Kind::Topic => Index::Topic(Patterns::default()),
            Kind::Headers => {
                Index::Headers(if profile.compares_all_numbers() { Numbers::Any } else { Numbers::OfAKind })
            }
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
            is_deleted: false,
            delayed: None,
            bindings: BTreeMap::new(),
            index,
            meter,
            charge: Charge::new(meter, Purpose::Exchanges, size),
        }
    }

    /// Adds a binding to a destination of this name. Returns whether it is new.
    pub(crate) fn bind(&mut self, binding: Binding, name: &str, words: &mut Words) -> bool {
        if self.bindings.contains_key(&binding) {
            return false;
        }
        let destination = binding.destination;
        let mut wanted = None;
        match &mut self.index {
            Index::Direct(keys) => match keys.get_mut(&binding.key) {
                Some(all) => all.add(destination),
                None => keys.insert(binding.key.clone(), Destinations::One(destination, 1)),
            },
            Index::Fanout(all) => all.add(destination),
            Index::Topic(patterns) => patterns.insert(&binding.key, destination, words),
            Index::Headers(_) => wanted = Wanted::read(&binding.arguments, words).map(Box::new),
            Index::Weighted(all) => all.add(destination, name, weighted::weight(&binding.key).unwrap_or(1)),
            Index::Random(random) => random.add(destination),
        }
        let charge = Charge::new(self.meter, Purpose::Bindings, self.size_of_binding(&binding));
        self.bindings.insert(binding, Held { wanted, charge });
        true
    }

    /// Whether there is this binding.
    pub(crate) fn has(&self, binding: &Binding) -> bool {
        self.bindings.contains_key(binding)
    }

    /// Removes a binding. Returns whether it existed.
    pub(crate) fn unbind(&mut self, binding: &Binding, words: &mut Words) -> bool {
        if self.bindings.remove(binding).is_none() {
            return false;
        }
        let destination = binding.destination;
        match &mut self.index {
            Index::Direct(keys) => {
                if let Some(all) = keys.get_mut(&binding.key) {
                    all.remove(destination);
                    if all.is_empty() {
                        keys.remove(&binding.key);
                    }
                }
            }
            Index::Fanout(all) => all.remove(destination),
            Index::Topic(patterns) => patterns.remove(&binding.key, destination, words),
            Index::Headers(_) => Wanted::forget(&binding.arguments, words),
            Index::Weighted(all) => all.remove(destination, weighted::weight(&binding.key).unwrap_or(1)),
            Index::Random(random) => random.remove(destination),
        }
        true
    }

    /// Returns a binding to a destination, if there is one: the first by key and arguments.
    pub(crate) fn first_binding_to(&self, destination: Destination) -> Option<&Binding> {
        let first = Binding { destination, key: Box::default(), arguments: Box::default() };
        let (binding, _) = self.bindings.range((Bound::Included(&first), Bound::Unbounded)).next()?;
        (binding.destination == destination).then_some(binding)
    }

    /// Returns what a binding takes, in bytes: in the list, in the index, and in the store.
    fn size_of_binding(&self, binding: &Binding) -> usize {
        let index = match &self.index {
            Index::Topic(_) => topic::size_of_pattern(binding.key.split(|byte| *byte == b'.').count()),
            Index::Headers(_) => Wanted::size_of(&binding.arguments),
            _ => 0,
        };
        let stored = if self.spec.durable { 2 } else { 1 };
        index + stored * (TABLES + size_of::<(Binding, Held)>() + 2 * binding.key.len() + binding.arguments.len())
    }

    /// Returns the bindings, by destination, key and arguments.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.keys()
    }

    /// Whether no binding starts here.
    pub(crate) fn is_unbound(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Calls `found` with the destinations of a message; with the same one several times if several bindings match.
    /// Bindings of a headers exchange are read from `next` on, if it is there. Where the route must stop, it is the one
    /// to go on with.
    pub(crate) fn route(
        &self,
        message: &mut Addressed<'_>,
        next: &mut Option<Binding>,
        mut found: impl FnMut(Destination),
    ) -> DependsOn {
        match &self.index {
            Index::Direct(all) => message.look_up(all, found),
            Index::Fanout(all) => message.steps += all.each(found) as u64,
            Index::Topic(patterns) => message.match_patterns(patterns, found),
            Index::Headers(numbers) => {
                let from = next.take();
                let from = from.as_ref().map_or(Bound::Unbounded, Bound::Included);
                for (binding, held) in self.bindings.range((from, Bound::Unbounded)) {
                    if message.must_stop() {
                        *next = Some(binding.clone());
                        break;
                    }
                    if held.wanted.as_ref().is_some_and(|wanted| message.match_headers(wanted, *numbers)) {
                        found(binding.destination);
                    }
                }
                return DependsOn::More;
            }
            Index::Weighted(all) => {
                message.steps += all.len() as u64;
                let hash = all.hashed.hash(message.first_key(), message.properties);
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
