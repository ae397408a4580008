//! `cargo xtask shuttle`: checks the locks and wake-ups of core under many interleavings of threads.

use std::process::Command;

use crate::shell::{self, Result};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// How many interleavings each scheduler tries for each test
    #[arg(long)]
    iterations: Option<u32>,
    /// The seed of the schedulers: a failure repeats with the seed that it prints and one iteration
    #[arg(long)]
    seed: Option<u64>,
}

/// The module of the tests. The other unit tests can't run on the threads of the model checker.
const MODULE: &str = "interleavings::";

pub(crate) fn run(Arguments { iterations, seed }: &Arguments) -> Result {
    let mut tests = unit_tests();
    if let Some(iterations) = iterations {
        tests.env("HOPMQ_SHUTTLE_ITERATIONS", iterations.to_string());
    }
    if let Some(seed) = seed {
        tests.env("SHUTTLE_RANDOM_SEED", seed.to_string());
    }
    shell::run(&mut tests)?;
    // Cargo reports success even if the module has no test.
    let list = shell::output(unit_tests().arg("--list"))?;
    if list.contains(MODULE) { Ok(()) } else { Err(format!("hopmq has no test in {MODULE}").into()) }
}

/// The command that runs the tests. They have a target folder of their own: a build with other compiler flags replaces
/// everything in the usual one.
fn unit_tests() -> Command {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = shell::cargo();
    command.env("RUSTFLAGS", format!("{flags} --cfg hopmq_shuttle")).env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.args(["test", "--package", "hopmq", "--lib", "--no-default-features", "--target-dir", "target/shuttle"]);
    command.args(["--", MODULE]);
    command
}
