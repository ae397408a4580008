//! The threads of a store in production.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::shared::{Notify, Shared, State};
use super::{Checkpointer, Writer};

/// Time without groups after which the writer notes where the log ends.
const REST: Duration = Duration::from_millis(200);
/// Time between two tries while the disk is full.
const RETRY: Duration = Duration::from_millis(200);

/// The threads of [`Writer::spawn`]. Dropping this closes the store and waits until all pending groups are safe.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    running: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts the store's threads: one writes whenever groups are pending, one frees log files. `notify` is called on
    /// one of these threads after each change of [`Store::status`](super::Store::status): wake a task that reads the
    /// status. The threads end when the last [`Store`](super::Store) or the returned [`Threads`] is dropped; pending
    /// groups are made safe first, unless the disk fails.
    ///
    /// # Errors
    /// If the system can't start a thread.
    pub fn spawn(self, checkpointer: Checkpointer, notify: impl Fn() + Send + Sync + 'static) -> io::Result<Threads> {
        let shared = self.shared.clone();
        let _ = shared.notify.set(Notify(Box::new(notify)));
        let mut threads = Threads { shared, running: Vec::new() };
        let writes = Builder::new().name("hopmq-store".into()).spawn(|| write(self))?;
        threads.running.push(writes);
        let checks = Builder::new().name("hopmq-checkpoint".into()).spawn(|| check(checkpointer))?;
        threads.running.push(checks);
        Ok(threads)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.to_write.notify_all();
        self.shared.to_check.notify_all();
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Runs the writer until the store is closing and nothing is pending, or the disk has failed.
fn write(mut writer: Writer) {
    let mut noted = false;
    while let Ok(worked) = writer.turn() {
        noted &= !worked;
        let shared = writer.shared.clone();
        let mut state = shared.lock();
        if !worked && state.log.waiting > 0 {
            if state.closing {
                return;
            }
            state = shared.to_write.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        while state.log.waiting == 0 && !state.closing && state.failed.is_none() && !state.disk_full {
            state.writer_sleeps = true;
            if noted {
                state = shared.to_write.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (again, time) = shared.to_write.wait_timeout(state, REST).unwrap_or_else(PoisonError::into_inner);
            state = again;
            if time.timed_out() && state.log.waiting == 0 {
                drop(state);
                if writer.rest().is_err() {
                    return;
                }
                noted = true;
                state = shared.lock();
            }
        }
        if state.disk_full && state.log.waiting == 0 && !state.closing {
            drop(shared.to_write.wait_timeout(state, RETRY));
        } else if state.closing && state.log.waiting == 0 {
            drop(state);
            return writer.close();
        }
    }
}

/// Runs the checkpointer until the store is closing or the disk has failed.
fn check(mut checkpointer: Checkpointer) {
    while let Ok(worked) = checkpointer.turn() {
        if worked {
            continue;
        }
        let shared = checkpointer.shared();
        let mut state = shared.lock();
        if state.disk_full && !state.closing {
            state = shared.to_check.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_idle = |state: &State| checkpointer.has_seen(state) || !state.is_due(&shared.settings);
        while is_idle(&state) && !state.disk_full && !state.closing && state.failed.is_none() {
            state = shared.to_check.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closing {
            return;
        }
    }
}
