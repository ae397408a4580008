//! The program `hopmq-broker` gives its memory back after a peak.

#![cfg(target_os = "linux")]

mod running;

use std::time::{Duration, Instant};

use running::{Running, start};

impl Running {
    /// Waits until the memory is at most `most`, in kB. Returns how much it is in the end.
    fn resident_below(&self, most: u64) -> u64 {
        let begin = Instant::now();
        while self.resident() > most && begin.elapsed() < Duration::from_secs(20) {
            pause(Duration::from_millis(50));
        }
        self.resident()
    }
}

/// Lets time pass for the program, whose memory can only be looked at.
fn pause(time: Duration) {
    async_io::block_on(async_io::Timer::after(time));
}

/// A tenth more than before, and what the allocator keeps for each thread, in kB.
fn allowed(before: u64) -> u64 {
    before / 10 * 11 + 16_000
}

#[test]
fn memory_goes_back_within_seconds_after_a_peak_of_messages() {
    let running = start(&["--log", "warn"]);
    let connection = running.connect();
    let channel = connection.channel().unwrap();
    let queues: Vec<_> = (0..10).map(|number| channel.queue(&format!("q{number}")).declare().unwrap()).collect();
    let fill = |count: usize| {
        for number in 0..count {
            let body = vec![7; 200 + number % 3_000];
            queues[number % queues.len()].publish(body).send().unwrap();
        }
        queues[0].publish("the last").confirm().unwrap();
    };
    let purge = || queues.iter().for_each(|queue| assert!(queue.purge().is_ok()));
    fill(1_000);
    purge();
    pause(Duration::from_millis(1_500));
    let before = running.resident();
    fill(150_000);
    let peak = running.resident();
    purge();
    let after = running.resident_below(allowed(before));
    eprintln!("{before} {peak} {after}");
    assert!(peak > 250_000, "{peak} kB at the peak");
    assert!(after <= allowed(before), "{before} kB before, {peak} kB at the peak, {after} kB after it");
    connection.close().unwrap();
}
