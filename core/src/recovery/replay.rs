//! A replay: restores on a new link everything that the lost link had.
//!
//! Exchanges and queues come first, then bindings, on a channel of their own, so that a refusal closes no channel of
//! the user's. Then the user's channels are opened with their numbers and settings, and their consumers
//! started. If another program declares the queue of a consumer, the replay first checks that the queue
//! exists, because a refused consumer closes its channel.
//!
//! What the broker refuses stays missing, and is tried again in a later pass, while everything else works.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::method::{Method, MethodId, queue};
use hopmq_proto::{CloseReason, Elapsed, SortedMap, Time, code};
use tracing::{debug, info, warn};

use super::Recovering;
use super::waiting::{Subject, Waiting};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::{Entity, OnFailure, Replayed};
use crate::state::events::Event;
use crate::state::keys::ConsumerKey;
use crate::state::ledger::Key;
use crate::state::restart::Restored;
use crate::state::{REPLAY, RequestKind, State, transmit};

/// The largest number of requests in flight. Each refusal halves the number, because the broker ignores what follows a
/// refused request on a channel, and all of that is sent again.
const WINDOW: usize = 256;

/// How long the broker may leave requests of the replay unanswered before the link counts as lost.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(30);

/// The state of a replay. See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Replay {
    /// What the broker refused, and is asked for again.
    pub(super) waiting: Waiting,
    /// The channel for declarations.
    channel: u16,
    stage: Stage,
    todo: VecDeque<Step>,
    sent: VecDeque<Step>,
    /// How many requests may be in flight.
    window: usize,
    /// Queues of other programs, which the replay checks and never declares.
    others: SortedMap<String, Other>,
    /// Channels whose opening is not answered, with their serial numbers.
    opening: SortedMap<u16, u64>,
    /// The channels with consumers that were started and not accepted yet.
    starting: SortedMap<u16, Starting>,
    done: Replayed,
    reported: bool,
    /// When to retry what is missing.
    again: Option<Time>,
    /// The deadline for the broker's next reply.
    due: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Exchanges and queues are declared.
    Declaring,
    /// Bindings are declared, and the queues of other programs checked.
    Binding,
    /// The channel for declarations is being closed.
    Closing,
    /// Channels are opened and consumers started.
    Starting,
    /// All is done except for what is missing.
    Waiting,
}

/// A queue of another program.
#[derive(Debug, Default)]
struct Other {
    there: bool,
    /// How often the queue was not found.
    missed: u32,
}

/// Consumers of one channel that were started and not accepted yet, in their order.
#[derive(Debug)]
struct Starting {
    /// The serial number of the channel.
    serial: u64,
    consumers: VecDeque<ConsumerKey>,
}

#[derive(Debug)]
enum Step {
    Open,
    Declare(u64),
    Check(String),
    Close,
}

impl Replay {
    fn new() -> Self {
        Self {
            waiting: Waiting::default(),
            channel: 0,
            stage: Stage::Declaring,
            todo: VecDeque::new(),
            sent: VecDeque::new(),
            window: WINDOW,
            others: SortedMap::new(),
            opening: SortedMap::new(),
            starting: SortedMap::new(),
            done: Replayed::default(),
            reported: false,
            again: None,
            due: Time::ZERO,
        }
    }

    /// Whether a queue of another program was found.
    pub(super) fn found(&self, queue: &str) -> bool {
        self.others.get(queue).is_some_and(|other| other.there)
    }

