//! What the handles and the driver of one connection share.
//!
//! [`Shared`] holds the protocol connection and all waiting futures' state, under one lock that is held for the length
//! of an encode or of a batch of events. This module must never do I/O, and never wake a task while the lock is held.
//!
//! [`State`] consists of parts, each in a file of its own, that keep their own invariants. The other files
//! change several parts at once: `requesting`, `channel_setup`, `publishing`, `consuming` and `closing` for the
//! handles; `dispatch`, `outage` and `restart` for the driver.

use std::fmt;
use std::task::{Poll, Waker};
use std::time::Duration;

use hopmq_proto::{FieldTable, Time, Tuning};
use tracing::debug;

use crate::error::{Error, ErrorKind};
use crate::io::timer::Clock;
use crate::policy::{Recovery, WhileLost};
use crate::process::Process;
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak, yield_now};

mod awaited;
mod backlog;
mod blocking;
mod channel_setup;
mod channels;
mod closing;
mod confirms;
mod consumers;
mod consuming;
mod dispatch;
pub(crate) mod events;
mod inherited;
mod journal;
pub(crate) mod keys;
pub(crate) mod ledger;
mod lifecycle;
mod message_ids;
pub(crate) mod outage;
mod outstanding;
mod publishing;
mod publishing_many;
mod requesting;
mod requests;
pub(crate) mod restart;
pub(crate) mod stats;
mod tags;
#[cfg(test)]
mod tests;
mod waiters;
mod wakers;
mod wakeup;

use awaited::Awaited;
use backlog::Backlog;
use blocking::Blocking;
use channels::Channels;
use consumers::Consumers;
use events::{Event, Subscribers};
use keys::SubscriberKey;
use ledger::Ledger;
use lifecycle::Lifecycle;
use message_ids::MessageIds;
use outstanding::Outstanding;
use requests::Requests;
use stats::Stats;
use waiters::Waiters;
use wakeup::DriverWakeup;

pub(crate) use channels::{ChannelId, Modes};
pub(crate) use closing::{LAST_BYTES_TIMEOUT, Settling};
pub(crate) use consumers::{ConsumerEnd, Queued, Stock};
pub(crate) use consuming::{ConsumerSettings, Requested, Taken};
pub(crate) use publishing::{Outgoing, Published, RoomWait};
pub(crate) use publishing_many::OutgoingMany;
pub(crate) use requests::{REPLAY, Reply, RequestKind, transmit};
pub(crate) use tags::Tags;
pub(crate) use wakers::Wakers;

/// What a connection's handles and driver share. See the [module's documentation](self).
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The process whose driver it is.
    pub(crate) process: Process,
    /// An ended state, for a process that was forked while another thread held the lock.
    inherited: OnceLock<Mutex<State>>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// Why the connection ended.
    reason: OnceLock<Error>,
    /// The driver, if handles may poll it.
    inline_driver: OnceLock<Weak<dyn PollInline>>,
}

/// A driver that handles may poll on their own threads.
pub(crate) trait PollInline: Send + Sync {
    /// Polls the driver on this thread, or has another thread that polls it poll it once more. Returns false if the
    /// driver must be woken instead.
    fn poll_inline(&self) -> bool;

    /// Whether there is a link on which everything is restored.
    fn is_linked(&self) -> bool;

    /// Called for a future that waits for the broker, on its thread. Returns whether an answer may have come meanwhile.
    fn note_wait(&self) -> bool;

    /// Whether one future waits, for an answer of the broker.
    fn awaits_one_answer(&self) -> bool;

    /// Whether futures wait for answers or deliveries.
    fn is_awaited(&self) -> bool;
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
    /// How long a thread that waits for an answer tries to read it before it parks.
    pub(crate) spin: Duration,
}

