//! The rows of the plan, in the order of the report.

use super::plan::{ALL, ASYNC, Broker, Count, FASTEST, HANDLERS, OURS, Row};

/// The body size of the slow consumer's flood, in bytes; with [`SLOW_COUNT`] it makes 1 GiB.
pub(crate) const SLOW_SIZE: u64 = 4096;
pub(crate) const SLOW_COUNT: u64 = 262_144;

/// Names that the goals share.
pub(crate) const PREPARED: &str = "publish 100 B, prepared";
pub(crate) const MANY: &str = "publish 100 B, 1,000 in a call";
pub(crate) const BATCHES: &str = "consume in batches, ack each batch";
pub(crate) const NO_SPIN: &str = "round trips, no spin";
/// The name of the row of latencies, which each broker has.
pub(crate) const LATENCY: &str = "latency at 1 message/ms";
pub(crate) const CROWD: &str = "10,000 connections";
/// The name of the row of handlers, which the counterpart and HopMQ's broker have.
pub(crate) const HANDLE: &str = "handlers, 100 B";

/// All rows. A quick run has those from which the goals are judged, with the contenders that the goals name.
pub(crate) const ROWS: &[Row] = &[
    Row::new("publish 100 B", "publish", 100).quick(ALL).tls(),
    Row::new(PREPARED, "publish-prepared", 100).only(OURS).quick(OURS),
    Row::new(MANY, "publish-many", 100).with(&["--window", "1000"]).only(OURS).quick(OURS),
    Row::new("publish 16 B", "publish", 16),
    Row::new("publish 4 KiB", "publish", 4 << 10),
    Row::new("publish 64 KiB", "publish", 64 << 10).quick(OURS).tls(),
    Row::new("publish 1 MiB", "publish", 1 << 20),
    Row::new("confirmed, window 1", "publish-confirm", 100).with(&["--window", "1"]).quick(ALL),
    Row::new("confirmed, window 100", "publish-confirm", 100).with(&["--window", "100"]),
    Row::new("confirmed, window 1,000", "publish-confirm", 100).with(&["--window", "1000"]).quick(ALL).tls(),
    Row::new("publish, 16 tasks, 1 channel", "publish", 100).with(&["--tasks", "16"]).quick(OURS),
    Row::new("publish, 256 tasks, 1 channel", "publish", 100).with(&["--tasks", "256"]),
    Row::new("publish, 16 tasks, 16 channels", "publish", 100).with(&["--tasks", "16", "--channels", "16"]),
    Row::new("publish, 256 tasks, 256 channels", "publish", 100).with(&["--tasks", "256", "--channels", "256"]),
    Row::new("publish, 1,000 connections", "publish-connections", 100)
        .with(&["--connections", "1000", "--window", "100"])
        .only(OURS)
        .quick(OURS),
    Row::new("consume, ack each", "consume-ack-each", 100).quick(ALL).tls(),
    Row::new(BATCHES, "consume-batches", 100).with(&["--window", "1000"]).only(OURS).quick(OURS),
    Row::new("consume, ack per 100", "consume-ack-multiple", 100).with(&["--window", "100"]),
    Row::new("consume 16 B, no ack", "consume-no-ack", 16),
    Row::new("consume 100 B, no ack", "consume-no-ack", 100),
    Row::new("consume 4 KiB, no ack", "consume-no-ack", 4 << 10),
    Row::new("consume 64 KiB, no ack", "consume-no-ack", 64 << 10).quick(OURS).tls(),
    Row::new("consume 1 MiB, no ack", "consume-no-ack", 1 << 20),
    handle(),
    Row::new("round trips", "rpc", 0).quick(ALL).tls(),
    Row::new(NO_SPIN, "rpc", 0).with(&["--spin", "0"]).only(OURS).quick(OURS),
    Row::new(LATENCY, "latency", 100).count(Count::Fixed(1000, 5000)).quick(FASTEST),
    Row::new("connect", "connect", 0).count(Count::Fixed(50, 200)).tls(),
    Row::new("1,000 idle connections", "idle-connections", 0)
        .count(Count::Fixed(1000, 1000))
        .quick(OURS)
        .once()
        .counted(),
    Row::new("slow consumer, 1 GiB flood", "slow-consumer", SLOW_SIZE).count(Count::Seconds(1, 5)).quick(OURS).once(),
    Row::new("allocations, publish", "publish", 100).quick(OURS).once().counted(),
    Row::new("allocations, consume, ack each", "consume-ack-each", 100).quick(OURS).once().counted(),
    publish(Broker::RabbitMq).quick(ALL),
    confirmed(Broker::RabbitMq),
    consume(Broker::RabbitMq),
    Row::new("round trips", "rpc", 0).against(Broker::RabbitMq),
    latency(Broker::RabbitMq),
    publish(Broker::RabbitMq4),
    confirmed(Broker::RabbitMq4),
    consume(Broker::RabbitMq4),
    latency(Broker::RabbitMq4),
    publish(Broker::HopMq),
    confirmed(Broker::HopMq),
    consume(Broker::HopMq),
    handle().with(&["--prefetch", "1000"]).against(Broker::HopMq),
    latency(Broker::HopMq),
    Row::new(CROWD, "idle-connections", 0)
        .count(Count::Fixed(10_000, 10_000))
        .against(Broker::HopMq)
        .only(ASYNC)
        .quick(ASYNC)
        .once()
        .counted(),
];

const fn publish(broker: Broker) -> Row {
    Row::new("publish 100 B", "publish", 100).against(broker)
}

const fn confirmed(broker: Broker) -> Row {
    Row::new("confirmed, window 1,000", "publish-confirm", 100).with(&["--window", "1000"]).against(broker)
}

const fn consume(broker: Broker) -> Row {
    let row = Row::new("consume, ack each", "consume-ack-each", 100).with(&["--prefetch", "1000"]);
    row.against(broker).quick(FASTEST)
}

const fn handle() -> Row {
    Row::new(HANDLE, "handle", 100).only(HANDLERS).quick(HANDLERS)
}

const fn latency(broker: Broker) -> Row {
    Row::new(LATENCY, "latency", 100).count(Count::Fixed(1000, 5000)).against(broker).quick(FASTEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::CONTENDERS;

    #[test]
    fn every_row_and_contender_has_a_unique_name() {
        for (n, row) in ROWS.iter().enumerate() {
            assert!(!ROWS[..n].iter().any(|other| (other.id, other.broker) == (row.id, row.broker)), "{}", row.id);
        }
        for (n, one) in CONTENDERS.iter().enumerate() {
            assert!(!CONTENDERS[..n].iter().any(|other| other.name == one.name), "{}", one.name);
        }
    }

    fn is_known(runner: &&str) -> bool {
        ALL.contains(runner) || HANDLERS.contains(runner)
    }

    #[test]
    fn a_quick_run_has_no_runner_that_a_full_run_lacks() {
        for row in ROWS {
            assert!(row.quick.iter().all(|runner| row.runners.contains(runner)), "{}", row.id);
            assert!(row.runners.iter().all(is_known), "{}", row.id);
        }
        for one in CONTENDERS {
            assert!(is_known(&one.runner), "{}", one.name);
        }
    }
}
