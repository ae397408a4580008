//! `cargo xtask bench ledger`: what an operation costs while recovery keeps up to 100,000 queues with their bindings.

use std::process::Command;

use super::run::Profile;
use crate::shell::{self, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Numbers of queues [default: 1000,10000,100000]
    #[arg(long, value_name = "N,M", value_delimiter = ',')]
    queues: Vec<u32>,
}

pub(super) fn run(arguments: &Arguments) -> Result {
    let bench = shell::root().join("bench");
    shell::run(Profile::Release.cargo("build").args(["--package", "bench-ledger"]))?;
    let counts = arguments.queues.iter().map(u32::to_string);
    shell::run(Command::new(bench.join("target/release/bench-ledger")).args(counts))
}
