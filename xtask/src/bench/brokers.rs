//! The brokers that clients are measured with, one at a time: RabbitMQ in two releases, and the one of this repository.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::plan::Broker;
use crate::rabbitmq::{self, Release, install};
use crate::shell::{self, Result};

/// A running broker. It stops when this is dropped, unless it ran before.
pub(crate) struct Running {
    pub(crate) url: String,
    rabbitmq: Option<Release>,
    program: Option<Program>,
}

impl Running {
    /// Starts `broker`, which is no counterpart, or finds it.
    pub(crate) fn start(broker: Broker, binaries: &Path) -> Result<Self> {
        let release = match broker {
            Broker::HopMq | Broker::Counterpart => {
                let program = Program::start(&program(binaries), &[])?;
                return Ok(Self { url: program.url.clone(), rabbitmq: None, program: Some(program) });
            }
            Broker::RabbitMq => Release::Installed,
            Broker::RabbitMq4 => Release::V4_0,
        };
        if let (Release::Installed, Ok(url)) = (release, std::env::var("AMQP_URL")) {
            return Ok(Self { url, rabbitmq: None, program: None });
        }
        let node = rabbitmq::start(release)?;
        let stops = node.started.then_some(release);
        let url = node.environment.into_iter().find(|(name, _)| name == "AMQP_URL");
        let url = url.ok_or("RabbitMQ's environment has no AMQP_URL")?.1;
        Ok(Self { url, rabbitmq: stops, program: None })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.program.take());
        if let Some(release) = self.rabbitmq
            && let Err(error) = rabbitmq::stop(release)
        {
            println!("RabbitMQ was not stopped: {error}");
        }
    }
}

/// Why `broker` cannot be measured here, if it cannot.
pub(crate) fn absent(broker: Broker) -> Option<&'static str> {
    let same = broker == Broker::RabbitMq4 && install::installed_is_4_0();
    same.then_some("the RabbitMQ of this machine is 4.0")
}

/// A running `hopmq-broker`. It is killed when this is dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Program {
    /// Starts the program on a free port with as many open files as the system permits, and waits until it listens.
    pub(crate) fn start(path: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = with_most_files(path);
        command.args(["--listen", "127.0.0.1:0", "--log", "error"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().expect("the output is piped");
        let mut program = Self { child, url: String::new() };
        for line in BufReader::new(output).lines() {
            if let Some((_, url)) = line?.split_once("clients: ") {
                program.url = format!("{}/%2f", url.trim());
                return Ok(program);
            }
        }
        Err("hopmq-broker ended before it printed its URL".into())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_waited = self.child.wait();
    }
}

/// The path of the program below cargo's folder of binaries.
pub(crate) fn program(binaries: &Path) -> PathBuf {
    binaries.join("hopmq-broker")
}

/// Builds the broker without its test kit, as it is released.
pub(crate) fn build(target: &Path) -> Result {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "hopmq-broker", "--no-default-features"]);
    shell::run(cargo.args(["--features", "server", "--target-dir"]).arg(target))
}

/// A command whose process may open as many files as the system permits. It replaces the shell, so it has its id.
pub(crate) fn with_most_files(program: &Path) -> std::process::Command {
    let mut command = shell::program("sh");
    command.args(["-c", "ulimit -Sn \"$(ulimit -Hn)\"; exec \"$0\" \"$@\""]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_most_files_keeps_its_arguments_and_raises_the_limit() {
        let mut command = with_most_files(Path::new("sh"));
        command.args(["-c", "ulimit -Sn; ulimit -Hn; echo \"$1\"", "sh", "two words"]);
        let output = shell::output(&mut command).unwrap();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 3, "{output}");
        assert_eq!((lines[0], lines[2]), (lines[1], "two words"));
    }
}