    /// Returns when the replay must act without an answer.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.stage == Stage::Waiting { self.again } else { Some(self.due) }
    }

    fn note_restored(&mut self, state: &State, channel: u16, restored: Restored) {
        if restored.opening {
            self.opening.extend(state.channel_serial(channel).map(|serial| (channel, serial)));
            self.done.channels += 1;
        }
        self.done.publishes += restored.publishes;
        self.note_starting(state, channel, restored.starting);
    }

    fn note_starting(&mut self, state: &State, channel: u16, consumers: Vec<ConsumerKey>) {
        if let Some(serial) = state.channel_serial(channel)
            && !consumers.is_empty()
        {
            self.starting.insert(channel, Starting { serial, consumers: consumers.into() });
        }
    }

    /// Whether the broker has not accepted all channels and consumers that still exist.
    fn is_starting(&mut self, state: &State) -> bool {
        let is_over = |channel: u16, serial: u64| state.channel_serial(channel) != Some(serial);
        while let Some(first) = self.opening.first()
            && is_over(*first.0, *first.1)
        {
            self.opening.pop_first();
        }
        while let Some(first) = self.starting.first()
            && is_over(*first.0, first.1.serial)
        {
            self.starting.pop_first();
        }
        !self.opening.is_empty() || !self.starting.is_empty()
    }
}

impl Recovering {
    /// Begins the replay, after the handshake of a link.
    pub(super) fn link_opened(&mut self, state: &mut State, now: Time) -> Result<()> {
        state.link_opened();
        self.handshake = None;
        if !self.established {
            self.established = true;
            self.restored = Some(now);
            state.link_up();
            return Ok(());
        }
        let host = self.host.clone();
        info!(host, "reconnected");
        state.emit(&Event::Connected { host });
        let policy = &self.policy;
        state.ledger.leave_alone(|entity| !policy.topology || !policy.wants(entity));
        state.end_unwanted_consumers(policy);
        self.replay = Some(Replay::new());
        self.begin_pass(state, now)
    }

    /// Begins to declare what is missing.
    fn begin_pass(&mut self, state: &mut State, now: Time) -> Result<()> {
        let attempts = self.attempts_of_each();
        let missing = state.ledger.missing().filter(|(_, entry)| entry.tried <= attempts);
        let missing: VecDeque<Step> = missing.map(|(serial, _)| Step::Declare(serial)).collect();
        let channel = if state.is_up() { state.proto.free_channel().unwrap_or(0) } else { 1 };
        let Some(replay) = &mut self.replay else { return Ok(()) };
        replay.again = None;
        replay.due = now + REPLAY_TIMEOUT;
        if channel == 0 {
            // All channels are in use at the moment.
            replay.again = Some(now + Duration::from_secs(1));
            return Ok(());
        }
        replay.channel = channel;
        replay.stage = Stage::Declaring;
        replay.todo = missing;
        if replay.todo.is_empty() && self.steps_of_binding(state).is_empty() {
            return self.start_all(state, now);
        }
        let Some(replay) = &mut self.replay else { return Ok(()) };
        state.proto.open_channel(channel, REPLAY)?;
        replay.sent.push_back(Step::Open);
        self.pump(state, now)
    }

    /// Returns the bindings that are missing, and the queues of other programs that consumers need.
    fn steps_of_binding(&self, state: &State) -> VecDeque<Step> {
        let attempts = self.attempts_of_each();
        let ledger = &state.ledger;
        let bindings = ledger.missing_bindings().filter(|(_, entry)| entry.tried <= attempts);
        let mut steps: VecDeque<Step> = bindings.map(|(serial, _)| Step::Declare(serial)).collect();
        let Some(replay) = &self.replay else { return steps };
        let queues = state.queues_of_missing_consumers();
        let queues = queues.iter().filter(|queue| !ledger.declares(queue) && !replay.found(queue));
        steps.extend(queues.cloned().map(Step::Check));
        steps
    }

