//! A virtual host: the names of its queues and exchanges.

use std::collections::HashMap;

use crate::engine::keys::{ExchangeKey, QueueKey};
use crate::engine::name::Name;

/// A virtual host. Its queues and exchanges are found by name; code that needs all of them iterates over the engine's
/// tables, whose order is the same in each run.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) name: Name,
    pub(crate) exchanges: HashMap<Name, ExchangeKey>,
    pub(crate) queues: HashMap<Name, QueueKey>,
}

impl Vhost {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), exchanges: HashMap::new(), queues: HashMap::new() }
    }
}
