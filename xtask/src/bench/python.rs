//! `cargo xtask bench python`: the Python package beside aio-pika, pika and py-amqp, with the broker of this
//! repository.
//!
//! Owns the workloads and the goals. Each run is a process of its own (`bench/python/measure.py`), and the clients take
//! turns; what is printed are medians. CPU counts: the rates of all but HopMQ are limited by it.

use std::path::Path;
use std::process::Command;

use super::brokers::{self, Program};
use super::machine::Machine;
use super::report::rate;
use super::sample::median;
use crate::python;
use crate::shell::{self, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A fifth of the messages, one run
    #[arg(long)]
    quick: bool,
    /// Runs of each client in each workload
    #[arg(long, value_name = "N", default_value = "3")]
    runs: usize,
    /// Fail if a goal is missed
    #[arg(long)]
    check: bool,
}

struct Workload {
    id: &'static str,
    title: &'static str,
    /// The clients, with how many messages each needs for about a second.
    clients: &'static [(&'static str, u64)],
    goals: &'static [Goal],
}

/// How many times less CPU one client takes for a message than another.
struct Goal {
    client: &'static str,
    peer: &'static str,
    times: f64,
}

const ASYNC: &str = "hopmq";
const BLOCKING: &str = "hopmq.blocking";

const WORKLOADS: [Workload; 5] = [
    Workload {
        id: "consume",
        title: "consume, ack each",
        clients: &[(ASYNC, 1_000_000), (BLOCKING, 1_000_000), ("aio-pika", 5_000), ("pika", 30_000)],
        goals: &[
            Goal { client: ASYNC, peer: "aio-pika", times: 100.0 },
            Goal { client: ASYNC, peer: "pika", times: 20.0 },
        ],
    },
    Workload { id: "batches", title: "consume, batches of 256", clients: &[(ASYNC, 1_000_000)], goals: &[] },
    Workload {
        id: "window",
        title: "confirmed, window 1,000",
        clients: &[(ASYNC, 1_000_000), (BLOCKING, 1_000_000), ("aio-pika", 5_000), ("pika", 30_000)],
        goals: &[
            Goal { client: ASYNC, peer: "aio-pika", times: 150.0 },
            Goal { client: ASYNC, peer: "pika", times: 25.0 },
        ],
    },
    Workload {
        id: "send",
        title: "without confirms",
        clients: &[(ASYNC, 1_000_000), (BLOCKING, 1_000_000), ("aio-pika", 10_000), ("pika", 50_000)],
        goals: &[
            Goal { client: ASYNC, peer: "aio-pika", times: 150.0 },
            Goal { client: ASYNC, peer: "pika", times: 30.0 },
        ],
    },
    Workload {
        id: "one",
        title: "confirmed one by one",
        clients: &[(ASYNC, 20_000), (BLOCKING, 20_000), ("aio-pika", 4_000), ("py-amqp", 10_000)],
        goals: &[
            Goal { client: ASYNC, peer: "aio-pika", times: 3.0 },
            Goal { client: BLOCKING, peer: "py-amqp", times: 2.0 },
        ],
    },
];

/// The medians of one client in one workload.
struct Figures {
    client: &'static str,
    per_second: f64,
    micros: f64,
    memory: f64,
}

pub(super) fn run(arguments: &Arguments) -> Result {
    let target = shell::root().join("bench/target");
    brokers::build(&target)?;
    let interpreter = python::for_benchmarks()?;
    let broker = Program::start(&brokers::program(&target.join("release")), &[])?;
    println!("\n{}", Machine::here().sentence());
    let mut missed = 0;
    for workload in &WORKLOADS {
        println!("\n{}, 100 B", workload.title);
        let all = measure(workload, arguments, &interpreter, &broker.url)?;
        for Figures { client, per_second, micros, memory } in &all {
            println!("  {client:<16} {}  {micros:>9.3} µs  {:>6.1} MiB", rate(*per_second), memory / 1024.0);
        }
        for Goal { client, peer, times } in workload.goals {
            let of = |name| all.iter().find(|figures| figures.client == name).map(|figures| figures.micros);
            let (Some(ours), Some(theirs)) = (of(*client), of(*peer)) else { continue };
            let reached = theirs / ours;
            let held = reached >= *times;
            missed += usize::from(!held);
            let word = if held { "held" } else { "MISSED" };
            println!("  {word}: {client} takes {reached:.0} times less CPU than {peer} (≥ {times})");
        }
    }
    println!("\nmemory after 1,000,000 and 10,000,000 messages that are consumed");
    let [first, last] = [1_000_000, 10_000_000].map(|count| once(&interpreter, &broker.url, ASYNC, "consume", count));
    let (first, last) = (first?.2, last?.2);
    let held = last <= first * 1.1;
    missed += usize::from(!held);
    let word = if held { "held" } else { "MISSED" };
    println!("  {word}: {:.1} and {:.1} MiB (the same, within a tenth)", first / 1024.0, last / 1024.0);
    match missed {
        0 => println!("\nall goals held"),
        _ if arguments.check => return Err(format!("{missed} goals missed").into()),
        _ => println!("\n{missed} goals missed"),
    }
    Ok(())
}

/// Runs all clients of a workload in turn.
fn measure(workload: &Workload, arguments: &Arguments, interpreter: &Path, url: &str) -> Result<Vec<Figures>> {
    let runs = if arguments.quick { 1 } else { arguments.runs.max(1) };
    let mut samples = vec![Vec::new(); workload.clients.len()];
    for _ in 0..runs {
        for ((client, count), samples) in workload.clients.iter().zip(&mut samples) {
            let count = if arguments.quick { count / 5 } else { *count };
            samples.push(once(interpreter, url, client, workload.id, count)?);
        }
    }
    let middle = |samples: &[(f64, f64, f64)], pick: fn(&(f64, f64, f64)) -> f64| {
        median(samples.iter().map(pick).collect()).unwrap_or_default()
    };
    let figures = workload.clients.iter().zip(&samples).map(|((client, _), samples)| Figures {
        client,
        per_second: middle(samples, |sample| sample.0),
        micros: middle(samples, |sample| sample.1),
        memory: middle(samples, |sample| sample.2),
    });
    Ok(figures.collect())
}

/// Runs one process. Returns messages a second, CPU µs of each, and the peak memory in KiB.
fn once(interpreter: &Path, url: &str, client: &str, workload: &str, count: u64) -> Result<(f64, f64, f64)> {
    let measure = |client: &str, count: u64| {
        let mut run = Command::new(interpreter);
        run.arg("bench/python/measure.py").args([client, workload, &count.to_string()]).current_dir(shell::root());
        shell::output(run.env("AMQP_URL", url).env("PYTHONPATH", python::package_for_benchmarks()))
    };
    let consumes = matches!(workload, "consume" | "batches");
    measure("fill", if consumes { count } else { 0 })?;
    let output = measure(client, count)?;
    let line = output.lines().find(|line| line.starts_with("count=")).ok_or("measure.py printed no figures")?;
    let number = |key: &str| {
        let value = line.split(' ').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        value.and_then(|text| text.parse::<f64>().ok()).ok_or_else(|| format!("{key} is missing in {line:?}"))
    };
    let (count, seconds) = (number("count")?, number("seconds")?);
    Ok((count / seconds, number("cpu")? / count * 1e6, number("memory")?))
}
