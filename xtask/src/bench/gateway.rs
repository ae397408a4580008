//! `cargo xtask bench gateway`: the cost of the gateway, and the gain from its coalesced WebSocket messages.
//!
//! @cloudamqp/amqp-client from npm consumes a flood in Chromium through the gateway and through a relay that sends
//! frame by frame, in turn. Meanwhile the system counts the gateway's CPU time. The measurement is repeated in Node.
//! Then a thousand idle connections are opened, and the gateway's memory is read.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::run::Profile;
use crate::browser::{chromium, require_node};
use crate::shell::{self, Result};

/// Body size in bytes, and messages of a run through the gateway and through the relay. Each run takes seconds, so that
/// a client's start-up cost is negligible.
const ROWS: [(usize, u64, u64); 3] = [(1, 400_000, 20_000), (100, 200_000, 20_000), (65_536, 3_000, 1_500)];
const RUNS: usize = 5;
const IDLE: usize = 1000;
/// How many times as fast a client in Chromium must be through the gateway as through the relay, at one byte.
const GOAL: f64 = 5.0;
/// The time that the gateway may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A program that is killed when this is dropped.
struct Program {
    child: Child,
    address: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_waited = self.child.wait();
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A tenth of the messages, three runs
    #[arg(long)]
    quick: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result {
    let (share, runs) = if arguments.quick { (10, 3) } else { (1, RUNS) };
    require_node()?;
    chromium()?;
    let client = install()?;
    let (gateway, counterpart, relay) = build()?;
    let counterpart = announced(&mut Command::new(counterpart))?;
    let relay = announced(Command::new(relay).arg(&counterpart.address))?;
    let gateway = start_gateway(&gateway, &counterpart.address)?;
    let mut best = 0.0;
    for place in ["chromium", "node"] {
        let mut consumer = Consumer::start(&client, place)?;
        println!("@cloudamqp/amqp-client in {}, medians of {runs} runs in turn", consumer.version);
        println!(
            "{:>10} {:>16} {:>16} {:>8} {:>22}",
            "bytes", "gateway msg/s", "relay msg/s", "", "gateway CPU µs/msg"
        );
        for (size, by_gateway, by_relay) in ROWS {
            let many = (by_gateway / share).max(1000);
            let few = (by_relay / share).max(1000);
            let (mut ours, mut theirs, mut cost) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..runs {
                let before = cpu(&gateway)?;
                ours.push(consumer.consume(&gateway.address, size, many)?);
                cost.push((cpu(&gateway)? - before) * 1e6 / many as f64);
                theirs.push(consumer.consume(&relay.address, size, few)?);
            }
            let (ours, theirs, cost) = (median(ours), median(theirs), median(cost));
            println!("{size:>10} {ours:>16.0} {theirs:>16.0} {:>7.1}× {cost:>22.2}", ours / theirs);
            if size == 1 && place == "chromium" {
                best = ours / theirs;
            }
        }
    }
    drop(gateway);
    idle(&client, &counterpart.address)?;
    let verdict = if best >= GOAL { "met" } else { "missed" };
    println!("goal: with bodies of a byte, at least {GOAL}× the relay: {best:.1}×, {verdict}");
    Ok(())
}

/// Measures the memory of idle connections, on a fresh gateway.
fn idle(client: &Path, counterpart: &str) -> Result {
    let gateway = start_gateway(&shell::root().join("target/release/hopmq-gateway"), counterpart)?;
    let before = memory(&gateway)?;
    let mut command = node(client, "idle");
    command.args([format!("ws://{}/ws/amqp", gateway.address), IDLE.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("the output is piped")).read_line(&mut line)?;
    let after = memory(&gateway)?;
    drop(child.stdin.take());
    child.wait()?;
    if line.trim() != "open" {
        return Err("the client did not open all idle connections".into());
    }
    let each = (after - before) as f64 / IDLE as f64 / 1024.0;
    println!(
        "{IDLE} idle connections: {each:.1} KiB each ({} KiB before, {} KiB with them)",
        before >> 10,
        after >> 10
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Builds the gateway, the counterpart and the relay in release mode.
fn build() -> Result<(PathBuf, PathBuf, PathBuf)> {
    let mut cargo = shell::cargo();
    shell::run(cargo.args(["build", "--release", "--locked", "--package", "hopmq-gateway", "--bin", "hopmq-gateway"]))?;
    let folder = shell::root().join("bench");
    let packages = ["--package", "bench-counterpart", "--package", "bench-relay"];
    shell::run(Profile::Release.cargo("build").args(packages))?;
    let ours = shell::root().join("target/release/hopmq-gateway");
    Ok((ours, folder.join("target/release/bench-counterpart"), folder.join("target/release/bench-relay")))
}

/// Installs the client with its dependencies, and returns its folder.
fn install() -> Result<PathBuf> {
    let from = shell::root().join("bench/gateway");
    let folder = shell::root().join("bench/target/gateway");
    for file in ["package.json", "client.mjs"] {
        shell::write(&folder.join(file), &shell::read(&from.join(file))?)?;
    }
    if ["@cloudamqp/amqp-client", "playwright-core"].iter().any(|name| !folder.join("node_modules").join(name).exists())
    {
        let mut npm = shell::program("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]);
        shell::run(npm.current_dir(&folder))?;
    }
    Ok(folder)
}

/// Starts a program that prints its address.
fn announced(command: &mut Command) -> Result<Program> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("the output is piped")).read_line(&mut line)?;
    let address = line
        .trim()
        .strip_prefix("listening ")
        .ok_or_else(|| format!("`{}` did not print its address", shell::line(command)))?
        .to_owned();
    Ok(Program { child, address })
}

fn start_gateway(binary: &Path, counterpart: &str) -> Result<Program> {
    let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
    let mut command = Command::new(binary);
    command.env("HOPMQ_GATEWAY_LISTEN", &address).env("HOPMQ_GATEWAY_UPSTREAM_HOSTS", format!("amqp://{counterpart}"));
    command.env("HOPMQ_GATEWAY_ORIGIN_ALLOW", "*");
    let names =
        ["CONNECTIONS_PER_ADDRESS", "CONNECTIONS_PER_USER", "PENDING_LOGINS_PER_ADDRESS", "UPGRADES_PER_MINUTE"];
    for name in names {
        command.env(format!("HOPMQ_GATEWAY_LIMITS_{name}"), "100000");
    }
    let child = command.env("HOPMQ_GATEWAY_LOG_LEVEL", "warn").stdin(Stdio::null()).spawn()?;
    let program = Program { child, address };
    let deadline = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(&program.address).is_err() {
        if Instant::now() > deadline {
            let seconds = START_TIMEOUT.as_secs();
            return Err(format!("the gateway did not listen on {} within {seconds} s", program.address).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(program)
}

fn node(folder: &Path, what: &str) -> Command {
    let mut command = shell::program("node");
    // Node 20 has a WebSocket only behind this flag.
    command.current_dir(folder).args(["--experimental-websocket", "--no-warnings", "client.mjs", what]);
    command
}

/// The client, in Chromium or in Node. It consumes one flood for each line of its input.
struct Consumer {
    child: Child,
    /// Closing the input ends the client and its browser.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    version: String,
}

impl Consumer {
    fn start(folder: &Path, place: &str) -> Result<Self> {
        let mut command = node(folder, place);
        let mut child =
            command.env("HOPMQ_CHROMIUM", chromium()?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("the output is piped"));
        let mut this = Self { child, input, output, version: String::new() };
        this.version = this.line()?;
        Ok(this)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the client ended before it printed a result".into());
        }
        Ok(line.trim().to_owned())
    }

    /// Consumes `count` messages of `size` bytes. Returns messages a second.
    fn consume(&mut self, address: &str, size: usize, count: u64) -> Result<f64> {
        let input = self.input.as_mut().expect("the input is open until the client is dropped");
        writeln!(input, "ws://{address}/ws/amqp {size} {count}")?;
        let seconds: f64 = self.line()?.parse()?;
        Ok(count as f64 / seconds)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _already_waited = self.child.wait();
    }
}

/// The CPU time of the program, in seconds.
fn cpu(program: &Program) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.child.id()))?;
    // The name is in brackets. After it, the state is the third field, the times are the 14th and the 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux reports hundredths of a second (`getconf CLK_TCK`).
    Ok(ticks as f64 / 100.0)
}

/// The resident memory of the program, in bytes.
fn memory(program: &Program) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("/proc/PID/status has no VmRSS: this benchmark runs on Linux only")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
