//! `cargo xtask rabbitmq`: a RabbitMQ of this folder's own, independent of any other on the machine.
//!
//! All its files lie under `target/rabbitmq`: data, log, certificates, cookie, and `env`, the environment of the tests.
//! Each start begins with an empty broker and chooses free ports on 127.0.0.1. The broker has a port mapper of its own.
//! A second broker, of RabbitMQ 4.0, may run beside it: `--release 4.0`, under `target/rabbitmq-4`.

mod cluster;
mod container;
mod debian13;
mod files;
pub(crate) mod install;
mod lock;
mod node;
mod release;
pub(crate) mod tls;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::process;
use crate::shell::{self, Result};
pub(crate) use files::EXTERNAL_USER;
use lock::Lock;
use node::Node;
pub(crate) use release::Release;

/// The time a start may take until the broker answers.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// The time the broker may take to stop after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// How long another command may keep the folder.
const LOCK_TIMEOUT: Duration = START_TIMEOUT.saturating_add(STOP_TIMEOUT);
/// How many sets of ports to try: another process may take a port between the choice and the broker's start.
const ATTEMPTS: usize = 3;
/// The first words of the error of a port mapper that ended at once. The only cause is that its port is taken.
const EPMD_ENDED: &str = "Erlang's port mapper ended while starting";

