//! Consumers in large numbers.

use hopmq_proto::Properties;
use hopmq_proto::method::{Encode, basic, queue};

use crate::stage::{declare, settled};
use crate::{Result, Stage, Wire};

fn consume(wire: &mut Wire, queue: &str, count: u64) -> Result {
    for number in 0..count {
        let consumer_tag = format!("c{number}");
        let consume = basic::Consume { queue, consumer_tag: &consumer_tag, nowait: true, ..Default::default() };
        wire.method(1, &consume);
        wire.push()?;
    }
    settled(wire)
}

/// Many consumers on a queue, and the end of their connection.
///
/// # Errors
/// If the attack cannot go on.
pub fn disconnect(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    consume(&mut wire, "q", stage.size)
}

/// Many consumers on a queue, and the end of the queue, which tells each of them.
///
/// # Errors
/// If the attack cannot go on.
pub fn deleted_queue(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    consume(&mut wire, "q", stage.size)?;
    wire.ask(1, &queue::Delete { queue: "q", ..Default::default() }, queue::DeleteOk::ID)
}

/// Many consumers that are all at their limit, and messages that look for one that is not.
///
/// # Errors
/// If the attack cannot go on.
pub fn full(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    wire.ask(1, &basic::Qos { prefetch_count: 1, global: false }, basic::QosOk::ID)?;
    for number in 0..stage.size {
        let consumer_tag = format!("c{number}");
        let consume = basic::Consume { queue: "q", consumer_tag: &consumer_tag, nowait: true, ..Default::default() };
        wire.method(1, &consume);
        wire.push()?;
    }
    wire.ask(1, &hopmq_proto::method::confirm::Select { nowait: false }, hopmq_proto::method::confirm::SelectOk::ID)?;
    for _ in 0..stage.size + 1_000 {
        wire.publish(1, ("", "q"), &Properties::default(), b"")?;
    }
    let declared = queue::Declare { queue: "q", passive: true, ..Default::default() };
    wire.ask(1, &declared, queue::DeclareOk::ID)
}
