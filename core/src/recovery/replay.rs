//! A fresh link is there: what this connection had declared is declared again, until all is as it was.
//!
//! Exchanges and queues first, then bindings, on a channel of its own, so that what the broker refuses costs no channel
//! of the user's; then the user's channels, by the numbers that they had, with their modes, and on them the consumers.
//! A queue that a consumer needs and that others declare is looked for before the consumer is started, for a consumer
//! that is refused costs its channel.
//!
//! What is refused stays missing, and is tried again in another pass some time later, while all else goes on.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::method::{Method, MethodId, queue};
use hopmq_proto::{CloseReason, Time, code};
use tracing::{debug, info, warn};

use crate::policy::{Entity, OnFailure, Replayed};
use crate::state::events::Event;
use crate::state::ledger::{Entry, Key, renamed};
use crate::state::outage::Recovering;
use crate::state::{ConsumerEnd, ConsumerState, RequestKind, State, transmit};
use crate::{Error, ErrorKind, Result};

/// What the protocol calls the requests that nobody waits for but the replay.
pub(crate) const REPLAY: u64 = u64::MAX;
/// Requests that are sent before the first is answered.
const WINDOW: usize = 256;

/// How long the broker may say nothing while it is asked for what was declared: then the link is as good as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a replay stands. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Replay {
    /// The channel for declarations.
    pub(crate) channel: u16,
    pub(crate) stage: Stage,
    todo: VecDeque<Step>,
    sent: VecDeque<Step>,
    /// Queues of others that were looked for.
    others: HashMap<String, Other>,
    /// Channels whose opening is not answered.
    pub(crate) opening: Vec<u16>,
    /// Consumers that were started and are not granted yet, and their channels.
    pub(crate) starting: Vec<(u16, u64)>,
    pub(crate) done: Replayed,
    told: bool,
    /// When to try again what is missing.
    again: Option<Time>,
    /// By when the broker must have answered something.
    pub(crate) due: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Exchanges and queues.
    Declaring,
    /// Bindings, and whether the queues of others are there.
    Binding,
    /// The channel for that is being closed.
    Closing,
    /// Channels and consumers.
    Starting,
    /// Done, but for what is missing.
    Waiting,
}

#[derive(Debug, Default)]
struct Other {
    there: bool,
    /// How often it was not.
    missed: u32,
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
            channel: 0,
            stage: Stage::Declaring,
            todo: VecDeque::new(),
            sent: VecDeque::new(),
            others: HashMap::new(),
            opening: Vec::new(),
            starting: Vec::new(),
            done: Replayed::default(),
            told: false,
            again: None,
            due: Time::ZERO,
        }
    }

    /// Whether a queue of others was there.
    pub(crate) fn found(&self, queue: &str) -> bool {
        self.others.get(queue).is_some_and(|other| other.there)
    }

    /// When it goes on by itself.
    pub(crate) fn deadline(&self) -> Option<Time> {
        if self.stage == Stage::Waiting { self.again } else { Some(self.due) }
    }
}

impl State {
    /// The handshake is done.
    pub(crate) fn link_opened(&mut self, now: Time) -> Result<()> {
        self.recovery.handshake = None;
        self.recovery.channel_max = self.proto.tuning().channel_max;
        if !self.recovery.established {
            self.recovery.established = true;
            self.recovery.works = Some(now);
            self.up = true;
            return Ok(());
        }
        let host = self.recovery.host.clone();
        info!(host, "connected again");
        self.tell(&Event::Connected { host });
        let Recovering { policy, ledger, .. } = &mut self.recovery;
        ledger.leave_alone(|entity| !policy.topology || !policy.wants(entity));
        self.end_unwanted_consumers();
        self.recovery.replay = Some(Replay::new());
        self.begin_pass(now)
    }

