//! Processes that outlive us, known by their number and by a mark in their command line, so that a number which the
//! system has given to another process since is never mistaken for ours.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::shell::{self, Result};

/// Whether process `pid` runs and its command line has `mark`.
pub(crate) fn is_running(pid: u32, mark: &str) -> bool {
    command_line(pid).is_some_and(|line| line.contains(mark))
}

/// All processes whose command line has `mark`.
pub(crate) fn find(mark: &str) -> Vec<u32> {
    let ours = std::process::id();
    all().into_iter().filter(|&pid| pid != ours && is_running(pid, mark)).collect()
}

/// Asks the process to end, waits for it, and kills it when it has not ended within `patience`. Returns whether it
/// ended by itself.
pub(crate) fn stop(pid: u32, mark: &str, patience: Duration) -> Result<bool> {
    if signal("TERM", pid, mark, patience) {
        return Ok(true);
    }
    kill(pid, mark).map(|()| false)
}

/// Ends the process as `kill -9` does.
pub(crate) fn kill(pid: u32, mark: &str) -> Result {
    if signal("KILL", pid, mark, Duration::from_secs(10)) {
        Ok(())
    } else {
        Err(format!("process {pid} ({mark}) does not end, not even when killed").into())
    }
}

/// Sends a signal, and waits for the end. Returns whether it came.
fn signal(name: &str, pid: u32, mark: &str, patience: Duration) -> bool {
    if is_running(pid, mark) {
        // The shell's own `kill`: a small system may have no program of that name.
        let _gone_meanwhile = Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status();
    }
    let deadline = Instant::now() + patience;
    while is_running(pid, mark) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    !is_running(pid, mark)
}

/// The words of a process's command line, none for one that has ended.
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

    /// A shell that waits, known by its mark. Its parent, this test, must read its end before it is gone for good.
    fn start(mark: &str, script: &str) -> Child {
        let child = Command::new("sh").arg0(mark).args(["-c", script]).spawn().expect("there is a shell");
        while !is_running(child.id(), mark) {
            thread::yield_now();
        }
        child
    }

    #[test]
    fn a_process_is_found_by_its_mark_and_asked_to_end() {
        let mut child = start("xtask-test-polite", "while :; do :; done");
        assert!(find("xtask-test-polite").contains(&child.id()));
        assert!(!is_running(child.id(), "xtask-test-another"));
        assert!(stop(child.id(), "xtask-test-polite", Duration::from_secs(60)).expect("it ends"));
        assert!(!find("xtask-test-polite").contains(&child.id()));
        child.wait().expect("it has ended");
    }

    #[test]
    fn a_process_that_does_not_want_to_end_is_killed() {
        let mut child = start("xtask-test-deaf", "trap '' TERM; while :; do :; done");
        // It may get the signal before it has closed its ears; then it ends as asked, which is right as well.
        stop(child.id(), "xtask-test-deaf", Duration::from_millis(200)).expect("it is killed");
        assert!(!is_running(child.id(), "xtask-test-deaf"));
        child.wait().expect("it has ended");
    }
}
