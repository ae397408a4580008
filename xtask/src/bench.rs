//! `cargo xtask bench`: measures HopMQ and its peers in turn, with a counterpart that does almost nothing and with
//! brokers. Each client is a process of its own, so that the cost of the process is the cost of the client.

mod app;
mod broker;
mod brokers;
mod build;
mod chart;
pub(crate) mod codec;
mod gateway;
mod goals;
mod latency;
mod ledger;
mod machine;
mod plan;
mod progress;
mod python;
mod recovery;
mod report;
mod results;
mod rows;
mod run;
mod sample;
mod turns;

use std::time::Duration;

use crate::shell::{self, Result};
use brokers::Running;
use machine::Machine;
use plan::{Broker, CONTENDERS, Contender, OURS, Row};
use progress::Progress;
use results::Results;
use rows::ROWS;
use run::{Bench, Profile};
use turns::Turns;

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
    /// Measure handlers beside the loop without them, RustStream and apalis-amqp
    App(app::Arguments),
    /// Count the instructions of the codec, which a busy machine does not change
    Codec(codec::Arguments),
    /// Measure how long a program with one dependency takes to build
    Build(build::Arguments),
    /// Measure the npm package and @cloudamqp/amqp-client in Chromium
    Browser(crate::browser::Arguments),
    /// Measure the broker of this repository and RabbitMQ
    Broker(broker::Arguments),
    /// Measure the gateway and a relay that sends frame by frame
    Gateway(gateway::Arguments),
    /// Measure what an operation costs while recovery keeps many queues and bindings
    Ledger(ledger::Arguments),
    /// Measure the Python package, aio-pika, pika and py-amqp
    Python(python::Arguments),
    /// Measure how long clients take to reconnect
    Recovery(recovery::Arguments),
}

/// Options of a bench of all clients.
#[derive(Debug, Default, PartialEq, clap::Args)]
struct Options {
    /// The rows that the goals are judged from, three short runs each
    #[arg(long)]
    quick: bool,
    /// A hundred messages through each client and workload, to check that they work; prints no figures
    #[arg(long)]
    check: bool,
    /// Only rows whose names contain this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Only clients whose names begin with one of these
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    clients: Vec<String>,
    /// Only against these [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    against: Vec<Against>,
    /// Runs of each client in each row [default: 5; 3 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: Option<u8>,
    /// The runners that are built, if not all
    #[arg(skip)]
    runners: Option<&'static [&'static str]>,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Against {
    /// The counterpart that does almost nothing
    Counterpart,
    /// The RabbitMQ of this machine
    Rabbitmq,
    /// RabbitMQ 4.0
    #[value(name = "rabbitmq-4")]
    Rabbitmq4,
    /// The broker of this repository
    Hopmq,
}

impl Options {
    /// Whether only the quick rows run, unless a filter names others.
    fn is_quick(&self) -> bool {
        self.quick || self.check
    }

    /// The runs of each contender in a row.
    fn runs(&self, row: &Row) -> usize {
        match self.runs {
            _ if self.check || self.quick && row.once => 1,
            Some(runs) => runs.into(),
            None if self.quick => 3,
            None => 5,
        }
    }

