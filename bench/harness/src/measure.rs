//! The cost of a stretch of work to the process.

use std::alloc::System;
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::report::{Outcome, Result};

/// The counting allocator of the `-counted` binaries.
pub type Counter = StatsAlloc<System>;
/// The counting allocator. It counts only in a binary whose `#[global_allocator]` it is.
pub static COUNTER: &Counter = &INSTRUMENTED_SYSTEM;

/// Measures the time and resources between [`start`](Meter::start) and [`finish`](Meter::finish).
pub struct Meter {
    usage: Usage,
    allocations: usize,
    started: Instant,
}

impl Meter {
    pub fn start() -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(Self { usage, allocations: allocations(), started: Instant::now() })
    }

    /// Returns the cost of the `messages` handled since the start.
    pub fn finish(self, messages: u64) -> Result<Outcome> {
        let seconds = self.started.elapsed().as_secs_f64();
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let micros = |now: nix::sys::time::TimeVal, then: nix::sys::time::TimeVal| {
            Duration::from_micros((now - then).num_microseconds().max(0) as u64)
        };
        Ok(Outcome {
            messages,
            seconds,
            cpu_user: micros(usage.user_time(), self.usage.user_time()),
            cpu_system: micros(usage.system_time(), self.usage.system_time()),
            peak_rss_kib: peak_rss_kib()?,
            allocations: counted().then(|| (allocations() - self.allocations) as u64),
            ..Outcome::default()
        })
    }
}

/// The peak memory of the process, in KiB. (`ru_maxrss` would include the parent's memory before `exec`.)
fn peak_rss_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    Ok(peak.ok_or("no VmHWM in /proc/self/status")?.trim().parse()?)
}

fn allocations() -> usize {
    let stats = COUNTER.stats();
    stats.allocations + stats.reallocations
}

/// Whether this binary counts. Every program has allocated something before it measures.
fn counted() -> bool {
    allocations() > 0
}

/// The heap in use, in bytes, if this binary counts it.
pub fn heap_bytes() -> Option<u64> {
    let stats = COUNTER.stats();
    // `bytes_reallocated` is part of both other figures.
    counted().then(|| stats.bytes_allocated.saturating_sub(stats.bytes_deallocated) as u64)
}
