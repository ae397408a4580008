//! Processes that outlive xtask. Each is known by its process id and by a mark in its command line, so that a reused
//! process id is never mistaken for it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::shell::{self, Result};

/// Whether process `pid` runs and its command line contains `mark`.
pub(crate) fn is_running(pid: u32, mark: &str) -> bool {
    command_line(pid).is_some_and(|line| line.contains(mark))
}

/// The ids of all processes whose command line contains `mark`.
pub(crate) fn find(mark: &str) -> Vec<u32> {
    let own = std::process::id();
    all().into_iter().filter(|&pid| pid != own && is_running(pid, mark)).collect()
}

/// Sends SIGTERM to the process, waits, and kills it if it is still there after `timeout`. Returns whether SIGTERM was
/// enough.
pub(crate) fn stop(pid: u32, mark: &str, timeout: Duration) -> Result<bool> {
    if signal("TERM", pid, mark, timeout) {
        return Ok(true);
    }
    kill(pid, mark).map(|()| false)
}

/// Kills the process with SIGKILL.
pub(crate) fn kill(pid: u32, mark: &str) -> Result {
    if signal("KILL", pid, mark, Duration::from_secs(10)) {
        Ok(())
    } else {
        Err(format!("process {pid} ({mark}) still runs 10 s after SIGKILL").into())
    }
}

/// Sends a signal and waits for the process to end. Returns whether it ended in time.
fn signal(name: &str, pid: u32, mark: &str, timeout: Duration) -> bool {
    if is_running(pid, mark) {
        // The shell's builtin: a minimal system may have no `kill` program.
        let _already_ended = Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status();
    }
    let deadline = Instant::now() + timeout;
    while is_running(pid, mark) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    !is_running(pid, mark)
}

/// The command line of a process, or `None` if it has ended.
fn command_line(pid: u32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&words).replace('\0', " ");
        return Some(line).filter(|line| !line.is_empty());
    }
    shell::output(Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()])).ok()
}

fn all() -> Vec<u32> {
    if let Ok(entries) = fs::read_dir("/proc") {
        return entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    }
    let listing = shell::output(Command::new("ps").args(["-ax", "-o", "pid="])).unwrap_or_default();
    listing.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Child;

    use super::*;

    /// Starts a shell that runs `script`, with `mark` in its command line. The test must `wait` for it.
    fn start(mark: &str, script: &str) -> Child {
        let child = Command::new("sh").arg0(mark).args(["-c", script]).spawn().expect("there is a shell");
        while !is_running(child.id(), mark) {
            thread::yield_now();
        }
        child
    }

    #[test]
    fn a_process_is_found_by_its_mark_and_ends_on_sigterm() {
        let mut child = start("xtask-test-polite", "while :; do :; done");
        assert!(find("xtask-test-polite").contains(&child.id()));
        assert!(!is_running(child.id(), "xtask-test-another"));
        assert!(stop(child.id(), "xtask-test-polite", Duration::from_secs(60)).expect("it ends"));
        assert!(!find("xtask-test-polite").contains(&child.id()));
        child.wait().expect("it has ended");
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed() {
        let mut child = start("xtask-test-deaf", "trap '' TERM; while :; do :; done");
        // The signal may arrive before the shell has set its trap. Then the shell ends, which is also correct.
        stop(child.id(), "xtask-test-deaf", Duration::from_millis(200)).expect("it is killed");
        assert!(!is_running(child.id(), "xtask-test-deaf"));
        child.wait().expect("it has ended");
    }
}
