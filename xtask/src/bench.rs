//! `cargo xtask bench`: measures HopMQ and its peers in turn, with a counterpart that does almost nothing and with
//! RabbitMQ. Each client is a process of its own, so that the cost of the process is the cost of the client.

mod broker;
mod chart;
pub(crate) mod codec;
mod gateway;
mod goals;
mod ledger;
mod machine;
mod plan;
mod progress;
mod recovery;
mod report;
mod results;
mod run;
mod sample;

use std::time::Duration;

use crate::rabbitmq::{self, Release};
use crate::shell::{self, Result};
use machine::Machine;
use plan::{Broker, CONTENDERS, Contender, Count, ROWS, Row};
use progress::Progress;
use results::Results;
use run::Bench;
use sample::{Figures, Sample};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Count the instructions of the codec, which a busy machine does not change
    Codec(codec::Arguments),
    /// Measure the npm package and @cloudamqp/amqp-client in Chromium
    Browser(crate::browser::Arguments),
    /// Measure the broker of this repository and RabbitMQ
    Broker(broker::Arguments),
    /// Measure the gateway and a relay that sends frame by frame
    Gateway(gateway::Arguments),
    /// Measure what an operation costs while recovery keeps many queues and bindings
    Ledger(ledger::Arguments),
    /// Measure how long clients take to reconnect
    Recovery(recovery::Arguments),
}

/// Options of a bench of all clients.
#[derive(Debug, PartialEq, clap::Args)]
struct Options {
    /// The main rows, three short runs each
    #[arg(long)]
    quick: bool,
    /// A few messages through everything, to check that it works; prints no figures
    #[arg(long)]
    check: bool,
    /// Only rows whose names contain this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Only clients whose names begin with one of these
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    clients: Vec<String>,
    /// The broker to measure with
    #[arg(long, default_value = "both")]
    against: Against,
    /// Runs of each client in each row [default: 5; 3 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Against {
    Counterpart,
    Rabbitmq,
    Both,
}

impl Options {
    /// Whether only the quick rows run, unless a filter names others.
    fn is_quick(&self) -> bool {
        self.quick || self.check
    }

    fn runs(&self) -> usize {
        let default = match (self.check, self.quick) {
            (true, _) => 1,
            (false, true) => 3,
            (false, false) => 5,
        };
        self.runs.map_or(default, usize::from)
    }

    fn wants_row(&self, row: &Row) -> bool {
        let broker = match row.broker {
            Broker::Counterpart => self.check || self.against != Against::Rabbitmq,
            Broker::RabbitMq => !self.check && self.against != Against::Counterpart,
        };
        // A row that the filter names runs even if it is not a quick one.
        let wanted = row.quick || !self.is_quick() || !self.filter.is_empty();
        broker && wanted && row.id.to_lowercase().contains(&self.filter.to_lowercase())
    }

    fn wants_client(&self, contender: &Contender) -> bool {
        self.clients.is_empty() || self.clients.iter().any(|name| contender.name.starts_with(name.as_str()))
    }

