//! The runner with an allocator that counts.

#[path = "main.rs"]
mod runner;

#[global_allocator]
static ALLOCATOR: &bench_harness::Counter = bench_harness::COUNTER;

fn main() -> std::process::ExitCode {
    runner::main()
}
