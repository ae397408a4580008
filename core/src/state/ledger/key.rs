//! What the entries of the ledger stand for.

use std::sync::Arc;

use hopmq_proto::FieldTable;
use hopmq_proto::method::{Encode, exchange, queue};

use crate::policy::Entity;

/// What an entry declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Exchange(Arc<str>),
    Queue(Arc<str>),
    Binding(Arc<Binding>),
}

/// The order in which a replay declares entries of different kinds: a binding needs both of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Exchange,
    Queue,
    Binding,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binding {
    /// Whether the destination is a queue, and not an exchange.
    pub(super) to_queue: bool,
    pub(super) destination: Arc<str>,
    pub(super) source: Arc<str>,
    pub(super) routing_key: Box<str>,
    pub(super) arguments: Box<[u8]>,
}

impl Key {
    pub(crate) fn entity(&self) -> Entity<'_> {
        match self {
            Self::Exchange(name) => Entity::Exchange { name },
            Self::Queue(name) => Entity::Queue { name },
            Self::Binding(binding) => Entity::Binding {
                source: &binding.source,
                destination: &binding.destination,
                routing_key: &binding.routing_key,
            },
        }
    }

    pub(super) fn rank(&self) -> Rank {
        match self {
            Self::Exchange(_) => Rank::Exchange,
            Self::Queue(_) => Rank::Queue,
            Self::Binding(_) => Rank::Binding,
        }
    }
}

impl Binding {
    pub(super) fn of_queue(queue: &str, bind: (&str, &str, FieldTable<&[u8]>)) -> Self {
        Self::new(true, queue, bind)
    }

    pub(super) fn of_exchange(exchange: &str, bind: (&str, &str, FieldTable<&[u8]>)) -> Self {
        Self::new(false, exchange, bind)
    }

    fn new(
        to_queue: bool,
        destination: &str,
        (source, routing_key, arguments): (&str, &str, FieldTable<&[u8]>),
    ) -> Self {
        Self {
            to_queue,
            destination: destination.into(),
            source: source.into(),
            routing_key: routing_key.into(),
            arguments: arguments.as_bytes().into(),
        }
    }

    /// Returns the same binding of another queue.
    pub(super) fn with_destination(&self, destination: &Arc<str>) -> Self {
        Self { destination: Arc::clone(destination), ..self.clone() }
    }

    /// Returns what the destination is: an exchange or a queue.
    pub(super) fn end(&self) -> Rank {
        if self.to_queue { Rank::Queue } else { Rank::Exchange }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { destination, source, routing_key, .. } = self;
        let arguments = FieldTable::parse(&self.arguments[..]).unwrap_or_default();
        let mut payload = Vec::new();
        let encoded = if self.to_queue {
            let queue = destination;
            queue::Bind { queue, exchange: source, routing_key, nowait: false, arguments }.encode(&mut payload)
        } else {
            exchange::Bind { destination, source, routing_key, nowait: false, arguments }.encode(&mut payload)
        };
        debug_assert!(encoded.is_ok(), "the same binding was encoded before");
        payload
    }
}
