//! The goals themselves. A goal about time that names no mode of HopMQ is judged by the best mode.

use super::{BARE, Bound, Look, MODES, PEERS, Part, Which};
use crate::bench::plan::Broker;
use crate::bench::rows::{BATCHES, CROWD, HANDLE, LATENCY, MANY, NO_SPIN, PREPARED};
use crate::bench::sample::Figures;

const PUBLISH: &str = "publish 100 B";
const CONSUME: &str = "consume, ack each";
const CONFIRMED: &str = "confirmed, window 1,000";
const ROUND_TRIPS: &str = "round trips";

pub(super) fn all(look: &Look<'_>) -> Vec<(&'static str, Vec<Part>)> {
    let mut goals = throughput(look);
    goals.extend(handlers(look));
    goals.extend(waiting(look));
    goals.extend(many(look));
    goals.extend(resources(look));
    goals
}

fn throughput(look: &Look<'_>) -> Vec<(&'static str, Vec<Part>)> {
    vec![
        (PUBLISH, {
            let peer = "amqp-client";
            vec![
                look.faster(Which::Best, PUBLISH, peer, 6.0),
                look.cheaper(Broker::Counterpart, PUBLISH, peer, 1.0 / 6.0),
            ]
        }),
        (PREPARED, vec![look.faster(Which::Best, PREPARED, BARE, 0.45), look.costs(PREPARED, 0.10)]),
        (MANY, vec![look.faster(Which::Best, MANY, BARE, 0.6), look.costs(MANY, 0.07)]),
        (BATCHES, vec![look.faster(Which::Best, BATCHES, BARE, 0.4), look.costs(BATCHES, 0.12)]),
        (CONSUME, { vec![look.faster(Which::Best, CONSUME, BARE, 0.25), look.fastest(Which::Best, CONSUME, 8.0)] }),
        (CONFIRMED, vec![look.faster(Which::Best, CONFIRMED, "amqp-client", 5.0)]),
        ("64 KiB bodies", {
            ["publish 64 KiB", "consume 64 KiB, no ack"].map(|row| look.faster(Which::Best, row, BARE, 0.9)).into()
        }),
        ("blocking, pipelined, beside async", {
            let ratio = |row| {
                let of = |mode: &str| Ok(look.rate(row, mode)? / look.rate(row, MODES[0])?);
                Look::modes(Which::These(&["hopmq-blocking"]), row, "×", Bound::AtLeast(0.8), of)
            };
            [PUBLISH, CONFIRMED, CONSUME].map(ratio).into()
        }),
    ]
}

fn handlers(look: &Look<'_>) -> Vec<(&'static str, Vec<Part>)> {
    let modes = Which::These(&["hopmq-app", "hopmq-app, own driver"]);
    let over = |app: &str| {
        let loop_of = app.replacen("-app", "", 1);
        Ok(look.cpu(HANDLE, app)? - look.cpu(HANDLE, &loop_of)?)
    };
    let faster = |broker: Broker| {
        let theirs = look.at(broker, HANDLE, "RustStream")?.rate;
        let ratio = |app: &str| Ok(look.at(broker, HANDLE, app)?.rate / theirs);
        let what = format!("rate of RustStream's, {}", broker.name());
        Look::modes(modes, &what, "×", Bound::AtLeast(20.0), ratio)
    };
    vec![(HANDLE, {
        vec![
            Look::modes(modes, "CPU over the loop without handlers", " µs", Bound::AtMost(0.15), over),
            faster(Broker::Counterpart),
            faster(Broker::HopMq),
        ]
    })]
}

