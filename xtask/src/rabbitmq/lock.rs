//! A lock between processes: two commands must not start, stop or install the same thing at once.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::process;
use crate::shell::{self, Result};

/// Held by one process of xtask. Dropping it frees the folder.
pub(super) struct Lock(PathBuf);

impl Lock {
    /// Waits until no other process holds the folder. Takes over from a process that has ended, and from any after
    /// `timeout`.
    pub(super) fn take(folder: &Path, timeout: Duration) -> Result<Self> {
        let path = folder.join("lock");
        fs::create_dir_all(folder)?;
        let deadline = Instant::now() + timeout;
        while OpenOptions::new().write(true).create_new(true).open(&path).is_err() {
            let owner = shell::read(&path).ok().and_then(|pid| pid.trim().parse::<u32>().ok());
            let stale = owner.is_some_and(|pid| !process::is_running(pid, "xtask"));
            if stale || Instant::now() > deadline {
                let _taken_over = fs::remove_file(&path);
            }
            thread::sleep(Duration::from_millis(50));
        }
        shell::write(&path, &std::process::id().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}
