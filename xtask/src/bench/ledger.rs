//! `cargo xtask bench ledger`: what an operation costs while recovery keeps up to 100,000 queues with their bindings.

use std::process::Command;

use crate::shell::{self, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Numbers of queues [default: 1000,10000,100000]
    #[arg(long, value_name = "N,M", value_delimiter = ',')]
    queues: Vec<u32>,
}

pub(super) fn run(arguments: &Arguments) -> Result {
    let bench = shell::root().join("bench");
    shell::run(shell::cargo().args(["build", "--release", "--locked", "-p", "bench-ledger"]).current_dir(&bench))?;
    let counts = arguments.queues.iter().map(u32::to_string);
    shell::run(Command::new(bench.join("target/release/bench-ledger")).args(counts))
}
