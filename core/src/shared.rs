//! What the handles and the driver of one connection share.
//!
//! Owns the protocol's state, the requests that wait for an answer, the deliveries that wait for their consumer and
//! the wakers of everybody who waits, all under one lock that is held for the length of an encode or of a batch of
//! events. It must never do I/O, and never wake anybody while it is locked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::method::{Encode, basic};
use hopmq_proto::{Content, Time};

use crate::confirms::Confirms;
use crate::events::{Event, Subscribers};
use crate::slots::Slots;
use crate::stats::Stats;
use crate::timer::Clock;
use crate::{Error, ErrorKind, Result};

#[cfg(test)]
mod tests;

/// What a connection's handles and driver share. See the [module's documentation](self).
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// Why the connection ended.
    ended: OnceLock<Error>,
}

/// Bounds on time and memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) request_timeout: Duration,
    pub(crate) confirm_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// Publishing waits while more bytes than this wait to be written.
    pub(crate) high_water: usize,
    /// Reading stops while consumers hold more bytes than this.
    pub(crate) receive_limit: usize,
}

/// Everything under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) proto: hopmq_proto::Connection,
    /// The driver's waker while it sleeps.
    pub(crate) driver: Option<Waker>,
    /// When the driver wakes by itself.
    pub(crate) alarm: Time,
    /// The driver is to be woken even if it has nothing to write.
    pub(crate) nudge: bool,
    /// The transport is full: waking the driver for more output is of no use.
    pub(crate) stalled: bool,
    pub(crate) requests: Slots<Request>,
    pub(crate) deadlines: BTreeSet<(Time, u64)>,
    /// Indexed by number.
    pub(crate) channels: Vec<Option<ChannelState>>,
    pub(crate) consumers: Slots<ConsumerState>,
    /// Requests of publishers that wait until they may go on, by the order in which they came.
    pub(crate) room: BTreeMap<u64, Waiting>,
    /// Bytes of those who may go on and have not yet: kept free of others until the driver comes round again.
    pub(crate) reserved: usize,
    /// Bytes of deliveries that consumers have not taken.
    pub(crate) buffered: usize,
    /// Publishes on all channels that wait for their confirm.
    pub(crate) unconfirmed: usize,
    pub(crate) closing: Option<Closing>,
    pub(crate) blocked_since: Option<Time>,
    /// When the broker last took back that it blocks publishing.
    pub(crate) unblocked: Time,
    /// Reading has stopped, because consumers hold so much.
    pub(crate) full: bool,
    pub(crate) ended: bool,
    pub(crate) opened: bool,
    /// Everybody who waits for the end.
    pub(crate) enders: Slots<Option<Waker>>,
    pub(crate) subscribers: Subscribers,
    pub(crate) stats: Stats,
    pub(crate) serial: u64,
    pub(crate) server_properties: hopmq_proto::FieldTable,
    /// Collected under the lock, woken outside.
    pub(crate) wakes: Vec<Waker>,
    /// Wakers of no more use. Dropping one may drop a task, and with it handles that take the lock: so it is done
    /// outside.
    pub(crate) spent: Vec<Waker>,
}

/// A publisher that waits until it may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) key: u64,
    pub(crate) size: usize,
}

/// A graceful close that waits for confirms, then until all is written, then for the broker's answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    pub(crate) deadline: Time,
    /// Until when what was accepted may take to be written.
    pub(crate) flush: Time,
    /// Whether `connection.close` is sent.
    pub(crate) sent: bool,
    /// Whether it is written.
    pub(crate) flushed: bool,
    /// Publishes that were not confirmed by then.
    pub(crate) unconfirmed: usize,
}

impl Closing {
    /// Waits for confirms until `deadline`, and for all to be written until `flush`.
    pub(crate) fn new(deadline: Time, flush: Time) -> Self {
        Self { deadline, flush, sent: false, flushed: false, unconfirmed: 0 }
    }
}

