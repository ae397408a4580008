//! What every benchmark runner shares: one command line, one way to measure, one line of JSON.
//!
//! ```text
//! runner-CLIENT WORKLOAD --url amqp://… [--mode M] [--count N] [--size BYTES] [--window N] [--channels N] [--tasks N]
//!               [--queue NAME] [--prefetch N] [--seconds N] [--ca FILE]
//! ```
//! A runner is one process with one client in it, so that the process' CPU time, its peak memory and its allocations
//! are the client's. Each runner has two binaries: `runner-x`, and `runner-x-counted`, which counts allocations and is
//! therefore not the one whose time is told.

mod args;
mod blocking;
mod client;
mod measure;
mod pace;
mod report;

pub use args::{Ack, Args, Workload};
pub use blocking::{BlockingChannel, BlockingClient, run_blocking};
#[cfg(feature = "tokio")]
pub use client::run_on_tokio;
pub use client::{Channel, Client, Consumer, Runtime, run};
pub use measure::{COUNTER, Counter, Meter, heap_bytes};
pub use pace::{Latencies, Pace};
pub use report::{Outcome, Result, Unsupported, unsupported};

use std::process::ExitCode;

/// Runs one workload and prints its line. `run` gets the parsed command line.
pub fn main(client: &str, run: impl FnOnce(&Args) -> Result<Outcome>) -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
    };
    let outcome = run(&args);
    let mode = args.mode.as_deref().unwrap_or("");
    match outcome {
        Ok(outcome) => println!("{}", outcome.line(client, mode, args.workload)),
        Err(e) => match e.downcast_ref::<Unsupported>() {
            Some(why) => println!("{}", why.line(client, mode, args.workload)),
            None => {
                eprintln!("{client} {mode}: {e}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}

/// Joins threads that return results; the first error wins.
pub fn join<T>(threads: Vec<std::thread::JoinHandle<Result<T>>>) -> Result<Vec<T>> {
    threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
}
