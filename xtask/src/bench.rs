//! `cargo xtask bench`: HopMQ and its peers, one after the other, against a counterpart that does almost nothing and
//! against RabbitMQ; each client in a process of its own, so that what the process costs is what the client costs.

mod broker;
mod chart;
mod codec;
mod gateway;
mod goals;
mod machine;
mod plan;
mod progress;
mod recovery;
mod report;
mod results;
mod run;
mod sample;

use std::time::Duration;

use crate::rabbitmq;
use crate::shell::{self, Result};
use machine::Machine;
use plan::{Broker, CONTENDERS, Contender, Count, ROWS, Row};
use progress::Progress;
use results::Results;
use run::Bench;
use sample::{Figures, Sample};

const USAGE: &str = "usage: cargo xtask bench [--quick] [--check] [--filter TEXT] [--clients A,B] \
                     [--against counterpart|rabbitmq|both] [--runs N]\n       \
                     cargo xtask bench codec [--check | --update]\n       \
                     cargo xtask bench browser [--quick] [--check]\n       \
                     cargo xtask bench broker [--quick]\n       \
                     cargo xtask bench gateway [--quick]\n       \
                     cargo xtask bench recovery [--quick | --rounds N]";

/// How a bench goes.
#[derive(Debug, PartialEq)]
struct Options {
    quick: bool,
    /// A few messages through everything, to see that it works; figures are neither told nor kept.
    check: bool,
    filter: String,
    clients: Vec<String>,
    counterpart: bool,
    rabbitmq: bool,
    runs: usize,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            quick: false,
            check: false,
            filter: String::new(),
            clients: Vec::new(),
            counterpart: true,
            rabbitmq: true,
            runs: 0,
        };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value; {USAGE}"));
            match word {
                "--quick" => options.quick = true,
                "--check" => (options.quick, options.check, options.rabbitmq) = (true, true, false),
                "--filter" => options.filter = value()?.to_lowercase(),
                "--clients" => options.clients = value()?.split(',').map(str::to_owned).collect(),
                "--against" => {
                    let whom = value()?;
                    options.counterpart = ["counterpart", "both"].contains(&whom);
                    options.rabbitmq = ["rabbitmq", "both"].contains(&whom);
                    if !options.counterpart && !options.rabbitmq {
                        return Err(USAGE.into());
                    }
                }
                "--runs" => options.runs = value()?.parse().map_err(|_| USAGE)?,
                _ => return Err(USAGE.into()),
            }
        }
        if options.runs == 0 {
            options.runs = if options.check {
                1
            } else if options.quick {
                3
            } else {
                5
            };
        }
        options.runs = options.runs.min(99);
        Ok(options)
    }

    fn wants_row(&self, row: &Row) -> bool {
        let broker = match row.broker {
            Broker::Counterpart => self.counterpart,
            Broker::RabbitMq => self.rabbitmq,
        };
        // A filter asks for its rows, quick or not.
        broker && (row.quick || !self.quick || !self.filter.is_empty()) && row.id.to_lowercase().contains(&self.filter)
    }

    fn wants_client(&self, contender: &Contender) -> bool {
        self.clients.is_empty() || self.clients.iter().any(|name| contender.name.starts_with(name.as_str()))
    }

    /// How long one run is to take.
    fn time(&self) -> Duration {
        Duration::from_millis(if self.check {
            1
        } else if self.quick {
            300
        } else {
            500
        })
    }
}

pub(crate) fn run(arguments: &[String]) -> Result {
    if let Some((first, rest)) = arguments.split_first()
        && first == "codec"
    {
        return codec::run(rest);
    }
    if let Some((first, rest)) = arguments.split_first()
        && first == "browser"
    {
        return crate::browser::bench(rest);
    }
    if let Some((first, rest)) = arguments.split_first()
        && first == "broker"
    {
        return broker::run(rest);
    }
    if let Some((first, rest)) = arguments.split_first()
        && first == "gateway"
    {
        return gateway::run(rest);
    }
    if let Some((first, rest)) = arguments.split_first()
        && first == "recovery"
    {
        return recovery::run(rest);
    }
    let options = Options::parse(arguments)?;
    let rows: Vec<&'static Row> = ROWS.iter().filter(|row| options.wants_row(row)).collect();
    if rows.is_empty() {
        return Err(format!("no row's name contains `{}`", options.filter).into());
    }
    let mut bench = Bench::build()?;
    let stop = rows.iter().any(|row| row.broker == Broker::RabbitMq) && bench.find_rabbitmq()?;
    let outcome = measure_all(&bench, &rows, &options);
    if stop {
        rabbitmq::stop()?;
    }
    let (results, faults) = outcome?;
    if options.check {
        return check(&results, &faults);
    }
    let goals = goals::all(&results);
    shell::print(&report::table(&results));
    shell::print(&goals::table(&goals));
    tell(&faults);
    let partial = !options.filter.is_empty() || !options.clients.is_empty();
    if partial {
        println!("\nnothing written: a part of the plan is not what bench/results tells");
        return Ok(());
    }
    // What is committed comes from full runs alone.
    let folder = if options.quick { "bench/target/results" } else { "bench/results" };
    let path = shell::root().join(folder);
    shell::write(&path.join("latest.json"), &results.json())?;
    shell::write(&path.join("latest.md"), &(report::markdown(&results) + &goals::markdown(&goals)))?;
    if let Some(svg) = chart::svg(&results) {
        shell::write(&path.join("latest.svg"), &svg)?;
    }
    println!("\nwritten: {folder}/latest.json, latest.md and latest.svg");
    Ok(())
}

