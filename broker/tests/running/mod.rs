//! The program `hopmq-broker` while a test runs it.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use hopmq_blocking::{Connection, Recovery};

/// A running program. Dropping this kills it.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) output: BufReader<ChildStdout>,
    pub(crate) uri: String,
}

pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hopmq-broker"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the program, and waits until it listens.
pub(crate) fn start(arguments: &[&str]) -> Running {
    let mut child = program(&[&["--listen", "127.0.0.1:0"], arguments].concat()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut uri = String::new();
    while !uri.contains("amqp://") {
        uri.clear();
        assert!(output.read_line(&mut uri).unwrap() > 0, "the program ended before it was ready");
    }
    let uri = uri.trim().trim_start_matches("clients: ").to_owned();
    Running { child, output, uri }
}

impl Running {
    pub(crate) fn connect(&self) -> Connection {
        Connection::builder().uri(&self.uri).recovery(Recovery::off()).open().unwrap()
    }

    /// Returns the resident memory, in kB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Kills the program, unless it has ended.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
