//! Much that ends at once.

use hopmq_proto::method::{Encode, exchange, queue};

use crate::stage::{declare, declare_many, settled};
use crate::{Result, Stage, Wire};

fn bind(wire: &mut Wire, queue: &str, count: u64) -> Result {
    for number in 0..count {
        let routing_key = format!("key.{number}");
        let bind = queue::Bind { exchange: "e", queue, routing_key: &routing_key, nowait: true, ..Default::default() };
        wire.method(1, &bind);
        wire.push()?;
    }
    settled(wire)
}

fn exchange(wire: &mut Wire, kind: &str) -> Result {
    let declare = exchange::Declare { exchange: "e", kind, ..Default::default() };
    wire.ask(1, &declare, exchange::DeclareOk::ID)
}

fn delete_exchange(wire: &mut Wire) -> Result {
    let delete = exchange::Delete { exchange: "e", ..Default::default() };
    wire.ask(1, &delete, exchange::DeleteOk::ID)
}

/// Deletes a queue with many bindings.
///
/// # Errors
/// If the attack cannot go on.
pub fn bound_queue(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    exchange(&mut wire, "topic")?;
    declare(&mut wire, "q", &[])?;
    bind(&mut wire, "q", stage.size)?;
    wire.ask(1, &queue::Delete { queue: "q", ..Default::default() }, queue::DeleteOk::ID)?;
    delete_exchange(&mut wire)
}

/// Deletes an exchange with many bindings.
///
/// # Errors
/// If the attack cannot go on.
pub fn bound_exchange(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    exchange(&mut wire, "direct")?;
    declare(&mut wire, "q", &[])?;
    bind(&mut wire, "q", stage.size)?;
    delete_exchange(&mut wire)
}

/// Ends a connection that owns many queues.
///
/// # Errors
/// If the attack cannot go on.
pub fn queues(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare_many(&mut wire, stage.size)
}
