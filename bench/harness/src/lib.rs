//! The parts that all benchmark runners share: command line, measurement, and output of a line of JSON.
//!
//! ```text
//! runner-CLIENT WORKLOAD --url amqp://… [--mode M] [--count N] [--size BYTES] [--window N] [--channels N] [--tasks N]
//!               [--connections N] [--queue NAME] [--prefetch N] [--seconds N] [--spin MICROSECONDS] [--ca FILE]
//! ```
//! A runner is a process with one client, so that the CPU time, the peak memory and the allocations of the process are
//! the client's. Each runner has two binaries: `runner-x`, and `runner-x-counted`, which counts allocations. Counting
//! takes time, so durations come from the first.

mod args;
mod blocking;
mod client;
mod handled;
mod measure;
mod pace;
mod report;

pub use args::{Ack, Args, Workload};
pub use blocking::{BlockingChannel, BlockingClient, run_blocking};
#[cfg(feature = "tokio")]
pub use client::{Channel, Client, Consumer, Runtime, run};
#[cfg(feature = "tokio")]
pub use client::{on_tokio, run_on_tokio};
pub use handled::{HANDLED, Handled};
pub use measure::{COUNTER, Counter, Meter, heap_bytes};
pub use pace::{Latencies, Pace};
pub use report::{Outcome, Result, Unsupported, unsupported};

use std::process::ExitCode;

/// Runs a workload and prints its line. `run` receives the parsed command line.
pub fn main(client: &str, run: impl FnOnce(&Args) -> Result<Outcome>) -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let outcome = run(&args);
    let mode = args.mode.as_deref().unwrap_or("");
    match outcome {
        Ok(outcome) => println!("{}", outcome.line(client, mode, args.workload)),
        Err(error) => match error.downcast_ref::<Unsupported>() {
            Some(reason) => println!("{}", reason.line(client, mode, args.workload)),
            None => {
                eprintln!("{client} {mode}: {error}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}

/// Joins threads. Returns their results, or the first error.
pub fn join<T>(threads: Vec<std::thread::JoinHandle<Result<T>>>) -> Result<Vec<T>> {
    threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
}
