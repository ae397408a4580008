//! Routing: from an exchange and the routing keys of a message to queues.

use hopmq_proto::{FieldTable, Properties};

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ExchangeKey, QueueKey, VhostKey};
use crate::engine::refusal::Refusal;
use crate::engine::routing::delayed;
use crate::engine::routing::exchange::{DependsOn, Destination};
use crate::engine::values::type_name;

impl Engine {
    /// Follows the bindings from an exchange on. Returns what else the route depends on.
    pub(in crate::engine) fn route_from(
        &self,
        vhost: VhostKey,
        source: ExchangeKey,
        keys: &[&[u8]],
        properties: &Properties<&[u8]>,
        queues: &mut Vec<QueueKey>,
    ) -> DependsOn {
        let mut seen = vec![source];
        let mut next = 0;
        let mut depends_on = DependsOn::Nothing;
        while let Some(&id) = seen.get(next) {
            next += 1;
            let Some(exchange) = self.exchanges.get(id).invariant("exchange") else { continue };
            if let Some(delayed) = exchange.delayed
                && delayed::delay(properties).is_some()
            {
                queues.push(delayed);
                depends_on = DependsOn::More;
                continue;
            }
            let mut nowhere = true;
            let also = exchange.route(keys, properties, |destination| {
                nowhere = false;
                match destination {
                    Destination::Queue(queue) => queues.push(queue),
                    Destination::Exchange(other) if !seen.contains(&other) => seen.push(other),
                    Destination::Exchange(_) => {}
                }
            });
            if also == DependsOn::More {
                depends_on = also;
            }
            if nowhere
                && let Some(alternate) = exchange.alternate.as_deref().and_then(|name| self.exchange_named(vhost, name))
                && !seen.contains(&alternate)
            {
                seen.push(alternate);
            }
        }
        depends_on
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