    /// Sends what may be sent, and enters the next stage when everything of one stage is answered.
    fn pump(&mut self, state: &mut State, now: Time) -> Result<()> {
        loop {
            while let Some(replay) = &mut self.replay
                && replay.sent.len() < replay.window
                && let Some(step) = replay.todo.pop_front()
            {
                self.send_step(state, step, now)?;
            }
            let Some(replay) = &mut self.replay else { return Ok(()) };
            if !replay.sent.is_empty() {
                return Ok(());
            }
            match replay.stage {
                Stage::Declaring => {
                    replay.stage = Stage::Binding;
                    let steps = self.steps_of_binding(state);
                    if let Some(replay) = &mut self.replay {
                        replay.todo = steps;
                    }
                }
                Stage::Binding => {
                    replay.stage = Stage::Closing;
                    replay.sent.push_back(Step::Close);
                    state.proto.close_channel(replay.channel, code::REPLY_SUCCESS, "", Some(REPLAY))?;
                }
                Stage::Closing => return self.start_all(state, now),
                Stage::Starting | Stage::Waiting => return Ok(()),
            }
        }
    }

    fn send_step(&mut self, state: &mut State, step: Step, now: Time) -> Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        let channel = replay.channel;
        let State { proto, ledger, .. } = state;
        let sent = match &step {
            Step::Declare(serial) => match ledger.entry(*serial) {
                Some(entry) => transmit(proto, channel, RequestKind::Plain, &entry.payload(), REPLAY),
                None => return Ok(()),
            },
            Step::Check(queue) => {
                let check = queue::Declare { queue, passive: true, ..queue::Declare::default() };
                proto.request(channel, &check, Some(REPLAY)).map_err(Error::from)
            }
            Step::Open | Step::Close => Ok(()),
        };
        match sent {
            Ok(()) => {
                replay.sent.push_back(step);
                Ok(())
            }
            Err(error) => self.step_failed(state, &step, error, now),
        }
    }

    /// Opens the channels and starts the consumers on them.
    fn start_all(&mut self, state: &mut State, now: Time) -> Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        replay.stage = Stage::Starting;
        replay.channel = 0;
        replay.await_queues(state);
        let is_up = state.is_up();
        for number in state.channel_numbers() {
            if is_up {
                let starting = state.start_missing_consumers(number, None, &|queue| replay.found(queue));
                replay.note_starting(state, number, starting);
            } else {
                let restored = state.restore_channel(number, None, &self.policy, &|queue| replay.found(queue));
                replay.note_restored(state, number, restored);
            }
        }
        if !is_up {
            state.link_up();
        }
        state.resend_requests();
        self.tick_replay(state, now)
    }

    /// Handles the broker's reply to a request of the replay.
    pub(super) fn replayed(&mut self, state: &mut State, channel: u16, payload: &Bytes, now: Time) -> Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        replay.due = now + REPLAY_TIMEOUT;
        if channel == replay.channel && replay.stage < Stage::Starting {
            if let Some(step) = replay.sent.pop_front() {
                self.step_done(state, step, payload);
            }
            return self.pump(state, now);
        }
        match Method::decode(payload)? {
            Method::ChannelOpenOk(_) => {
                replay.opening.remove(&channel);
            }
            Method::BasicConsumeOk(ok) => {
                let Some(starting) = replay.starting.get_mut(&channel) else { return Ok(()) };
                let consumers = &mut starting.consumers;
                if let Some(place) = consumers.iter().position(|key| state.may_have_tag(*key, ok.consumer_tag)) {
                    consumers.remove(place);
                    replay.done.consumers += 1;
                }
                if consumers.is_empty() {
                    replay.starting.remove(&channel);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn step_done(&mut self, state: &mut State, step: Step, payload: &Bytes) {
        let Some(replay) = &mut self.replay else { return };
        let serial = match step {
            Step::Declare(serial) => serial,
            Step::Check(queue) => {
                replay.others.or_default(queue).there = true;
                return;
            }
            Step::Open | Step::Close => return,
        };
        replay.window = (replay.window + 1).min(WINDOW);
        match state.ledger.restored(serial) {
            Some(Key::Exchange(_)) => replay.done.exchanges += 1,
            Some(Key::Binding(_)) => replay.done.bindings += 1,
            Some(Key::Queue(_)) => {
                replay.done.queues += 1;
                if let Ok(Method::QueueDeclareOk(ok)) = Method::decode(payload) {
                    state.rename_queue(serial, ok.queue);
                }
            }
            None => {}
        }
    }

    /// Handles a channel that the broker closed. Returns the reason if the close does not concern the replay.
    pub(super) fn channel_closed(
        &mut self,
        state: &mut State,
        number: u16,
        reason: CloseReason,
        now: Time,
    ) -> Result<Option<CloseReason>> {
        let Some(replay) = &mut self.replay else { return Ok(Some(reason)) };
        let text = format!("the broker refused it: {} {}", reason.code, reason.text);
        let error = Error::with_code(ErrorKind::ChannelClosed, reason.code, text);
        if number == replay.channel && replay.stage < Stage::Closing {
            let mut sent = std::mem::take(&mut replay.sent);
            sent.retain(|step| !matches!(step, Step::Open));
            let refused = sent.pop_front();
            sent.into_iter().rev().for_each(|step| replay.todo.push_front(step));
            replay.window = (replay.window / 2).max(1);
            replay.sent.push_back(Step::Open);
            state.proto.open_channel(number, REPLAY)?;
            if let Some(step) = refused {
                self.step_failed(state, &step, error, now)?;
            }
            self.pump(state, now)?;
            return Ok(None);
        }
        let starting = replay.starting.get(&number);
        let starting = starting.filter(|starting| state.channel_serial(number) == Some(starting.serial));
        let starting = starting.and_then(|starting| starting.consumers.front().copied());
        if reason.method == MethodId::BASIC_CONSUME
            && let Some(key) = starting
        {
            self.consumer_refused(state, number, key, error, now)?;
            return Ok(None);
        }
        Ok(Some(reason))
    }

    /// Forgets the declaration for which the broker closed the connection, so that it is not sent again.
    pub(super) fn forget_offender(&mut self, state: &mut State) {
        let (Some(replay), Some(offence)) = (&self.replay, &self.offence) else { return };
        let ledger = &mut state.ledger;
        let offends = |serial: u64| {
            let entry = ledger.entry(serial)?;
            MethodId::peek(&entry.payload()).is_ok_and(|id| id == offence.method).then(|| entry.key.clone())
        };
        let declared =
            replay.sent.iter().filter_map(|step| if let Step::Declare(serial) = step { Some(*serial) } else { None });
        let Some(key) = declared.into_iter().find_map(offends) else { return };
        let entity = key.entity().to_string();
        let error = offence.error.clone();
        ledger.forget(&key);
        warn!(%error, "{entity} is not restored");
        state.emit(&Event::NotRestored { entity, error });
    }

    /// Whether to retry after `tried` failed attempts. If so, schedules another pass.
    fn retries(&mut self, tried: u32, error: &Error, now: Time) -> bool {
        let OnFailure::Retry { attempts, delay } = self.policy.on_failure else { return false };
        // Other settings than the existing ones, or a type that the broker does not know, fail every time.
        let fails_always =
            matches!(error.code(), Some(code::PRECONDITION_FAILED | code::COMMAND_INVALID | code::NOT_IMPLEMENTED));
        if fails_always || error.kind() == ErrorKind::Usage || tried > attempts {
            return false;
        }
        if let Some(replay) = &mut self.replay {
            replay.again.get_or_insert(now + delay);
        }
        true
    }

    fn step_failed(&mut self, state: &mut State, step: &Step, error: Error, now: Time) -> Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        let (subject, what, queue, tried) = match step {
            Step::Declare(serial) => {
                let Some(entry) = state.ledger.entry(*serial) else { return Ok(()) };
                entry.tried += 1;
                let queue = if let Key::Queue(name) = &entry.key { Some(name.to_string()) } else { None };
                (Subject::Declared(*serial), entry.key.entity().to_string(), queue, entry.tried)
            }
            Step::Check(queue) => {
                let other = replay.others.or_default(queue.clone());
                other.missed += 1;
                let what = Entity::Queue { name: queue }.to_string();
                (Subject::Other(queue.clone()), what, Some(queue.clone()), other.missed)
            }
            Step::Open | Step::Close => return Ok(()),
        };
        let retries = self.retries(tried, &error, now);
        let Some(replay) = &mut self.replay else { return Ok(()) };
        if retries {
            debug!(%error, "{what} is not restored yet");
            replay.waiting.note(subject, what, queue, error);
            return Ok(());
        }
        replay.waiting.forget(&subject);
        if let Step::Declare(serial) = step
            && let Some(entry) = state.ledger.entry(*serial)
        {
            entry.tried = u32::MAX;
        }
        self.not_restored(state, what, error.clone())?;
        if let Some(queue) = queue {
            state.end_consumers_of(&queue, &error);
        }
        Ok(())
    }

    fn not_restored(&mut self, state: &mut State, entity: String, error: Error) -> Result<()> {
        if self.policy.on_failure == OnFailure::Fail {
            self.is_final = true;
            let text = format!("{entity} could not be restored after the link was lost: {error}");
            return Err(error.wrapped(error.kind(), text));
        }
        warn!(%error, "{entity} is not restored");
        if let Some(replay) = &mut self.replay {
            replay.done.failures += 1;
        }
        state.emit(&Event::NotRestored { entity, error });
        Ok(())
    }

    /// Handles a refused consumer, whose channel the broker closed: opens the channel again without the consumer.
    fn consumer_refused(
        &mut self,
        state: &mut State,
        number: u16,
        key: ConsumerKey,
        error: Error,
        now: Time,
    ) -> Result<()> {
        state.lose_channel(number, &error, None);
        state.suspend_requests(Some(number), &error, None);
        if let Some((tried, what)) = state.consumer_not_started(key) {
            let subject = Subject::Consumer(key);
            let retries = self.retries(tried, &error, now);
            let Some(replay) = &mut self.replay else { return Ok(()) };
            if retries {
                debug!(%error, "{what} is not restored yet");
                replay.waiting.note(subject, what, None, error);
            } else {
                replay.waiting.forget(&subject);
                state.end_lost_consumer(key, &error);
                self.not_restored(state, what, error)?;
            }
        }
        let Some(replay) = &mut self.replay else { return Ok(()) };
        replay.starting.remove(&number);
        let restored = state.restore_channel(number, Some(key), &self.policy, &|queue| replay.found(queue));
        replay.note_restored(state, number, restored);
        state.resend_requests();
        Ok(())
    }

    /// Checks the deadlines, and notifies the subscribers when the replay is done.
    pub(super) fn tick_replay(&mut self, state: &mut State, now: Time) -> Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        if replay.stage == Stage::Waiting && replay.again.is_some_and(|again| again <= now) {
            return self.begin_pass(state, now);
        }
        if replay.stage < Stage::Waiting && replay.due <= now {
            let time = Elapsed(REPLAY_TIMEOUT);
            let text = format!("the broker did not answer for {time} while declarations were restored");
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        if replay.stage != Stage::Starting || replay.is_starting(state) {
            return Ok(());
        }
        replay.stage = Stage::Waiting;
        replay.report_waiting(state);
        let waiting = replay.waiting.len();
        let replayed = Replayed { waiting, ..replay.done };
        let reported = std::mem::replace(&mut replay.reported, true);
        if replay.again.is_none() {
            self.replay = None;
        }
        if !reported {
            self.restored = Some(now);
            let outage = now - self.lost.take().unwrap_or(now);
            match waiting {
                0 => info!(?replayed, ?outage, "everything is restored"),
                _ => info!(?replayed, ?outage, "the connection is restored, except for what waits"),
            }
            state.emit(&Event::Recovered { replayed, outage });
        }
        Ok(())
    }
}
