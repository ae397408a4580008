//! The transcript of a broker: the frames that its clients sent and received.

use std::fmt;
use std::time::Duration;

use hopmq_proto::method::{Method, MethodId};

use super::tap::{Direction, Record};
use super::taps::Taps;
use crate::server::Broker;

/// A frame. Displayed as one line, with its decoded method, and without secrets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Passed {
    /// The time, on the broker's clock.
    pub at: Duration,
    /// The connection: [`Connection::id`](crate::inspect::Connection::id).
    pub connection: u64,
    /// Its direction.
    pub direction: Direction,
    /// The number of its channel.
    pub channel: u16,
    /// The method's name, such as `"queue.declare"`; or `"header"`, `"body"`, `"heartbeat"`, `"protocol"`.
    pub name: String,
    /// The content, for people to read.
    pub detail: String,
}

impl Passed {
    fn of(connection: u64, record: &Record) -> Self {
        let frame = &record.frame;
        let size = frame.size;
        let (name, detail) = match frame.kind {
            0 => ("protocol".to_owned(), String::new()),
            1 => {
                let name = MethodId::peek(&frame.payload).map_or_else(|_| "method".to_owned(), |id| id.to_string());
                let detail = Method::decode(&frame.payload)
                    .map_or_else(|_| format!("{size} bytes, not a valid method"), |method| format!("{method:?}"));
                (name, detail)
            }
            2 => {
                let size = frame.payload.get(4..12).and_then(|size| size.try_into().ok()).map_or(0, u64::from_be_bytes);
                ("header".to_owned(), format!("for a body of {size} bytes"))
            }
            3 => ("body".to_owned(), format!("{size} bytes")),
            8 => ("heartbeat".to_owned(), String::new()),
            other => (format!("type {other}"), format!("{size} bytes")),
        };
        let at = record.at.since_epoch();
        let direction = record.direction;
        Self { at, connection, direction, channel: frame.channel, name, detail }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::FromClient => '→',
            Direction::ToClient => '←',
        };
        write!(f, "{:>10.3}s  {}:{} {arrow} {}", self.at.as_secs_f64(), self.connection, self.channel, self.name)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, "  {}", self.detail) }
    }
}

impl Broker {
    /// Returns the last 1,000 frames of each open connection, and of the last ones that were closed, in the order in
    /// which they passed. Empty if the broker is not [watched](crate::Builder::watched).
    ///
    /// ```
    /// let broker = hopmq_broker::Broker::in_memory();
    /// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
    /// connection.channel()?.queue("orders").declare()?;
    /// let transcript = broker.transcript();
    /// assert!(transcript.iter().any(|passed| passed.name == "queue.declare" && passed.detail.contains("\"orders\"")));
    /// # connection.close()?;
    /// # Ok::<_, hopmq_blocking::Error>(())
    /// ```
    pub fn transcript(&self) -> Vec<Passed> {
        let mut all: Vec<(u64, Record)> = Vec::new();
        for (id, tap) in self.0.testing.taps.iter().flat_map(Taps::all) {
            all.extend(tap.records().into_iter().map(|record| (id, record)));
        }
        all.sort_by_key(|(_, record)| record.serial);
        all.iter().map(|(id, record)| Passed::of(*id, record)).collect()
    }
}
