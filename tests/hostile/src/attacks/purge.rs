//! A queue with very many messages, and its end.

use hopmq_proto::Properties;
use hopmq_proto::method::{Encode, queue};

use crate::stage::{declare, settled};
use crate::{Result, Stage, Wire};

fn filled(stage: &Stage<'_>) -> Result<Wire> {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    for _ in 0..stage.size {
        wire.publish(1, ("", "q"), &Properties::default(), b"")?;
    }
    settled(&mut wire)?;
    Ok(wire)
}

/// Purges the queue.
///
/// # Errors
/// If the attack cannot go on.
pub fn purge(stage: &Stage<'_>) -> Result {
    let mut wire = filled(stage)?;
    wire.ask(1, &queue::Purge { queue: "q", ..Default::default() }, queue::PurgeOk::ID)
}

/// Deletes the queue.
///
/// # Errors
/// If the attack cannot go on.
pub fn delete(stage: &Stage<'_>) -> Result {
    let mut wire = filled(stage)?;
    wire.ask(1, &queue::Delete { queue: "q", ..Default::default() }, queue::DeleteOk::ID)
}

/// Ends the connection that owns the queue.
///
/// # Errors
/// If the attack cannot go on.
pub fn disconnect(stage: &Stage<'_>) -> Result {
    filled(stage).map(drop)
}
