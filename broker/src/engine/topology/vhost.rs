//! A virtual host: the names of its queues and exchanges.

use std::collections::HashMap;

use crate::engine::queue::Queue;
use crate::engine::routing::exchange::{Exchange, Name};
use crate::engine::slots::Id;

/// A virtual host. What is in it is found by name; who wants all of it walks the tables of the engine, whose order is
/// the same in each run.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) name: Name,
    pub(crate) exchanges: HashMap<Name, Id<Exchange>>,
    pub(crate) queues: HashMap<Name, Id<Queue>>,
}

impl Vhost {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), exchanges: HashMap::new(), queues: HashMap::new() }
    }
}