    /// The duration that one run aims at.
    fn time(&self) -> Duration {
        Duration::from_millis(match (self.check, self.quick) {
            (true, _) => 1,
            (false, true) => 300,
            (false, false) => 500,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    match &arguments.part {
        Some(Part::Codec(arguments)) => codec::run(arguments),
        Some(Part::Browser(arguments)) => crate::browser::bench(arguments),
        Some(Part::Broker(arguments)) => broker::run(arguments),
        Some(Part::Gateway(arguments)) => gateway::run(arguments),
        Some(Part::Ledger(arguments)) => ledger::run(arguments),
        Some(Part::Recovery(arguments)) => recovery::run(arguments),
        None => run_clients(&arguments.options),
    }
}

fn run_clients(options: &Options) -> Result {
    let rows: Vec<&'static Row> = ROWS.iter().filter(|row| options.wants_row(row)).collect();
    if rows.is_empty() {
        return Err(format!("no row has `{}` in its name", options.filter).into());
    }
    let mut bench = Bench::build()?;
    let stop = rows.iter().any(|row| row.broker == Broker::RabbitMq) && bench.find_rabbitmq()?;
    let outcome = measure_all(&bench, &rows, options);
    if stop {
        rabbitmq::stop(Release::Installed)?;
    }
    let (results, failures) = outcome?;
    if options.check {
        return check(&results, &failures);
    }
    let goals = goals::all(&results);
    shell::print(&report::table(&results));
    shell::print(&goals::table(&goals));
    report_failures(&failures);
    let partial = !options.filter.is_empty() || !options.clients.is_empty();
    if partial {
        println!("\nnothing written: bench/results holds complete runs only");
        return Ok(());
    }
    // Only full runs are committed.
    let folder = if options.is_quick() { "bench/target/results" } else { "bench/results" };
    let path = shell::root().join(folder);
    shell::write(&path.join("latest.json"), &results.json())?;
    shell::write(&path.join("latest.md"), &(report::markdown(&results) + &goals::markdown(&goals)))?;
    if let Some(svg) = chart::svg(&results) {
        shell::write(&path.join("latest.svg"), &svg)?;
    }
    println!("\nwritten: {folder}/latest.json, latest.md and latest.svg");
    Ok(())
}

/// Runs the clients in turn (A B C A B C …), so that a machine's slow moments hit all of them.
fn measure_all(bench: &Bench, rows: &[&'static Row], options: &Options) -> Result<(Results, Vec<String>)> {
    let mut results = Results::new(Machine::here(), options.is_quick());
    let mut failures = Vec::new();
    let participants = |row: &Row| -> Vec<&'static Contender> {
        let wanted = |one: &&Contender| row.has(one) && bench.has(one) && options.wants_client(one);
        CONTENDERS.iter().filter(wanted).collect()
    };
    let steps = rows.iter().map(|row| participants(row).len() * (options.runs() + 1)).sum();
    let mut progress = Progress::new(steps);
    for row in rows {
        let mut lanes: Vec<Lane> = Vec::new();
        for contender in participants(row) {
            progress.step(row.id, contender.name);
            lanes.push(Lane::pilot(bench, row, contender, options, &mut failures));
        }
        for _ in 0..options.runs() {
            for lane in &mut lanes {
                progress.step(row.id, lane.contender.name);
                lane.run(bench, row, options.is_quick(), &mut failures);
            }
        }
        for lane in lanes {
            results.add(row, lane.contender, Figures::of(&lane.samples, lane.failures));
        }
    }
    progress.end();
    Ok((results, failures))
}

/// How often a failed run is tried.
const TRIES: usize = 3;

/// A contender in a row.
struct Lane {
    contender: &'static Contender,
    count: u64,
    samples: Vec<Sample>,
    failures: usize,
}

impl Lane {
    /// Makes a short first run that warms up and determines the message count of the later runs. It does not count.
    fn pilot(
        bench: &Bench,
        row: &Row,
        contender: &'static Contender,
        options: &Options,
        errors: &mut Vec<String>,
    ) -> Self {
        let mut lane = Self { contender, count: run::pilot(row), samples: Vec::new(), failures: 0 };
        if let Count::Fixed(quick, full) = row.count {
            lane.count = if options.is_quick() { quick } else { full };
        }
        for _ in 0..if row.count == Count::Timed { TRIES } else { 0 } {
            match bench.run(row, contender, lane.count, options.is_quick()) {
                Ok(sample) if sample.unsupported.is_some() => lane.samples.push(sample),
                Ok(sample) => lane.count = run::fill(row, &sample, options.time()),
                Err(error) => {
                    lane.fail(row, &error, errors);
                    continue;
                }
            }
            break;
        }
        lane
    }

    fn run(&mut self, bench: &Bench, row: &Row, quick: bool, errors: &mut Vec<String>) {
        if self.samples.iter().any(|sample| sample.unsupported.is_some()) {
            return;
        }
        // Retry, because some peers lose a reply now and then. A peer that hangs each time is left out.
        for _ in 0..TRIES {
            if self.failures >= TRIES && self.samples.is_empty() {
                return;
            }
            match bench.run(row, self.contender, self.count, quick) {
                Ok(sample) => return self.samples.push(sample),
                Err(error) => self.fail(row, &error, errors),
            }
        }
    }

    fn fail(&mut self, row: &Row, error: &dyn std::fmt::Display, errors: &mut Vec<String>) {
        self.failures += 1;
        errors.push(format!("{} in `{}` against {}: {error}", self.contender.name, row.id, row.broker.the()));
    }
}

/// Prints each error once, with its count.
fn report_failures(errors: &[String]) {
    for (n, error) in errors.iter().enumerate().filter(|(n, error)| !errors[..*n].contains(error)) {
        let times = errors[n..].iter().filter(|other| *other == error).count();
        println!("failed, {times}×: {error}");
    }
}

/// Checks that everything ran. A peer's failure is printed; one of HopMQ's is an error.
fn check(results: &Results, errors: &[String]) -> Result {
    report_failures(errors);
    let ran = results.rows().flat_map(|row| results.of(row)).filter(|(_, figures)| figures.runs > 0).count();
    println!("{ran} benchmarks ran");
    let ours = errors.iter().filter(|error| error.starts_with("hopmq") || error.starts_with("bare")).count();
    if ours > 0 { Err(format!("{ours} runs of HopMQ or the bare loop failed").into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Options {
        Line::parse_from(std::iter::once("bench").chain(line.split_whitespace())).options
    }

    #[test]
    fn a_filter_and_a_broker_select_rows() {
        let options = parse("--quick --filter Publish --against counterpart --runs 7");
        assert_eq!((options.runs(), options.against), (7, Against::Counterpart));
        let rows: Vec<_> = ROWS.iter().filter(|row| options.wants_row(row)).collect();
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| row.id.contains("publish") && row.broker == Broker::Counterpart));
    }

    #[test]
    fn a_check_runs_once_and_without_rabbitmq() {
        let options = parse("--check --against rabbitmq");
        assert_eq!((options.runs(), options.time()), (1, Duration::from_millis(1)));
        assert!(ROWS.iter().filter(|row| options.wants_row(row)).all(|row| row.broker == Broker::Counterpart));
        assert_eq!((parse("").runs(), parse("--quick").runs()), (5, 3));
    }
}
