//! Bad input: from senders, from handlers, from the topology, from the broker. Nothing is lost, nothing hangs, and each
//! text says what happened and what to do.

mod broker;
mod handlers;
mod messages;
mod topology;

use hopmq_app::test::{Builder, TestApp};

#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Order {
    id: u32,
}

/// These tests need faults and hours.
fn test() -> Builder {
    TestApp::builder().embedded()
}