/// Everything that takes part, alternating: A B C A B C …, so that a machine's moods fall on all alike.
fn measure_all(bench: &Bench, rows: &[&'static Row], options: &Options) -> Result<(Results, Vec<String>)> {
    let mut results = Results::new(Machine::here(), options.quick);
    let mut faults = Vec::new();
    let taking_part = |row: &Row| -> Vec<&'static Contender> {
        let wanted = |one: &&Contender| row.has(one) && bench.has(one) && options.wants_client(one);
        CONTENDERS.iter().filter(wanted).collect()
    };
    let steps = rows.iter().map(|row| taking_part(row).len() * (options.runs + 1)).sum();
    let mut progress = Progress::new(steps);
    for row in rows {
        let mut lanes: Vec<Lane> = Vec::new();
        for contender in taking_part(row) {
            progress.step(row.id, contender.name);
            lanes.push(Lane::pilot(bench, row, contender, options, &mut faults));
        }
        for _ in 0..options.runs {
            for lane in &mut lanes {
                progress.step(row.id, lane.contender.name);
                lane.run(bench, row, options.quick, &mut faults);
            }
        }
        for lane in lanes {
            results.add(row, lane.contender, Figures::of(&lane.samples, lane.failures));
        }
    }
    progress.end();
    Ok((results, faults))
}

/// How often a run that failed is tried.
const TRIES: usize = 3;

/// One contender in one row.
struct Lane {
    contender: &'static Contender,
    count: u64,
    samples: Vec<Sample>,
    failures: usize,
}

impl Lane {
    /// A first short run says how many messages the later ones take; it warms up, and does not count.
    fn pilot(
        bench: &Bench,
        row: &Row,
        contender: &'static Contender,
        options: &Options,
        faults: &mut Vec<String>,
    ) -> Self {
        let mut lane = Self { contender, count: run::pilot(row), samples: Vec::new(), failures: 0 };
        if let Count::Fixed(quick, full) = row.count {
            lane.count = if options.quick { quick } else { full };
        }
        for _ in 0..if row.count == Count::Timed { TRIES } else { 0 } {
            match bench.run(row, contender, lane.count, options.quick) {
                Ok(sample) if sample.unsupported.is_some() => lane.samples.push(sample),
                Ok(sample) => lane.count = run::fill(row, &sample, options.time()),
                Err(error) => {
                    lane.fault(row, &error.to_string(), faults);
                    continue;
                }
            }
            break;
        }
        lane
    }

    fn run(&mut self, bench: &Bench, row: &Row, quick: bool, faults: &mut Vec<String>) {
        if self.samples.iter().any(|sample| sample.unsupported.is_some()) {
            return;
        }
        // A peer that loses a reply now and then gets another chance; one that never ends is not waited for each time.
        for _ in 0..TRIES {
            if self.failures >= TRIES && self.samples.is_empty() {
                return;
            }
            match bench.run(row, self.contender, self.count, quick) {
                Ok(sample) => return self.samples.push(sample),
                Err(error) => self.fault(row, &error.to_string(), faults),
            }
        }
    }

    fn fault(&mut self, row: &Row, error: &str, faults: &mut Vec<String>) {
        self.failures += 1;
        faults.push(format!("{} in `{}` against {}: {error}", self.contender.name, row.id, row.broker.the()));
    }
}

/// Each fault once, and how often it was.
fn tell(faults: &[String]) {
    for (n, fault) in faults.iter().enumerate().filter(|(n, fault)| !faults[..*n].contains(fault)) {
        let times = faults[n..].iter().filter(|other| *other == fault).count();
        println!("failed, {times}×: {fault}");
    }
}

/// That everything ran; a peer's fault is told, one of ours is an error.
fn check(results: &Results, faults: &[String]) -> Result {
    tell(faults);
    let ran = results.rows().flat_map(|row| results.of(row)).filter(|(_, figures)| figures.runs > 0).count();
    println!("{ran} benchmarks ran");
    let ours = faults.iter().filter(|fault| fault.starts_with("hopmq") || fault.starts_with("bare")).count();
    if ours > 0 { Err(format!("{ours} of our own benchmarks failed").into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_refused() {
        let options = parse("--quick --filter Publish --against counterpart --runs 7").expect("they are right");
        assert_eq!((options.quick, options.runs, options.rabbitmq), (true, 7, false));
        assert!(ROWS.iter().filter(|row| options.wants_row(row)).all(|row| row.id.contains("publish")));
        assert_eq!(parse("").expect("none is needed").runs, 5);
        for wrong in ["--runs", "--runs many", "--against nobody", "--fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
