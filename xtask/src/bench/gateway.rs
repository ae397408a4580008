//! `cargo xtask bench gateway`: what the gateway costs, and what its way of sending is worth to a client.
//!
//! @cloudamqp/amqp-client, as it is on npm, consumes a flood in Chromium through our gateway and through a relay that
//! sends frame by frame, in turn; while it does, the gateway's CPU is counted by the system. The same in Node, to
//! compare. Then a thousand connections are opened that do nothing, and the gateway's memory is counted.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::browser::chromium;
use crate::shell::{self, Result};

/// Body sizes in bytes, and how many messages of each a run takes, through the gateway and through the relay: seconds
/// of work each, so that what a client does only once is nothing.
const ROWS: [(usize, u64, u64); 3] = [(1, 400_000, 20_000), (100, 200_000, 20_000), (65_536, 3_000, 1_500)];
const RUNS: usize = 5;
const IDLE: usize = 1000;
/// A client in Chromium has to be this many times faster through the gateway, at one byte.
const GOAL: f64 = 5.0;
/// What nothing here takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that ends with us.
struct Program {
    child: Child,
    address: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn run(arguments: &[String]) -> Result {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (share, runs) = match words[..] {
        [] => (1, RUNS),
        ["--quick"] => (10, 3),
        _ => return Err("usage: cargo xtask bench gateway [--quick]".into()),
    };
    if shell::output(shell::program("node").arg("--version")).is_err() {
        println!("skipped: there is no Node to run a client in (Debian: apt install nodejs npm)");
        return Ok(());
    }
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
            let (many, few) = ((by_gateway / share).max(1000), (by_relay / share).max(1000));
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
    let verdict = if best >= GOAL { "holds" } else { "does not hold" };
    println!("goal: at one byte at least {GOAL}× a relay that sends frame by frame: {best:.1}×, {verdict}");
    Ok(())
}

/// Connections that do nothing, on a gateway that has done nothing else.
fn idle(client: &Path, counterpart: &str) -> Result {
    let gateway = start_gateway(&shell::root().join("target/release/hopmq-gateway"), counterpart)?;
    let before = memory(&gateway)?;
    let mut command = node(client, "idle");
    command.args([format!("ws://{}/ws/amqp", gateway.address), IDLE.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let after = memory(&gateway)?;
    drop(child.stdin.take());
    child.wait()?;
    if line.trim() != "open" {
        return Err("not all idle connections could be opened".into());
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

/// The gateway, the counterpart and the relay, as they are released.
fn build() -> Result<(PathBuf, PathBuf, PathBuf)> {
    let mut cargo = shell::cargo();
    shell::run(cargo.args(["build", "--release", "--locked", "--package", "hopmq-gateway", "--bin", "hopmq-gateway"]))?;
    let folder = shell::root().join("bench");
    let mut cargo = shell::cargo();
    cargo.current_dir(&folder).env_remove("CARGO_TARGET_DIR").args(["build", "--release", "--locked"]);
    cargo.args(["--package", "bench-counterpart", "--package", "bench-relay", "--target-dir", "target"]);
    shell::run(&mut cargo)?;
    let ours = shell::root().join("target/release/hopmq-gateway");
    Ok((ours, folder.join("target/release/bench-counterpart"), folder.join("target/release/bench-relay")))
}

/// The folder with the client and what it needs.
fn install() -> Result<PathBuf> {
    let (from, folder) = (shell::root().join("bench/gateway"), shell::root().join("bench/target/gateway"));
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

/// A program that says where it listens, and ends when its input does.
fn announced(command: &mut Command) -> Result<Program> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let address = line.trim().strip_prefix("listening ").ok_or("it does not say where it listens")?.to_owned();
    Ok(Program { child, address })
}

fn start_gateway(binary: &Path, counterpart: &str) -> Result<Program> {
    let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
    let mut command = Command::new(binary);
    command.env("HOPMQ_GATEWAY_LISTEN", &address).env("HOPMQ_GATEWAY_UPSTREAM_HOSTS", format!("amqp://{counterpart}"));
    command.env("HOPMQ_GATEWAY_ORIGIN_ALLOW", "*");
    for name in ["CONNECTIONS_PER_ADDRESS", "CONNECTIONS_PER_USER", "UPGRADES_PER_MINUTE"] {
        command.env(format!("HOPMQ_GATEWAY_LIMITS_{name}"), "100000");
    }
    let child = command.env("HOPMQ_GATEWAY_LOG_LEVEL", "warn").stdin(Stdio::null()).spawn()?;
    let program = Program { child, address };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&program.address).is_err() {
        if Instant::now() > deadline {
            return Err("the gateway does not listen".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(program)
}

fn node(folder: &Path, what: &str) -> Command {
    let mut command = shell::program("node");
    // Node has a WebSocket from 22 on; before, it has to be asked for.
    command.current_dir(folder).args(["--experimental-websocket", "--no-warnings", "client.mjs", what]);
    command
}

/// The client, in Chromium or in Node, which consumes what it is told to.
struct Consumer {
    child: Child,
    /// Closed at the end, which ends it and its browser.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Consumer {
    fn start(folder: &Path, place: &str) -> Result<Self> {
        let mut command = node(folder, place);
        let mut child =
            command.env("HOPMQ_CHROMIUM", chromium()?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let mut this = Self { child, orders, answers: BufReader::new(answers), version: String::new() };
        this.version = this.answer()?;
        Ok(this)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the client ended before it was done".into());
        }
        Ok(line.trim().to_owned())
    }

    /// Messages a second.
    fn consume(&mut self, address: &str, size: usize, count: u64) -> Result<f64> {
        let orders = self.orders.as_mut().ok_or("the client has ended")?;
        writeln!(orders, "ws://{address}/ws/amqp {size} {count}")?;
        let seconds: f64 = self.answer()?.parse()?;
        Ok(count as f64 / seconds)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.orders.take());
        // It may have ended before, which is as good.
        let _ = self.child.wait();
    }
}

/// CPU that the program has used, in seconds.
fn cpu(program: &Program) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.child.id()))?;
    // Behind the name, which is in brackets: the state is the third field, and the times are the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second for programs (`getconf CLK_TCK`).
    Ok(ticks as f64 / 100.0)
}

/// Memory that the program has in use, in bytes.
fn memory(program: &Program) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS: this is not Linux")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
