//! The store against a naive one, on disks that crash, fail, fill up and rot.
//!
//! Each case is a seed: `HOPMQ_SEED=n` replays one. `HOPMQ_SECONDS=n` says for how long new ones are tried.

mod crash;
mod damage;
#[cfg(feature = "disk")]
mod disk;
mod faults;
#[cfg(feature = "disk")]
mod kill;
mod model;
mod plain;
#[path = "../../src/random.rs"]
mod random;
mod world;

use std::time::{Duration, Instant};

/// However little time there is, so many seeds are tried.
const AT_LEAST: u64 = 10;

/// Calls `each` with seeds until the time is over, and says how many there were.
fn seeds(what: &str, mut each: impl FnMut(u64) -> u64) {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("it is a number"));
    if let Some(seed) = variable("HOPMQ_SEED") {
        println!("{what}, seed {seed}: {} cases", each(seed));
        return;
    }
    let time = Duration::from_secs(variable("HOPMQ_SECONDS").unwrap_or(5));
    let (start, mut seed, mut cases) = (Instant::now(), 0, 0);
    while start.elapsed() < time || seed < AT_LEAST {
        cases += each(seed);
        seed += 1;
    }
    println!("{what}: {cases} cases of {seed} seeds");
}