    fn wants_row(&self, row: &Row) -> bool {
        let against = match row.broker {
            Broker::Counterpart => Against::Counterpart,
            Broker::RabbitMq => Against::Rabbitmq,
            Broker::RabbitMq4 => Against::Rabbitmq4,
            Broker::HopMq => Against::Hopmq,
        };
        let wanted =
            if self.check { is_first(row) } else { self.against.is_empty() || self.against.contains(&against) };
        wanted && row.id.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// The contenders of a row. A row that the filter names has all of them, even in a quick run. In a check, peers run
    /// the workloads in which a quick run measures them.
    fn contenders(&self, row: &Row) -> Vec<&'static Contender> {
        let is_few = |one: &Contender| match self.check {
            true => !OURS.contains(&one.runner),
            false => self.quick && self.filter.is_empty(),
        };
        CONTENDERS.iter().filter(|one| row.has(one, is_few(one)) && self.wants_client(one)).collect()
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

/// Whether a row is the first of its workload, so that those rows together run each workload once.
fn is_first(row: &Row) -> bool {
    let first = ROWS.iter().find(|other| (other.workload, other.counted) == (row.workload, row.counted));
    first.is_some_and(|first| (first.id, first.broker) == (row.id, row.broker)) && row.broker == Broker::Counterpart
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    match &arguments.part {
        Some(Part::App(arguments)) => app::run(arguments),
        Some(Part::Codec(arguments)) => codec::run(arguments),
        Some(Part::Build(arguments)) => build::run(arguments),
        Some(Part::Browser(arguments)) => crate::browser::bench(arguments),
        Some(Part::Broker(arguments)) => broker::run(arguments),
        Some(Part::Gateway(arguments)) => gateway::run(arguments),
        Some(Part::Ledger(arguments)) => ledger::run(arguments),
        Some(Part::Python(arguments)) => python::run(arguments),
        Some(Part::Recovery(arguments)) => recovery::run(arguments),
        None => run_clients(&arguments.options),
    }
}

/// Checks the bench workspace: lints, tests, and a hundred messages through each client and workload. Fails if HopMQ or
/// the bare loop does.
pub(crate) fn check() -> Result {
    run_clients(&Options { check: true, ..Options::default() })?;
    // The features of dependencies are those of the build only if the whole workspace is selected.
    shell::run(Profile::Dev.cargo("test").args(["--workspace", "--lib", "--bin", "bench-counterpart"]))
}

fn run_clients(options: &Options) -> Result {
    let rows = ROWS.iter().filter(|row| options.wants_row(row));
    let rows: Vec<&'static Row> = rows.filter(|row| !options.contenders(row).is_empty()).collect();
    if rows.is_empty() {
        return Err(format!("no row has `{}` in its name", options.filter).into());
    }
    let bench = Bench::build(if options.check { Profile::Dev } else { Profile::Release }, options.runners)?;
    if rows.iter().any(|row| row.broker == Broker::HopMq) {
        brokers::build(&shell::root().join("bench/target"))?;
    }
    let (results, failures) = measure_all(&bench, &rows, options)?;
    if options.check {
        return judge(&results, &failures);
    }
    let mut goals = goals::all(&results);
    goals.retain(|goal| goal.held.is_some() || options.runners.is_none());
    shell::print(&report::table(&results));
    shell::print(&goals::table(&goals));
    report_failures(&failures);
    if options.is_quick() {
        println!("left out of a quick run: {}", left_out(options));
    }
    // Only full and complete runs are committed.
    let partial = !options.filter.is_empty() || !options.clients.is_empty() || !options.against.is_empty();
    let folder = if partial || options.is_quick() { "bench/target/results" } else { "bench/results" };
    let path = shell::root().join(folder);
    shell::write(&path.join("latest.json"), &results.json())?;
    shell::write(&path.join("latest.md"), &(report::markdown(&results) + &goals::markdown(&goals)))?;
    for (name, picture) in [("latest.svg", chart::svg(&results)), ("latency.svg", latency::svg(&results))] {
        if let Some(picture) = picture {
            shell::write(&path.join(name), &picture)?;
        }
    }
    println!("\nwritten: {folder}/latest.json and latest.md, latest.svg and latency.svg if their rows were measured");
    Ok(())
}

/// The rows that no contender runs in a quick run.
fn left_out(options: &Options) -> String {
    let rows = ROWS.iter().filter(|row| options.wants_row(row) && options.contenders(row).is_empty());
    let names: Vec<String> = rows.map(|row| format!("{} ({})", row.id, row.broker.name())).collect();
    format!("TLS; peers where no goal names them; {}", names.join(", "))
}

/// Measures the rows, those of each broker while it runs.
fn measure_all(bench: &Bench, rows: &[&'static Row], options: &Options) -> Result<(Results, Vec<String>)> {
    let mut results = Results::new(Machine::here(), options.is_quick());
    let mut failures = Vec::new();
    let participants = |row: &Row| options.contenders(row).into_iter().filter(|one| bench.has(one)).collect::<Vec<_>>();
    let steps = rows.iter().map(|row| participants(row).len() * (options.runs(row) + 1)).sum();
    let mut progress = Progress::new(steps);
    for broker in Broker::ALL {
        let rows: Vec<&'static Row> = rows.iter().copied().filter(|row| row.broker == broker).collect();
        if let (Some(reason), false) = (brokers::absent(broker), rows.is_empty()) {
            println!("skipped: {}: {reason}", broker.name());
            continue;
        }
        let needed = broker != Broker::Counterpart && !rows.is_empty();
        let running = if needed { Some(Running::start(broker, &bench.binaries)?) } else { None };
        let url = running.as_ref().map(|running| running.url.as_str());
        for row in rows {
            let turns = Turns { bench, row, url, options };
            for (contender, figures) in turns.run(&participants(row), &mut progress, &mut failures) {
                results.add(row, contender, figures);
            }
        }
    }
    progress.end();
    Ok((results, failures))
}

/// Prints each error once, with its count.
fn report_failures(errors: &[String]) {
    for (n, error) in errors.iter().enumerate().filter(|(n, error)| !errors[..*n].contains(error)) {
        let times = errors[n..].iter().filter(|other| *other == error).count();
        println!("failed, {times}×: {error}");
    }
}

/// Checks that everything ran. A peer's failure is printed; one of HopMQ's is an error.
fn judge(results: &Results, errors: &[String]) -> Result {
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
        assert_eq!((options.runs(&ROWS[0]), &options.against[..]), (7, &[Against::Counterpart][..]));
        let rows: Vec<_> = ROWS.iter().filter(|row| options.wants_row(row)).collect();
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| row.id.contains("publish") && row.broker == Broker::Counterpart));
    }

    #[test]
    fn a_check_runs_each_workload_once_and_without_a_broker() {
        let options = parse("--check --against rabbitmq-4");
        assert_eq!((options.runs(&ROWS[0]), options.time()), (1, Duration::from_millis(1)));
        let rows: Vec<_> = ROWS.iter().filter(|row| options.wants_row(row)).collect();
        assert!(rows.iter().all(|row| row.broker == Broker::Counterpart));
        for row in ROWS {
            let same = |other: &&&Row| (other.workload, other.counted) == (row.workload, row.counted);
            let ran = rows.iter().filter(same).count();
            assert!(ran == 1 || row.broker != Broker::Counterpart, "{}: {ran}", row.workload);
        }
        assert_eq!((parse("").runs(&ROWS[0]), parse("--quick").runs(&ROWS[0])), (5, 3));
        let once = ROWS.iter().find(|row| row.once).unwrap();
        assert_eq!((parse("").runs(once), parse("--quick --runs 4").runs(once)), (5, 1));
    }
}
