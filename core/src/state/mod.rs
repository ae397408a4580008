//! What the handles and the driver of one connection share.
//!
//! Owns the protocol's state, the requests that wait for an answer, the deliveries that wait for their consumer and
//! the wakers of everybody who waits, all under one lock that is held for the length of an encode or of a batch of
//! events. It must never do I/O, and never wake anybody while it is locked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::Waker;
use std::time::Duration;

use hopmq_proto::Time;

use crate::driver::inline::Assistant;
use crate::io::timer::Clock;
use crate::policy::Recovery;
use crate::state::events::{Event, Subscribers};
use crate::state::outage::Recovering;
use crate::state::slots::Slots;
use crate::state::stats::Stats;
use crate::{Error, ErrorKind};

mod channels;
pub(crate) mod confirms;
mod consumers;
pub(crate) mod dispatch;
pub(crate) mod events;
pub(crate) mod journal;
pub(crate) mod ledger;
pub(crate) mod message_ids;
pub(crate) mod outage;
mod requests;
mod restart;
pub(crate) mod slots;
pub(crate) mod stats;
#[cfg(test)]
mod tests;

pub(crate) use channels::{ChannelEnd, ChannelState, Modes, Prefetch, Transaction};
pub(crate) use consumers::{ConsumerEnd, ConsumerState, Queued, Start, Stock};
pub(crate) use requests::{Reply, Request, RequestKind, transmit};

/// What a connection's handles and driver share. See the [module's documentation](self).
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// Why the connection ended.
    ended: OnceLock<Error>,
    /// The driver, if it may be polled by whoever waits for it.
    assistant: OnceLock<Assistant>,
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
    /// There is a link to the broker, and channels and consumers are there on it.
    pub(crate) up: bool,
    /// What is kept to come back after the link is lost.
    pub(crate) recovery: Recovering,
    /// The driver's waker while it sleeps.
    pub(crate) driver: Option<Waker>,
    /// When the driver wakes by itself.
    pub(crate) alarm: Time,
    /// The driver is to be woken even if it has nothing to write.
    pub(crate) nudge: bool,
    /// Publishes that were taken to be written.
    pub(crate) taken: u64,
    /// Output that is left to grow before the driver is woken for it, in bytes.
    pub(crate) gather: usize,
    /// Those who wait poll the driver themselves.
    pub(crate) assisted: bool,
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
    /// Bytes of those that are kept to publish them again.
    pub(crate) kept: usize,
    /// Publishing waits while more than this is kept.
    pub(crate) kept_limit: usize,
    pub(crate) closing: Option<Closing>,
    /// The broker blocks publishing.
    pub(crate) blocked: Option<Blocked>,
    /// When the broker last took back that it blocks publishing.
    pub(crate) unblocked: Time,
    /// Reading has stopped, because consumers hold so much.
    pub(crate) full: bool,
    pub(crate) ended: bool,
    pub(crate) opened: bool,
    /// Everybody who waits until all deliveries are settled.
    pub(crate) settlers: Slots<Option<Waker>>,
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

/// The broker blocks publishing (`connection.blocked`).
#[derive(Clone, Debug)]
pub(crate) struct Blocked {
    pub(crate) since: Time,
    /// The broker's text: `low on disk`, …
    pub(crate) reason: String,
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

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("ended", &self.ended.get()).finish_non_exhaustive()
    }
}

/// How often somebody who finds the lock taken lets others run before it parks.
const YIELDS: usize = 16;

