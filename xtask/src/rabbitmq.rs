//! `cargo xtask rabbitmq`: a real RabbitMQ of this folder's own, started by hand, that meets no other on the machine.
//!
//! Everything it has lies under `target/rabbitmq`: data, log, certificates, cookie, and the file `env` that says where
//! it is. Its ports are chosen at the start, its port mapper is its own, and it listens on 127.0.0.1 alone. Each start
//! begins with an empty broker.

mod cluster;
mod files;
pub(crate) mod install;
mod node;
pub(crate) mod tls;

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process;
use crate::shell::{self, Result};
use node::Node;

/// How long a start may take until the broker answers.
const START: Duration = Duration::from_secs(300);
/// How long the broker may take to end by itself.
const STOP: Duration = Duration::from_secs(90);
/// How often to try other ports, when somebody takes one between our choice and the broker's listening.
const ATTEMPTS: usize = 3;
/// Begins the error of a port mapper that ended at once. There is one reason for it to: its port is taken.
const EPMD_ENDED: &str = "Erlang's port mapper ended while starting";

/// What a command that needs the broker gets.
pub(crate) struct Broker {
    /// The variables that tell tests where it is.
    pub(crate) environment: Vec<(String, String)>,
    /// False when it ran already.
    pub(crate) started: bool,
}

pub(crate) fn run(arguments: &[String]) -> Result {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["start"] => {
            shell::print(&lines(&start()?.environment));
            Ok(())
        }
        ["stop"] => stop(),
        ["kill"] => kill(),
        ["resume"] => resume(),
        ["cluster", ref words @ ..] => cluster::run(words),
        ["status"] => status(),
        ["env"] => {
            shell::print(&lines(&running()?.environment()));
            Ok(())
        }
        ["ctl", ..] => {
            let status = Command::new(running()?.folder.join("ctl")).args(&arguments[1..]).status()?;
            std::process::exit(status.code().unwrap_or(1));
        }
        _ => {
            Err("usage: cargo xtask rabbitmq start | stop | kill | resume | status | env | ctl ARGS… | cluster …"
                .into())
        }
    }
}

/// Sees to it that the broker runs and answers.
pub(crate) fn start() -> Result<Broker> {
    let folder = folder();
    let _lock = Lock::take(&folder)?;
    if let Some(node) = Node::load(&folder).filter(Node::is_running) {
        match node.check() {
            Ok(()) => {
                println!("RabbitMQ {} already runs (process {})", node.name, node.pid);
                return Ok(Broker { environment: node.environment(), started: false });
            }
            Err(error) => println!("RabbitMQ {} runs but does not answer ({error}): starting it anew", node.name),
        }
    }
    clear(&folder)?;
    let scripts = install::scripts()?;
    let node = on_free_ports(|| launch(Node::new(&folder)?, &scripts), || clear(&folder).map(drop))?;
    Ok(Broker { environment: node.environment(), started: true })
}