    /// Ends the consumers that the filter does not want.
    fn end_unwanted_consumers(&mut self) {
        let policy = &self.recovery.policy;
        let unwanted = |(key, consumer): (u64, &mut ConsumerState)| {
            let entity = Entity::Consumer { tag: &consumer.tag, queue: &consumer.start.queue };
            (consumer.start.missing && consumer.start.granted && !policy.wants(&entity)).then_some(key)
        };
        let unwanted: Vec<u64> = self.consumers.iter_mut().filter_map(unwanted).collect();
        for key in unwanted {
            let text = "the link was lost, and the consumer is left alone by the filter of `Recovery`";
            self.end_consumer(key, ConsumerEnd::Failed(Error::new(ErrorKind::ConsumerCancelled, text)));
        }
    }

    /// Begins to declare what is missing.
    fn begin_pass(&mut self, now: Time) -> Result<()> {
        let attempts = self.recovery.attempts_of_each();
        let mut missing = VecDeque::new();
        for queues in [false, true] {
            let wanted = |entry: &Entry| !entry.key.is_binding() && matches!(entry.key, Key::Queue(_)) == queues;
            let entries = self.recovery.ledger.missing();
            let entries = entries.filter(|(_, entry)| entry.tried <= attempts && wanted(entry));
            missing.extend(entries.map(|(serial, _)| Step::Declare(serial)));
        }
        let channel = if self.up { self.proto.free_channel().unwrap_or(0) } else { 1 };
        let Some(replay) = &mut self.recovery.replay else { return Ok(()) };
        replay.again = None;
        replay.due = now + PATIENCE;
        if channel == 0 {
            // All are in use at the moment.
            replay.again = Some(now + Duration::from_secs(1));
            return Ok(());
        }
        replay.channel = channel;
        replay.stage = Stage::Declaring;
        replay.todo = missing;
        if replay.todo.is_empty() && self.steps_of_binding().is_empty() {
            return self.start_all(now);
        }
        let Some(replay) = &mut self.recovery.replay else { return Ok(()) };
        self.proto.open_channel(channel, REPLAY)?;
        replay.sent.push_back(Step::Open);
        self.pump(now)
    }

    /// The bindings that are missing, and the queues of others that consumers need.
    fn steps_of_binding(&mut self) -> VecDeque<Step> {
        let attempts = self.recovery.attempts_of_each();
        let ledger = &self.recovery.ledger;
        let bindings = ledger
            .missing()
            .filter(|(_, entry)| entry.key.is_binding() && entry.tried <= attempts && ledger.is_bindable(entry));
        let mut steps: VecDeque<Step> = bindings.map(|(serial, _)| Step::Declare(serial)).collect();
        let Some(replay) = &self.recovery.replay else { return steps };
        let needed = |consumer: &ConsumerState| {
            let queue = &consumer.start.queue;
            let waits = consumer.start.missing && consumer.start.granted && consumer.end.is_none();
            (waits && !ledger.declares(queue) && !replay.found(queue)).then(|| queue.clone())
        };
        let mut queues: Vec<String> = self.consumers.iter_mut().filter_map(|(_, consumer)| needed(consumer)).collect();
        queues.sort_unstable();
        queues.dedup();
        steps.extend(queues.into_iter().map(Step::Check));
        steps
    }

    /// Sends what may be sent, and goes on to the next stage when all of one is answered.
    fn pump(&mut self, now: Time) -> Result<()> {
        loop {
            while let Some(replay) = &mut self.recovery.replay
                && replay.sent.len() < WINDOW
                && let Some(step) = replay.todo.pop_front()
            {
                self.send_step(step, now)?;
            }
            let Some(replay) = &mut self.recovery.replay else { return Ok(()) };
            if !replay.sent.is_empty() {
                return Ok(());
            }
            match replay.stage {
                Stage::Declaring => {
                    replay.stage = Stage::Binding;
                    let steps = self.steps_of_binding();
                    if let Some(replay) = &mut self.recovery.replay {
                        replay.todo = steps;
                    }
                }
                Stage::Binding => {
                    replay.stage = Stage::Closing;
                    replay.sent.push_back(Step::Close);
                    let channel = replay.channel;
                    self.proto.close_channel(channel, code::REPLY_SUCCESS, "", Some(REPLAY))?;
                }
                Stage::Closing => return self.start_all(now),
                Stage::Starting | Stage::Waiting => return Ok(()),
            }
        }
    }