/// Everything under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) proto: hopmq_proto::Connection,
    /// What this connection has declared.
    pub(crate) ledger: Ledger,
    pub(crate) server_properties: FieldTable,
    lifecycle: Lifecycle,
    driver: DriverWakeup,
    backlog: Backlog,
    outstanding: Outstanding,
    blocking: Blocking,
    requests: Requests,
    /// The queues that are not restored yet.
    awaited: Awaited,
    channels: Channels,
    consumers: Consumers,
    /// The futures that wait until all deliveries are settled.
    settle_waiters: Waiters,
    /// The futures that wait for the end of the connection.
    close_waiters: Waiters,
    subscribers: Subscribers,
    stats: Stats,
    /// Generates ids for messages without one, if the program asks for them.
    message_ids: Option<MessageIds>,
    /// What a publish does while there is no link.
    while_lost: WhileLost,
    /// Whether unconfirmed publishes are published again on a new link.
    republishes: bool,
    /// The highest channel number, as last agreed with the broker.
    channel_max: u16,
    wakers: Wakers,
}

/// How often a thread that finds the lock taken yields before it parks.
const YIELDS: usize = 16;

/// The factor by which the receive limit rises while a request or a confirm is awaited.
const WAITING_FACTOR: usize = 8;

impl Shared {
    pub(crate) fn new(proto: hopmq_proto::Connection, clock: Clock, limits: Limits, policy: &Recovery) -> Arc<Self> {
        let state = Mutex::new(State::new(proto, limits, policy));
        let process = Process::current();
        let (inherited, reason, inline_driver) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { state, process, inherited, clock, limits, reason, inline_driver })
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.try_lock().unwrap_or_else(|| self.lock_contended())
    }

    #[inline]
    fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Takes the contended lock. Yields before parking, because waking a parked waiter costs its predecessor a system
    /// call. The lock is held no longer than an encode takes.
    #[cold]
    fn lock_contended(&self) -> MutexGuard<'_, State> {
        for _ in 0..YIELDS {
            yield_now();
            if let Some(state) = self.try_lock() {
                return state;
            }
        }
        if self.process.is_other() {
            return self.lock_inherited();
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` under the lock, then wakes the driver if it sleeps and has something to do.
    #[inline]
    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        // In a burst, the thread that fills the buffer writes it.
        let gather = state.backlog.gather();
        let inline = gather > 0 || state.proto.queued() > 0 && state.backlog.take_written_at_once();
        self.unlock(state, gather, inline);
        result
    }

    /// Runs `action` under the lock for a future that is about to wait for the broker: output gathers no longer, and
    /// the driver is polled on this thread if that is possible.
    #[inline]
    fn with_flush<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        self.unlock(state, 0, true);
        result
    }

    /// Runs `action` under the lock for a future that waits for the confirm of the `count`-th publish: output behind
    /// that publish may gather further.
    #[inline]
    fn with_flush_of<T>(&self, count: u64, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        let gather = state.backlog.gather();
        if state.backlog.is_taken(count) {
            self.unlock(state, gather, gather > 0);
        } else {
            self.unlock(state, 0, true);
        }
        result
    }

    /// Runs `action` under the lock for the driver, which needs no wake-up itself.
    pub(crate) fn with_driver<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        let mut wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.run();
        result
    }

    /// Releases the lock, then wakes the tasks that the change of the state concerns. The driver is woken for more than
    /// `gather` bytes of output; `inline` polls it on this thread instead, if that is possible.
    #[inline]
    fn unlock(&self, mut state: MutexGuard<'_, State>, gather: usize, inline: bool) {
        let writes = state.proto.queued() > gather;
        let reads = state.consumers.is_paused() && !state.is_full(self.limits.receive_limit);
        let driver = state.driver.take(writes, reads);
        if driver.is_some() || !state.wakers.is_empty() {
            self.wake(state, driver, inline);
        }
    }

    #[cold]
    fn wake(&self, mut state: MutexGuard<'_, State>, driver: Option<Waker>, inline: bool) {
        if driver.is_some() && self.process.is_other() {
            drop(state);
            return self.disown();
        }
        let mut wakers = std::mem::take(&mut state.wakers);
        let inline = inline && state.is_up() && state.driver.is_polled_inline();
        drop(state);
        wakers.run();
        if let Some(driver) = driver
            && !(inline && self.poll_driver())
        {
            driver.wake();
        }
    }

    fn poll_driver(&self) -> bool {
        self.inline_driver.get().and_then(Weak::upgrade).is_some_and(|driver| driver.poll_inline())
    }

    /// Whether handles poll the driver on their own threads.
    pub(crate) fn is_polled_inline(&self) -> bool {
        self.inline_driver.get().is_some()
    }

    /// Lets handles poll the driver on their own threads. The first driver counts.
    pub(crate) fn set_inline_driver(&self, driver: Weak<dyn PollInline>) {
        if self.inline_driver.set(driver).is_ok() {
            self.lock().driver.set_polled_inline();
        }
    }

    /// Returns why the connection has ended.
    pub(crate) fn reason(&self) -> Error {
        self.reason.get().cloned().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the connection is closed"))
    }

    /// Stores why the connection ended. The first reason counts, and is returned.
    pub(crate) fn end(&self, error: Error) -> Error {
        self.reason.get_or_init(|| error).clone()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Returns the deadline of a wait that begins now.
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Time {
        self.clock.now() + timeout.unwrap_or(self.limits.request_timeout)
    }

    /// Registers a stream of events.
    pub(crate) fn subscribe(&self) -> SubscriberKey {
        self.lock().subscribers.subscribe()
    }

    /// Returns the next event of a stream; `None` after the last one.
    pub(crate) fn poll_event(&self, key: SubscriberKey, waker: &Waker) -> Poll<Option<Event>> {
        let polled = self.with(|state| state.subscribers.poll(key, waker, &mut state.wakers));
        if polled.is_pending() {
            self.note_wait(waker);
        }
        polled
    }

    /// Removes a stream of events.
    pub(crate) fn unsubscribe(&self, key: SubscriberKey) {
        // Its events and its waker are dropped without the lock: see `Wakers`.
        let queue = self.with(|state| state.subscribers.unsubscribe(key));
        drop(queue);
    }

    /// Whether there is a link on which everything is restored.
    pub(crate) fn is_connected(&self) -> bool {
        self.lock().is_up()
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = self.clock.now();
        let state = self.lock();
        let mut stats = state.stats;
        stats.unknown_deliveries = state.proto.unknown_deliveries();
        stats.blocked += state.blocking.elapsed(now);
        stats
    }

    pub(crate) fn server_properties(&self) -> FieldTable {
        self.lock().server_properties.clone()
    }

    pub(crate) fn tuning(&self) -> Tuning {
        self.lock().proto.tuning()
    }
}

impl State {
    fn new(proto: hopmq_proto::Connection, limits: Limits, policy: &Recovery) -> Self {
        Self {
            proto,
            ledger: Ledger::new(policy.enabled && policy.topology),
            server_properties: FieldTable::new(),
            lifecycle: Lifecycle::new(),
            driver: DriverWakeup::default(),
            backlog: Backlog::new(limits.high_water),
            outstanding: Outstanding::new(policy.kept_limit()),
            blocking: Blocking::default(),
            requests: Requests::default(),
            awaited: Awaited::default(),
            channels: Channels::default(),
            consumers: Consumers::default(),
            settle_waiters: Waiters::default(),
            close_waiters: Waiters::default(),
            subscribers: Subscribers::default(),
            stats: Stats::default(),
            message_ids: policy.ids.map(MessageIds::new),
            while_lost: policy.publishing,
            republishes: policy.republishes(),
            channel_max: 0,
            wakers: Wakers::default(),
        }
    }
}

/// For the driver.
impl State {
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.lifecycle.is_up()
    }

    /// Whether the handshake of the present link is done.
    pub(crate) fn is_link_open(&self) -> bool {
        self.lifecycle.is_link_open()
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.lifecycle.is_closing()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lifecycle.is_ended()
    }

    /// Whether there are unconfirmed publishes.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        self.outstanding.publishes() > 0
    }

    /// Returns the serial number of an open channel.
    pub(crate) fn channel_serial(&self, number: u16) -> Option<u64> {
        self.channels.get(number).map(|channel| channel.serial)
    }

    /// Returns the numbers that channels have or had.
    pub(crate) fn channel_numbers(&self) -> impl Iterator<Item = u16> + use<> {
        self.channels.numbers()
    }

    /// Replaces the protocol connection before a handshake. Returns the previous one.
    pub(crate) fn begin_link(&mut self, proto: hopmq_proto::Connection) -> hopmq_proto::Connection {
        self.driver.set_stalled(false);
        std::mem::replace(&mut self.proto, proto)
    }

    /// Notes that the link failed, so that handles send nothing on it before the driver handles the loss.
    pub(crate) fn link_failed(&mut self) {
        self.lifecycle.set_link(lifecycle::LinkState::Failed);
    }

    /// Stores the waker of the driver, which sleeps until `alarm`, or until it is woken if there is none.
    pub(crate) fn sleep(&mut self, waker: &Waker, alarm: Option<Time>) {
        if self.driver.is_requested() && self.backlog.has_reserved() && self.backlog.has_waiting() {
            // Requested while the driver was awake, by a publisher that found room reserved or left room reserved: only
            // the next poll frees that room.
            self.wakers.push(waker.clone());
        }
        self.driver.sleep(waker, alarm, &mut self.wakers);
    }

    /// Returns when the next request is late.
    pub(crate) fn next_request_deadline(&self) -> Option<Time> {
        self.requests.first_deadline()
    }

    /// Whether one future waits, for an answer of the broker.
    pub(crate) fn awaits_one_answer(&self) -> bool {
        self.requests.unanswered() == 1 && !self.consumers.are_awaited()
    }

    /// Whether futures wait for answers or deliveries.
    pub(crate) fn is_awaited(&self) -> bool {
        self.requests.unanswered() > 0 || self.consumers.are_awaited()
    }

    /// Returns when something is due on the link.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let closing = self.lifecycle.closing().map(lifecycle::Closing::deadline);
        self.proto.poll_timeout().into_iter().chain(self.requests.first_deadline()).chain(closing).min()
    }

    /// Whether the consumers' buffers are full. While a request or a confirm is awaited, whose reply may arrive after
    /// more deliveries, the limit is multiplied by [`WAITING_FACTOR`].
    #[inline]
    pub(crate) fn is_full(&self, limit: usize) -> bool {
        if self.lifecycle.is_close_sent() {
            // Deliveries are no longer kept, and the broker's close-ok arrives after them.
            return false;
        }
        let waiting = self.requests.first_deadline().is_some() || self.outstanding.publishes() > 0;
        self.consumers.buffered() > if waiting { limit.saturating_mul(WAITING_FACTOR) } else { limit }
    }

    /// Begins a poll of the driver: frees the room of admitted publishers that have not published.
    pub(crate) fn begin_poll(&mut self) {
        self.backlog.expire_reserved();
    }

    /// Moves all output into `transmit`, and admits waiting publishers. Returns whether there was output.
    pub(crate) fn take_output(&mut self, now: Time, transmit: &mut hopmq_proto::Transmit) -> bool {
        let taken = self.proto.poll_transmit(now, transmit);
        self.backlog.set_taken(self.stats.published);
        self.admit_publishers();
        taken
    }

    /// Sets how many bytes of output may gather before the driver is woken for them.
    pub(crate) fn set_gather(&mut self, bytes: usize) {
        self.backlog.set_gather(bytes);
    }

    /// Notes whether the transport is full, and whether reading is paused.
    pub(crate) fn set_flow(&mut self, stalled: bool, paused: bool) {
        self.driver.set_stalled(stalled);
        self.consumers.set_paused(paused);
    }

    /// Whether handles poll the driver on their own threads.
    pub(crate) fn is_driver_inline(&self) -> bool {
        self.driver.is_polled_inline()
    }

    /// Returns when the broker last stopped blocking publishing; `None` while it blocks.
    pub(crate) fn unblocked(&self) -> Option<Time> {
        self.blocking.unblocked()
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Renames a queue, after the broker gave the queue a new name. Requests and channels find the new name themselves.
    pub(crate) fn rename_queue(&mut self, serial: u64, name: &str) {
        if let Some(old) = self.ledger.rename(serial, name) {
            debug!(%old, new = name, "the broker gave a queue another name");
            self.consumers.rename_queue(&old, name);
        }
    }

    /// Swaps the collected wakers with `wakers`, which must be empty.
    pub(crate) fn swap_wakers(&mut self, wakers: &mut Wakers) {
        std::mem::swap(&mut self.wakers, wakers);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("ended", &self.reason.get()).finish_non_exhaustive()
    }
}