/// Tries to `launch` something on ports that it chooses, again on others if somebody takes one of them meanwhile. What
/// comes of a failure is cleared.
fn on_free_ports<T>(mut launch: impl FnMut() -> Result<T>, clear: impl Fn() -> Result) -> Result<T> {
    for attempt in 1.. {
        match launch() {
            Ok(launched) => return Ok(launched),
            Err(error) if attempt < ATTEMPTS && is_port_taken(&error.to_string()) => {
                println!("somebody took one of the chosen ports meanwhile: trying others");
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

/// Stops the broker of this folder, if there is one.
pub(crate) fn stop() -> Result {
    let folder = folder();
    let _lock = Lock::take(&folder)?;
    if clear(&folder)? == 0 {
        println!("RabbitMQ does not run");
    }
    Ok(())
}

/// The broker's process, and how to reach it.
pub(crate) fn process() -> Result<(u32, Vec<(String, String)>)> {
    let node = running()?;
    Ok((node.pid, node.environment()))
}

/// Ends the broker as `kill -9` does, and keeps what it has on disk.
pub(crate) fn kill() -> Result {
    kill_node(&running()?)
}

fn kill_node(node: &Node) -> Result {
    if !node.is_running() {
        return Err(format!("RabbitMQ {} does not run", node.name).into());
    }
    process::kill(node.pid, &node::server_mark(&node.folder))
}

/// Starts the broker that was killed, on its ports and over its data.
pub(crate) fn resume() -> Result {
    resume_in(&folder())
}

fn resume_in(folder: &Path) -> Result {
    let _lock = Lock::take(folder)?;
    let mut node = Node::load(folder).ok_or("there was no RabbitMQ; `cargo xtask rabbitmq start` starts one")?;
    if node.is_running() {
        return Err(format!("RabbitMQ {} runs already (process {})", node.name, node.pid).into());
    }
    let begun = Instant::now();
    let mut child = server(&mut node, &install::scripts()?)?;
    await_answer(&node, [&mut child], begun + START)?;
    println!("RabbitMQ {} resumed in {:.1} s (process {})", node.name, begun.elapsed().as_secs_f64(), node.pid);
    Ok(())
}

fn status() -> Result {
    let node = running()?;
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

fn running() -> Result<Node> {
    Node::load(&folder())
        .filter(Node::is_running)
        .ok_or_else(|| "RabbitMQ does not run; `cargo xtask rabbitmq start` starts it".into())
}

fn folder() -> PathBuf {
    shell::root().join("target/rabbitmq")
}

/// The environment as lines of a file.
fn lines(environment: &[(String, String)]) -> String {
    environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Ends whatever runs for this folder, also what no file tells of any more, and returns how many nodes that were.
fn clear(folder: &Path) -> Result<usize> {
    let mark = node::server_mark(folder);
    let nodes = process::find(&mark);
    for &pid in &nodes {
        let begun = Instant::now();
        let how = if process::stop(pid, &mark, STOP)? { "stopped" } else { "did not end by itself and was killed" };
        println!("RabbitMQ (process {pid}) {how} in {:.1} s", begun.elapsed().as_secs_f64());
    }
    let mark = node::epmd_mark(folder);
    for pid in process::find(&mark) {
        process::stop(pid, &mark, STOP)?;
    }
    for name in ["node", "env"] {
        let _absent = fs::remove_file(folder.join(name));
    }
    Ok(nodes.len())
}

fn launch(mut node: Node, scripts: &Path) -> Result<Node> {
    let begun = Instant::now();
    files::write(&node, scripts)?;
    let mut epmd = port_mapper(&node)?;
    let mut child = server(&mut node, scripts)?;
    await_answer(&node, [&mut epmd, &mut child], begun + START)?;
    shell::write(&node.folder.join("env"), &lines(&node.environment()))?;
    println!("RabbitMQ {} started in {:.1} s (process {})", node.name, begun.elapsed().as_secs_f64(), node.pid);
    Ok(node)
}

/// Starts Erlang's port mapper.
fn port_mapper(node: &Node) -> Result<Child> {
    let mut epmd = Command::new("epmd");
    epmd.arg0(node::epmd_mark(&node.folder));
    epmd.args(["-port", &node.ports.epmd.to_string(), "-address", "127.0.0.1"]);
    spawn(&mut epmd, node)
}

/// Starts the server itself.
fn server(node: &mut Node, scripts: &Path) -> Result<Child> {
    let mut server = Command::new(scripts.join("rabbitmq-server"));
    // The script then becomes the server, instead of watching over it: one process, one number.
    server.env("RUNNING_UNDER_SYSTEMD", "true");
    let arguments = format!("-kernel inet_dist_use_interface {{127,0,0,1}} {}", node::server_mark(&node.folder));
    server.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments);
    let child = spawn(&mut server, node)?;
    node.pid = child.id();
    node.save()?;
    Ok(child)
}

/// Starts a process that lives on when we end, and that a Ctrl-C at our terminal does not reach.
fn spawn(command: &mut Command, node: &Node) -> Result<Child> {
    let log = || File::options().append(true).open(node.folder.join("log/console.log"));
    let variables = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)));
    let variables: Vec<_> = variables.filter_map(|(name, value)| Some((name, value?))).collect();
    command.env_clear().envs(files::environment(node)).envs(variables);
    command.current_dir(&node.folder).stdin(Stdio::null()).stdout(log()?).stderr(log()?).process_group(0);
    let line = shell::line(command);
    command.spawn().map_err(|error| format!("`{line}` does not start: {error}").into())
}

/// Waits until the node answers. Its processes must live on: the port mapper, if it is started too, then the server.
fn await_answer<const N: usize>(node: &Node, mut processes: [&mut Child; N], deadline: Instant) -> Result {
    loop {
        for (index, process) in processes.iter_mut().enumerate() {
            let Some(status) = process.try_wait()? else { continue };
            let (port, log) = (node.ports.epmd, node.log_tail());
            return Err(match index + 1 == N {
                true => format!("RabbitMQ ended while starting: {status}{log}").into(),
                false => format!("{EPMD_ENDED} ({status}) on port {port}{log}").into(),
            });
        }
        match node.check() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                let patience = START.as_secs();
                return Err(format!("RabbitMQ did not answer within {patience} s ({error}){}", node.log_tail()).into());
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn is_port_taken(error: &str) -> bool {
    [EPMD_ENDED, "eaddrinuse", "dist_port_already_used"].iter().any(|words| error.contains(words))
}

/// Keeps two commands from starting or stopping the same folder's broker at once.
struct Lock(PathBuf);

impl Lock {
    fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("lock");
        fs::create_dir_all(folder)?;
        let deadline = Instant::now() + START + STOP;
        while OpenOptions::new().write(true).create_new(true).open(&path).is_err() {
            let owner = shell::read(&path).ok().and_then(|pid| pid.trim().parse::<u32>().ok());
            let stale = owner.is_some_and(|pid| !process::is_running(pid, "xtask"));
            if stale || Instant::now() > deadline {
                let _taken_over = fs::remove_file(&path);
            }
            thread::sleep(Duration::from_millis(50));
        }
        shell::write(&path, &std::process::id().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn other_ports_are_tried_where_one_was_taken_and_what_is_left_is_cleared_each_time() {
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
        assert_eq!(run(&["there is no disk"]), (false, 1, 1), "other ports would not help");
    }
}
