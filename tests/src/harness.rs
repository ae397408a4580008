//! Running one scenario: with a name for its deadline, and broom and pan behind it.

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

/// How long a scenario may take: it ends by itself well before, or hangs.
const DEADLINE: Duration = Duration::from_secs(120);
/// What one step of cleaning up may take.
const CLEANING: Duration = Duration::from_secs(20);

/// What a scenario has of the harness.
#[derive(Clone, Debug)]
pub struct Harness {
    scenario: &'static str,
    names: Arc<Mutex<Vec<String>>>,
}

impl Harness {
    /// The name of the scenario: door, topic, sentence.
    pub fn scenario(&self) -> &'static str {
        self.scenario
    }

    /// A name that nobody else uses, beginning with `stem`. A queue or an exchange of that name is deleted in the end.
    pub fn name(&self, stem: &str) -> String {
        static RUN: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let run = RUN.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32);
        let name = format!("{stem}-{run:08x}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        name
    }
}

/// Runs a scenario on a thread of its own, beside others unless it must be `alone`, and cleans up after it.
///
/// # Panics
/// If it fails, panics, or is not done in time.
pub fn run(scenario: &'static str, alone: bool, body: impl FnOnce(Harness) -> Outcome + Send + 'static) {
    run_for(DEADLINE, scenario, alone, body);
}

/// Runs a scenario that may take so long.
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
        eprintln!("{scenario} is not for the embedded broker: {why}");
        return;
    }
    let _turn = Turn::wait(alone);
    let harness = Harness { scenario, names: Arc::default() };
    let names = Arc::clone(&harness.names);
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| body(harness)));
        // Nobody listens any more once the deadline has passed.
        let _ = sender.send(outcome);
    };
    thread::Builder::new().name(scenario.to_owned()).spawn(work).expect("the system has a thread for a scenario");
    let outcome = receiver.recv_timeout(deadline);
    let names = std::mem::take(&mut *names.lock().unwrap_or_else(PoisonError::into_inner));
    // Those that come afterwards need it.
    if let Err(failure) = broker().revive() {
        eprintln!("the broker does not come back: {failure}");
    }
    // What can't be deleted (another connection's exclusive queue) is no fault of the scenario.
    let _ = block_on(clean_up(&names));
    match outcome {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(failure))) => panic!("{scenario} failed: {failure}"),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("{scenario} was not done within {deadline:?}"),
    }
}

async fn clean_up(names: &[String]) -> hopmq::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let connection = hopmq::Connection::open(&broker().amqp).await?.within(CLEANING);
    for name in names {
        // A refusal closes the channel, so each name has one of its own.
        let channel = connection.channel().await?;
        let (queue, exchange) = (channel.queue_delete(name).delete(), channel.exchange_delete(name).delete());
        let _ = (queue.await, exchange.await);
    }
    connection.close().await
}
