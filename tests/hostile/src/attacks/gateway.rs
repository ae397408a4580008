//! Attacks on the gateway, within and against its policy.

use std::io::Write;
use std::time::{Duration, Instant};

use hopmq_proto::Properties;
use hopmq_proto::method::{Encode, Method, channel, exchange, queue};

use crate::gateway::MESSAGES_PER_SECOND;
use crate::stage::settled;
use crate::websocket::ping;
use crate::{Result, Stage, Wire};

/// How long a client that does not read tries to write.
const STUCK: Duration = Duration::from_millis(500);

fn chat(stage: &Stage<'_>) -> Result<Wire> {
    let mut operator = stage.operator()?;
    let declare = exchange::Declare { exchange: "chat", kind: "topic", ..Default::default() };
    operator.ask(1, &declare, exchange::DeclareOk::ID)?;
    Ok(operator)
}

/// Writes until nothing more is taken, or the time is over.
fn stuff(stage: &Stage<'_>, wires: &mut [Wire], mut more: impl FnMut(&mut Wire)) -> Result {
    let end = Instant::now() + stage.time;
    for wire in &mut *wires {
        wire.socket().set_write_timeout(Some(STUCK))?;
    }
    let mut stuck = vec![false; wires.len()];
    while Instant::now() < end && stuck.contains(&false) {
        for (wire, stuck) in wires.iter_mut().zip(&mut stuck).filter(|(_, stuck)| !**stuck) {
            more(wire);
            *stuck = wire.flush().is_err();
        }
    }
    Ok(())
}

/// Clients that ask for what is forbidden, and do not read the refusals.
///
/// # Errors
/// If the attack cannot go on.
pub fn unread_refusals(stage: &Stage<'_>) -> Result {
    let mut wires = (0..stage.size).map(|_| stage.attacker()).collect::<Result<Vec<_>>>()?;
    stuff(stage, &mut wires, |wire| {
        for number in 2..200 {
            wire.method(number, &channel::Open {});
            let long = "forbidden".repeat(25);
            wire.method(number, &queue::Declare { queue: &long, nowait: true, ..Default::default() });
            wire.method(number, &channel::CloseOk {});
        }
    })
}

/// Clients that ask for many replies, and do not read them.
///
/// # Errors
/// If the attack cannot go on.
pub fn unread_replies(stage: &Stage<'_>) -> Result {
    let mut wires = (0..stage.size).map(|_| stage.attacker()).collect::<Result<Vec<_>>>()?;
    stuff(stage, &mut wires, |wire| {
        for _ in 0..1_000 {
            wire.method(1, &hopmq_proto::method::basic::Qos::default());
        }
    })
}

/// Temporary queues without end, pipelined.
///
/// # Errors
/// If the attack cannot go on.
pub fn declares(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    for _ in 0..stage.size {
        wire.method(1, &queue::Declare { exclusive: true, nowait: true, ..Default::default() });
        wire.push()?;
    }
    settled(&mut wire)
}

/// More messages than the policy allows, over many connections. At most twice as many as allowed may pass.
///
/// # Errors
/// If more pass.
pub fn messages(stage: &Stage<'_>) -> Result {
    let mut operator = chat(stage)?;
    operator.ask(1, &queue::Declare { queue: "inbox", ..Default::default() }, queue::DeclareOk::ID)?;
    let bind = queue::Bind { exchange: "chat", queue: "inbox", routing_key: "room.#", ..Default::default() };
    operator.ask(1, &bind, queue::BindOk::ID)?;
    let mut wires = (0..stage.size).map(|_| stage.attacker()).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    stuff(stage, &mut wires, |wire| {
        for _ in 0..200 {
            // The error comes again with the flush.
            let _ = wire.publish(1, ("chat", "room.1"), &Properties::default(), b"spam");
        }
    })?;
    drop(wires);
    operator.method(1, &queue::Declare { queue: "inbox", passive: true, ..Default::default() });
    let declared = operator.expect(queue::DeclareOk::ID)?;
    let passed = match Method::decode(&declared)? {
        Method::QueueDeclareOk(declared) => u64::from(declared.message_count),
        other => return Err(format!("{other:?} in place of queue.declare-ok").into()),
    };
    operator.ask(1, &queue::Delete { queue: "inbox", ..Default::default() }, queue::DeleteOk::ID)?;
    let allowed = MESSAGES_PER_SECOND as f64 * (begin.elapsed().as_secs_f64() + 1.0);
    if passed as f64 > 2.0 * allowed {
        return Err(format!("{passed} messages passed where {allowed:.0} are allowed").into());
    }
    Ok(())
}

/// Sockets that never ask for a WebSocket.
///
/// # Errors
/// If the attack cannot go on.
pub fn half_open(stage: &Stage<'_>) -> Result {
    let door = stage.door()?;
    let mut sockets = Vec::new();
    for _ in 0..stage.size {
        let Ok(mut socket) = door.tcp() else { break };
        let _ = socket.write_all(b"GET /ws/amqp HTTP/1.1\r\n");
        sockets.push(socket);
    }
    stage.hold(stage.time);
    Ok(())
}

/// Clients that ping without a pause, and do not read the pongs.
///
/// # Errors
/// If the attack cannot go on.
pub fn pings(stage: &Stage<'_>) -> Result {
    let wires = (0..stage.size).map(|_| stage.attacker()).collect::<Result<Vec<_>>>()?;
    let many = ping(&[7; 125]).repeat(500);
    let end = Instant::now() + stage.time;
    let mut open: Vec<_> = wires.iter().collect();
    for wire in &wires {
        wire.socket().set_write_timeout(Some(STUCK))?;
    }
    while Instant::now() < end && !open.is_empty() {
        open.retain(|wire| wire.socket().write_all(&many).is_ok());
    }
    Ok(())
}
