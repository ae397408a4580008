//! The plan: which workloads are measured with which clients.

/// A client in one mode of use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Contender {
    /// Its name in tables.
    pub(crate) name: &'static str,
    /// Its binary is `runner-RUNNER`.
    pub(crate) runner: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) tls: bool,
}

const fn contender(name: &'static str, runner: &'static str, mode: &'static str, tls: bool) -> Contender {
    Contender { name, runner, mode, tls }
}

/// All contenders, in the order of the tables.
pub(crate) const CONTENDERS: &[Contender] = &[
    contender("bare loop", "bare", "", false),
    contender("hopmq", "hopmq", "driver-thread", false),
    contender("hopmq, own driver", "hopmq", "own-driver", false),
    contender("hopmq, tokio", "hopmq", "tokio", false),
    contender("hopmq-blocking", "hopmq-blocking", "blocking", false),
    contender("amqp-client", "amqp-client", "", false),
    contender("amiquip", "amiquip", "", false),
    contender("librabbitmq", "librabbitmq", "", false),
    contender("amqprs", "amqprs", "", false),
    contender("lapin", "lapin", "", false),
    contender("hopmq, TLS", "hopmq", "driver-thread", true),
    contender("hopmq, own driver, TLS", "hopmq", "own-driver", true),
    contender("hopmq, tokio, TLS", "hopmq", "tokio", true),
    contender("hopmq-blocking, TLS", "hopmq-blocking", "blocking", true),
];

/// The peer that a client is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    Counterpart,
    RabbitMq,
}

impl Broker {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counterpart => "counterpart",
            Self::RabbitMq => "RabbitMQ",
        }
    }

    /// The name with its article, for sentences.
    pub(crate) fn the(self) -> &'static str {
        match self {
            Self::Counterpart => "the counterpart",
            Self::RabbitMq => "RabbitMQ",
        }
    }
}

/// The number of messages of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Count {
    /// As many as fill the duration of a run.
    Timed,
    /// A fixed number: of quick runs, of full runs.
    Fixed(u64, u64),
    /// All that arrive within a number of seconds: of quick runs, of full runs.
    Seconds(u64, u64),
}

/// A line of the plan.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) broker: Broker,
    pub(crate) workload: &'static str,
    /// The size of a body, in bytes.
    pub(crate) size: u64,
    pub(crate) options: &'static [&'static str],
    pub(crate) count: Count,
    /// Whether to run the binaries that count allocations.
    pub(crate) counted: bool,
    /// Whether it runs over TLS too.
    pub(crate) tls: bool,
    /// Whether it is part of a quick run.
    pub(crate) quick: bool,
}

impl Row {
    const fn new(id: &'static str, workload: &'static str, size: u64) -> Self {
        Self {
            id,
            broker: Broker::Counterpart,
            workload,
            size,
            options: &[],
            count: Count::Timed,
            counted: false,
            tls: false,
            quick: false,
        }
    }

    const fn with(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    const fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    const fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    const fn count(self, count: Count) -> Self {
        Self { count, ..self }
    }

    const fn rabbitmq(self) -> Self {
        Self { broker: Broker::RabbitMq, ..self }
    }

    pub(crate) fn consumes(&self) -> bool {
        self.workload.starts_with("consume") || self.workload == "slow-consumer"
    }

    /// Whether `contender` takes part.
    pub(crate) fn has(&self, contender: &Contender) -> bool {
        (self.tls || !contender.tls) && !(self.counted && contender.runner == "librabbitmq")
    }
}

/// The body size of the slow consumer's flood, in bytes; with [`SLOW_COUNT`] it makes 1 GiB.
pub(crate) const SLOW_SIZE: u64 = 4096;
pub(crate) const SLOW_COUNT: u64 = 262_144;

/// All rows, in the order of the report.
pub(crate) const ROWS: &[Row] = &[
    Row::new("publish 100 B", "publish", 100).quick().tls(),
    Row::new("publish 16 B", "publish", 16),
    Row::new("publish 4 KiB", "publish", 4 << 10),
    Row::new("publish 64 KiB", "publish", 64 << 10).quick().tls(),
    Row::new("publish 1 MiB", "publish", 1 << 20),
    Row::new("confirmed, window 1", "publish-confirm", 100).with(&["--window", "1"]),
    Row::new("confirmed, window 100", "publish-confirm", 100).with(&["--window", "100"]),
    Row::new("confirmed, window 1,000", "publish-confirm", 100).with(&["--window", "1000"]).quick().tls(),
    Row::new("publish, 16 tasks, 1 channel", "publish", 100).with(&["--tasks", "16"]).quick(),
    Row::new("publish, 256 tasks, 1 channel", "publish", 100).with(&["--tasks", "256"]),
    Row::new("publish, 16 tasks, 16 channels", "publish", 100).with(&["--tasks", "16", "--channels", "16"]),
    Row::new("publish, 256 tasks, 256 channels", "publish", 100).with(&["--tasks", "256", "--channels", "256"]),
    Row::new("consume, ack each", "consume-ack-each", 100).quick().tls(),
    Row::new("consume, ack per 100", "consume-ack-multiple", 100).with(&["--window", "100"]),
    Row::new("consume 16 B, no ack", "consume-no-ack", 16),
    Row::new("consume 100 B, no ack", "consume-no-ack", 100),
    Row::new("consume 4 KiB, no ack", "consume-no-ack", 4 << 10),
    Row::new("consume 64 KiB, no ack", "consume-no-ack", 64 << 10).quick().tls(),
    Row::new("consume 1 MiB, no ack", "consume-no-ack", 1 << 20),
    Row::new("round trips", "rpc", 0).quick().tls(),
    Row::new("latency at 1 message/ms", "latency", 100).count(Count::Fixed(1000, 5000)).quick(),
    Row::new("connect", "connect", 0).count(Count::Fixed(50, 200)).tls(),
    Row::new("1,000 idle connections", "idle-connections", 0).count(Count::Fixed(100, 1000)).quick().counted(),
    Row::new("slow consumer, 1 GiB flood", "slow-consumer", SLOW_SIZE).count(Count::Seconds(2, 5)).quick(),
    Row::new("allocations, publish", "publish", 100).quick().counted(),
    Row::new("allocations, consume, ack each", "consume-ack-each", 100).quick().counted(),
    Row::new("publish 100 B", "publish", 100).quick().rabbitmq(),
    Row::new("confirmed, window 1,000", "publish-confirm", 100).with(&["--window", "1000"]).quick().rabbitmq(),
    Row::new("consume, ack each", "consume-ack-each", 100).with(&["--prefetch", "1000"]).quick().rabbitmq(),
    Row::new("round trips", "rpc", 0).rabbitmq(),
    Row::new("latency at 1 message/ms", "latency", 100).count(Count::Fixed(1000, 5000)).rabbitmq(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_and_contender_has_a_unique_name() {
        for (n, row) in ROWS.iter().enumerate() {
            assert!(!ROWS[..n].iter().any(|other| (other.id, other.broker) == (row.id, row.broker)), "{}", row.id);
        }
        for (n, one) in CONTENDERS.iter().enumerate() {
            assert!(!CONTENDERS[..n].iter().any(|other| other.name == one.name), "{}", one.name);
        }
    }
}
