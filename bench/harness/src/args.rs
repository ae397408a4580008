//! The command line of all runners.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The workload to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// `count` messages without confirms, then one round trip.
    Publish,
    /// `count` messages without confirms, by a publisher that encodes their properties and route once; then one round
    /// trip.
    PublishPrepared,
    /// `count` messages without confirms, `window` in a call; then one round trip.
    PublishMany,
    /// `count` messages without confirms on `connections` connections, with a task for each, which lets others run
    /// after `window` messages and ends with a round trip.
    PublishConnections,
    /// `count` confirmed messages, at most `window` of them unconfirmed at a time.
    PublishConfirm,
    /// `count` confirmed messages, a tenth of `window` in a call, at most `window` of them unconfirmed at a time.
    PublishManyConfirm,
    /// `count` deliveries, each acknowledged separately.
    ConsumeAckEach,
    /// `count` deliveries, acknowledged `window` at a time.
    ConsumeAckMultiple,
    /// `count` deliveries, taken as many at a time as have arrived, at most `window`, and acknowledged together.
    ConsumeBatches,
    /// `count` deliveries without acknowledgements.
    ConsumeNoAck,
    /// `count` messages through a handler, each acknowledged separately. A client without handlers consumes them.
    Handle,
    /// `count` round trips of `queue.declare`, one after the other.
    Rpc,
    /// A message per millisecond; measures the time from the moment it is due to its confirm.
    Latency,
    /// `count` idle connections.
    IdleConnections,
    /// Connect and close, `count` times.
    Connect,
    /// Deletes the queue, and declares it with `count` messages.
    Prepare,
    /// A delivery per millisecond for `seconds`, while the broker sends as fast as it can.
    SlowConsumer,
}

const NAMES: [(Workload, &str); 17] = [
    (Workload::Publish, "publish"),
    (Workload::PublishPrepared, "publish-prepared"),
    (Workload::PublishMany, "publish-many"),
    (Workload::PublishConnections, "publish-connections"),
    (Workload::PublishConfirm, "publish-confirm"),
    (Workload::PublishManyConfirm, "publish-many-confirm"),
    (Workload::ConsumeAckEach, "consume-ack-each"),
    (Workload::ConsumeAckMultiple, "consume-ack-multiple"),
    (Workload::ConsumeBatches, "consume-batches"),
    (Workload::ConsumeNoAck, "consume-no-ack"),
    (Workload::Handle, "handle"),
    (Workload::Rpc, "rpc"),
    (Workload::Latency, "latency"),
    (Workload::IdleConnections, "idle-connections"),
    (Workload::Connect, "connect"),
    (Workload::Prepare, "prepare"),
    (Workload::SlowConsumer, "slow-consumer"),
];

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(workload, _)| workload == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// How deliveries are acknowledged.
#[derive(Clone, Copy, PartialEq)]
pub enum Ack {
    Never,
    Each,
    /// One acknowledgement for this many deliveries.
    Every(u64),
}

impl Ack {
    /// The acknowledgement that is due for delivery `n` of `count`: `None`, or whether it covers all deliveries so far.
    #[inline]
    pub fn due(self, n: u64, count: u64) -> Option<bool> {
        match self {
            Self::Never => None,
            Self::Each => Some(false),
            Self::Every(window) => (n.is_multiple_of(window) || n == count).then_some(true),
        }
    }
}

/// The command line.
#[derive(Clone, Debug)]
pub struct Args {
    pub workload: Workload,
    pub url: String,
    /// The mode of use, for clients that have several.
    pub mode: Option<String>,
    pub count: u64,
    /// The size of a body, in bytes.
    pub size: usize,
    pub window: usize,
    pub channels: usize,
    pub tasks: usize,
    pub connections: usize,
    pub queue: String,
    pub prefetch: u16,
    pub time: Duration,
    /// For how long the client tries to read an answer before it parks, if not for its default time.
    pub spin: Option<Duration>,
    /// The certificate to trust, PEM.
    pub ca: Option<PathBuf>,
}

impl Args {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let name = args.next().unwrap_or_default();
        let workload = NAMES.iter().find(|(_, n)| *n == name).map(|(w, _)| *w);
        let mut parsed = Self {
            workload: workload.ok_or_else(|| format!("unknown workload {name:?}"))?,
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
            mode: None,
            count: 100_000,
            size: 100,
            window: 1000,
            channels: 1,
            tasks: 1,
            connections: 1,
            queue: "bench".into(),
            prefetch: 0,
            time: Duration::from_secs(5),
            spin: None,
            ca: None,
        };
        while let Some(option) = args.next() {
            let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{option} {value}: {error}"));
            match option.as_str() {
                "--url" => parsed.url = value,
                "--mode" => parsed.mode = Some(value),
                "--count" => parsed.count = number()?.max(u64::from(workload != Some(Workload::Prepare))),
                "--size" => parsed.size = (number()? as usize).min(16 << 20),
                "--window" => parsed.window = number()?.clamp(1, 1 << 20) as usize,
                "--channels" => parsed.channels = number()?.clamp(1, 2047) as usize,
                "--tasks" => parsed.tasks = number()?.clamp(1, 4096) as usize,
                "--connections" => parsed.connections = number()?.clamp(1, 10_000) as usize,
                "--queue" => parsed.queue = value,
                "--prefetch" => parsed.prefetch = number()?.min(u16::MAX.into()) as u16,
                "--seconds" => parsed.time = Duration::from_secs(number()?.min(600)),
                "--spin" => parsed.spin = Some(Duration::from_micros(number()?.min(1_000_000))),
                "--ca" => parsed.ca = Some(value.into()),
                _ => return Err(format!("unknown option {option}")),
            }
        }
        Ok(parsed)
    }

    /// How the workload acknowledges deliveries.
    pub fn ack(&self) -> Ack {
        match self.workload {
            Workload::ConsumeNoAck => Ack::Never,
            Workload::ConsumeAckMultiple => Ack::Every(self.window as u64),
            _ => Ack::Each,
        }
    }

    /// A body of [`size`](Self::size) bytes.
    pub fn body(&self) -> Vec<u8> {
        vec![b'x'; self.size]
    }

    /// The share of task number `task` in the `count` messages.
    pub fn share(&self, task: usize) -> u64 {
        let tasks = if self.workload == Workload::PublishConnections { self.connections } else { self.tasks } as u64;
        self.count / tasks + u64::from((task as u64) < self.count % tasks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn options_are_parsed_and_wrong_ones_refused() {
        let args = parse("publish-confirm --count 10 --tasks 3 --window 5").unwrap();
        assert_eq!((args.workload, args.count, args.window), (Workload::PublishConfirm, 10, 5));
        assert_eq!((0..3).map(|task| args.share(task)).collect::<Vec<_>>(), [4, 3, 3]);
        assert!(parse("publish --count").is_err());
        assert!(parse("publish --count many").is_err());
        assert!(parse("dance").is_err());
    }
}
