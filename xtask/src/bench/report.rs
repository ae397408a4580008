//! The tables of results, for the terminal and in Markdown.

use super::plan::Row;
use super::results::Results;
use super::sample::Figures;

/// Every row with its contenders, for a terminal.
pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    for row in results.rows() {
        text += &format!("\n{}, against {}\n", row.id, row.broker.the());
        let best = best_peer(results, row);
        for (contender, figures) in results.of(row) {
            let what = cells(row, figures, best).join("  ");
            text += &format!("  {:<24}{what}\n", contender.name);
        }
    }
    text
}

/// Every row with its contenders, in Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = format!("# Benchmarks\n\n{}.\n", results.machine.sentence());
    if results.quick {
        text += "\nA quick run: few and short runs.\n";
    }
    for row in results.rows() {
        text += &format!("\n## {}, against {}\n\n", row.id, row.broker.the());
        let heads = heads(row);
        text += &format!("| client | {} |\n| --- |{}\n", heads.join(" | "), " --- |".repeat(heads.len()));
        let best = best_peer(results, row);
        for (contender, figures) in results.of(row) {
            let cells: Vec<_> = cells(row, figures, best).iter().map(|cell| cell.trim().to_owned()).collect();
            text += &format!("| {} | {} |\n", contender.name, cells.join(" | "));
        }
    }
    text
}

/// The rate of the fastest contender that is neither HopMQ nor the bare loop.
fn best_peer(results: &Results, row: &Row) -> f64 {
    let peers = results.of(row).into_iter().filter(|(one, _)| !one.name.starts_with("hopmq") && one.runner != "bare");
    peers.map(|(_, figures)| figures.rate).fold(0.0, f64::max)
}

fn heads(row: &Row) -> Vec<&'static str> {
    match row.workload {
        "latency" => vec!["p50", "p99", "p99.9", "CPU"],
        "slow-consumer" => vec!["peak memory"],
        "idle-connections" => vec!["heap each", "peak memory"],
        _ if row.counted => vec!["allocations each"],
        "connect" => vec!["per second", "p50", "p99", "CPU each"],
        _ => vec!["per second", "of the best peer", "CPU each", "peak memory"],
    }
}

fn cells(row: &Row, figures: &Figures, best: f64) -> Vec<String> {
    if let Some(why) = &figures.unsupported {
        return vec![format!("– ({why})")];
    }
    if figures.runs == 0 {
        return vec![format!("all {} runs failed", figures.failures)];
    }
    let percentile = |at: usize| micros(figures.percentiles_us.map(|all| all[at]));
    let memory = format!("{:>7.1} MiB", figures.peak_rss_kib / 1024.0);
    let cpu = format!("{:>8.2} µs", figures.cpu_us);
    let mut cells = match row.workload {
        "latency" => vec![percentile(0), percentile(1), percentile(2), cpu],
        "slow-consumer" => vec![memory],
        "idle-connections" => {
            let heap = figures.heap_bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{:.1} KiB", bytes / 1024.0));
            vec![format!("{heap:>10}"), memory]
        }
        _ if row.counted => vec![figures.allocations.map_or_else(|| "–".to_owned(), |each| format!("{each:>7.3}"))],
        "connect" => vec![rate(figures.rate), percentile(0), percentile(1), cpu],
        _ => {
            let ratio = if best > 0.0 { format!("{:>6.2}×", figures.rate / best) } else { "–".to_owned() };
            vec![rate(figures.rate), ratio, cpu, memory]
        }
    };
    if figures.failures > 0
        && let Some(last) = cells.last_mut()
    {
        *last += &format!(" ({} of {} runs failed)", figures.failures, figures.failures + figures.runs);
    }
    cells
}

/// A rate, with three or four digits.
pub(crate) fn rate(per_second: f64) -> String {
    let text = match per_second {
        r if r >= 1e6 => format!("{:.2} M", r / 1e6),
        r if r >= 1e4 => format!("{:.0} k", r / 1e3),
        r if r >= 1e3 => format!("{:.1} k", r / 1e3),
        r => format!("{r:.0}"),
    };
    format!("{text:>8}/s")
}

fn micros(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:>8.0} µs"))
}
