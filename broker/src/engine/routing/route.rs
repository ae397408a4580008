//! Routing: from an exchange and the routing keys of a message to queues.
//!
//! A route visits each exchange at most once, and takes time linear in their number and in what
//! [each of them](crate::engine::routing::exchange) takes; the keys and headers of the message are made ready once, or
//! once in each turn of a route that takes several ([`Progress`]).

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use hopmq_proto::{FieldTable, Properties};

use crate::engine::Engine;
use crate::engine::keys::{ExchangeKey, QueueKey, VhostKey};
use crate::engine::refusal::Refusal;
use crate::engine::routing::addressed::{Addressed, Scratch};
use crate::engine::routing::delayed;
use crate::engine::routing::exchange::{Binding, DependsOn, Destination};
use crate::engine::routing::words::Words;
use crate::engine::values::type_name;

/// What all routes share.
#[derive(Debug, Default)]
pub(in crate::engine) struct Routing {
    /// The words in the patterns of all topic exchanges.
    pub(in crate::engine) words: Words,
    scratch: RefCell<Scratch>,
    /// The steps of routes and unbinds since it was last reset: exchanges, bindings, nodes of tries, keys and headers
    /// that were visited, and bindings that were removed. They are smaller than the move of a message.
    pub(in crate::engine) steps: Cell<u64>,
}

/// The exchanges of a route, in the order in which the message comes to them.
#[derive(Debug)]
struct Reached {
    order: Vec<ExchangeKey>,
    /// The same, once they are many.
    set: HashSet<ExchangeKey>,
}

/// Up to this number of exchanges a list is searched faster than a set.
const FEW: usize = 16;

impl Reached {
    fn add(&mut self, exchange: ExchangeKey) {
        let is_new = match self.order.len() {
            ..FEW => !self.order.contains(&exchange),
            _ => {
                if self.set.is_empty() {
                    self.set.extend(&self.order);
                }
                self.set.insert(exchange)
            }
        };
        if is_new {
            self.order.push(exchange);
        }
    }
}

/// A route that goes on in a later turn. It stops between two bindings of a headers exchange, of which there may be
/// very many.
///
/// A queue that is bound from the route's start to its end gets the message, and one that is not bound in between does
/// not. Bindings that are made or removed meanwhile count or not, each for itself, as they do in RabbitMQ for a message
/// that is published at that time.
#[derive(Debug)]
pub(in crate::engine) struct Progress {
    reached: Reached,
    /// The index of the exchange that is followed.
    at: usize,
    /// The next of its bindings, if it was stopped there.
    next: Option<Binding>,
    /// Whether it has led nowhere so far.
    is_nowhere: bool,
    depends_on: DependsOn,
}

impl Progress {
    /// Begins a route.
    pub(in crate::engine) fn new(source: ExchangeKey) -> Self {
        let reached = Reached { order: vec![source], set: HashSet::new() };
        Self { reached, at: 0, next: None, is_nowhere: true, depends_on: DependsOn::Nothing }
    }
}

impl Engine {
    /// Follows the bindings from an exchange on, to the end.
    pub(in crate::engine) fn route_from(
        &self,
        vhost: VhostKey,
        source: ExchangeKey,
        keys: &[&[u8]],
        properties: &Properties<&[u8]>,
        queues: &mut Vec<QueueKey>,
    ) {
        self.follow(vhost, &mut Progress::new(source), keys, properties, queues, u64::MAX);
    }

    /// Follows the bindings of a route, for about as many steps as given. Returns what else the route depends on, once
    /// it has ended.
    pub(in crate::engine) fn follow(
        &self,
        vhost: VhostKey,
        route: &mut Progress,
        keys: &[&[u8]],
        properties: &Properties<&[u8]>,
        queues: &mut Vec<QueueKey>,
        most: u64,
    ) -> Option<DependsOn> {
        let mut scratch = self.routing.scratch.borrow_mut();
        let mut message = Addressed::new(keys, properties, &self.routing.words, &mut scratch, most);
        let Progress { reached, at, next, is_nowhere, depends_on } = route;
        let before = *at;
        while let Some(&id) = reached.order.get(*at) {
            // It may have been deleted since the route came to it.
            let Some(exchange) = self.exchanges.get(id) else {
                (*at, *next) = (*at + 1, None);
                continue;
            };
            if let Some(delayed) = exchange.delayed
                && delayed::delay(properties).is_some()
            {
                queues.push(delayed);
                *depends_on = DependsOn::More;
                *at += 1;
                continue;
            }
            let also = exchange.route(&mut message, next, |destination| {
                if self.deleted.count > 0 && self.is_deleted(destination) {
                    return;
                }
                *is_nowhere = false;
                match destination {
                    Destination::Queue(queue) => queues.push(queue),
                    Destination::Exchange(other) => reached.add(other),
                }
            });
            if also == DependsOn::More {
                *depends_on = also;
            }
            if next.is_some() {
                break;
            }
            *at += 1;
            if std::mem::replace(is_nowhere, true)
                && let Some(alternate) = exchange.alternate.as_deref().and_then(|name| self.exchange_named(vhost, name))
            {
                reached.add(alternate);
            }
        }
        let steps = message.finish() + (*at - before) as u64;
        self.routing.steps.set(self.routing.steps.get() + steps);
        next.is_none().then_some(*depends_on)
    }

    /// Sorts the queues by name, and removes duplicates.
    pub(in crate::engine) fn sort_by_name(&self, queues: &mut Vec<QueueKey>) {
        if queues.len() > 1 {
            // Two queues have the same name if one holds an exchange's delayed messages.
            queues.sort_unstable_by_key(|id| (self.queues.get(*id).map(|queue| &*queue.name), *id));
            queues.dedup();
        }
    }
}

/// Returns the further routing keys in the headers `CC` and `BCC` (RabbitMQ's page "Sender-selected Distribution").
pub(in crate::engine) fn copies<'a>(headers: &FieldTable<&'a [u8]>) -> Result<Vec<&'a [u8]>, Refusal> {
    let mut keys = Vec::new();
    for name in ["CC", "BCC"] {
        let Some(value) = headers.get(name) else { continue };
        let Some(list) = value.as_array() else {
            let kind = type_name(value);
            return Err(Refusal::precondition(format_args!(
                "invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}"
            )));
        };
        keys.extend(list.iter().filter_map(|key| key.as_bytes()));
    }
    Ok(keys)
}
