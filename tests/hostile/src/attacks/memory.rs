//! Ways to fill the broker's memory. Each goes on for a time, as fast as it can, and holds what it got until its end.

use std::time::{Duration, Instant};

use hopmq_proto::method::{basic, exchange, queue, tx};
use hopmq_proto::{Kind, Properties};

use crate::stage::{declare, settled};
use crate::wire::content_header;
use crate::{Result, Stage, Wire};

static BODY: [u8; 100_000] = [7; 100_000];
/// How long a write may take before the broker counts as one that reads no more.
const STUCK: Duration = Duration::from_millis(500);

/// Calls `more` until the time is over, the size is reached, or the broker takes no more.
fn fill(stage: &Stage<'_>, wire: &mut Wire, mut more: impl FnMut(&mut Wire, u64) -> Result) -> Result {
    wire.socket().set_write_timeout(Some(STUCK))?;
    let end = Instant::now() + stage.time;
    for number in 0..stage.size {
        if Instant::now() > end || more(wire, number).and_then(|()| wire.push()).is_err() {
            break;
        }
    }
    let _ = wire.flush();
    Ok(())
}

/// Messages that no queue takes, which come back and are not read.
///
/// # Errors
/// If the attack cannot go on.
pub fn unread_output(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    let header = content_header(&Properties::default(), BODY.len() as u64);
    fill(stage, &mut wire, |wire, _| {
        wire.method(1, &basic::Publish { routing_key: "nowhere", mandatory: true, ..Default::default() });
        wire.frame(Kind::Header, 1, &header);
        wire.frame(Kind::Body, 1, &BODY);
        Ok(())
    })
}

/// Messages in a transaction that is never committed.
///
/// # Errors
/// If the attack cannot go on.
pub fn transactions(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    wire.method(1, &tx::Select {});
    fill(stage, &mut wire, |wire, _| wire.publish(1, ("", "q"), &Properties::default(), &BODY))
}

/// Messages that lack their last byte, one a channel.
///
/// # Errors
/// If the attack cannot go on.
pub fn partial_bodies(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    const PARTS: u64 = 160;
    let header = content_header(&Properties::default(), PARTS * BODY.len() as u64 + 1);
    fill(stage, &mut wire, |wire, number| {
        let channel = 2 + (number / PARTS) as u16;
        if number % PARTS == 0 {
            wire.method(channel, &hopmq_proto::method::channel::Open {});
            wire.method(channel, &basic::Publish::default());
            wire.frame(Kind::Header, channel, &header);
        }
        wire.frame(Kind::Body, channel, &BODY);
        Ok(())
    })
}

/// Messages in a queue.
///
/// # Errors
/// If the attack cannot go on.
pub fn messages(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    fill(stage, &mut wire, |wire, _| wire.publish(1, ("", "q"), &Properties::default(), &BODY))
}

/// Channels.
///
/// # Errors
/// If the attack cannot go on.
pub fn channels(stage: &Stage<'_>) -> Result {
    let mut wires = Vec::new();
    let end = Instant::now() + stage.time;
    for number in 0..stage.size {
        if number % 2_000 == 0 {
            let Ok(wire) = stage.attacker() else { break };
            wires.push(wire);
        }
        let Some(wire) = wires.last_mut() else { break };
        wire.method(2 + (number % 2_000) as u16, &hopmq_proto::method::channel::Open {});
        if wire.push().is_err() || Instant::now() > end {
            break;
        }
    }
    wires.iter_mut().for_each(|wire| drop(wire.flush()));
    Ok(())
}

/// Queues with long names.
///
/// # Errors
/// If the attack cannot go on.
pub fn queues(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    fill(stage, &mut wire, |wire, number| {
        let name = format!("{number:0>255}");
        wire.method(1, &queue::Declare { queue: &name, exclusive: true, nowait: true, ..Default::default() });
        Ok(())
    })
}

/// Bindings with long keys of many words.
///
/// # Errors
/// If the attack cannot go on.
pub fn bindings(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    let transient =
        exchange::Declare { exchange: "e", kind: "topic", auto_delete: true, nowait: true, ..Default::default() };
    wire.method(1, &transient);
    declare(&mut wire, "q", &[])?;
    fill(stage, &mut wire, |wire, number| {
        let routing_key = format!("{number}{}", ".a".repeat(120));
        let bind =
            queue::Bind { exchange: "e", queue: "q", routing_key: &routing_key, nowait: true, ..Default::default() };
        wire.method(1, &bind);
        Ok(())
    })
}

/// Consumers with long tags.
///
/// # Errors
/// If the attack cannot go on.
pub fn consumers(stage: &Stage<'_>) -> Result {
    let mut wire = stage.attacker()?;
    declare(&mut wire, "q", &[])?;
    fill(stage, &mut wire, |wire, number| {
        let consumer_tag = format!("{number:0>255}");
        let consume = basic::Consume { queue: "q", consumer_tag: &consumer_tag, nowait: true, ..Default::default() };
        wire.method(1, &consume);
        Ok(())
    })
}

/// Connections that log in and are silent.
///
/// # Errors
/// If the attack cannot go on.
pub fn connections(stage: &Stage<'_>) -> Result {
    let mut wires = Vec::new();
    let end = Instant::now() + stage.time;
    while (wires.len() as u64) < stage.size && Instant::now() < end {
        let Ok(mut wire) = stage.attacker() else { break };
        settled(&mut wire)?;
        wires.push(wire);
    }
    Ok(())
}
