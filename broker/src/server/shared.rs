//! What all connections of a broker share: the engine behind a lock, and the wakers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hopmq_proto::Time;

use super::logins::{Logins, MacKey};
use super::passwords::Cost;
use crate::clock::{Alarm, Clock};
use crate::engine::{self, Contents, Engine, SessionKey, Spenders};
use crate::store::{Position, QueueId, Room, Store};

/// How long a task lets threads that wait for the lock have it. The system may take a millisecond to wake a thread on a
/// processor that sleeps.
const LONGEST_WAY: Duration = Duration::from_millis(5);

/// The shared part of a broker.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The threads that wait for the lock.
    waiting: AtomicUsize,
    /// How often a thread that waited has got it.
    granted: AtomicUsize,
    /// Never locked while the state's lock is waited for.
    logins: Mutex<Logins>,
    pub(super) mac_key: MacKey,
    pub(crate) clock: Clock,
    /// Whether the caller drives the broker, on one thread.
    pub(crate) by_hand: bool,
}

/// The state behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) engine: Engine,
    /// The store, if the broker has one.
    pub(crate) store: Option<Store>,
    sleeping: BTreeMap<SessionKey, Waker>,
    woken: Vec<SessionKey>,
    pub(super) spenders: Spenders,
    /// Connections that the engine no longer has, whose clients have yet to close their side.
    ending: BTreeMap<SessionKey, Waker>,
    /// Whether the broker shuts down.
    is_stopping: bool,
    /// Tasks that wait until no connection is left.
    empty_waiters: Vec<Waker>,
    /// The timekeeper's waker, and the time that its alarm is set to.
    timekeeper: Option<(Waker, Option<Time>)>,
}

