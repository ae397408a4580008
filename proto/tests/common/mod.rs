//! The harness of the tests: two ends of a connection on a virtual clock, and scripted peers that break the rules.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod faults;
mod model;
mod pair;
mod peer;
pub mod robust;
mod script;
pub mod wire;

pub use model::Model;
pub use pair::Pair;
pub use peer::{Peer, brief};
pub use script::{Script, start, start_ok};

use std::time::Duration;

use hopmq_proto::Config;

/// The settings of a server with the limits of RabbitMQ, without heartbeats.
pub fn server_config() -> Config {
    Config {
        heartbeat: Some(Duration::ZERO),
        mechanisms: "PLAIN EXTERNAL".to_owned(),
        properties: hopmq_proto::FieldTable::new().with("product", "tests"),
        ..Config::default()
    }
}

/// A linear congruential generator: the same on every run.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}
