//! The goals of HopMQ's speed, as ratios within one bench.
//!
//! A goal that names no mode of HopMQ is judged by the best mode where it is about time, and by all modes where it is
//! about memory. The report shows the figure of each mode in both cases.

use super::plan::Broker::{self, Counterpart, RabbitMq};
use super::results::Results;
use super::sample::Figures;

/// A goal and its measurement.
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    /// `None` if one of the compared figures was not measured.
    pub(crate) held: Option<bool>,
    pub(crate) figures: String,
}

/// Looks up figures. The error names the missing one.
struct Look<'a>(&'a Results);

/// The modes of HopMQ that are measured over TCP.
const MODES: [&str; 4] = ["hopmq", "hopmq, own driver", "hopmq, tokio", "hopmq-blocking"];

/// A comparison.
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

    /// Checks that `one`'s rate is at least `least` times `other`'s. Each is a row and a contender.
    fn faster(&self, one: (&str, &str), other: (&str, &str), least: f64) -> Result<Finding, String> {
        let ratio = self.rate(one.0, one.1)? / self.rate(other.0, other.1)?;
        let than = if one.1 == other.1 { other.0 } else { other.1 };
        Ok(Finding { held: ratio >= least, figures: format!("{ratio:.2}× {than} (≥ {least}×)") })
    }

    /// Measures each mode of HopMQ and formats it with `write`. All modes must be `within`, or the best one.
    fn modes(
        &self,
        which: Which,
        measure: impl Fn(&str) -> Result<f64, String>,
        within: impl Fn(f64) -> bool,
        write: impl Fn(f64) -> String,
    ) -> Result<Finding, String> {
        let measured = MODES.iter().map(|mode| Ok((*mode, measure(mode)?))).collect::<Result<Vec<_>, String>>()?;
        let held = match which {
            Which::Best => measured.iter().any(|(_, value)| within(*value)),
            Which::All => measured.iter().all(|(_, value)| within(*value)),
        };
        let figures: Vec<String> = measured.iter().map(|(mode, value)| format!("{mode} {}", write(*value))).collect();
        Ok(Finding { held, figures: figures.join(", ") })
    }

    /// Checks that HopMQ's rate is at least `least` times `other`'s in the same row.
    fn fastest(&self, row: &str, other: &str, least: f64) -> Result<Finding, String> {
        let theirs = self.rate(row, other)?;
        let ratio = |mode: &str| Ok(self.rate(row, mode)? / theirs);
        let found = self.modes(Which::Best, ratio, |ratio| ratio >= least, |ratio| format!("{ratio:.2}×"))?;
        Ok(found.wrapped(&format!("of {other}: "), &format!(" (≥ {least}×)")))
    }

    /// Checks that HopMQ's CPU time per message is at most `most` times `other`'s.
    fn cheapest(&self, row: &str, other: &str, most: f64) -> Result<Finding, String> {
        let theirs = self.cpu(row, other)?;
        let ratio = |mode: &str| Ok(self.cpu(row, mode)? / theirs);
        let found = self.modes(Which::Best, ratio, |ratio| ratio <= most, |ratio| format!("{ratio:.3}×"))?;
        Ok(found.wrapped(&format!("CPU of {other}: "), &format!(" (≤ {most:.3}×)")))
    }

    /// Checks that memory or allocations are at most `most`.
    fn least(
        &self,
        row: &str,
        measure: impl Fn(&Figures) -> Option<f64>,
        most: f64,
        unit: &str,
    ) -> Result<Finding, String> {
        let of = |mode: &str| measure(self.at(Counterpart, row, mode)?).ok_or_else(|| format!("{row} not counted"));
        let digits = if most < 1.0 { 4 } else { 1 };
        let found = self.modes(Which::All, of, |value| value <= most, |value| format!("{value:.digits$}"))?;
        Ok(found.wrapped("", &format!(" (≤ {most}{unit})")))
    }
}

/// The modes that must reach a goal.
#[derive(Clone, Copy)]
enum Which {
    Best,
    All,
}

impl Finding {
    fn wrapped(self, before: &str, after: &str) -> Self {
        Self { figures: format!("{before}{}{after}", self.figures), ..self }
    }
}

/// Every goal and whether the results reach it.
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
            vec![look.fastest(row, "amqp-client", 8.0), look.cheapest(row, "librabbitmq", 0.2)]
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
            ["publish 64 KiB", "consume 64 KiB, no ack"].map(|row| look.fastest(row, "bare loop", 0.9)).into()
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
        ("peak memory of a slow consumer", {
            let mib = |figures: &Figures| Some(figures.peak_rss_kib / 1024.0);
            vec![look.least("slow consumer, 1 GiB flood", mib, 32.0, " MiB")]
        }),
        ("heap of an idle connection", {
            let kib = |figures: &Figures| figures.heap_bytes.map(|bytes| bytes / 1024.0);
            vec![look.least("1,000 idle connections", kib, 32.0, " KiB")]
        }),
        ("allocations per publish", vec![look.least("allocations, publish", |row| row.allocations, 0.001, "")]),
        ("allocations per delivery", {
            vec![look.least("allocations, consume, ack each", |row| row.allocations, 0.1, "")]
        }),
        ("CPU of a publish against RabbitMQ", vec![least_cpu(results, "publish 100 B")]),
        ("CPU of a delivery against RabbitMQ", vec![least_cpu(results, "consume, ack each")]),
        ("p99 latency at 1 message/ms", vec![latency(&look)]),
    ];
    goals.into_iter().map(|(what, parts)| goal(what, parts)).collect()
}

fn goal(what: &'static str, parts: Vec<Result<Finding, String>>) -> Goal {
    // A part that is missed decides, even if others were not measured.
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
        look.cheapest(row, "amqp-client", 1.0 / 6.0),
        look.fastest(row, "bare loop", 0.333),
    ]
}

fn least_cpu(results: &Results, row: &str) -> Result<Finding, String> {
    let look = Look(results);
    let cpu = |name: &str| Ok(look.at(RabbitMq, row, name)?.cpu_us);
    let peers = ["amqp-client", "amiquip", "librabbitmq", "amqprs", "lapin"];
    let peers = peers.into_iter().filter_map(|name| Some((name, cpu(name).ok()?)));
    let (name, best) = peers.min_by(|a, b| a.1.total_cmp(&b.1)).ok_or("no peer measured against RabbitMQ")?;
    let found = look.modes(Which::Best, cpu, |ours| ours <= best / 2.0, |ours| format!("{ours:.2} µs"))?;
    Ok(found.wrapped("", &format!("; the best peer's ({name}) {best:.2} µs (≤ 1/2)")))
}

fn latency(look: &Look<'_>) -> Result<Finding, String> {
    let of = |name: &str| -> Result<f64, String> {
        let figures = look.at(Counterpart, "latency at 1 message/ms", name)?;
        Ok(figures.percentiles_us.ok_or("no latencies")?[1])
    };
    let theirs = of("librabbitmq")?;
    let found = look.modes(Which::Best, of, |ours| ours <= theirs, |ours| format!("{ours:.0} µs"))?;
    Ok(found.wrapped("", &format!("; librabbitmq's {theirs:.0} µs")))
}

/// The goals for a terminal, a line each.
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

/// The goals in Markdown.
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
