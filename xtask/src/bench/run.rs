//! Builds the runners, runs one client at a time, and kills a runner that hangs.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::brokers::with_most_files;
use super::plan::{Broker, Contender, Count, Row};
use super::rows::SLOW_COUNT;
use super::sample::Sample;
use crate::shell::{self, Result};
use crate::{foreign, rabbitmq};

/// The timeout of one run.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The limits of one run.
const MOST_MESSAGES: u64 = 20_000_000;
const MOST_BYTES: u64 = 20 << 30;

/// How the runners are built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Profile {
    /// As a program is released.
    Release,
    /// In the shortest time, and with the lints of clippy, to check that they work.
    Dev,
}

impl Profile {
    /// A command of cargo for the bench workspace.
    pub(crate) fn cargo(self, command: &str) -> Command {
        let mut cargo = shell::cargo();
        // CARGO_TARGET_DIR is meant for the main workspace.
        cargo.current_dir(shell::root().join("bench")).env_remove("CARGO_TARGET_DIR");
        cargo.args([command, "--locked", "--target-dir", "target"]);
        if self == Self::Release {
            cargo.arg("--release");
        } else {
            // clippy compiles as rustc does, so this lints without compiling the peers once more for `cargo clippy`.
            cargo.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env("RUSTFLAGS", "-Dwarnings");
        }
        cargo
    }
}

/// The binaries, and the certificates of TLS.
pub(crate) struct Bench {
    pub(crate) binaries: PathBuf,
    certificates: PathBuf,
}

/// A running counterpart. It ends when its standard input does.
struct Counterpart {
    child: Child,
    port: String,
}

impl Drop for Counterpart {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Bench {
    /// Builds the bench workspace, or the counterpart and some runners. Prints what cannot be built here.
    pub(crate) fn build(profile: Profile, runners: Option<&[&str]>) -> Result<Self> {
        let folder = shell::root().join("bench");
        let target = folder.join("target");
        let mut build = profile.cargo("build");
        if let Some(runners) = runners {
            build.args(["--package", "bench-counterpart"]);
            build.args(runners.iter().flat_map(|name| ["--package".to_owned(), format!("runner-{name}")]));
        }
        shell::run(&mut build)?;
        let binaries = target.join(if profile == Profile::Release { "release" } else { "debug" });
        let librabbitmq = binaries.join("runner-librabbitmq");
        if foreign::has_librabbitmq() {
            let mut cc = foreign::c_compiler();
            cc.args(["-O2", "-Wall", "-Wextra"]).args((profile == Profile::Dev).then_some("-Werror")).arg("-o");
            shell::run(cc.arg(librabbitmq).arg(folder.join("runners/librabbitmq/main.c")).arg("-lrabbitmq"))?;
        } else {
            let _absent = std::fs::remove_file(librabbitmq);
            println!("skipped: librabbitmq, which is not installed (Debian: apt install gcc librabbitmq-dev)");
        }
        let certificates = target.join("tls");
        rabbitmq::tls::write(&certificates, "client")?;
        Ok(Self { binaries, certificates })
    }

    /// Whether the contender's binary was built.
    pub(crate) fn has(&self, contender: &Contender) -> bool {
        self.binaries.join(format!("runner-{}", contender.runner)).exists()
    }

    /// Runs `contender` with `count` messages against the broker at `url`, or against a counterpart of its own. Fails
    /// if the contender hangs, fails, or loses messages.
    pub(crate) fn run(
        &self,
        row: &Row,
        contender: &Contender,
        count: u64,
        quick: bool,
        url: Option<&str>,
    ) -> Result<Sample> {
        let counted = if row.counted { "-counted" } else { "" };
        let name = format!("runner-{}{counted}", contender.runner);
        let mut runner = with_most_files(&self.binaries.join(&name));
        runner.arg(row.workload).args(row.options);
        if !contender.mode.is_empty() {
            runner.args(["--mode", contender.mode]);
        }
        runner.args(["--count", &count.to_string(), "--size", &row.size.to_string()]);
        if let Count::Seconds(short, long) = row.count {
            runner.args(["--seconds", &if quick { short } else { long }.to_string()]);
        }
        if let Some(url) = url {
            self.prepare(row, count, url)?;
            return measure(&name, runner.args(["--url", url]));
        }
        let sample = self.against_counterpart(row, contender, count, &name, &mut runner)?;
        if sample.unsupported.is_none() && !sample.arrived() {
            return Err(format!("{} of {} messages arrived", sample.seen.unwrap_or_default(), sample.messages).into());
        }
        Ok(sample)
    }

