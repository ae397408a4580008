//! `cargo xtask bench broker`: measures HopMQ's broker and RabbitMQ in turn, with the same client on the same machine.
//!
//! Both keep their data in this folder. HopMQ's broker syncs before it confirms; RabbitMQ's classic queues do not.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::brokers::{self, Program};
use super::run::Profile;
use super::sample::field;
use crate::rabbitmq::{self, Release};
use crate::shell::{self, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Small amounts, one run
    #[arg(long)]
    quick: bool,
}

/// A broker under measurement.
struct Contestant {
    name: &'static str,
    url: String,
    pid: u32,
    /// HopMQ's broker. `cargo xtask rabbitmq` owns RabbitMQ.
    program: Option<Program>,
}

/// The binaries and the data folder.
struct Setup {
    program: PathBuf,
    runner: PathBuf,
    data: PathBuf,
}

/// The resources that a process has used since its start.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    cpu_us: f64,
    written: f64,
    resident_mb: f64,
}

/// A run: messages a second, and the broker's cost of each.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    rate: f64,
    cpu_us: f64,
    written: f64,
}

/// The size of each measurement, in messages or connections.
struct Amounts {
    runs: usize,
    flow: u64,
    confirmed: u64,
    ready: u64,
    fan: u64,
    connections: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result {
    let amounts = match arguments.quick {
        false => Amounts { runs: 5, flow: 500_000, confirmed: 200_000, ready: 1_000_000, fan: 300, connections: 1_000 },
        true => Amounts { runs: 1, flow: 50_000, confirmed: 20_000, ready: 50_000, fan: 50, connections: 100 },
    };
    rabbitmq::require()?;
    let setup = Setup::build()?;
    rabbitmq::stop(Release::Installed)?;
    let outcome = measure(&setup, &amounts);
    rabbitmq::stop(Release::Installed)?;
    shell::remove_folder(&setup.data)?;
    shell::print(&outcome?);
    Ok(())
}

fn measure(setup: &Setup, amounts: &Amounts) -> Result<String> {
    let mut report = String::new();
    writeln!(report, "\n{:<44} {:>12} {:>12}  goal", "", "HopMQ", "RabbitMQ")?;
    rates(setup, amounts, &mut report)?;
    backlog(setup, amounts, &mut report)?;
    fan_out(setup, amounts, &mut report)?;
    connections(setup, amounts, &mut report)?;
    writeln!(report, "\nHopMQ confirms after fsync; RabbitMQ's classic durable queue confirms before.")?;
    Ok(report)
}

/// Measures throughput, and the cost of a confirmed message.
fn rates(setup: &Setup, amounts: &Amounts, report: &mut String) -> Result {
    let both = [setup.start_hopmq()?, start_rabbitmq()?];
    for (workload, what, count, goal) in [
        ("flow", "transient, published and acked, /s", amounts.flow, 6.0),
        ("confirmed", "persistent, confirmed, window 1,000, /s", amounts.confirmed, 4.0),
    ] {
        let mut runs = [Vec::new(), Vec::new()];
        // Run 0 warms up and does not count.
        for number in 0..=amounts.runs {
            for (index, broker) in both.iter().enumerate() {
                println!("{workload}, run {number} of {}: {}", amounts.runs, broker.name);
                let run = setup.run(broker, workload, count)?;
                if number > 0 {
                    runs[index].push(run);
                }
            }
        }
        let [ours, theirs] = runs.map(|runs| Run {
            rate: median(runs.iter().map(|run| run.rate)),
            cpu_us: median(runs.iter().map(|run| run.cpu_us)),
            written: median(runs.iter().map(|run| run.written)),
        });
        let ratio = ours.rate / theirs.rate;
        let goal = verdict(ratio >= goal, &format!("{ratio:.1} times, goal {goal:.0}"));
        writeln!(report, "{what:<44} {:>12.0} {:>12.0}  {goal}", ours.rate, theirs.rate)?;
        writeln!(report, "{:<44} {:>12.2} {:>12.2}", "  CPU of the broker, µs a message", ours.cpu_us, theirs.cpu_us)?;
        writeln!(report, "{:<44} {:>12.0} {:>12.0}", "  bytes written a message", ours.written, theirs.written)?;
    }
    Ok(())
}

/// Measures a large backlog, and a restart with it after a kill.
fn backlog(setup: &Setup, amounts: &Amounts, report: &mut String) -> Result {
    rabbitmq::stop(Release::Installed)?;
    let mut figures = Vec::new();
    for mut broker in [setup.start_hopmq()?, start_rabbitmq()?] {
        println!("{} ready messages: {}", amounts.ready, broker.name);
        setup.run(&broker, "fill", amounts.ready)?;
        let memory = usage(broker.pid)?.resident_mb;
        let ours = broker.program.is_some();
        broker.kill()?;
        let start = Instant::now();
        let broker = if ours { setup.restart_hopmq()? } else { resume_rabbitmq()? };
        setup.runner(&broker, "ready", amounts.ready)?;
        figures.push((memory, start.elapsed().as_secs_f64(), usage(broker.pid)?.resident_mb));
    }
    let [ours, theirs] = figures[..] else { return Err("expected the figures of two brokers".into()) };
    let what = format!("{} ready messages, MB of memory", amounts.ready);
    writeln!(report, "{what:<44} {:>12.0} {:>12.0}  {}", ours.0, theirs.0, verdict(ours.0 <= 256.0, "goal 256"))?;
    let goal = verdict(ours.1 <= 3.0, "goal 3");
    writeln!(
        report,
        "{:<44} {:>12.2} {:>12.2}  {goal}",
        "  seconds to restart with them after a kill", ours.1, theirs.1
    )?;
    writeln!(report, "{:<44} {:>12.0} {:>12.0}", "  MB of memory after the restart", ours.2, theirs.2)?;
    Ok(())
}

/// Measures messages that are in many queues.
fn fan_out(setup: &Setup, amounts: &Amounts, report: &mut String) -> Result {
    rabbitmq::stop(Release::Installed)?;
    let mut figures = Vec::new();
    for broker in [setup.start_hopmq()?, start_rabbitmq()?] {
        println!("fan-out to 100 queues: {}", broker.name);
        let before = usage(broker.pid)?;
        setup.runner(&broker, "fan", amounts.fan)?;
        let after = usage(broker.pid)?;
        figures.push((after.resident_mb - before.resident_mb, (after.written - before.written) / 1e6));
    }
    let [ours, theirs] = figures[..] else { return Err("expected the figures of two brokers".into()) };
    let once = amounts.fan as f64 * 0.1;
    let what = format!("{once:.0} MB of bodies in 100 queues each, MB more");
    // One copy in the queues, one in the log's write buffer, and one more for the overhead of each message.
    let goal = verdict(ours.0 <= 3.0 * once + 32.0, "goal: one copy");
    writeln!(report, "{what:<44} {:>12.0} {:>12.0}  {goal}", ours.0, theirs.0)?;
    writeln!(report, "{:<44} {:>12.0} {:>12.0}", "  MB written", ours.1, theirs.1)?;
    Ok(())
}

/// Measures many connections and queues, and the start of a broker.
fn connections(setup: &Setup, amounts: &Amounts, report: &mut String) -> Result {
    rabbitmq::stop(Release::Installed)?;
    let mut figures = Vec::new();
    let starts: [fn(&Setup) -> Result<Contestant>; 2] = [Setup::start_hopmq, |_| start_rabbitmq()];
    for start in starts {
        let begun = Instant::now();
        let broker = start(setup)?;
        let started = begun.elapsed().as_secs_f64();
        println!("{} connections: {}", amounts.connections, broker.name);
        let mut runner = setup.command(&broker, "crowd", amounts.connections);
        let mut child = runner.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("the output is piped")).read_line(&mut line)?;
        let seconds = number(&line, "seconds");
        let memory = usage(broker.pid)?.resident_mb;
        drop(child.stdin.take());
        child.wait()?;
        figures.push((started, seconds?, memory));
    }
    let [ours, theirs] = figures[..] else { return Err("expected the figures of two brokers".into()) };
    writeln!(report, "{:<44} {:>12.3} {:>12.3}", "seconds to start", ours.0, theirs.0)?;
    let what = format!("{} connections, ten queues each, seconds", amounts.connections);
    writeln!(report, "{what:<44} {:>12.2} {:>12.2}", ours.1, theirs.1)?;
    writeln!(report, "{:<44} {:>12.0} {:>12.0}", "  MB of memory", ours.2, theirs.2)?;
    Ok(())
}

