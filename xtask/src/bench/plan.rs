//! The plan: which workloads are measured with which clients, and with which brokers.

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
    contender("hopmq-app", "app", "driver-thread", false),
    contender("hopmq-app, own driver", "app", "own-driver", false),
    contender("RustStream", "ruststream", "", false),
    contender("apalis-amqp", "apalis", "", false),
    contender("hopmq, TLS", "hopmq", "driver-thread", true),
    contender("hopmq, own driver, TLS", "hopmq", "own-driver", true),
    contender("hopmq, tokio, TLS", "hopmq", "tokio", true),
    contender("hopmq-blocking, TLS", "hopmq-blocking", "blocking", true),
];

/// The runners of HopMQ and of the bare loop.
pub(crate) const OURS: &[&str] = &["bare", "hopmq", "hopmq-blocking"];
/// The runner without a thread for each connection.
pub(crate) const ASYNC: &[&str] = &["hopmq"];
/// The runners of HopMQ and of the bare loop, and the two peers that the goals of latency name.
pub(crate) const FASTEST: &[&str] = &["bare", "hopmq", "hopmq-blocking", "amqp-client", "librabbitmq"];
/// The runners of handlers, and the loops beside which they are measured.
pub(crate) const HANDLERS: &[&str] = &["bare", "hopmq", "app", "ruststream", "apalis"];
/// All runners of clients.
pub(crate) const ALL: &[&str] =
    &["bare", "hopmq", "hopmq-blocking", "amqp-client", "amiquip", "librabbitmq", "amqprs", "lapin"];

/// The peer that a client is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    Counterpart,
    /// The RabbitMQ of this machine.
    RabbitMq,
    RabbitMq4,
    /// `hopmq-broker`, the broker of this repository, in memory.
    HopMq,
}

impl Broker {
    /// In the order in which they are measured.
    pub(crate) const ALL: [Self; 4] = [Self::Counterpart, Self::RabbitMq, Self::RabbitMq4, Self::HopMq];
    /// The brokers that clients meet in production.
    pub(crate) const REAL: [Self; 3] = [Self::RabbitMq, Self::RabbitMq4, Self::HopMq];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counterpart => "counterpart",
            Self::RabbitMq => "RabbitMQ",
            Self::RabbitMq4 => "RabbitMQ 4.0",
            Self::HopMq => "HopMQ's broker",
        }
    }

    /// The name with its article, for sentences.
    pub(crate) fn the(self) -> &'static str {
        match self {
            Self::Counterpart => "the counterpart",
            _ => self.name(),
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
    /// Whether it runs over TLS too, in a full run.
    pub(crate) tls: bool,
    /// The runners that take part.
    pub(crate) runners: &'static [&'static str],
    /// Whether a quick run measures it once, because it hardly varies.
    pub(crate) once: bool,
    /// Those that take part in a quick run: none if it has no such row.
    pub(crate) quick: &'static [&'static str],
}

impl Row {
    pub(super) const fn new(id: &'static str, workload: &'static str, size: u64) -> Self {
        Self {
            id,
            broker: Broker::Counterpart,
            workload,
            size,
            options: &[],
            count: Count::Timed,
            counted: false,
            tls: false,
            runners: ALL,
            once: false,
            quick: &[],
        }
    }

    pub(super) const fn with(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    pub(super) const fn only(self, runners: &'static [&'static str]) -> Self {
        Self { runners, ..self }
    }

    pub(super) const fn quick(self, runners: &'static [&'static str]) -> Self {
        Self { quick: runners, ..self }
    }

    pub(super) const fn once(self) -> Self {
        Self { once: true, ..self }
    }

    pub(super) const fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    pub(super) const fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    pub(super) const fn count(self, count: Count) -> Self {
        Self { count, ..self }
    }

    pub(super) const fn against(self, broker: Broker) -> Self {
        Self { broker, ..self }
    }

    pub(crate) fn consumes(&self) -> bool {
        self.workload.starts_with("consume") || ["handle", "slow-consumer"].contains(&self.workload)
    }

    /// Whether `contender` takes part, in a quick run or in a full one.
    pub(crate) fn has(&self, contender: &Contender, quick: bool) -> bool {
        let counts = !self.counted || contender.runner != "librabbitmq";
        let tls = !contender.tls || self.tls && !quick;
        let runners = if quick { self.quick } else { self.runners };
        runners.contains(&contender.runner) && counts && tls
    }
}
