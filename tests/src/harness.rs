//! Runs a scenario with a deadline, and cleans up after it.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;

use crate::turn::Turn;
use crate::{Outcome, broker, embedded};

/// The time limit of a scenario. A scenario that is not done by then hangs.
const DEADLINE: Duration = Duration::from_secs(120);
/// The time limit of each request of the cleanup.
const CLEANUP: Duration = Duration::from_secs(20);

/// The scenario's view of the harness.
#[derive(Clone, Debug)]
pub struct Harness {
    scenario: &'static str,
    names: Arc<Mutex<Vec<String>>>,
}

impl Harness {
    /// Returns the name of the scenario: module path and sentence.
    pub fn scenario(&self) -> &'static str {
        self.scenario
    }

    /// Returns a unique name that begins with `stem`. A queue or exchange of that name is deleted at the end.
    pub fn name(&self, stem: &str) -> String {
        static RUN: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let run = RUN.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32);
        let name = format!("{stem}-{run:08x}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        name
    }
}

/// Runs a scenario on a new thread, in parallel with others unless it must be `alone`, and cleans up after it.
///
/// # Panics
/// If the scenario fails, panics, or exceeds the time limit.
pub fn run(scenario: &'static str, alone: bool, body: impl FnOnce(Harness) -> Outcome + Send + 'static) {
    run_for(DEADLINE, scenario, alone, body);
}

/// Runs a scenario with its own time limit.
///
/// # Panics
/// As [`run`] does.
pub fn run_for(
    deadline: Duration,
    scenario: &'static str,
    alone: bool,
    body: impl FnOnce(Harness) -> Outcome + Send + 'static,
) {
    if let Some(why) = embedded::why_not(scenario) {
        eprintln!("SKIPPED: the embedded broker can't run {scenario}: {why}");
        return;
    }
    let _turn = Turn::wait(alone);
    let harness = Harness { scenario, names: Arc::default() };
    let names = Arc::clone(&harness.names);
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| body(harness)));
        // The receiver is gone once the deadline has passed.
        let _ = sender.send(outcome);
    };
    thread::Builder::new().name(scenario.to_owned()).spawn(work).expect("the system can start a thread");
    let outcome = receiver.recv_timeout(deadline);
    let names = std::mem::take(&mut *names.lock().unwrap_or_else(PoisonError::into_inner));
    // Later scenarios need the broker.
    if let Err(failure) = broker().revive() {
        eprintln!("cannot restart the broker: {failure}");
    }
    // A name that can't be deleted, such as an exclusive queue of another connection, does not fail the scenario.
    let _ = block_on(clean_up(&names));
    match outcome {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(failure))) => panic!("{scenario} failed: {failure}"),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("{scenario} timed out after {deadline:?}"),
    }
}

async fn clean_up(names: &[String]) -> hopmq::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let connection = hopmq::Connection::open(&broker().amqp).await?.within(CLEANUP);
    for name in names {
        // A refusal closes the channel, so each name gets its own channel.
        let channel = connection.channel().await?;
        let queue = channel.queue_delete(name).delete();
        let exchange = channel.exchange_delete(name).delete();
        let _ = (queue.await, exchange.await);
    }
    connection.close().await
}
