//! The lock that separates an `alone` scenario from all others on the same broker.
//!
//! cargo-nextest runs each scenario as a process of its own, so a broker that processes share needs a file lock. The
//! embedded broker belongs to one process, where a lock in memory is enough.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fs4::FileExt;

use crate::{broker, embedded};

/// Held while a scenario runs: shared with others, or exclusively if the scenario is `alone`.
pub(crate) enum Turn {
    Beside { _memory: RwLockReadGuard<'static, ()> },
    Alone { _memory: RwLockWriteGuard<'static, ()> },
    OnSharedBroker { _file: File },
}

impl Turn {
    /// Waits until the scenario may run.
    ///
    /// # Panics
    /// If the lock file cannot be opened or locked.
    pub(crate) fn wait(alone: bool) -> Self {
        static MEMORY: RwLock<()> = RwLock::new(());
        if embedded::embedded().is_none() {
            let path = lock_path(broker().address());
            let file = lock(&path, alone).unwrap_or_else(|error| panic!("cannot lock {}: {error}", path.display()));
            return Self::OnSharedBroker { _file: file };
        }
        // The lock protects no data, so a panic of another scenario leaves nothing inconsistent.
        if alone {
            Self::Alone { _memory: MEMORY.write().unwrap_or_else(PoisonError::into_inner) }
        } else {
            Self::Beside { _memory: MEMORY.read().unwrap_or_else(PoisonError::into_inner) }
        }
    }
}

/// The lock file of the broker at `address`, the same for every process that tests it.
fn lock_path(address: &str) -> PathBuf {
    std::env::temp_dir().join(format!("hopmq-tests-{}.lock", address.replace(':', "-")))
}

/// Locks a file until the returned handle is dropped.
///
/// File locks are not fair: new shared holders could keep an exclusive one waiting for ever. So each waits for a second
/// file first, which an exclusive one keeps while it waits.
fn lock(path: &Path, exclusive: bool) -> io::Result<File> {
    let open = |path: &Path| OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let entrance = open(&path.with_extension("entrance"))?;
    let file = open(path)?;
    FileExt::lock(&entrance)?;
    if exclusive { FileExt::lock(&file) } else { FileExt::lock_shared(&file) }?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn nothing_runs_beside_the_holder_of_an_exclusive_file_lock() {
        let path = std::env::temp_dir().join(format!("hopmq-tests-turn-{}.lock", std::process::id()));
        let running = AtomicUsize::new(0);
        thread::scope(|scope| {
            for thread in 0..4 {
                // Each lock is a file handle of its own, as in another process.
                let (path, running) = (&path, &running);
                scope.spawn(move || {
                    for round in 0..50 {
                        let alone = (round + thread) % 4 == 0;
                        let file = lock(path, alone).unwrap();
                        let others = running.fetch_add(1, Ordering::SeqCst);
                        assert!(!alone || others == 0, "{others} run beside one that is alone");
                        thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(file);
                    }
                });
            }
        });
        std::fs::remove_file(path.with_extension("entrance")).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