impl Shared {
    pub(crate) fn new(proto: hopmq_proto::Connection, clock: Clock, limits: Limits, recovery: Recovery) -> Arc<Self> {
        let state = State {
            proto,
            up: false,
            recovery: Recovering::new(recovery.clone()),
            driver: None,
            alarm: Time::ZERO,
            nudge: false,
            taken: 0,
            gather: 0,
            assisted: false,
            stalled: false,
            requests: Slots::default(),
            deadlines: BTreeSet::new(),
            channels: Vec::new(),
            consumers: Slots::default(),
            room: BTreeMap::new(),
            reserved: 0,
            buffered: 0,
            unconfirmed: 0,
            kept: 0,
            kept_limit: recovery.kept_limit(),
            closing: None,
            blocked: None,
            unblocked: Time::ZERO,
            full: false,
            ended: false,
            opened: false,
            settlers: Slots::default(),
            enders: Slots::default(),
            subscribers: Subscribers::default(),
            stats: Stats::default(),
            serial: 0,
            server_properties: hopmq_proto::FieldTable::new(),
            wakes: Vec::new(),
            spent: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), clock, limits, ended: OnceLock::new(), assistant: OnceLock::new() })
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.try_lock().unwrap_or_else(|| self.lock_later())
    }

    #[inline]
    fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Somebody else is at it, for as long as an encode lasts. Whoever parks has its successor pay a system call to be
    /// woken, and so the next, until there is nobody left: so it lets others run first.
    #[cold]
    fn lock_later(&self) -> MutexGuard<'_, State> {
        for _ in 0..YIELDS {
            std::thread::yield_now();
            if let Some(state) = self.try_lock() {
                return state;
            }
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` under the lock, then wakes the driver if it sleeps and has something to do.
    #[inline]
    pub(crate) fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        // Whoever fills the buffer of a burst writes it.
        let gather = state.gather;
        self.unlock(state, gather, gather > 0);
        result
    }

    /// The same for somebody who is about to wait for the broker: nothing is left to be gathered, and the driver is
    /// polled right here if it may be.
    #[inline]
    pub(crate) fn with_waiting<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        self.unlock(state, 0, true);
        result
    }

    /// The same for somebody who waits for the fate of a publish, the `count`-th: what came after it need not hurry.
    #[inline]
    pub(crate) fn with_waiting_for<T>(&self, count: u64, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = action(&mut state);
        let (gather, here) = if count > state.taken { (0, true) } else { (state.gather, state.gather > 0) };
        self.unlock(state, gather, here);
        result
    }

    /// Wakes whom the change of the state concerns, outside of the lock.
    #[inline]
    fn unlock(&self, mut state: MutexGuard<'_, State>, gather: usize, here: bool) {
        let writable = state.proto.queued() > gather && !state.stalled;
        let readable = state.full && !state.is_full(self.limits.receive_limit);
        let wanted = state.nudge || writable || readable;
        let driver = if wanted { state.driver.take() } else { None };
        if driver.is_some() || !state.wakes.is_empty() || !state.spent.is_empty() {
            self.wake(state, driver, here);
        }
    }

    #[cold]
    fn wake(&self, mut state: MutexGuard<'_, State>, driver: Option<Waker>, here: bool) {
        let (wakes, spent) = (std::mem::take(&mut state.wakes), std::mem::take(&mut state.spent));
        let here = here && state.up && state.assisted;
        drop(state);
        drop(spent);
        wakes.into_iter().for_each(Waker::wake);
        if let Some(driver) = driver
            && !(here && self.assist())
        {
            driver.wake();
        }
    }

    fn assist(&self) -> bool {
        self.assistant.get().and_then(Assistant::upgrade).is_some_and(|assistant| assistant.assist())
    }

    /// Has the driver polled by whoever waits for it. The first one counts.
    pub(crate) fn assist_by(&self, assistant: Assistant) {
        let first = self.assistant.set(assistant).is_ok();
        self.lock().assisted |= first;
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
    /// The connection is over: everybody learns why.
    pub(crate) fn end_all(&mut self, error: &Error) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.up = false;
        for number in 0..self.channels.len() {
            self.end_channel(number as u16, error);
        }
        self.fail_requests(None, error);
        self.wakes.extend(self.enders.iter_mut().filter_map(|(_, waker)| waker.take()));
        self.wakes.extend(self.settlers.iter_mut().filter_map(|(_, waker)| waker.take()));
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
