//! A virtual host: the names of its queues and exchanges.

use hopmq_proto::method::queue;
use hopmq_proto::{FieldTable, Value};

use crate::engine::Engine;
use crate::engine::keys::{ExchangeKey, QueueKey, VhostKey};
use crate::engine::meter::{Meter, MeterOwner};
use crate::engine::name::Name;
use crate::engine::table::Table;

/// A virtual host. Its queues and exchanges are found by name; code that needs all of them iterates over the engine's
/// tables, whose order is the same in each run.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) name: Name,
    pub(crate) settings: VhostSettings,
    pub(crate) exchanges: Table<Name, ExchangeKey>,
    pub(crate) queues: Table<Name, QueueKey>,
    /// Counts the memory of all that is in it.
    pub(crate) meter: MeterOwner,
}

/// What an operator may set for a virtual host (RabbitMQ's page "Virtual Hosts").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VhostSettings {
    /// Whether queues that are declared without a type are quorum queues, if they can be.
    pub(crate) quorum: bool,
    /// The limit of open connections.
    pub(crate) connections: Option<u32>,
    /// The limit of queues.
    pub(crate) queues: Option<u32>,
}

impl VhostSettings {
    /// Returns the value for the store.
    pub(in crate::engine) fn to_bytes(self) -> Vec<u8> {
        let Self { quorum, connections, queues } = self;
        let mut table = FieldTable::new();
        if quorum {
            table.insert(QUORUM, true);
        }
        for (name, limit) in [(CONNECTIONS, connections), (QUEUES, queues)] {
            if let Some(limit) = limit {
                table.insert(name, i64::from(limit));
            }
        }
        table.as_bytes().to_vec()
    }

    pub(in crate::engine) fn of_bytes(bytes: &[u8]) -> Self {
        let Ok(table) = FieldTable::parse(bytes) else { return Self::default() };
        let limit = |name| table.get(name).and_then(|limit| u32::try_from(limit.as_i64()?).ok());
        let quorum = matches!(table.get(QUORUM), Some(Value::Bool(true)));
        Self { quorum, connections: limit(CONNECTIONS), queues: limit(QUEUES) }
    }
}

const QUORUM: &str = "quorum";
const CONNECTIONS: &str = "max-connections";
const QUEUES: &str = "max-queues";

impl Engine {
    /// Returns the arguments of a declaration with the default type of the virtual host, if a queue that is declared
    /// without a type gets it: a quorum queue can't be transient, exclusive or auto-deleted.
    pub(super) fn with_default_type(&self, vhost: VhostKey, declare: &queue::Declare<'_>) -> Option<FieldTable> {
        let settings = self.vhosts.get(vhost).map(|vhost| vhost.settings).unwrap_or_default();
        let can_be = declare.durable && !declare.exclusive && !declare.auto_delete;
        let is_typed = declare.arguments.contains_key("x-queue-type");
        (settings.quorum && can_be && !is_typed)
            .then(|| FieldTable::from(declare.arguments).with("x-queue-type", "quorum"))
    }
}

impl Vhost {
    pub(crate) fn new(name: &str, broker: Meter) -> Self {
        Self {
            name: name.into(),
            settings: VhostSettings::default(),
            exchanges: Table::default(),
            queues: Table::default(),
            meter: MeterOwner::of_vhost(broker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_store() {
        let some = VhostSettings { quorum: true, connections: Some(0), queues: Some(u32::MAX) };
        for settings in [some, VhostSettings::default()] {
            assert_eq!(VhostSettings::of_bytes(&settings.to_bytes()), settings);
        }
        assert!(VhostSettings::default().to_bytes().is_empty());
    }
}
