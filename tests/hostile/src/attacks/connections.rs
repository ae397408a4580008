//! Connections that are slow, silent or talkative.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hopmq_proto::method::basic;
use hopmq_proto::{Kind, PROTOCOL_HEADER, Properties};

use crate::stage::{declare, settled};
use crate::{Result, Stage, Wire};

/// A client that does nothing.
///
/// # Errors
/// If it cannot connect.
pub fn nothing(stage: &Stage<'_>) -> Result {
    let _idle = stage.attacker()?;
    stage.hold(stage.time);
    Ok(())
}

/// Clients that begin to log in, a byte at a time.
///
/// # Errors
/// If the attack cannot go on.
pub fn slowloris(stage: &Stage<'_>) -> Result {
    let door = stage.door()?;
    let mut sockets = Vec::new();
    for _ in 0..stage.size {
        match door.tcp() {
            Ok(socket) => sockets.push(socket),
            // Refused: that is a bound.
            Err(_) => break,
        }
    }
    let begin = Instant::now();
    for byte in PROTOCOL_HEADER.iter().chain(b"\x01\0\0\0\0\xff\xff\0\x0a\0\x0b").cycle() {
        for socket in &mut sockets {
            // The broker may have ended this one.
            let _ = socket.write_all(&[*byte]);
        }
        stage.hold(stage.time / 40);
        if begin.elapsed() > stage.time {
            break;
        }
    }
    Ok(())
}

/// Clients that consume large messages and read a byte at a time.
///
/// # Errors
/// If the attack cannot go on.
pub fn slow_readers(stage: &Stage<'_>) -> Result {
    let mut publisher = stage.attacker()?;
    let name = "slow";
    let declare = hopmq_proto::method::queue::Declare { queue: name, ..Default::default() };
    publisher.method(1, &declare);
    settled(&mut publisher)?;
    let mut readers = Vec::new();
    for _ in 0..stage.size {
        let mut wire = stage.attacker()?;
        wire.method(1, &basic::Consume { queue: name, no_ack: true, nowait: true, ..Default::default() });
        wire.flush()?;
        readers.push(wire);
    }
    for _ in 0..stage.size * 10 {
        publisher.publish(1, ("", name), &Properties::default(), &[7; 100_000])?;
    }
    settled(&mut publisher)?;
    let begin = Instant::now();
    while begin.elapsed() < stage.time {
        for wire in &readers {
            let mut socket = wire.socket();
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
            let _ = socket.read(&mut [0]);
        }
    }
    drop(readers);
    let delete = hopmq_proto::method::queue::Delete { queue: name, ..Default::default() };
    publisher.method(1, &delete);
    settled(&mut publisher)
}

/// Clients that send heartbeats without a pause.
///
/// # Errors
/// If the attack cannot go on.
pub fn heartbeats(stage: &Stage<'_>) -> Result {
    let mut wires = Vec::new();
    for _ in 0..stage.size {
        wires.push(stage.attacker()?);
    }
    let begin = Instant::now();
    while begin.elapsed() < stage.time {
        for wire in &mut wires {
            for _ in 0..1_000 {
                wire.frame(Kind::Heartbeat, 0, &[]);
            }
            wire.flush()?;
        }
    }
    for wire in &mut wires {
        settled(wire)?;
    }
    Ok(())
}

/// Clients that connect, declare, publish and leave without a word.
///
/// # Errors
/// If the attack cannot go on.
pub fn churn(stage: &Stage<'_>) -> Result {
    for number in 0..stage.size {
        let mut wire: Wire = stage.attacker()?;
        // The broker may still be at the end of the client before.
        let name = format!("q{number}");
        declare(&mut wire, &name, &[])?;
        wire.publish(1, ("", &name), &Properties::default(), b"a message")?;
        wire.flush()?;
    }
    Ok(())
}
