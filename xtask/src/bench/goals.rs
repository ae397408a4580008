//! What HopMQ promises of its speed, as ratios within one run.

use super::plan::Broker::{self, Counterpart, RabbitMq};
use super::results::Results;
use super::sample::Figures;

/// A promise, and what was measured.
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    /// `None` where something that it compares was not measured.
    pub(crate) held: Option<bool>,
    pub(crate) figures: String,
}

/// Looks figures up, and fails with what is missing.
struct Look<'a>(&'a Results);

/// The ways in which HopMQ is measured over TCP.
const MODES: [&str; 4] = ["hopmq", "hopmq, own driver", "hopmq, tokio", "hopmq-blocking"];

/// One comparison.
struct Finding {
    held: bool,
    figures: String,
}

impl Look<'_> {
    fn at(&self, broker: Broker, row: &str, contender: &str) -> Result<&Figures, String> {
        self.0.get(broker, row, contender).ok_or_else(|| format!("{contender} not measured in `{row}`"))
    }

    fn rate(&self, row: &str, contender: &str) -> Result<f64, String> {
        Ok(self.at(Counterpart, row, contender)?.rate)
    }

    fn cpu(&self, row: &str, contender: &str) -> Result<f64, String> {
        Ok(self.at(Counterpart, row, contender)?.cpu_us)
    }

    /// `one`'s rate over `other`'s, each a row and a contender, to be at least `least`.
    fn faster(&self, one: (&str, &str), other: (&str, &str), least: f64) -> Result<Finding, String> {
        let ratio = self.rate(one.0, one.1)? / self.rate(other.0, other.1)?;
        let whom = if one.1 == other.1 { other.0 } else { other.1 };
        Ok(Finding { held: ratio >= least, figures: format!("{ratio:.2}× {whom} (≥ {least}×)") })
    }

    /// HopMQ's rate over `other`'s in the same row, to be at least `least` in the best of its modes.
    fn fastest(&self, row: &str, other: &str, least: f64) -> Result<Finding, String> {
        let theirs = self.rate(row, other)?;
        let ratios = MODES.iter().filter_map(|mode| Some((*mode, self.rate(row, mode).ok()? / theirs)));
        let ratios: Vec<(&str, f64)> = ratios.collect();
        let best = ratios.iter().map(|(_, ratio)| *ratio).reduce(f64::max).ok_or("hopmq not measured")?;
        let figures: Vec<String> = ratios.iter().map(|(mode, ratio)| format!("{mode} {ratio:.2}×")).collect();
        Ok(Finding { held: best >= least, figures: format!("of {other}: {} (≥ {least}×)", figures.join(", ")) })
    }

    /// `one`'s CPU per message over `other`'s, to be at most `most`.
    fn cheaper(&self, row: &str, one: &str, other: &str, most: f64) -> Result<Finding, String> {
        let ratio = self.cpu(row, one)? / self.cpu(row, other)?;
        Ok(Finding { held: ratio <= most, figures: format!("CPU {ratio:.3}× {other} (≤ {most:.3}×)") })
    }
}

