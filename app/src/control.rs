//! The handle that stops an app or pauses single queues.
//!
//! Owns the switches of all queues. In come calls from any thread; out go wakes. It must never know a message.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use hopmq::Connection;

#[cfg(doc)]
use crate::App;
use crate::telemetry::{Health, QueueHealth, QueueState};
use crate::worker::Gate;

/// A handle that stops an app or pauses single queues: created by [`App::control`]. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Mutex<Switches>>);

#[derive(Debug, Default)]
struct Switches {
    gates: Vec<(String, Arc<Gate>)>,
    stopped: bool,
    /// The connection of the running app.
    connection: Option<Connection>,
    waiting: Vec<Waker>,
}

impl Control {
    pub(crate) fn add(&self, queue: &str, gate: &Arc<Gate>) {
        self.lock().gates.push((queue.to_owned(), Arc::clone(gate)));
    }

    /// Stops the app: it takes no more messages, finishes those in work, and its `run` ends.
    pub fn stop(&self) {
        let mut switches = self.lock();
        switches.stopped = true;
        switches.gates.iter().for_each(|(_, gate)| gate.stop());
        switches.waiting.drain(..).for_each(Waker::wake);
    }

    /// Takes no more messages of a queue until [`resume`](Self::resume). Returns whether the app has the queue.
    ///
    /// Messages in work are finished. After a second, the consumer is cancelled, and the messages that were sent ahead
    /// go back to the queue for other consumers.
    pub fn pause(&self, queue: &str) -> bool {
        self.turn(queue, true)
    }

    /// Takes messages of a paused queue again. Returns whether the app has the queue.
    pub fn resume(&self, queue: &str) -> bool {
        self.turn(queue, false)
    }

    fn turn(&self, queue: &str, paused: bool) -> bool {
        let switches = self.lock();
        let mut found = switches.gates.iter().filter(|(name, _)| name == queue).peekable();
        let any = found.peek().is_some();
        found.for_each(|(_, gate)| gate.pause(paused));
        any
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Returns whether the app is connected, and what the consumers of its queues do.
    pub fn health(&self) -> Health {
        let switches = self.lock();
        let connected = switches.connection.as_ref().is_some_and(Connection::is_connected);
        let queues = switches.gates.iter().map(|(queue, gate)| {
            let state = match () {
                () if gate.is_stopped() => QueueState::Stopped,
                () if gate.is_paused() => QueueState::Paused,
                () if gate.is_consuming() => QueueState::Consuming,
                () => QueueState::Absent,
            };
            QueueHealth { queue: queue.clone(), state }
        });
        Health { connected, queues: queues.collect() }
    }

    /// Remembers the connection until the returned guard is dropped, because a handle would keep it open.
    pub(crate) fn connected(&self, connection: &Connection) -> Connected {
        self.lock().connection = Some(connection.clone());
        Connected(self.clone())
    }

    /// Waits until the app is stopped.
    pub async fn stopped(&self) {
        poll_fn(|task| {
            let mut switches = self.lock();
            if switches.stopped {
                return Poll::Ready(());
            }
            if !switches.waiting.iter().any(|waker| waker.will_wake(task.waker())) {
                switches.waiting.push(task.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Switches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running app of a control.
pub(crate) struct Connected(Control);

impl Drop for Connected {
    fn drop(&mut self) {
        let connection = self.0.lock().connection.take();
        drop(connection);
        self.0.lock().gates.iter().for_each(|(_, gate)| gate.set_consuming(false));
    }
}