impl Shared {
    pub(crate) fn new(engine: Engine, logins: Logins, clock: Clock, by_hand: bool) -> Self {
        let state = State {
            engine,
            store: None,
            sleeping: BTreeMap::new(),
            woken: Vec::new(),
            spenders: Spenders::default(),
            ending: BTreeMap::new(),
            is_stopping: false,
            empty_waiters: Vec::new(),
            timekeeper: None,
        };
        let (waiting, granted, logins) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(logins));
        Self { state: Mutex::new(state), waiting, granted, logins, mac_key: MacKey::random(), clock, by_hand }
    }

    /// Changes the state, and wakes the tasks that are affected.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State, Time) -> T) -> T {
        let now = self.clock.now();
        let mut wakes = Vec::new();
        let mut state = self.lock();
        let result = change(&mut state, now);
        state.collect(&mut wakes);
        drop(state);
        wakes.into_iter().for_each(Waker::wake);
        result
    }

    /// Takes the lock, and begins a turn of the engine.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.granted.fetch_add(1, Ordering::Relaxed);
                state
            }
        };
        state.engine.start_turn();
        state
    }

    /// Lets the threads that wait for the lock have it, before a task that has spent its turn takes it again. The
    /// system's lock is not fair: a woken thread mostly finds it taken again. Those that come meanwhile are not waited
    /// for.
    pub(crate) fn give_way(&self) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting == 0 {
            return;
        }
        let (granted, begin) = (self.granted.load(Ordering::Relaxed), Instant::now());
        while self.waiting.load(Ordering::Relaxed) > 0
            && self.granted.load(Ordering::Relaxed).wrapping_sub(granted) < waiting
            && begin.elapsed() < LONGEST_WAY
        {
            thread::yield_now();
        }
    }

    pub(super) fn logins(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns what the hash of a password costs, and so a login that is refused.
    pub(super) fn hash_cost(&self) -> Cost {
        if self.store.is_some() { Cost::Full } else { Cost::Least }
    }

    /// Notes that a connection waits for output.
    pub(crate) fn sleep(&mut self, id: SessionKey, waker: &Waker) {
        self.sleeping.insert(id, waker.clone());
    }

    /// Removes a connection from the engine, if it is still there.
    pub(crate) fn leave(&mut self, now: Time, id: SessionKey) {
        if !self.engine.is_gone(id) {
            self.engine.disconnect(now, id);
        }
        self.sleeping.remove(&id);
    }

    /// Notes that a connection waits for its client to close its side. Returns whether the broker shuts down.
    pub(crate) fn note_ending(&mut self, id: SessionKey, waker: &Waker) -> bool {
        self.ending.insert(id, waker.clone());
        self.is_stopping
    }

    /// Notes that a connection is closed.
    pub(crate) fn forget(&mut self, id: SessionKey) {
        self.ending.remove(&id);
    }

    /// Whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.engine.session_count() == 0 && self.ending.is_empty()
    }

    /// Notes that the broker shuts down. Returns the wakers of the connections that end already.
    pub(crate) fn stop(&mut self) -> Vec<Waker> {
        self.is_stopping = true;
        self.ending.values().cloned().collect()
    }

    /// Wakes a task once no connection is left.
    pub(crate) fn wake_when_empty(&mut self, waker: &Waker) {
        if !self.empty_waiters.iter().any(|other| other.will_wake(waker)) {
            self.empty_waiters.push(waker.clone());
        }
    }

    /// Gives the store the engine's changes. If that fails, they stay, and none of them is confirmed until a later call
    /// succeeds.
    pub(crate) fn persist(&mut self) {
        let Some(store) = &self.store else { return };
        let mut is_behind = false;
        let mut pending = None;
        self.engine.persist(|group| match store.append(group) {
            Ok(end) => {
                let status = store.status();
                is_behind = status.room == Room::Behind;
                pending = Some(status.pending);
                Some(end)
            }
            Err(error) => {
                let error = format_args!("{error:#}");
                tracing::warn!(%error, "the store accepts no changes; they are kept in memory, and not confirmed");
                None
            }
        });
        if is_behind {
            self.engine.pause_publishers();
        }
        if let Some(pending) = pending {
            self.engine.note_unwritten(pending);
        }
    }

    /// Handles a change of the store's status.
    pub(crate) fn note_store(&mut self, now: Time) {
        let Some(store) = &self.store else { return };
        for crate::store::Damage { file, offset, what } in store.damages() {
            tracing::error!(file, offset, what, "a file of the store is damaged: restore the folder from a backup");
        }
        let status = store.status();
        match status.failed {
            Some(error) => {
                let error = format_args!("{error:#}");
                tracing::error!(%error, "the store has failed: all connections are closed; restart the broker");
                self.engine.store_failed();
            }
            None => {
                self.engine.synced(now, status.synced);
                self.engine.note_unwritten(status.pending);
                self.set_alarm(now, engine::DISK, status.room == Room::DiskFull);
                self.set_alarm(now, engine::PACE, status.room == Room::Behind);
            }
        }
    }

    /// Raises an alarm, or clears it, and logs that.
    pub(crate) fn set_alarm(&mut self, now: Time, shortage: engine::Shortage, on: bool) {
        if !self.engine.set_alarm_of(now, shortage, on) {
            return;
        }
        let connections = self.engine.session_count();
        let blocked = self.engine.blocked_count();
        let status = self.store.as_ref().map(Store::status);
        let unsynced_bytes = status.as_ref().map_or(0, |status| status.pending);
        // An alarm of the test kit may come without a store.
        let on_disk = status.as_ref().filter(|_| shortage == engine::DISK);
        let (free_bytes, limit_bytes) = (on_disk.and_then(|status| status.free), on_disk.map(|status| status.min_free));
        let memory = (shortage == engine::WATERMARK).then(|| self.engine.memory());
        let (used_bytes, limit_bytes) = (memory.map(|memory| memory.0), limit_bytes.or(memory.map(|memory| memory.1)));
        let alarm = engine::name_of(shortage);
        match on {
            // Flow control: nothing for an operator to do.
            _ if shortage & (engine::PACE | engine::GROWTH) != 0 => {
                tracing::debug!(on, connections, blocked, unsynced_bytes, "flow control");
            }
            true => tracing::warn!(
                alarm,
                free_bytes,
                used_bytes,
                limit_bytes,
                connections,
                blocked,
                unsynced_bytes,
                "alarm raised: publishers are blocked until it ends"
            ),
            false => tracing::info!(
                alarm,
                free_bytes,
                used_bytes,
                limit_bytes,
                connections,
                unsynced_bytes,
                "alarm cleared: publishers continue"
            ),
        }
    }

    /// Raises or clears the alarms for memory by what is used, and by how fast that grows.
    fn check_memory(&mut self) {
        if let Some(on) = self.engine.check_growth() {
            self.set_alarm(self.engine.now(), engine::GROWTH, on);
        }
        if let Some(on) = self.engine.check_memory() {
            self.set_alarm(self.engine.now(), engine::WATERMARK, on);
        }
    }

    /// Collects the wakers of all tasks that have work, to be woken without the lock.
    pub(crate) fn collect(&mut self, wakes: &mut Vec<Waker>) {
        self.persist();
        self.check_memory();
        self.engine.poll_woken(&mut self.woken);
        for id in self.woken.drain(..) {
            wakes.extend(self.sleeping.remove(&id));
        }
        if self.is_empty() {
            wakes.append(&mut self.empty_waiters);
        }
        let next = self.engine.poll_timeout();
        let has_work = self.engine.has_work();
        let is_earlier = |set: Option<Time>| has_work || next.is_some_and(|next| set.is_none_or(|set| next < set));
        wakes.extend(self.timekeeper.take_if(|(_, set)| is_earlier(*set)).map(|(waker, _)| waker));
    }
}

/// Drives the engine's timers and its unfinished work, so that messages expire without any connection being active. One
/// poll is one turn of unfinished work; the executor's other tasks come before the next.
pub(crate) struct Timekeeper {
    shared: Arc<Shared>,
    alarm: Alarm,
    wakes: Vec<Waker>,
}

impl Timekeeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { alarm: shared.clock.alarm(), shared, wakes: Vec::new() }
    }
}

impl Future for Timekeeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let mut state = this.shared.lock();
            let now = this.shared.clock.now();
            let is_due = |engine: &Engine| engine.poll_timeout().is_some_and(|at| at <= now);
            if is_due(&state.engine) {
                state.engine.handle_timeout(now);
            }
            if state.engine.has_work() {
                state.engine.work(now);
            }
            state.collect(&mut this.wakes);
            let next = state.engine.poll_timeout();
            let goes_on = state.engine.has_work() || is_due(&state.engine);
            state.timekeeper = Some((context.waker().clone(), next)).filter(|_| !goes_on);
            state.engine.end_turn(|| this.shared.clock.now() - now);
            drop(state);
            this.wakes.drain(..).for_each(Waker::wake);
            if goes_on {
                this.shared.give_way();
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match next {
                Some(next) if this.alarm.poll_until(next, context).is_ready() => {}
                _ => return Poll::Pending,
            }
        }
    }
}

impl Contents for Store {
    fn read(&self, queue: QueueId, positions: &[Position]) -> Vec<Result<(Bytes, Bytes), crate::store::Error>> {
        let found = self.read_many(queue, positions).into_iter();
        found.map(|found| found.map(|content| (content.head, content.body))).collect()
    }
}
