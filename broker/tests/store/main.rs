//! Compares the store with a naive model, on disks that crash, fail, fill up or are damaged.
//!
//! Each case has a seed: `HOPMQ_SEED=n` replays one. `HOPMQ_SECONDS=n` sets for how long new seeds are tried.

mod corruption;
mod crash;
mod damage;
#[cfg(feature = "disk")]
mod disk;
mod faults;
mod format;
mod fuzzed;
#[cfg(feature = "disk")]
mod kill;
mod model;
mod mutations;
mod plain;
#[path = "../../src/random.rs"]
mod random;
mod running;
mod world;

use std::time::{Duration, Instant};

/// Seeds that are tried even if the time is over.
const AT_LEAST: u64 = 10;

/// Calls `each` with new seeds until the time is over, and prints how many cases there were.
fn seeds(what: &str, mut each: impl FnMut(u64) -> u64) {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("the variable is a number"));
    if let Some(seed) = variable("HOPMQ_SEED") {
        println!("{what}, seed {seed}: {} cases", each(seed));
        return;
    }
    let time = Duration::from_secs(variable("HOPMQ_SECONDS").unwrap_or(5));
    let start = Instant::now();
    let mut seed = 0;
    let mut cases = 0;
    while start.elapsed() < time || seed < AT_LEAST {
        cases += each(seed);
        seed += 1;
    }
    println!("{what}: {cases} cases of {seed} seeds");
}
