//! Dead letters that make dead letters, and messages that expire together.

use std::time::Duration;

use hopmq_proto::method::{exchange, queue};
use hopmq_proto::{Properties, Value};

use crate::stage::{declare, settled};
use crate::{Result, Stage};

/// Queues with a TTL of 0, each with the next as its dead-letter target, the last with the first.
///
/// # Errors
/// If the attack cannot go on.
pub fn ring(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    for number in 0..stage.size {
        let next = format!("q{}", (number + 1) % stage.size);
        let arguments = [
            ("x-message-ttl", Value::I32(0)),
            ("x-dead-letter-exchange", Value::from("")),
            ("x-dead-letter-routing-key", Value::from(&*next)),
        ];
        declare(&mut wire, &format!("q{number}"), &arguments)?;
    }
    for _ in 0..100 {
        wire.publish(1, ("", "q0"), &Properties::default(), b"")?;
    }
    settled(&mut wire)?;
    stage.hold(stage.time);
    Ok(())
}

/// Queues with a TTL of 0, each with a fanout exchange to all of them as its dead-letter target: the paths of a message
/// without a cycle are as many as the permutations of the queues.
///
/// # Errors
/// If the attack cannot go on.
pub fn mesh(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    wire.method(1, &exchange::Declare { exchange: "mesh", kind: "fanout", nowait: true, ..Default::default() });
    for number in 0..stage.size {
        let name = format!("q{number}");
        let arguments = [("x-message-ttl", Value::I32(0)), ("x-dead-letter-exchange", Value::from("mesh"))];
        declare(&mut wire, &name, &arguments)?;
        wire.method(1, &queue::Bind { exchange: "mesh", queue: &name, nowait: true, ..Default::default() });
    }
    settled(&mut wire)?;
    wire.publish(1, ("", "q0"), &Properties::default(), b"")?;
    wire.flush()?;
    stage.hold(stage.time);
    Ok(())
}

/// Messages that expire at the same time, and are dead-lettered to another queue.
///
/// # Errors
/// If the attack cannot go on.
pub fn expiry(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "graves", &[])?;
    let arguments = [
        ("x-expires", Value::I32(600_000)),
        ("x-dead-letter-exchange", Value::from("")),
        ("x-dead-letter-routing-key", Value::from("graves")),
    ];
    declare(&mut wire, "q", &arguments)?;
    // The first message holds the others, which expire behind it.
    let expiring = Properties::default().with_expiration("1");
    wire.publish(1, ("", "q"), &Properties::default().with_expiration("2000"), b"")?;
    for _ in 1..stage.size {
        wire.publish(1, ("", "q"), &expiring, b"")?;
    }
    settled(&mut wire)?;
    stage.hold(stage.time.max(Duration::from_secs(3)));
    Ok(())
}
