//! Many messages that go back to their queue at once.

use hopmq_proto::method::{Encode, MethodId, basic, tx};
use hopmq_proto::{Kind, Properties};

use crate::stage::{declare, settled};
use crate::{Result, Stage, Wire};

/// Consumes from `q` until this many messages are delivered and unacked.
pub(crate) fn take(wire: &mut Wire, count: u64) -> Result {
    wire.method(1, &basic::Consume { queue: "q", consumer_tag: "c", nowait: true, ..Default::default() });
    wire.flush()?;
    let mut delivered = 0;
    while delivered < count {
        let frame = wire.next()?;
        let is = |id: MethodId| MethodId::peek(&frame.payload).is_ok_and(|found| found == id);
        delivered += u64::from(frame.kind == Kind::Method && is(basic::Deliver::ID));
    }
    wire.ask(1, &basic::Cancel { consumer_tag: "c", nowait: false }, basic::CancelOk::ID)
}

fn unacked(stage: &Stage<'_>) -> Result<Wire> {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    for _ in 0..stage.size {
        wire.publish(1, ("", "q"), &Properties::default(), b"a message")?;
    }
    settled(&mut wire)?;
    take(&mut wire, stage.size)?;
    Ok(wire)
}

/// Requeues many messages with one method.
///
/// # Errors
/// If the attack cannot go on.
pub fn nack(stage: &Stage<'_>) -> Result {
    let mut wire = unacked(stage)?;
    for _ in 0..3 {
        wire.method(1, &basic::Nack { delivery_tag: 0, multiple: true, requeue: true });
        settled(&mut wire)?;
        take(&mut wire, stage.size)?;
    }
    Ok(())
}

/// Requeues many messages by the end of their channel.
///
/// # Errors
/// If the attack cannot go on.
pub fn channel_end(stage: &Stage<'_>) -> Result {
    use hopmq_proto::method::channel;
    let mut wire = unacked(stage)?;
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    wire.ask(1, &close, channel::CloseOk::ID)?;
    wire.channel(1)?;
    settled(&mut wire)
}

/// Requeues many messages one by one, from the newest to the oldest.
///
/// # Errors
/// If the attack cannot go on.
pub fn rejects(stage: &Stage<'_>) -> Result {
    let mut wire = unacked(stage)?;
    for delivery_tag in (1..=stage.size).rev() {
        wire.method(1, &basic::Reject { delivery_tag, requeue: true });
        wire.push()?;
    }
    settled(&mut wire)
}

/// Requeues many messages with one method in a transaction.
///
/// # Errors
/// If the attack cannot go on.
pub fn transaction(stage: &Stage<'_>) -> Result {
    let mut wire = unacked(stage)?;
    wire.ask(1, &tx::Select {}, tx::SelectOk::ID)?;
    wire.method(1, &basic::Nack { delivery_tag: 0, multiple: true, requeue: true });
    wire.ask(1, &tx::Commit {}, tx::CommitOk::ID)
}