fn waiting(look: &Look<'_>) -> Vec<(&'static str, Vec<Part>)> {
    let window_1 = "confirmed, window 1";
    vec![
        (window_1, vec![look.fastest(Which::Best, window_1, 1.0)]),
        (ROUND_TRIPS, {
            let ratio = |mode: &str| Ok(look.cpu(NO_SPIN, mode)? / look.cpu(ROUND_TRIPS, "librabbitmq")?);
            vec![
                look.fastest(Which::All, ROUND_TRIPS, 1.0),
                look.faster(Which::Best, ROUND_TRIPS, "librabbitmq", 1.5),
                Look::modes(Which::Best, "CPU of librabbitmq's, no spin", "×", Bound::AtMost(1.1), ratio),
            ]
        }),
        ("p99 latency at 1 message/ms", {
            vec![
                latency(look, Which::These(&["hopmq, own driver", "hopmq-blocking"]), 1.0),
                latency(look, Which::These(&["hopmq, tokio"]), 1.5),
            ]
        }),
    ]
}

fn latency(look: &Look<'_>, which: Which, most: f64) -> Part {
    let p99 = |name: &str| -> Result<f64, String> {
        let figures = look.at(Broker::Counterpart, LATENCY, name)?;
        Ok(figures.percentiles_us.ok_or("no latencies")?[1])
    };
    let theirs = p99("librabbitmq")?;
    let what = format!("of librabbitmq's {theirs:.0} µs");
    Look::modes(which, &what, "×", Bound::AtMost(most), |mode| Ok(p99(mode)? / theirs))
}

fn many(look: &Look<'_>) -> Vec<(&'static str, Vec<Part>)> {
    vec![
        ("16 tasks or threads on a connection", {
            vec![look.keeps(Which::All, "publish, 16 tasks, 1 channel", PUBLISH, 0.9)]
        }),
        ("1,000 connections in a process", {
            let heap = |figures: &Figures| figures.heap_bytes.map(|bytes| bytes / 1024.0);
            vec![
                look.takes("1,000 idle connections", " KiB", 18.0, heap),
                look.keeps(Which::Best, "publish, 1,000 connections", PUBLISH, 0.8),
            ]
        }),
        ("10,000 connections opened", {
            let seconds = |mode: &str| Ok(10_000.0 / look.at(Broker::HopMq, CROWD, mode)?.rate);
            // A blocking connection has a thread and four open files of its own.
            let modes = Which::These(&["hopmq", "hopmq, own driver", "hopmq, tokio"]);
            vec![Look::modes(modes, "HopMQ's broker", " s", Bound::AtMost(10.0), seconds)]
        }),
    ]
}

fn resources(look: &Look<'_>) -> Vec<(&'static str, Vec<Part>)> {
    let allocations = |figures: &Figures| figures.allocations;
    vec![
        ("CPU of a delivery with its ack", {
            Broker::REAL.map(|broker| look.cheaper(broker, CONSUME, BARE, 1.1)).into()
        }),
        ("CPU of a publish", vec![publish_cpu(look)]),
        ("peak memory of a slow consumer", {
            vec![look.takes("slow consumer, 1 GiB flood", " MiB", 8.0, |figures| Some(figures.peak_rss_kib / 1024.0))]
        }),
        ("allocations for a publish", vec![look.takes("allocations, publish", "", 0.001, allocations)]),
        ("allocations for a delivery", { vec![look.takes("allocations, consume, ack each", "", 0.05, allocations)] }),
    ]
}

/// Compares the CPU time of a publish with that of the cheapest peer.
fn publish_cpu(look: &Look<'_>) -> Part {
    let cpu = |name: &str| -> Result<f64, String> { Ok(look.at(Broker::RabbitMq, PUBLISH, name)?.cpu_us) };
    let peers = PEERS.iter().filter_map(|name| Some((name, cpu(name).ok()?)));
    let best = peers.min_by(|a: &(_, f64), b| a.1.total_cmp(&b.1));
    let (name, best) = best.ok_or("no peer measured in `publish 100 B` against RabbitMQ")?;
    let what = format!("of the best peer's, {name}, RabbitMQ");
    Look::modes(Which::Best, &what, "×", Bound::AtMost(0.5), |mode| Ok(cpu(mode)? / best))
}
