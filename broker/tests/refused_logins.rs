//! The memory and the time of refused logins.
#![cfg(target_os = "linux")]

mod running;

use std::time::{Duration, Instant};

use hopmq_blocking::{Connection, Recovery};
use running::{Running, start};

/// The program with a folder for its data. It is killed when the value is dropped.
struct Program {
    running: Running,
    address: String,
    folder: std::path::PathBuf,
}

impl Program {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("hopmq-refused-logins-{}", std::process::id()));
        // Without the shared address, all but the first hundred would be throttled.
        let options = ["--shared-address", "127.0.0.1", "--log", "off", "--data"];
        let running = start(&[&options, &[folder.to_str().unwrap()][..]].concat());
        let (_, address) = running.uri.split_once("guest@").expect("it names its user");
        Self { address: address.to_owned(), running, folder }
    }

    /// Tries to log in, and returns after how long that was refused.
    fn refused(&self, user: &str) -> Duration {
        let uri = format!("amqp://{user}:wrong@{}", self.address);
        let started = Instant::now();
        let error = Connection::builder().uri(&uri).recovery(Recovery::off()).open().unwrap_err();
        assert_eq!(error.code(), Some(403), "{error}");
        started.elapsed()
    }

    /// Returns the resident memory, in MiB.
    fn memory(&self) -> u64 {
        self.running.resident() / 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.running.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn refused_logins_cost_a_bounded_memory_and_little_time() {
    let program = Program::start();
    let before = program.memory();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let program = &program;
            scope.spawn(move || {
                for number in 0..25 {
                    program.refused(&format!("u{thread}x{number}"));
                }
            });
        }
    });
    let grown = program.memory().saturating_sub(before);
    let checks = std::thread::available_parallelism().map_or(1, usize::from).min(4) as u64;
    // 8 MiB for each check at once, and the rest of the program.
    assert!(grown < checks * 8 + 16, "400 refused logins of 16 clients left {grown} MiB");
    let quickest = (0..20).map(|number| program.refused(&format!("unknown{number}"))).min().unwrap();
    assert!(quickest < Duration::from_millis(10), "{quickest:?}");
}
