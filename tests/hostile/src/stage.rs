//! What an attack gets.

use std::time::Duration;

use hopmq_proto::method::{Encode, queue};
use hopmq_proto::{FieldTable, Value};

use crate::{Door, Gateway, Neighbour, Result, Target, Wire};

/// The place and the size of an attack.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The broker.
    pub target: &'a Target,
    /// The gateway, if the attack goes through one.
    pub gateway: Option<&'a Gateway>,
    /// The size, in what the attack counts.
    pub size: u64,
    /// How long an attack lasts that has no end of its own.
    pub time: Duration,
    pub(crate) neighbour: &'a Neighbour,
    pub(crate) pace: Duration,
}

impl Stage<'_> {
    /// Goes on once the neighbour has published for this time.
    pub fn hold(&self, time: Duration) {
        self.neighbour.awaits((time.as_micros() / self.pace.as_micros()) as u64);
    }

    /// Returns where attackers connect.
    ///
    /// # Errors
    /// If the token cannot be signed.
    pub fn door(&self) -> Result<Door> {
        match self.gateway {
            Some(gateway) => gateway.attacker(),
            None => Ok(self.target.door()),
        }
    }

    /// Opens a connection with channel 1.
    ///
    /// # Errors
    /// If it is refused.
    pub fn attacker(&self) -> Result<Wire> {
        let mut wire = Wire::open(&self.door()?)?;
        wire.channel(1)?;
        Ok(wire)
    }

    /// Opens a connection to the broker with channel 1, also where attackers go through a gateway.
    ///
    /// # Errors
    /// If it is refused.
    pub fn operator(&self) -> Result<Wire> {
        let mut wire = Wire::open(&self.target.door())?;
        wire.channel(1)?;
        Ok(wire)
    }
}

/// Declares a queue on channel 1 that ends with its connection.
///
/// # Errors
/// If it is refused.
pub(crate) fn declare(wire: &mut Wire, name: &str, arguments: &[(&str, Value<'_>)]) -> Result {
    let mut table = FieldTable::new();
    for (key, value) in arguments {
        table.insert(key, *value);
    }
    let declare =
        queue::Declare { queue: name, exclusive: true, arguments: table.as_ref_table(), ..Default::default() };
    wire.ask(1, &declare, queue::DeclareOk::ID)
}

/// Declares many queues `q0`, `q1`, … on channel 1 that end with their connection, without a reply for each.
///
/// # Errors
/// If the connection fails.
pub(crate) fn declare_many(wire: &mut Wire, count: u64) -> Result {
    for number in 0..count {
        let name = format!("q{number}");
        wire.method(1, &queue::Declare { queue: &name, exclusive: true, nowait: true, ..Default::default() });
        wire.push()?;
    }
    settled(wire)
}

/// Awaits that the broker has handled everything on channel 1 so far.
///
/// # Errors
/// If the broker refused any of it.
pub(crate) fn settled(wire: &mut Wire) -> Result {
    use hopmq_proto::method::basic;
    wire.ask(1, &basic::Qos::default(), basic::QosOk::ID)
}
