//! A virtual host: the names of its queues and exchanges.

use std::collections::HashMap;

use crate::engine::keys::{ExchangeKey, QueueKey};
use crate::engine::name::Name;

/// A virtual host. What is in it is found by name; who wants all of it walks the tables of the engine, whose order is
/// the same in each run.
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
