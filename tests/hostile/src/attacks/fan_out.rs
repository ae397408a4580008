//! Messages for very many queues.

use hopmq_proto::Properties;
use hopmq_proto::method::queue;

use crate::stage::{declare_many, settled};
use crate::{Result, Stage};

/// Publishes to a fanout exchange with many queues.
///
/// # Errors
/// If the attack cannot go on.
pub fn fanout(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare_many(&mut wire, stage.size)?;
    for number in 0..stage.size {
        let name = format!("q{number}");
        wire.method(1, &queue::Bind { exchange: "amq.fanout", queue: &name, nowait: true, ..Default::default() });
        wire.push()?;
    }
    settled(&mut wire)?;
    for _ in 0..20 {
        wire.publish(1, ("amq.fanout", ""), &Properties::default(), b"a message")?;
    }
    settled(&mut wire)
}
