//! The project's own commands: `cargo xtask help`.
//!
//! Each procedure of the project is a command here. A new one is a module with a `run` function and a variant of
//! [`Command`].

mod bench;
mod browser;
mod ci;
mod codegen;
mod compile_time;
mod deps;
mod foreign;
mod fuzz;
mod packages;
mod process;
mod python;
mod rabbitmq;
mod shell;
mod shuttle;
mod soak;
mod steps;
mod test;
mod tidy;
mod toolchain;
mod wasm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use shell::Result;

/// The commands of the HopMQ project
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a RabbitMQ of this folder's own, under target/rabbitmq
    Rabbitmq(rabbitmq::Arguments),
    /// Run every test, or those whose names contain a filter, with RabbitMQ and with the embedded broker
    Test(test::Arguments),
    /// Run the long tests: simulation, killed brokers, faults, traffic with a flat memory, and attacks
    Soak(soak::Arguments),
    /// Check the locks and wake-ups of hopmq under many interleavings of threads, with the model checker shuttle
    Shuttle(shuttle::Arguments),
    /// Run every check that a change must pass (.ci/run runs this)
    Ci,
    /// Check what rustfmt and clippy do not: file lengths, line widths, links, test names in documents
    Tidy,
    /// Count the crates that hopmq brings into a program, and hold the number below a limit
    Deps,
    /// Generate the methods of AMQP 0-9-1 from the specification
    Codegen {
        /// Write nothing; fail if a file is out of date
        #[arg(long)]
        check: bool,
    },
    /// Measure HopMQ and its peers (minutes)
    Bench(bench::Arguments),
    /// Measure how long a program takes to compile for each handler that it has
    CompileTime(compile_time::Arguments),
    /// Build the npm package in wasm/npm, ready for `npm pack`
    Wasm(wasm::Arguments),
    /// Build, check and test the Python package
    Python(python::Arguments),
    /// Check that the crates and the npm package can be published
    Packages,
}

impl Command {
    fn run(&self) -> Result {
        match self {
            Self::Rabbitmq(arguments) => rabbitmq::run(arguments),
            Self::Test(arguments) => test::run(arguments),
            Self::Soak(arguments) => soak::run(arguments),
            Self::Shuttle(arguments) => shuttle::run(arguments),
            Self::Ci => ci::run(),
            Self::Tidy => tidy::run(),
            Self::Deps => deps::run(),
            Self::Codegen { check } => codegen::run(*check),
            Self::Bench(arguments) => bench::run(arguments),
            Self::CompileTime(arguments) => compile_time::run(arguments),
            Self::Wasm(arguments) => wasm::run(*arguments),
            Self::Python(arguments) => python::run(arguments),
            Self::Packages => packages::run(),
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> std::result::Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("xtask").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_has_no_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_documented_command_line_is_accepted() {
        for line in [
            "test",
            "test confirm publish",
            "test --suite rabbitmq-4 confirm",
            "ci",
            "tidy",
            "deps",
            "codegen --check",
            "compile-time --runs 5",
            "packages",
            "python publisher",
            "wasm --quick --examples",
            "soak --seeds 1 --kills 2 --rounds 3 --minutes 4",
            "soak --only hostile",
            "rabbitmq start",
            "rabbitmq start --release 4.0",
            "rabbitmq --release 4.0 ctl list_queues --quiet name",
            "rabbitmq cluster --release 4.0 kill 2",
            "rabbitmq env",
            "rabbitmq ctl list_queues --quiet name",
            "rabbitmq ctl --help",
            "rabbitmq cluster kill 2",
            "rabbitmq certificates target/tls",
            "rabbitmq container 0f3b",
            "bench --quick --runs 4",
            "bench --filter publish --clients hopmq,lapin --against counterpart",
            "bench --check",
            "bench --quick --against hopmq,rabbitmq-4",
            "bench broker --quick",
            "bench build --quick",
            "bench build --runs 2",
            "bench browser --quick --runs=3 --filter=consume",
            "bench codec --check",
            "bench python --quick",
            "bench python --runs 5 --check",
            "bench codec --update",
            "bench gateway --quick",
            "bench ledger --queues 1000,10000",
            "bench recovery --rounds 10",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn an_unknown_argument_is_an_error_that_names_it() {
        for (line, expected) in [
            ("bench --fast", "--fast"),
            ("bench codec --check --update", "--update"),
            ("bench recovery --rounds many", "many"),
            ("rabbitmq cluster kill 4", "4"),
            ("ci now", "now"),
            ("tset", "tset"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