impl Setup {
    /// Builds the broker and the runner.
    fn build() -> Result<Self> {
        let target = shell::root().join("bench/target");
        brokers::build(&target)?;
        shell::run(Profile::Release.cargo("build").args(["--package", "runner-broker"]))?;
        let binaries = target.join("release");
        let data = target.join("broker-data");
        Ok(Self { program: brokers::program(&binaries), runner: binaries.join("runner-broker"), data })
    }

    /// Starts HopMQ's broker on an empty folder.
    fn start_hopmq(&self) -> Result<Contestant> {
        shell::remove_folder(&self.data)?;
        self.restart_hopmq()
    }

    fn restart_hopmq(&self) -> Result<Contestant> {
        let program = Program::start(&self.program, &["--data", &self.data.to_string_lossy()])?;
        let (url, pid) = (program.url.clone(), program.child.id());
        Ok(Contestant { name: "HopMQ", url, pid, program: Some(program) })
    }

    fn command(&self, broker: &Contestant, workload: &str, count: u64) -> Command {
        let mut command = Command::new(&self.runner);
        command.args([workload, &broker.url, &count.to_string()]);
        command
    }

    /// Runs a workload, and returns its duration in seconds by the runner's clock.
    fn runner(&self, broker: &Contestant, workload: &str, count: u64) -> Result<f64> {
        number(&shell::output(&mut self.command(broker, workload, count))?, "seconds")
    }