    fn send_step(&mut self, step: Step, now: Time) -> Result<()> {
        let Recovering { replay: Some(replay), ledger, .. } = &mut self.recovery else { return Ok(()) };
        let channel = replay.channel;
        let sent = match &step {
            Step::Declare(serial) => match ledger.entry(*serial) {
                Some(entry) => transmit(&mut self.proto, channel, RequestKind::Plain, &entry.payload, REPLAY),
                None => return Ok(()),
            },
            Step::Check(queue) => {
                let check = queue::Declare { queue, passive: true, ..queue::Declare::default() };
                self.proto.request(channel, &check, Some(REPLAY)).map_err(Error::from)
            }
            Step::Open | Step::Close => Ok(()),
        };
        match sent {
            Ok(()) => {
                replay.sent.push_back(step);
                Ok(())
            }
            Err(error) => self.step_failed(&step, error, now),
        }
    }

    /// The broker answered a request of the replay's.
    pub(crate) fn replayed(&mut self, channel: u16, payload: &Bytes, now: Time) -> Result<()> {
        let Some(replay) = &mut self.recovery.replay else { return Ok(()) };
        replay.due = now + PATIENCE;
        if channel == replay.channel && replay.stage < Stage::Starting {
            if let Some(step) = replay.sent.pop_front() {
                self.step_done(step, payload);
            }
            return self.pump(now);
        }
        match Method::decode(payload)? {
            Method::ChannelOpenOk(_) => {
                replay.opening.retain(|number| *number != channel);
            }
            Method::BasicConsumeOk(ok) => {
                let Replay { starting, done, .. } = replay;
                let consumers = &mut self.consumers;
                let is_it = |key: u64| consumers.get_mut(key).is_none_or(|consumer| *consumer.tag == *ok.consumer_tag);
                let mut is_it = is_it;
                let place = starting.iter().position(|(number, key)| *number == channel && is_it(*key));
                if let Some(place) = place {
                    starting.remove(place);
                    done.consumers += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn step_done(&mut self, step: Step, payload: &Bytes) {
        let Recovering { replay: Some(replay), ledger, .. } = &mut self.recovery else { return };
        let serial = match step {
            Step::Declare(serial) => serial,
            Step::Check(queue) => {
                replay.others.entry(queue).or_default().there = true;
                return;
            }
            Step::Open | Step::Close => return,
        };
        let Some(entry) = ledger.entry(serial) else { return };
        entry.missing = false;
        match &entry.key {
            Key::Exchange(_) => replay.done.exchanges += 1,
            Key::Binding(_) => replay.done.bindings += 1,
            Key::Queue(_) => {
                replay.done.queues += 1;
                if let Ok(Method::QueueDeclareOk(ok)) = Method::decode(payload)
                    && let Some(old) = ledger.rename(serial, ok.queue)
                {
                    debug!(old, new = ok.queue, "the broker gave a queue another name");
                    self.follow_queue(&old, ok.queue);
                }
            }
        }
    }

    /// A queue has another name.
    fn follow_queue(&mut self, old: &str, new: &str) {
        for (_, consumer) in self.consumers.iter_mut() {
            if consumer.start.queue == old {
                new.clone_into(&mut consumer.start.queue);
            }
        }
        for (_, request) in self.requests.iter_mut().filter(|(_, request)| !request.sent) {
            if let Some(payload) = renamed(&request.payload, old, new) {
                request.payload = payload;
            }
        }
        for channel in self.channels.iter_mut().flatten() {
            if channel.last_queue == old {
                new.clone_into(&mut channel.last_queue);
            }
        }
    }

    /// The broker closed a channel. Returns the reason if it is not about the replay.
    pub(crate) fn replay_refused(
        &mut self,
        number: u16,
        reason: CloseReason,
        now: Time,
    ) -> Result<Option<CloseReason>> {
        let Some(replay) = &mut self.recovery.replay else { return Ok(Some(reason)) };
        let text = format!("the broker refused it: {} {}", reason.code, reason.text);
        let error = Error::with_code(ErrorKind::ChannelClosed, reason.code, text);
        if number == replay.channel && replay.stage < Stage::Closing {
            let mut sent = std::mem::take(&mut replay.sent);
            sent.retain(|step| !matches!(step, Step::Open));
            let refused = sent.pop_front();
            sent.append(&mut replay.todo);
            replay.todo = sent;
            replay.sent.push_back(Step::Open);
            self.proto.open_channel(number, REPLAY)?;
            if let Some(step) = refused {
                self.step_failed(&step, error, now)?;
            }
            self.pump(now)?;
            return Ok(None);
        }
        let starting = replay.starting.iter().find(|(channel, _)| *channel == number).map(|(_, key)| *key);
        if reason.method == MethodId::BASIC_CONSUME
            && let Some(key) = starting
        {
            self.consumer_refused(number, key, error, now)?;
            return Ok(None);
        }
        Ok(Some(reason))
    }

    /// If the broker closed the connection for something that was declared again, it is not declared again once more.
    pub(crate) fn condemn(&mut self) {
        let Recovering { replay: Some(replay), ledger, culprit: Some((culprit, error)), .. } = &mut self.recovery
        else {
            return;
        };
        let error = error.clone();
        let is_it = |step: &&Step| match step {
            Step::Declare(serial) => {
                ledger.entry(*serial).is_some_and(|entry| MethodId::peek(&entry.payload).is_ok_and(|id| id == *culprit))
            }
            _ => false,
        };
        let serial = replay.sent.iter().find(is_it);
        if let Some(Step::Declare(serial)) = serial
            && let Some(key) = ledger.entry(*serial).map(|entry| entry.key.clone())
        {
            let entity = key.entity().to_string();
            ledger.forget(&key);
            warn!(%error, "{entity} is not restored");
            self.tell(&Event::NotRestored { entity, error });
        }
    }

    /// Whether to try again, after one more attempt in vain: then there will be another pass.
    fn retries(&mut self, tried: u32, error: &Error, now: Time) -> bool {
        let OnFailure::Retry { attempts, delay } = self.recovery.policy.on_failure else { return false };
        // Other settings, a kind that the broker doesn't know: that will not change by itself.
        let in_vain =
            matches!(error.code(), Some(code::PRECONDITION_FAILED | code::COMMAND_INVALID | code::NOT_IMPLEMENTED));
        if in_vain || error.kind() == ErrorKind::Usage || tried > attempts {
            return false;
        }
        if let Some(replay) = &mut self.recovery.replay {
            replay.again.get_or_insert(now + delay);
        }
        true
    }

    fn step_failed(&mut self, step: &Step, error: Error, now: Time) -> Result<()> {
        let Recovering { replay: Some(replay), ledger, .. } = &mut self.recovery else { return Ok(()) };
        let (what, queue, tried) = match step {
            Step::Declare(serial) => {
                let Some(entry) = ledger.entry(*serial) else { return Ok(()) };
                entry.tried += 1;
                let queue = if let Key::Queue(name) = &entry.key { Some(name.clone()) } else { None };
                (entry.key.entity().to_string(), queue, entry.tried)
            }
            Step::Check(queue) => {
                let other = replay.others.entry(queue.clone()).or_default();
                other.missed += 1;
                (Entity::Queue { name: queue }.to_string(), Some(queue.clone()), other.missed)
            }
            Step::Open | Step::Close => return Ok(()),
        };
        if self.retries(tried, &error, now) {
            debug!(%error, "{what} is not restored yet");
            return Ok(());
        }
        if let Step::Declare(serial) = step
            && let Some(entry) = self.recovery.ledger.entry(*serial)
        {
            entry.tried = u32::MAX;
        }
        self.not_restored(what, error.clone())?;
        let Some(queue) = queue else { return Ok(()) };
        let lost = |consumer: &ConsumerState| consumer.start.missing && consumer.start.queue == queue;
        let consumers = self.consumers.iter_mut().filter(|(_, consumer)| lost(consumer));
        let consumers: Vec<u64> = consumers.map(|(key, _)| key).collect();
        for key in consumers {
            self.end_lost_consumer(key, &error);
        }
        Ok(())
    }

    fn not_restored(&mut self, entity: String, error: Error) -> Result<()> {
        if self.recovery.policy.on_failure == OnFailure::Fail {
            self.recovery.is_final = true;
            let text = format!("{entity} could not be restored after the link was lost: {error}");
            let kind = error.kind();
            return Err(error
                .code()
                .map_or_else(|| Error::new(kind, &text), |code| Error::with_code(kind, code, &text)));
        }
        warn!(%error, "{entity} is not restored");
        if let Some(replay) = &mut self.recovery.replay {
            replay.done.failures += 1;
        }
        self.tell(&Event::NotRestored { entity, error });
        Ok(())
    }

    pub(crate) fn end_lost_consumer(&mut self, key: u64, error: &Error) {
        let text = format!("the link was lost, and the consumer could not be started again: {error}");
        let kind = ErrorKind::ConsumerCancelled;
        let ended = error.code().map_or_else(|| Error::new(kind, &text), |code| Error::with_code(kind, code, &text));
        self.end_consumer(key, ConsumerEnd::Failed(ended));
    }

    /// A consumer was refused, and its channel closed with it: the channel is opened again without it.
    fn consumer_refused(&mut self, number: u16, key: u64, error: Error, now: Time) -> Result<()> {
        self.lose_channel(number, &error);
        self.suspend_requests(Some(number), &error);
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.start.tried += 1;
            let tried = consumer.start.tried;
            let what = Entity::Consumer { tag: &consumer.tag, queue: &consumer.start.queue }.to_string();
            if self.retries(tried, &error, now) {
                debug!(%error, "{what} is not restored yet");
            } else {
                self.end_lost_consumer(key, &error);
                self.not_restored(what, error)?;
            }
        }
        if let Some(replay) = &mut self.recovery.replay {
            replay.starting.retain(|(channel, _)| *channel != number);
        }
        self.restore_channel(number, Some(key));
        self.resend();
        Ok(())
    }

    /// Does what the time asks for, and tells when all is done.
    pub(crate) fn tick_replay(&mut self, now: Time) -> Result<()> {
        let Some(replay) = &mut self.recovery.replay else { return Ok(()) };
        if replay.stage == Stage::Waiting && replay.again.is_some_and(|again| again <= now) {
            return self.begin_pass(now);
        }
        if replay.stage < Stage::Waiting && replay.due <= now {
            let text = format!("the broker did not answer for {PATIENCE:?} while all was being restored");
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        let channels = &self.channels;
        let is_open = |number: u16| channels.get(usize::from(number)).is_some_and(Option::is_some);
        replay.opening.retain(|number| is_open(*number));
        replay.starting.retain(|(number, _)| is_open(*number));
        if replay.stage != Stage::Starting || !replay.opening.is_empty() || !replay.starting.is_empty() {
            return Ok(());
        }
        replay.stage = Stage::Waiting;
        let (replayed, told) = (replay.done, std::mem::replace(&mut replay.told, true));
        if replay.again.is_none() {
            self.recovery.replay = None;
        }
        if !told {
            self.recovery.works = Some(now);
            let outage = now - self.recovery.lost.take().unwrap_or(now);
            info!(?replayed, ?outage, "all is as it was before the link was lost");
            self.tell(&Event::Recovered { replayed, outage });
        }
        Ok(())
    }
}