/// A request that waits for its answer, or whose answer waits for its future.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) channel: u16,
    /// Which channel of that number.
    pub(crate) serial: u64,
    pub(crate) kind: RequestKind,
    pub(crate) deadline: Time,
    pub(crate) waker: Option<Waker>,
    pub(crate) outcome: Option<Result<Reply>>,
    /// Nobody waits any more; what the answer brings is to be undone.
    pub(crate) abandoned: bool,
    /// Whether the broker has answered, or never will.
    pub(crate) answered: bool,
}

/// What the answer to a request means to this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Plain,
    OpenChannel,
    Consume(u64),
    Cancel(u64),
    Get {
        no_ack: bool,
    },
    /// Not a request to the broker: a publisher that waits until it may go on.
    Room,
    /// Not a request to the broker: the deadline of a confirm.
    Confirm,
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Method(Bytes),
    Got(Content),
    Room,
}

/// A channel, as long as it is open.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) serial: u64,
    pub(crate) end: Arc<ChannelEnd>,
    pub(crate) confirms: Confirms,
    pub(crate) returns: VecDeque<crate::Returned>,
    pub(crate) returns_waker: Option<Waker>,
    pub(crate) wants_returns: bool,
    pub(crate) prefetch: Prefetch,
}

/// What the program set for a channel by `basic.qos`, beside what single consumers ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prefetch {
    /// For each consumer that asks for nothing else.
    pub(crate) each: Option<u16>,
    /// For all consumers together.
    pub(crate) shared: Option<u16>,
}

/// Why a channel ended, and what became of its publishes: it outlives the channel in the hands of its users.
#[derive(Debug, Default)]
pub(crate) struct ChannelEnd {
    reason: OnceLock<Error>,
    confirms: Mutex<Option<Confirms>>,
}

/// What a consumer has not taken yet.
#[derive(Debug)]
pub(crate) struct ConsumerState {
    pub(crate) channel: u16,
    /// Which channel of that number.
    pub(crate) serial: u64,
    pub(crate) tag: Arc<str>,
    pub(crate) no_ack: bool,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) waker: Option<Waker>,
    pub(crate) end: Option<ConsumerEnd>,
    /// Its handle is gone; what still comes goes back to the queue.
    pub(crate) dropped: bool,
}

/// How a consumer ended.
#[derive(Clone, Debug)]
pub(crate) enum ConsumerEnd {
    /// This side cancelled it.
    Cancelled,
    /// The broker cancelled it, or channel or connection ended.
    Failed(Error),
}

/// A delivery that waits for its consumer.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) tag: u64,
    pub(crate) content: Content,
}

