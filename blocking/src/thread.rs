//! The thread that drives one connection.

use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hopmq::{Connection, Error, ErrorKind, Reactor, Result};

/// How much longer than `close_timeout` the last handle of a connection waits for its thread: a second more than a
/// driver needs at the most to hear the broker's goodbye and to write its own.
const GRACE: Duration = Duration::from_secs(5);

/// Waits for the thread when it is dropped.
struct Guard {
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
    patience: Duration,
}

/// Starts the thread. It ends with the connection, whose last handle waits for it.
pub(crate) fn drive(
    connection: &Connection,
    mut reactor: Reactor,
    driver: impl Future<Output = ()> + Send + 'static,
    close_timeout: Duration,
) -> Result<()> {
    let (alive, ended) = channel();
    let run = move || {
        reactor.block_on(driver);
        drop(alive);
    };
    let started = thread::Builder::new().name("hopmq-blocking".to_owned()).spawn(run);
    let thread = started.map_err(|error| {
        Error::new(ErrorKind::Io, format!("the thread that drives the connection can't be started: {error}"))
    })?;
    connection.keep(Guard { thread: Some(thread), ended, patience: close_timeout.saturating_add(GRACE) });
    Ok(())
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // A subscriber of `tracing` may hold the connection, and runs on the driver's thread too.
        let myself = thread.thread().id() == thread::current().id();
        if !myself && self.ended.recv_timeout(self.patience) == Err(RecvTimeoutError::Disconnected) {
            // If it panicked, it has said so, and the connection has ended.
            let _ = thread.join();
        }
    }
}