/// A running broker.
pub(crate) struct Broker {
    /// The environment of the tests.
    pub(crate) environment: Vec<(String, String)>,
    /// Whether [`start`] started it, rather than found it running.
    pub(crate) started: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which RabbitMQ; without this option HOPMQ_RABBITMQ_RELEASE chooses it, and then the one of this machine
    #[arg(long, value_enum, global = true)]
    release: Option<Release>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start the broker, or find the one that runs, and print its environment; installs RabbitMQ if necessary
    Start,
    /// Stop the broker
    Stop,
    /// Kill the broker and keep its data
    Kill,
    /// Start a killed broker on its ports and its data
    Resume,
    /// Show whether the broker runs, and where
    Status,
    /// Print the environment of the tests: export $(cargo xtask rabbitmq env)
    Env,
    /// Run rabbitmqctl
    #[command(disable_help_flag = true)]
    Ctl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a cluster of three nodes
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Write the certificates of the tests, for the embedded broker: set HOPMQ_TLS_DIR to the folder
    Certificates { folder: PathBuf },
    /// Prepare a running container of the image rabbitmq:…-management, and print the environment of the tests
    Container {
        /// Its name or id
        container: String,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let release = match arguments.release {
        Some(release) => release,
        None => chosen()?,
    };
    match &arguments.command {
        Command::Start => shell::print(&lines(&start(release)?.environment)),
        Command::Stop => stop(release)?,
        Command::Kill => kill(release)?,
        Command::Resume => resume(release)?,
        Command::Status => status(release)?,
        Command::Env => shell::print(&lines(&running(release)?.environment())),
        Command::Ctl { arguments } => {
            let ctl = running(release)?.folder.join("ctl");
            let status = std::process::Command::new(ctl).args(arguments).status()?;
            std::process::exit(status.code().unwrap_or(1));
        }
        Command::Cluster(command) => cluster::run(command, release)?,
        Command::Certificates { folder } => tls::write(folder, EXTERNAL_USER)?,
        Command::Container { container } => container::run(container)?,
    }
    Ok(())
}

/// The release that the environment chooses: the tests run `kill` and `resume` without an option.
fn chosen() -> Result<Release> {
    let Ok(name) = std::env::var(release::VARIABLE) else { return Ok(Release::Installed) };
    Release::from_str(&name, false).map_err(|error| format!("{} is {name:?}: {error}", release::VARIABLE).into())
}

/// Installs RabbitMQ if it is missing.
pub(crate) fn require() -> Result {
    install::scripts(Release::Installed).map(drop)
}

/// Unpacks RabbitMQ 4.0 if it is missing.
pub(crate) fn require_4_0() -> Result {
    install::scripts(Release::V4_0).map(drop)
}

/// Starts the broker, or finds the one that runs. It answers when this returns.
pub(crate) fn start(release: Release) -> Result<Broker> {
    let folder = release.folder();
    let _lock = Lock::take(&folder, LOCK_TIMEOUT)?;
    if let Some(node) = Node::load(&folder).filter(Node::is_running) {
        match node.check() {
            Ok(()) => {
                println!("RabbitMQ {} already runs (process {})", node.name, node.pid);
                return Ok(Broker { environment: node.environment(), started: false });
            }
            Err(error) => println!("RabbitMQ {} runs but does not answer ({error}): restarting it", node.name),
        }
    }
    clear(&folder)?;
    let scripts = install::scripts(release)?;
    let node = on_free_ports(|| launch(Node::new(&folder, release, &scripts)?), || clear(&folder).map(drop))?;
    Ok(Broker { environment: node.environment(), started: true })
}

/// Calls `launch`, which chooses ports, and calls it again if another process took one of them meanwhile. Calls
/// `clear` after each failure.
fn on_free_ports<T>(mut launch: impl FnMut() -> Result<T>, clear: impl Fn() -> Result) -> Result<T> {
    for attempt in 1.. {
        match launch() {
            Ok(launched) => return Ok(launched),
            Err(error) if attempt < ATTEMPTS && is_port_taken(&error.to_string()) => {
                println!("another process took one of the chosen ports: trying others");
                clear()?;
            }
            Err(error) => {
                clear()?;
                return Err(error);
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// Stops the broker of this folder, if it runs.
pub(crate) fn stop(release: Release) -> Result {
    let folder = release.folder();
    let _lock = Lock::take(&folder, LOCK_TIMEOUT)?;
    if clear(&folder)? == 0 {
        println!("RabbitMQ does not run");
    }
    Ok(())
}

/// The broker's process id and the environment of the tests.
pub(crate) fn process(release: Release) -> Result<(u32, Vec<(String, String)>)> {
    let node = running(release)?;
    Ok((node.pid, node.environment()))
}

/// Kills the broker with SIGKILL and keeps its data.
pub(crate) fn kill(release: Release) -> Result {
    kill_node(&running(release)?)
}

fn kill_node(node: &Node) -> Result {
    if !node.is_running() {
        return Err(format!("RabbitMQ {} does not run", node.name).into());
    }
    process::kill(node.pid, &node::server_mark(&node.folder))
}

/// Starts a killed broker on its ports and its data.
pub(crate) fn resume(release: Release) -> Result {
    resume_in(&release.folder())
}

fn resume_in(folder: &Path) -> Result {
    let _lock = Lock::take(folder, LOCK_TIMEOUT)?;
    let mut node = Node::load(folder).ok_or("no RabbitMQ was started here; run `cargo xtask rabbitmq start`")?;
    if node.is_running() {
        return Err(format!("RabbitMQ {} already runs (process {})", node.name, node.pid).into());
    }
    let begun = Instant::now();
    let mut child = server(&mut node)?;
    await_answer(&node, [&mut child], begun + START_TIMEOUT)?;
    println!("RabbitMQ {} resumed in {:.1} s (process {})", node.name, begun.elapsed().as_secs_f64(), node.pid);
    Ok(())
}

fn status(release: Release) -> Result {
    let node = running(release)?;
    node.check().map_err(|error| format!("RabbitMQ runs (process {}) but does not answer: {error}", node.pid))?;
    let ports = &node.ports;
    shell::print(&format!(
        "RabbitMQ {} runs (process {}) and answers\n  AMQP {}, AMQPS {}, management {}, all on 127.0.0.1\n  \
         files, log and data: {}\n",
        node.name,
        node.pid,
        ports.amqp,
        ports.amqps,
        ports.http,
        node.folder.display()
    ));
    Ok(())
}

fn running(release: Release) -> Result<Node> {
    Node::load(&release.folder()).filter(Node::is_running).ok_or_else(|| {
        let option = release.option();
        format!("RabbitMQ does not run; start it with `cargo xtask rabbitmq start{option}`").into()
    })
}

/// The environment, one `NAME=value` a line.
fn lines(environment: &[(String, String)]) -> String {
    environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Stops all processes of this folder, including those whose files are gone, and returns the number of nodes.
fn clear(folder: &Path) -> Result<usize> {
    let mark = node::server_mark(folder);
    let nodes = process::find(&mark);
    for &pid in &nodes {
        let begun = Instant::now();
        let how = if process::stop(pid, &mark, STOP_TIMEOUT)? { "stopped" } else { "ignored SIGTERM and was killed" };
        println!("RabbitMQ (process {pid}) {how} in {:.1} s", begun.elapsed().as_secs_f64());
    }
    let mark = node::epmd_mark(folder);
    for pid in process::find(&mark) {
        process::stop(pid, &mark, STOP_TIMEOUT)?;
    }
    for name in ["node", "env"] {
        let _absent = fs::remove_file(folder.join(name));
    }
    Ok(nodes.len())
}

fn launch(mut node: Node) -> Result<Node> {
    let begun = Instant::now();
    files::write(&node)?;
    let mut epmd = port_mapper(&node)?;
    let mut child = server(&mut node)?;
    await_answer(&node, [&mut epmd, &mut child], begun + START_TIMEOUT)?;
    shell::write(&node.folder.join("env"), &lines(&node.environment()))?;
    println!("RabbitMQ {} started in {:.1} s (process {})", node.name, begun.elapsed().as_secs_f64(), node.pid);
    Ok(node)
}

/// Starts Erlang's port mapper.
fn port_mapper(node: &Node) -> Result<Child> {
    let own = node.scripts.join("epmd");
    let mut epmd = std::process::Command::new(if own.is_file() { own } else { "epmd".into() });
    // A script forgets its name, but passes this variable on.
    epmd.arg0(node::epmd_mark(&node.folder)).env("HOPMQ_ARGV0", node::epmd_mark(&node.folder));
    epmd.args(["-port", &node.ports.epmd.to_string(), "-address", "127.0.0.1"]);
    spawn(&mut epmd, node)
}

/// Starts the server itself.
fn server(node: &mut Node) -> Result<Child> {
    let mut server = std::process::Command::new(node.scripts.join("rabbitmq-server"));
    // Makes the script exec the server instead of supervising it, so that the child's process id is the server's.
    server.env("RUNNING_UNDER_SYSTEMD", "true");
    let arguments = format!("-kernel inet_dist_use_interface {{127,0,0,1}} {}", node::server_mark(&node.folder));
    server.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments);
    let child = spawn(&mut server, node)?;
    node.pid = child.id();
    node.save()?;
    Ok(child)
}

/// Starts a process that outlives xtask and does not receive the terminal's Ctrl-C.
fn spawn(command: &mut std::process::Command, node: &Node) -> Result<Child> {
    let log = || File::options().append(true).open(node.folder.join("log/console.log"));
    let variables = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)));
    let variables: Vec<_> = variables.filter_map(|(name, value)| Some((name, value?))).collect();
    command.env_clear().envs(files::environment(node)).envs(variables);
    command.current_dir(&node.folder).stdin(Stdio::null()).stdout(log()?).stderr(log()?).process_group(0);
    let line = shell::line(command);
    command.spawn().map_err(|error| format!("cannot start `{line}`: {error}").into())
}

/// Waits until the node answers. Fails if one of `processes` ends: the port mapper, if it was started too, and the
/// server.
fn await_answer<const N: usize>(node: &Node, mut processes: [&mut Child; N], deadline: Instant) -> Result {
    loop {
        for (index, process) in processes.iter_mut().enumerate() {
            let Some(status) = process.try_wait()? else { continue };
            let port = node.ports.epmd;
            let log = node.log_tail();
            return Err(match index + 1 == N {
                true => format!("RabbitMQ ended while starting: {status}{log}").into(),
                false => format!("{EPMD_ENDED} ({status}) on port {port}{log}").into(),
            });
        }
        match node.check() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                let seconds = START_TIMEOUT.as_secs();
                return Err(format!("RabbitMQ did not answer within {seconds} s ({error}){}", node.log_tail()).into());
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn is_port_taken(error: &str) -> bool {
    [EPMD_ENDED, "eaddrinuse", "dist_port_already_used"].iter().any(|words| error.contains(words))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn other_ports_are_tried_if_one_is_taken_and_each_failure_is_cleaned_up() {
        let run = |failures: &[&str]| {
            let (attempts, cleared) = (Cell::new(0), Cell::new(0));
            let launch = || {
                attempts.set(attempts.get() + 1);
                failures.get(attempts.get() - 1).map_or(Ok("launched"), |failure| Err((*failure).into()))
            };
            let clear = || {
                cleared.set(cleared.get() + 1);
                Ok(())
            };
            let launched = on_free_ports(launch, clear).is_ok();
            (launched, attempts.get(), cleared.get())
        };
        assert_eq!(run(&[]), (true, 1, 0));
        assert_eq!(run(&["could_not_start_listener … eaddrinuse", EPMD_ENDED]), (true, 3, 2));
        assert_eq!(run(&["dist_port_already_used"; ATTEMPTS]), (false, ATTEMPTS, ATTEMPTS));
        assert_eq!(run(&["no space left on device"]), (false, 1, 1), "other ports would not help");
    }
}
