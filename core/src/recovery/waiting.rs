//! What the broker refused to restore and is asked for again: the record of it, and its events.

use hopmq_proto::SortedMap;
use tracing::{info, warn};

use super::replay::Replay;
use crate::error::{Error, ErrorKind};
use crate::state::State;
use crate::state::events::Event;
use crate::state::keys::ConsumerKey;

/// What waits, in the order in which it is restored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// An entry of the ledger.
    Declared(u64),
    /// A queue of another program.
    Other(String),
    Consumer(ConsumerKey),
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting(SortedMap<Subject, Refused>);

/// Why something waits.
#[derive(Debug)]
struct Refused {
    /// The entity: `queue "orders"`, …
    entity: String,
    /// The name, if it is a queue.
    queue: Option<String>,
    error: Error,
    /// Whether the subscribers know of it.
    reported: bool,
}

/// What has become of something that waited.
#[derive(PartialEq, Eq)]
enum Fate {
    Waits,
    Restored,
    /// The program deleted or cancelled it, or it will not be tried again.
    Gone,
}

impl Fate {
    /// Returns the fate of something that may be missing on the present link, or may no longer exist.
    fn of(missing: Option<bool>) -> Self {
        match missing {
            Some(true) => Self::Waits,
            Some(false) => Self::Restored,
            None => Self::Gone,
        }
    }
}

impl Waiting {
    /// Notes that the broker refused `subject`, which is tried again.
    pub(super) fn note(&mut self, subject: Subject, entity: String, queue: Option<String>, error: Error) {
        let reported = self.0.get(&subject).is_some_and(|refused| refused.reported);
        self.0.insert(subject, Refused { entity, queue, error, reported });
    }

    /// Forgets what is not tried again.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.0.remove(subject);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the queues that wait, with the broker's reasons.
    fn queues(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.0.values().filter_map(|refused| Some((refused.queue.as_deref()?, &refused.error)))
    }
}

impl Replay {
    fn fate(&self, state: &mut State, subject: &Subject) -> Fate {
        match subject {
            Subject::Declared(serial) => Fate::of(state.ledger.is_missing(*serial)),
            Subject::Other(queue) if self.found(queue) => Fate::Restored,
            Subject::Other(queue) if state.queues_of_missing_consumers().contains(queue) => Fate::Waits,
            Subject::Other(_) => Fate::Gone,
            Subject::Consumer(key) => Fate::of(state.is_consumer_missing(*key)),
        }
    }

    /// Has requests for the queues that wait wait as well, from now on.
    pub(super) fn await_queues(&mut self, state: &mut State) {
        let subjects: Vec<Subject> = self.waiting.0.keys().cloned().collect();
        let mut awaited = SortedMap::new();
        for subject in subjects {
            if self.fate(state, &subject) == Fate::Waits
                && let Some(Refused { queue: Some(queue), error, .. }) = self.waiting.0.get(&subject)
            {
                awaited.insert(queue.clone(), error.clone());
            }
        }
        state.set_awaited(awaited);
    }

    /// Tells the subscribers what waits and what is restored since the last report.
    pub(super) fn report_waiting(&mut self, state: &mut State) {
        for (key, entity, queue) in state.missing_consumers() {
            let subject = Subject::Consumer(key);
            if self.waiting.0.contains_key(&subject) {
                continue;
            }
            let mut refused = self.waiting.queues().filter(|(refused, _)| *refused == queue);
            let reason = refused.next().map(|(_, error)| error.clone());
            drop(refused);
            let unknown = || Error::new(ErrorKind::Recovering, "it could not be tried yet");
            self.waiting.note(subject, entity, None, reason.unwrap_or_else(unknown));
        }
        let subjects: Vec<Subject> = self.waiting.0.keys().cloned().collect();
        let mut restored = Vec::new();
        for subject in subjects {
            let fate = self.fate(state, &subject);
            if fate == Fate::Waits {
                continue;
            }
            let refused = self.waiting.0.remove(&subject).filter(|refused| refused.reported);
            restored.extend(refused.filter(|_| fate == Fate::Restored).map(|refused| refused.entity));
        }
        let waiting = self.waiting.len();
        for entity in restored {
            info!(waiting, "{entity} is restored");
            state.emit(&Event::Restored { entity, waiting });
        }
        for refused in self.waiting.0.values_mut().filter(|refused| !refused.reported) {
            refused.reported = true;
            let (entity, error) = (refused.entity.clone(), refused.error.clone());
            warn!(%error, "{entity} is not restored yet");
            state.emit(&Event::Waiting { entity, error });
        }
    }
}