impl Queued {
    /// Memory that it stands for, roughly.
    #[inline]
    pub(crate) fn cost(&self) -> usize {
        self.content.size() + 2 * size_of::<Self>()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("ended", &self.ended.get()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(proto: hopmq_proto::Connection, clock: Clock, limits: Limits) -> Arc<Self> {
        let state = State {
            proto,
            driver: None,
            alarm: Time::ZERO,
            nudge: false,
            stalled: false,
            requests: Slots::default(),
            deadlines: BTreeSet::new(),
            channels: Vec::new(),
            consumers: Slots::default(),
            room: BTreeMap::new(),
            reserved: 0,
            buffered: 0,
            unconfirmed: 0,
            closing: None,
            blocked_since: None,
            unblocked: Time::ZERO,
            full: false,
            ended: false,
            opened: false,
            enders: Slots::default(),
            subscribers: Subscribers::default(),
            stats: Stats::default(),
            serial: 0,
            server_properties: hopmq_proto::FieldTable::new(),
            wakes: Vec::new(),
            spent: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), clock, limits, ended: OnceLock::new() })
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` under the lock, then wakes the driver if it sleeps and has something to do.
    #[inline]
    pub(crate) fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        let writable = state.proto.queued() > 0 && !state.stalled;
        let readable = state.full && !state.is_full(self.limits.receive_limit);
        let wanted = state.nudge || writable || readable;
        let driver = if wanted { state.driver.take() } else { None };
        if driver.is_some() || !state.wakes.is_empty() || !state.spent.is_empty() {
            Self::wake(state, driver);
        }
        result
    }

    #[cold]
    fn wake(mut state: MutexGuard<'_, State>, driver: Option<Waker>) {
        let (wakes, spent) = (std::mem::take(&mut state.wakes), std::mem::take(&mut state.spent));
        drop(state);
        drop(spent);
        driver.into_iter().chain(wakes).for_each(Waker::wake);
    }

    /// Why the connection ended; for a connection that has.
    pub(crate) fn reason(&self) -> Error {
        self.ended.get().cloned().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the connection is closed"))
    }

    /// Notes why the connection ended. The first reason counts.
    pub(crate) fn end(&self, error: Error) -> Error {
        self.ended.get_or_init(|| error).clone()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// The moment at which something that begins now is late.
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Time {
        self.clock.now() + timeout.unwrap_or(self.limits.request_timeout)
    }
}

impl State {
    /// The channel, if it is the same that the handle was made for.
    #[inline]
    pub(crate) fn channel(&mut self, number: u16, serial: u64) -> Option<&mut ChannelState> {
        match self.channels.get_mut(usize::from(number)) {
            Some(Some(channel)) if channel.serial == serial => Some(channel),
            _ => None,
        }
    }

    /// Notes a request and its deadline.
    pub(crate) fn insert_request(&mut self, channel: u16, kind: RequestKind, deadline: Time) -> u64 {
        let serial = self.channels.get(usize::from(channel)).and_then(Option::as_ref).map_or(0, |known| known.serial);
        let request =
            Request { channel, serial, kind, deadline, waker: None, outcome: None, abandoned: false, answered: false };
        let key = self.requests.insert(request);
        self.deadlines.insert((deadline, key));
        self.nudge |= deadline < self.alarm;
        key
    }

    pub(crate) fn remove_request(&mut self, key: u64) {
        if let Some(request) = self.requests.remove(key) {
            self.deadlines.remove(&(request.deadline, key));
            self.spent.extend(request.waker);
        }
    }

    /// Makes a request of the broker.
    pub(crate) fn request<M: Encode>(
        &mut self,
        channel: u16,
        method: &M,
        kind: RequestKind,
        deadline: Time,
    ) -> Result<u64> {
        self.send_request(channel, kind, deadline, |proto, key| proto.request(channel, method, Some(key)))
    }

    /// Makes a request that the protocol has a call of its own for.
    pub(crate) fn send_request(
        &mut self,
        channel: u16,
        kind: RequestKind,
        deadline: Time,
        send: impl FnOnce(&mut hopmq_proto::Connection, u64) -> Result<(), hopmq_proto::Error>,
    ) -> Result<u64> {
        let key = self.insert_request(channel, kind, deadline);
        match send(&mut self.proto, key) {
            Ok(()) => Ok(key),
            Err(error) => {
                self.remove_request(key);
                Err(error.into())
            }
        }
    }

    /// The answer to a request, for its future.
    pub(crate) fn poll_request(&mut self, key: u64, waker: &Waker) -> Poll<Result<Reply>> {
        let Some(request) = self.requests.get_mut(key) else {
            return Poll::Ready(Err(Error::new(ErrorKind::Usage, "a request was polled after it ended")));
        };
        match request.outcome.take() {
            Some(outcome) => {
                if request.answered {
                    self.remove_request(key);
                } else {
                    request.abandoned = true;
                }
                Poll::Ready(outcome)
            }
            None => {
                register(&mut request.waker, waker, &mut self.spent);
                Poll::Pending
            }
        }
    }

    /// A publisher that waits may go on.
    pub(crate) fn admit(&mut self, key: u64) {
        let Some(request) = self.requests.get_mut(key) else { return };
        request.answered = true;
        request.outcome.get_or_insert(Ok(Reply::Room));
        self.wakes.extend(request.waker.take());
        self.deadlines.remove(&(request.deadline, key));
    }

    /// The future of a request is gone: what its answer brings is undone, now or when it comes.
    pub(crate) fn abandon(&mut self, key: u64) {
        let Some(request) = self.requests.get_mut(key) else { return };
        if matches!(request.kind, RequestKind::Room | RequestKind::Confirm) {
            self.remove_request(key);
            return;
        }
        request.abandoned = true;
        if request.answered {
            let (channel, kind) = ((request.channel, request.serial), request.kind);
            if let Some(Ok(reply)) = request.outcome.take() {
                self.undo(channel, kind, &reply);
            }
            self.remove_request(key);
        }
    }

    /// Undoes what an answer brought that nobody waits for.
    pub(crate) fn undo(&mut self, (channel, serial): (u16, u64), kind: RequestKind, reply: &Reply) {
        // A channel that is closed has nothing left to undo, and its number may be another's by now.
        let is_open = self.channel(channel, serial).is_some();
        let _ = match (kind, reply) {
            (RequestKind::OpenChannel | RequestKind::Get { .. }, _) if !is_open => Ok(()),
            (RequestKind::OpenChannel, _) => self.close_channel(channel),
            (RequestKind::Consume(key), _) => {
                self.drop_consumer(key, VecDeque::new());
                Ok(())
            }
            (RequestKind::Get { no_ack: false }, Reply::Got(content)) => {
                self.proto.reject(channel, content.arguments().delivery_tag, true)
            }
            _ => Ok(()),
        };
    }

    /// Closes a channel for which nobody waits.
    pub(crate) fn close_channel(&mut self, number: u16) -> Result<(), hopmq_proto::Error> {
        self.proto.close_channel(number, hopmq_proto::code::REPLY_SUCCESS, "", None)?;
        let closed = Error::new(ErrorKind::Closed, "the channel was closed by this program");
        self.end_channel(number, &closed);
        Ok(())
    }

    /// The handle of a consumer is gone: it is cancelled, and what it has not handed out goes back to the queue.
    pub(crate) fn drop_consumer(&mut self, key: u64, untaken: VecDeque<Queued>) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let (channel, serial, ended) = (consumer.channel, consumer.serial, consumer.end.is_some());
        let no_ack = consumer.no_ack;
        consumer.dropped = true;
        self.spent.extend(consumer.waker.take());
        let queue = std::mem::take(&mut consumer.queue);
        // If the channel is gone, the broker has them back already.
        let rejects = !no_ack && self.channel(channel, serial).is_some();
        for delivery in untaken.iter().chain(&queue) {
            self.buffered = self.buffered.saturating_sub(delivery.cost());
            if rejects {
                // One that was settled with others before it needs no more.
                let _ = self.proto.reject(channel, delivery.tag, true);
            }
        }
        if ended {
            self.consumers.remove(key);
        } else if let Ok(request) = self.cancel_consumer(key, Time::from_epoch(Duration::MAX))
            && let Some(request) = self.requests.get_mut(request)
        {
            request.abandoned = true;
        }
    }

    /// Cancels a consumer. The answer ends its stream.
    pub(crate) fn cancel_consumer(&mut self, key: u64, deadline: Time) -> Result<u64> {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return Err(Error::new(ErrorKind::Closed, "the consumer has ended"));
        };
        let (channel, tag) = (consumer.channel, Arc::clone(&consumer.tag));
        self.send_request(channel, RequestKind::Cancel(key), deadline, |proto, request| {
            proto.cancel(channel, &tag, Some(request))
        })
    }

    /// Repeats the prefetch that all consumers of a channel share: RabbitMQ forgets it whenever it is told one for each.
    pub(crate) fn share_prefetch(&mut self, channel: u16, prefetch: Prefetch) -> Result<()> {
        if let Some(prefetch_count) = prefetch.shared {
            self.proto.request(channel, &basic::Qos { prefetch_count, global: true }, None)?;
        }
        Ok(())
    }

    /// A channel is over: everybody on it learns why.
    pub(crate) fn end_channel(&mut self, number: u16, error: &Error) {
        let Some(Some(mut channel)) = self.channels.get_mut(usize::from(number)).map(Option::take) else { return };
        self.unconfirmed -= channel.confirms.unsettled();
        channel.confirms.abort(&mut self.wakes);
        self.wakes.extend(channel.returns_waker.take());
        channel.end.set(error.clone(), channel.confirms);
        self.fail_requests(Some(number), error);
        for (_, consumer) in self.consumers.iter_mut() {
            if consumer.channel == number && consumer.end.is_none() {
                consumer.end = Some(ConsumerEnd::Failed(error.clone()));
                self.wakes.extend(consumer.waker.take());
            }
        }
        self.forget_dropped_consumers(number);
    }

    fn forget_dropped_consumers(&mut self, number: u16) {
        let gone = |consumer: &ConsumerState| consumer.channel == number && consumer.dropped;
        let keys: Vec<u64> =
            self.consumers.iter_mut().filter(|(_, consumer)| gone(consumer)).map(|(key, _)| key).collect();
        for key in keys {
            self.consumers.remove(key);
        }
    }

    /// Ends the requests of one channel, or all, with the same reason.
    fn fail_requests(&mut self, channel: Option<u16>, error: &Error) {
        let mut gone = Vec::new();
        for (key, request) in self.requests.iter_mut() {
            if channel.is_some_and(|number| number != request.channel) {
                continue;
            }
            if let RequestKind::Consume(consumer) = request.kind
                && !request.answered
            {
                // Nobody has a handle of it, and nobody will.
                self.consumers.remove(consumer);
            }
            request.answered = true;
            if request.abandoned {
                gone.push(key);
            } else if request.outcome.is_none() {
                request.outcome = Some(Err(error.clone()));
                self.wakes.extend(request.waker.take());
            }
        }
        for key in gone {
            self.remove_request(key);
        }
    }

    /// The connection is over: everybody learns why.
    pub(crate) fn end_all(&mut self, error: &Error) {
        if self.ended {
            return;
        }
        self.ended = true;
        for number in 0..self.channels.len() {
            self.end_channel(number as u16, error);
        }
        self.fail_requests(None, error);
        self.wakes.extend(self.enders.iter_mut().filter_map(|(_, waker)| waker.take()));
        self.subscribers.end(Event::Closed { error: error.clone() }, &mut self.wakes);
    }
}

/// Notes whom to wake. A waker that is displaced goes to the [spent](State::spent) ones.
#[inline]
pub(crate) fn register(slot: &mut Option<Waker>, waker: &Waker, spent: &mut Vec<Waker>) {
    match slot {
        Some(known) if known.will_wake(waker) => {}
        slot => spent.extend(slot.replace(waker.clone())),
    }
}

impl ChannelEnd {
    fn set(&self, reason: Error, confirms: Confirms) {
        *self.confirms.lock().unwrap_or_else(PoisonError::into_inner) = Some(confirms);
        // A channel ends once.
        let _ = self.reason.set(reason);
    }

    /// Why the channel ended.
    pub(crate) fn reason(&self) -> Option<Error> {
        self.reason.get().cloned()
    }

    /// What became of a publish: its outcome if it was settled before the end, else the reason of the end.
    pub(crate) fn outcome(&self, tag: u64) -> Result<()> {
        let mut confirms = self.confirms.lock().unwrap_or_else(PoisonError::into_inner);
        match confirms.as_mut().and_then(|confirms| confirms.outcome(tag)) {
            Some(outcome) => outcome,
            None => Err(self.reason().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the channel is closed"))),
        }
    }
}
