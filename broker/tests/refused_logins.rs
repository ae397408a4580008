//! The memory and the time of refused logins.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hopmq_blocking::{Connection, Recovery};

/// The program with a folder for its data. It is killed when the value is dropped.
struct Program {
    child: Child,
    address: String,
    folder: std::path::PathBuf,
}

impl Program {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("hopmq-refused-logins-{}", std::process::id()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_hopmq-broker"));
        // Otherwise all but the first hundred would be throttled.
        command.args(["--shared-address", "127.0.0.1"]);
        command.args(["--listen", "127.0.0.1:0", "--log", "off", "--data"]).arg(&folder);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("guest@")?.1.to_owned())).expect("it starts");
        Self { child, address, folder }
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
