//! Routing: messages that are expensive to route.

use hopmq_proto::method::{Encode, exchange, queue};
use hopmq_proto::{FieldTable, Properties};

use crate::stage::{declare, settled};
use crate::{Result, Stage, Wire};

/// How many messages are routed.
const MESSAGES: u64 = 10;
/// The words of the routing key: as many as its 255 bytes hold.
const WORDS: usize = 120;

/// Binds patterns of many `#`, and publishes with a key that almost matches all of them.
///
/// # Errors
/// If the attack cannot go on.
pub fn topics(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    wire.method(1, &exchange::Declare { exchange: "chat", kind: "topic", nowait: true, ..Default::default() });
    hash_laden(&mut wire, "q", stage.size)
}

/// As [`topics`], through the gateway and within its policy.
///
/// # Errors
/// If the attack cannot go on.
pub fn topics_through_a_gateway(stage: &Stage<'_>) -> Result {
    let mut operator = stage.operator()?;
    let declare = exchange::Declare { exchange: "chat", kind: "topic", ..Default::default() };
    operator.ask(1, &declare, exchange::DeclareOk::ID)?;
    let mut wire = stage.attacker()?;
    hash_laden(&mut wire, "", stage.size)
}

fn hash_laden(wire: &mut Wire, name: &str, count: u64) -> Result {
    declare(wire, name, &[])?;
    for number in 0..count {
        let pattern = pattern(number);
        let bind =
            queue::Bind { exchange: "chat", queue: name, routing_key: &pattern, nowait: true, ..Default::default() };
        wire.method(1, &bind);
        wire.push()?;
    }
    settled(wire)?;
    let key = format!("room{}", ".a".repeat(WORDS));
    for _ in 0..MESSAGES {
        wire.publish(1, ("chat", &key), &Properties::default(), b"")?;
    }
    settled(wire)
}

/// Returns a pattern: its words are `#` and `a` in an order of its own, and the last is in no routing key.
fn pattern(number: u64) -> String {
    let mut pattern = String::from("room");
    for bit in 0..16 {
        pattern.push_str(if number >> bit & 1 == 1 { ".#.a" } else { ".#.*" });
    }
    pattern + ".#.z"
}

/// Binds 100 times with many headers, and publishes with all of them but one.
///
/// # Errors
/// If the attack cannot go on.
pub fn headers(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    let mut wanted = FieldTable::new();
    for number in 0..stage.size {
        wanted.insert(&format!("h{number}"), true);
    }
    for number in 0..100_i64 {
        let arguments = wanted.clone().with("own", number);
        let arguments = arguments.as_ref_table();
        let bind = queue::Bind { exchange: "amq.headers", queue: "q", nowait: true, arguments, ..Default::default() };
        wire.method(1, &bind);
        wire.push()?;
    }
    settled(&mut wire)?;
    let properties = Properties::default().with_headers(&wanted);
    for _ in 0..MESSAGES {
        wire.publish(1, ("amq.headers", ""), &properties, b"")?;
    }
    settled(&mut wire)
}

/// A chain of exchanges, each bound twice to the next, so that the number of paths doubles with each.
///
/// # Errors
/// If the attack cannot go on.
pub fn exchanges(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    let name = |number: u64| format!("e{number}");
    for number in 0..stage.size {
        let declare = exchange::Declare {
            exchange: &name(number),
            kind: "topic",
            auto_delete: number > 0,
            nowait: true,
            ..Default::default()
        };
        wire.method(1, &declare);
    }
    for number in 1..stage.size {
        for routing_key in ["#", "*"] {
            let (source, destination) = (name(number - 1), name(number));
            let bind = exchange::Bind {
                source: &source,
                destination: &destination,
                routing_key,
                nowait: true,
                ..Default::default()
            };
            wire.method(1, &bind);
            wire.push()?;
        }
    }
    settled(&mut wire)?;
    for _ in 0..MESSAGES {
        wire.publish(1, ("e0", "a"), &Properties::default(), b"")?;
    }
    settled(&mut wire)?;
    for number in 0..stage.size {
        wire.method(1, &exchange::Delete { exchange: &name(number), nowait: true, ..Default::default() });
        wire.push()?;
    }
    settled(&mut wire)
}