/// Every goal, with what this run says of it.
pub(crate) fn all(results: &Results) -> Vec<Goal> {
    let look = Look(results);
    let goals: [(&'static str, Vec<Result<Finding, String>>); 14] = [
        ("publish", publish(&look)),
        ("publish confirmed, window 1,000", {
            let row = "confirmed, window 1,000";
            vec![look.fastest(row, "amqp-client", 4.0)]
        }),
        ("consume, ack each", {
            let row = "consume, ack each";
            vec![look.fastest(row, "amqp-client", 8.0), look.cheaper(row, "hopmq", "librabbitmq", 0.2)]
        }),
        ("round trips", {
            let row = "round trips";
            vec![
                look.faster((row, "hopmq, own driver"), (row, "librabbitmq"), 0.9),
                look.faster((row, "hopmq-blocking"), (row, "amiquip"), 1.0),
                look.faster((row, "hopmq"), (row, "lapin"), 2.0),
            ]
        }),
        ("64 KiB bodies", {
            ["publish 64 KiB", "consume 64 KiB, no ack"]
                .map(|row| look.faster((row, "hopmq"), (row, "bare loop"), 0.9))
                .into()
        }),
        ("blocking, pipelined", {
            ["publish 100 B", "confirmed, window 1,000", "consume, ack each"]
                .map(|row| look.faster((row, "hopmq-blocking"), (row, "hopmq"), 0.8))
                .into()
        }),
        ("16 tasks or threads on one connection", {
            ["hopmq", "hopmq-blocking"]
                .map(|name| look.faster(("publish, 16 tasks, 1 channel", name), ("publish 100 B", name), 0.9))
                .into()
        }),
        ("peak memory of a slow consumer", vec![memory(&look)]),
        ("heap of an idle connection", vec![heap(&look)]),
        ("allocations per publish", vec![allocations(&look, "allocations, publish", 0.001)]),
        ("allocations per delivery", vec![allocations(&look, "allocations, consume, ack each", 0.1)]),
        ("CPU of a publish against RabbitMQ", vec![least_cpu(results, "publish 100 B")]),
        ("CPU of a delivery against RabbitMQ", vec![least_cpu(results, "consume, ack each")]),
        ("p99 latency at 1 message/ms", vec![latency(&look)]),
    ];
    goals.into_iter().map(|(what, parts)| goal(what, parts)).collect()
}

fn goal(what: &'static str, parts: Vec<Result<Finding, String>>) -> Goal {
    // What is missed is missed, whatever else was not measured.
    let held = if parts.iter().flatten().any(|part| !part.held) {
        Some(false)
    } else {
        parts.iter().all(Result::is_ok).then_some(true)
    };
    let figures = parts.into_iter().map(|part| part.map_or_else(|missing| missing, |part| part.figures));
    Goal { what, held, figures: figures.collect::<Vec<_>>().join("; ") }
}

fn publish(look: &Look<'_>) -> Vec<Result<Finding, String>> {
    let row = "publish 100 B";
    vec![
        look.fastest(row, "amqp-client", 6.0),
        look.cheaper(row, "hopmq", "amqp-client", 1.0 / 6.0),
        look.faster((row, "hopmq"), (row, "bare loop"), 0.333),
    ]
}

fn memory(look: &Look<'_>) -> Result<Finding, String> {
    let mib = look.at(Counterpart, "slow consumer, 1 GiB flood", "hopmq")?.peak_rss_kib / 1024.0;
    Ok(Finding { held: mib <= 32.0, figures: format!("{mib:.1} MiB (≤ 32 MiB)") })
}

fn heap(look: &Look<'_>) -> Result<Finding, String> {
    let bytes = look.at(Counterpart, "1,000 idle connections", "hopmq")?.heap_bytes.ok_or("heap not counted")?;
    Ok(Finding { held: bytes <= 32.0 * 1024.0, figures: format!("{:.1} KiB (≤ 32 KiB)", bytes / 1024.0) })
}

fn allocations(look: &Look<'_>, row: &str, most: f64) -> Result<Finding, String> {
    let each = look.at(Counterpart, row, "hopmq")?.allocations.ok_or("allocations not counted")?;
    Ok(Finding { held: each <= most, figures: format!("{each:.4} (≤ {most})") })
}

fn least_cpu(results: &Results, row: &str) -> Result<Finding, String> {
    let look = Look(results);
    let ours = look.at(RabbitMq, row, "hopmq")?.cpu_us;
    let peers = ["amqp-client", "amiquip", "librabbitmq", "amqprs", "lapin"];
    let peers = peers.into_iter().filter_map(|name| Some((name, look.at(RabbitMq, row, name).ok()?.cpu_us)));
    let (name, best) = peers.min_by(|a, b| a.1.total_cmp(&b.1)).ok_or("no peer measured against RabbitMQ")?;
    Ok(Finding {
        held: ours <= best / 2.0,
        figures: format!("{ours:.2} µs, the best peer's ({name}) {best:.2} µs (≤ 1/2)"),
    })
}

fn latency(look: &Look<'_>) -> Result<Finding, String> {
    let of = |name| -> Result<f64, String> {
        let figures = look.at(Counterpart, "latency at 1 message/ms", name)?;
        Ok(figures.percentiles_us.ok_or("no latencies")?[1])
    };
    let (ours, theirs) = (of("hopmq")?, of("librabbitmq")?);
    Ok(Finding { held: ours <= theirs, figures: format!("{ours:.0} µs, librabbitmq's {theirs:.0} µs") })
}

/// One line each: held, missed, or not measured.
pub(crate) fn table(goals: &[Goal]) -> String {
    let mut text = String::from("\nGoals\n");
    for Goal { what, held, figures } in goals {
        let verdict = match held {
            Some(true) => "held",
            Some(false) => "MISSED",
            None => "not measured",
        };
        text += &format!("  {verdict:<13}{what:<40}{figures}\n");
    }
    text
}

/// The same in Markdown.
pub(crate) fn markdown(goals: &[Goal]) -> String {
    let mut text = String::from("\n## Goals\n\n| goal | | measured |\n| --- | --- | --- |\n");
    for Goal { what, held, figures } in goals {
        let verdict = match held {
            Some(true) => "held",
            Some(false) => "**missed**",
            None => "not measured",
        };
        text += &format!("| {what} | {verdict} | {figures} |\n");
    }
    text
}
