//! The thread that drives one connection.

use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hopmq::{Assistable, AssistedDriver, Connection, Error, ErrorKind, Reactor, Result};

/// How much longer than `close_timeout` the last handle of a connection waits for its thread: one second more than a
/// driver needs at most for the close handshake.
const GRACE: Duration = Duration::from_secs(5);

/// Waits for the driver's thread when it is dropped.
struct JoinOnDrop {
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
    timeout: Duration,
    /// The process that has the thread.
    process: u32,
}

/// Starts the thread that drives `connection` and ends with it. The connection's last handle waits for the thread.
pub(crate) fn drive(
    connection: &Connection,
    reactor: Reactor,
    driver: AssistedDriver<impl Assistable>,
    close_timeout: Duration,
) -> Result<()> {
    let (alive, ended) = channel();
    let run = move || {
        driver.run(reactor);
        drop(alive);
    };
    let started = thread::Builder::new().name("hopmq-blocking".to_owned()).spawn(run);
    let thread = started.map_err(|error| {
        Error::new(ErrorKind::Io, format!("could not start the thread that drives the connection: {error}"))
    })?;
    connection.keep(JoinOnDrop {
        thread: Some(thread),
        ended,
        timeout: close_timeout.saturating_add(GRACE),
        process: process::id(),
    });
    Ok(())
}

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.process != process::id() {
            // A process that was forked has no such thread.
            return;
        }
        // A `tracing` subscriber may hold the connection, and runs on the driver's thread too.
        let on_driver_thread = thread.thread().id() == thread::current().id();
        if !on_driver_thread && self.ended.recv_timeout(self.timeout) == Err(RecvTimeoutError::Disconnected) {
            // A panic of the thread has been printed by its hook, and has ended the connection.
            let _ = thread.join();
        }
    }
}