    fn against_counterpart(
        &self,
        row: &Row,
        by: &Contender,
        count: u64,
        name: &str,
        runner: &mut Command,
    ) -> Result<Sample> {
        let counterpart = self.counterpart(by.tls)?;
        if by.tls {
            runner.args(["--url", &format!("amqps://guest:guest@localhost:{}/%2f", counterpart.port)]);
            runner.arg("--ca").arg(self.certificates.join("ca.pem"));
        } else {
            runner.args(["--url", &format!("amqp://guest:guest@127.0.0.1:{}/%2f", counterpart.port)]);
        }
        if row.consumes() {
            let flood = if row.workload == "slow-consumer" { SLOW_COUNT } else { count };
            runner.args(["--queue", &format!("flood-{}-{flood}", row.size)]);
        }
        measure(name, runner)
    }

    /// Makes the queue of the row in a broker anew, with the messages that are consumed.
    fn prepare(&self, row: &Row, count: u64, url: &str) -> Result {
        let fill = if row.consumes() { count } else { 0 };
        let mut prepare = Command::new(self.binaries.join("runner-bare"));
        prepare.args(["prepare", "--url", url, "--count", &fill.to_string(), "--size", &row.size.to_string()]);
        measure("runner-bare", &mut prepare).map(drop)
    }

    fn counterpart(&self, tls: bool) -> Result<Counterpart> {
        let mut command = with_most_files(&self.binaries.join("bench-counterpart"));
        if tls {
            command.arg("--tls").arg(&self.certificates);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the counterpart's output is not piped")?;
        let mut counterpart = Counterpart { child, port: String::new() };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        counterpart.port = port.ok_or("the counterpart did not print its port")?.to_owned();
        Ok(counterpart)
    }
}

/// The number of messages that fill `time`, from the rate of a pilot run.
pub(crate) fn fill(row: &Row, pilot: &Sample, time: Duration) -> u64 {
    let most = MOST_MESSAGES.min(MOST_BYTES / row.size.max(1));
    let rate = pilot.messages / pilot.seconds.max(1e-6);
    // A thousand tasks start and end.
    let time = if row.workload == "publish-connections" { 3 * time } else { time };
    ((rate * time.as_secs_f64()) as u64).clamp(pilot.messages as u64, most.max(1))
}

/// The number of messages of a pilot run.
pub(crate) fn pilot(row: &Row) -> u64 {
    if row.workload == "publish-connections" {
        return 400_000;
    }
    if row.workload == "rpc" || row.options == ["--window", "1"] || row.broker != Broker::Counterpart {
        return 2000;
    }
    ((32 << 20) / row.size.max(400)).clamp(64, 20_000)
}

/// Runs the command with a timeout, and parses its line.
fn measure(name: &str, runner: &mut Command) -> Result<Sample> {
    runner.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = runner.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            // Rarely enough not to disturb the client.
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = |pipe: Option<thread::JoinHandle<String>>| pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default();
    let output = text(output);
    let errors = text(errors);
    match status {
        None => Err(format!("{name} did not end within {} s", TIMEOUT.as_secs()).into()),
        Some(status) if !status.success() => {
            Err(format!("{name}: {}", errors.lines().last().unwrap_or(&status.to_string())).into())
        }
        Some(_) => {
            output.lines().find_map(Sample::parse).ok_or_else(|| format!("{name} printed no line of JSON").into())
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _broken = pipe.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}
