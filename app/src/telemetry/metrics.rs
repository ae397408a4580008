use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::histogram::Histogram;
use super::spans::error_type;
use crate::incoming::Incoming;
use crate::observe::{Ended, Mark, Observer, Sent};

/// How many classes of errors a queue or an exchange can have of its own. Further ones are counted together.
const MOST_ERRORS: usize = 100;
/// How many exchanges are counted by name. Further ones are counted together.
const MOST_EXCHANGES: usize = 1000;
/// What further classes and exchanges are counted as, by the conventions.
const OTHER: &str = "_OTHER";

/// Counts messages and measures handlers, by OpenTelemetry's names; [`prometheus`](Self::prometheus) writes them.
/// Clones are the same metrics: give one to [`App::observe`](crate::App::observe), and keep one.
///
/// | metric | labels besides `messaging_system="rabbitmq"` |
/// | --- | --- |
/// | `messaging_client_consumed_messages_total` | `messaging_destination_name`: the queue |
/// | `messaging_process_duration_seconds`, a histogram | the queue, `hopmq_verdict`, `error_type` of failures |
/// | `messaging_client_sent_messages_total` | `messaging_destination_name`: the exchange, `error_type` of failures |
/// | `messaging_client_operation_duration_seconds`, a histogram of `publish` | the same |
/// | `hopmq_app_messages_in_work`, a gauge | the queue |
/// | `hopmq_app_messages_waiting`, a gauge | the queue |
///
/// Waiting are messages that the program holds while no handler works on them: until their next attempt, or behind one
/// with the same key. An attempt that follows in the same slot is measured again, and its message not counted again.
///
/// ```
/// use hopmq_app::{App, Metrics, Queue};
///
/// let metrics = Metrics::new();
/// let app = App::new(()).observe(metrics.clone()).route(Queue::new("orders"), || async {});
/// assert!(metrics.prometheus().starts_with("# HELP messaging_client_consumed_messages_total"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Values>>);

#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) queues: BTreeMap<String, OfQueue>,
    /// By exchange, and by the type of the error; that is empty for what was confirmed.
    pub(super) sent: BTreeMap<(String, String), Histogram>,
}

#[derive(Debug, Default)]
pub(super) struct OfQueue {
    pub(super) consumed: u64,
    pub(super) in_work: u64,
    pub(super) waiting: usize,
    /// By verdict, and by the class of the failure; that is empty for a success.
    pub(super) processed: BTreeMap<(&'static str, String), Histogram>,
}

impl Metrics {
    /// Returns metrics that are all 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns all metrics in Prometheus' text format 0.0.4.
    pub fn prometheus(&self) -> String {
        super::prometheus::write(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_queue(&self, queue: &str, change: impl FnOnce(&mut OfQueue)) {
        let mut values = self.lock();
        match values.queues.get_mut(queue) {
            Some(values) => change(values),
            None => change(values.queues.entry(queue.to_owned()).or_default()),
        }
    }
}

/// Counts a message as in work until it is dropped.
struct InWork {
    metrics: Metrics,
    queue: Arc<str>,
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.metrics.of_queue(&self.queue, |values| values.in_work = values.in_work.saturating_sub(1));
    }
}

impl Observer for Metrics {
    fn begin(&self, incoming: &Incoming) -> Mark {
        self.of_queue(incoming.queue(), |values| {
            values.in_work += 1;
            values.consumed += u64::from(!incoming.is_again());
        });
        Mark::new(InWork { metrics: self.clone(), queue: incoming.context().shared_queue() })
    }

    fn end(&self, _: Mark, incoming: &Incoming, ended: &Ended<'_>) {
        let class = ended.verdict.failure().map_or("", |failure| failure.class());
        self.of_queue(incoming.queue(), |values| {
            let known = values.processed.keys().filter(|(_, class)| !class.is_empty()).count();
            let name = ended.verdict.name();
            let new = known >= MOST_ERRORS && !values.processed.contains_key(&(name, class.to_owned()));
            let class = if new && !class.is_empty() { OTHER } else { class };
            values.processed.entry((name, class.to_owned())).or_default().record(ended.elapsed);
        });
    }

    fn waiting(&self, queue: &str, messages: usize) {
        self.of_queue(queue, |values| values.waiting = messages);
    }

    fn sent(&self, sent: &Sent<'_>) {
        let error = sent.result.as_ref().err().map_or(Cow::Borrowed(""), |error| error_type(error).into());
        let mut values = self.lock();
        let mut key = (sent.exchange.to_owned(), error.into_owned());
        if values.sent.len() >= MOST_EXCHANGES && !values.sent.contains_key(&key) {
            key.0 = OTHER.to_owned();
        }
        values.sent.entry(key).or_default().record(sent.elapsed);
    }
}
