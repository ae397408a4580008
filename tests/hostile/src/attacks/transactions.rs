//! Large transactions.

use hopmq_proto::Properties;
use hopmq_proto::method::{Encode, basic, tx};

use crate::stage::{declare, settled};
use crate::{Result, Stage, Wire};

fn fill(wire: &mut Wire, count: u64) -> Result {
    for _ in 0..count {
        wire.publish(1, ("", "q"), &Properties::default(), b"a message")?;
    }
    wire.flush()
}

/// Commits many publishes.
///
/// # Errors
/// If the attack cannot go on.
pub fn commit(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    wire.ask(1, &tx::Select {}, tx::SelectOk::ID)?;
    fill(&mut wire, stage.size)?;
    wire.ask(1, &tx::Commit {}, tx::CommitOk::ID)
}

/// Rolls many publishes back.
///
/// # Errors
/// If the attack cannot go on.
pub fn rollback(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    wire.ask(1, &tx::Select {}, tx::SelectOk::ID)?;
    fill(&mut wire, stage.size)?;
    wire.ask(1, &tx::Rollback {}, tx::RollbackOk::ID)
}

/// Commits many acks.
///
/// # Errors
/// If the attack cannot go on.
pub fn acks(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    fill(&mut wire, stage.size)?;
    settled(&mut wire)?;
    wire.ask(1, &tx::Select {}, tx::SelectOk::ID)?;
    crate::attacks::requeues::take(&mut wire, stage.size)?;
    for delivery_tag in 1..=stage.size {
        wire.method(1, &basic::Ack { delivery_tag, multiple: false });
        wire.push()?;
    }
    wire.ask(1, &tx::Commit {}, tx::CommitOk::ID)
}