    fn run(&self, broker: &Contestant, workload: &str, count: u64) -> Result<Run> {
        let before = usage(broker.pid)?;
        let seconds = self.runner(broker, workload, count)?;
        let after = usage(broker.pid)?;
        let each = |after: f64, before: f64| (after - before) / count as f64;
        Ok(Run {
            rate: count as f64 / seconds,
            cpu_us: each(after.cpu_us, before.cpu_us),
            written: each(after.written, before.written),
        })
    }
}

impl Contestant {
    /// Kills the broker without warning, like a power cut.
    fn kill(&mut self) -> Result {
        match self.program.take() {
            Some(program) => {
                drop(program);
                Ok(())
            }
            None => rabbitmq::kill(Release::Installed),
        }
    }
}

fn start_rabbitmq() -> Result<Contestant> {
    rabbitmq::start(Release::Installed)?;
    rabbitmq_contestant()
}

fn resume_rabbitmq() -> Result<Contestant> {
    rabbitmq::resume(Release::Installed)?;
    rabbitmq_contestant()
}

fn rabbitmq_contestant() -> Result<Contestant> {
    let (pid, environment) = rabbitmq::process(Release::Installed)?;
    let url = environment.into_iter().find(|(name, _)| name == "AMQP_URL").ok_or("RabbitMQ has no AMQP_URL")?.1;
    Ok(Contestant { name: "RabbitMQ", url, pid, program: None })
}

/// The resources that a process has used, from Linux's /proc.
fn usage(pid: u32) -> Result<Usage> {
    let folder = Path::new("/proc").join(pid.to_string());
    let read = |name: &str| fs::read_to_string(folder.join(name)).map_err(|error| format!("process {pid}: {error}"));
    let (stat, status, io) = (read("stat")?, read("status")?, read("io")?);
    // The name before the bracket may contain any character.
    let numbers: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| numbers.get(index).and_then(|number| number.parse::<f64>().ok()).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_default()
    };
    Ok(Usage {
        // Linux reports hundredths of a second (`getconf CLK_TCK`).
        cpu_us: (ticks(11) + ticks(12)) * 10_000.0,
        written: after(&io, "write_bytes:"),
        resident_mb: after(&status, "VmRSS:") / 1024.0,
    })
}

fn number(line: &str, key: &str) -> Result<f64> {
    let value = field(line.trim(), key).and_then(|value| value.parse().ok());
    value.ok_or_else(|| format!("the runner's line has no `{key}`: {line}").into())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn verdict(holds: bool, goal: &str) -> String {
    format!("{goal}: {}", if holds { "met" } else { "MISSED" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_usage_of_a_process_is_read() {
        let begun = Instant::now();
        // On a busy machine, using a hundredth of a second of CPU time takes much longer.
        while usage(std::process::id()).unwrap().cpu_us < 10_000.0 && begun.elapsed() < Duration::from_secs(30) {}
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.cpu_us >= 10_000.0 && usage.resident_mb > 1.0, "{usage:?}");
    }

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
