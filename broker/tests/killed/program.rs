//! The program `hopmq-broker` with a data folder, run until it is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use hopmq_blocking::{Channel, Connection, Recovery, Result};

use crate::ledger::{BATCHES, MARKS, WORK};

pub(crate) struct Program {
    child: Mutex<Child>,
    pub(crate) uri: String,
}

impl Program {
    pub(crate) fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hopmq-broker"));
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(folder).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut output = lines.map_while(std::io::Result::ok);
        let uri = output.find_map(|line| Some(line.split_once("clients: ")?.1.to_owned()));
        let uri = uri.expect("the program prints its address");
        Self { child: Mutex::new(child), uri }
    }

    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            // Usually the program has been killed already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Opens a channel on a connection without recovery, and declares the queues.
pub(crate) fn channel(uri: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::builder().uri(uri).recovery(Recovery::off()).open()?;
    let channel = connection.channel()?;
    for queue in [WORK, BATCHES, MARKS] {
        channel.queue(queue).durable().declare()?;
    }
    Ok((connection, channel))
}
