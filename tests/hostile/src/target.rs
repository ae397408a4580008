//! The broker under attack.

use std::net::SocketAddr;
use std::process::Stdio;

use hopmq_broker::Broker;

use crate::programs::{Program, Scratch, resident};
use crate::{Door, Result};

/// What kind of broker is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The program, in memory
    Memory,
    /// The program with a data folder
    Data,
    /// The broker in this process, which counts its work
    Embedded,
}

/// A broker that runs for one attack.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    broker: Running,
}

#[derive(Debug)]
enum Running {
    Program { program: Program, data: Option<Scratch> },
    Embedded(Broker),
}

impl Target {
    /// Starts a broker. The program gets these options too.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(kind: Kind, options: &[&str]) -> Result<Self> {
        if kind == Kind::Embedded {
            let broker = Broker::builder().watched(false).start();
            return Ok(Self { address: broker.listen("127.0.0.1:0")?, broker: Running::Embedded(broker) });
        }
        let data = if kind == Kind::Data { Some(Scratch::new()?) } else { None };
        let mut program = Program::start("hopmq-broker", |command| {
            command.args(["--listen", "127.0.0.1:0", "--log", "error"]).args(options).stdout(Stdio::piped());
            if let Some(data) = &data {
                command.arg("--data").arg(data.path());
            }
        })?;
        let line = program.line_with("clients: ")?;
        let address = line.rsplit('@').next().unwrap_or_default().trim().parse()?;
        Ok(Self { address, broker: Running::Program { program, data } })
    }

    /// Returns where clients connect.
    pub fn door(&self) -> Door {
        Door::broker(self.address)
    }

    /// Returns whether messages survive a crash.
    pub fn is_durable(&self) -> bool {
        matches!(self.broker, Running::Program { data: Some(_), .. })
    }

    /// Returns the broker, if it runs in this process.
    pub fn embedded(&self) -> Option<&Broker> {
        match &self.broker {
            Running::Embedded(broker) => Some(broker),
            Running::Program { .. } => None,
        }
    }

    /// Returns the memory in MiB; `None` in this process, whose memory is the attackers' too.
    pub fn memory(&self) -> Option<u64> {
        self.figure("VmRSS")
    }

    /// Returns the most memory since the start in MiB.
    pub fn peak(&self) -> Option<u64> {
        self.figure("VmHWM")
    }

    fn figure(&self, name: &str) -> Option<u64> {
        match &self.broker {
            Running::Program { program, .. } => resident(program.id(), name),
            Running::Embedded(_) => None,
        }
    }
}
