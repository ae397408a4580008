//! What all connections of a broker share: the engine behind a lock, and the wakers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hopmq_proto::Time;

use super::passwords::Cost;
use crate::clock::{Alarm, Clock};
use crate::engine::{self, Contents, Engine, SessionKey};
use crate::store::{Position, QueueId, Room, Store};

/// The shared part of a broker.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
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
    /// Whether a user was added with a hash of argon2 that another broker made.
    pub(crate) has_argon2: bool,
    sleeping: BTreeMap<SessionKey, Waker>,
    woken: Vec<SessionKey>,
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
    pub(crate) fn new(engine: Engine, clock: Clock, by_hand: bool) -> Self {
        let state = State {
            engine,
            store: None,
            has_argon2: false,
            sleeping: BTreeMap::new(),
            woken: Vec::new(),
            ending: BTreeMap::new(),
            is_stopping: false,
            empty_waiters: Vec::new(),
            timekeeper: None,
        };
        Self { state: Mutex::new(state), clock, by_hand }
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

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns what the hash of a password costs, and so a login that is refused.
    pub(super) fn hash_cost(&self) -> Cost {
        if self.store.is_some() || self.has_argon2 { Cost::Full } else { Cost::Least }
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

    /// Notes that a connection is closed. Adds the wakers of the tasks that waited for the last one.
    pub(crate) fn forget(&mut self, id: SessionKey, wakes: &mut Vec<Waker>) {
        self.ending.remove(&id);
        if self.is_empty() {
            wakes.append(&mut self.empty_waiters);
        }
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
        let Some(status) = self.store.as_ref().map(Store::status) else { return };
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
            _ if shortage == engine::PACE => tracing::debug!(on, connections, blocked, unsynced_bytes, "flow control"),
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

    /// Raises or clears the alarm for memory by what is used.
    fn check_memory(&mut self) {
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
        let next = self.engine.poll_timeout();
        let is_earlier = |set: Option<Time>| next.is_some_and(|next| set.is_none_or(|set| next < set));
        wakes.extend(self.timekeeper.take_if(|(_, set)| is_earlier(*set)).map(|(waker, _)| waker));
    }
}

/// Drives the engine's timers, so that messages expire without any connection being active.
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
            let now = this.shared.clock.now();
            let mut state = this.shared.lock();
            if state.engine.poll_timeout().is_some_and(|at| at <= now) {
                state.engine.handle_timeout(now);
            }
            state.collect(&mut this.wakes);
            let next = state.engine.poll_timeout();
            state.timekeeper = Some((context.waker().clone(), next));
            drop(state);
            this.wakes.drain(..).for_each(Waker::wake);
            match next {
                Some(next) if this.alarm.poll_until(next, context).is_ready() => {}
                _ => return Poll::Pending,
            }
        }
    }
}

impl Contents for Store {
    fn read(&self, queue: QueueId, positions: &[Position]) -> Vec<Option<(Bytes, Bytes)>> {
        let found = self.read_many(queue, positions).into_iter();
        let content = |found: Result<crate::store::Content, crate::store::Error>| match found {
            Ok(content) => Some((content.head, content.body)),
            Err(error) => {
                let error = format_args!("{error:#}");
                tracing::error!(%error, "the content of a stored message can't be read; the message is lost");
                None
            }
        };
        found.map(content).collect()
    }
}
