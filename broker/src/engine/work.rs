//! The work of a turn, and what is left of it for later turns.
//!
//! A turn is the time between taking and releasing the broker's lock. Owns the count of the *steps* of the turn, its
//! budget, and the unfinished work of each connection that caused some; work that no connection caused, such as
//! expiry, has an owner of its own, the null key. A step is a unit of bounded work: a message moved, a binding removed,
//! a consumer ended. An operation that may need more steps than the budget is a [`Task`], which stops when the budget
//! is spent. It must never know what a task does, nor read a clock.
//!
//! The engine's driver calls [`Engine::start_turn`] whenever it has taken the lock, [`Engine::is_spent`] between two
//! inputs, and [`Engine::work`] while [`Engine::has_work`], each time after it has released the lock. It says how long
//! a turn took ([`Engine::end_turn`]). A step takes a tenth of a microsecond to ten, by what it does and whether its
//! memory is in a cache: so the budget follows what steps take, and a client that shares the broker with one that keeps
//! it busy waits [`TURN`] for a confirm.
//!
//! - The tasks of an owner are a stack: a task that another one needs comes before the rest of that one, so that the
//!   order of what happens is the same, however it is cut. Dead letters are routed once the stack is empty.
//! - A connection with unfinished work is held: no input of it is handled, and no output sent. So its client sees each
//!   operation as a whole. Others may see the steps; what they must not see is not there from the first step on: the
//!   messages of a purged queue, the name of a deleted one.
//! - The turns of a connection are short at first, and while many connections have much to do ([`Pace`]).
//! - The owners take turns, [`SHARE`] steps each, so that the work of one delays that of another by a bounded number of
//!   steps.
//!
//! No turn has more steps than the budget and the last operation in it: finding the queues of a message, which are
//! counted by [`ROUTING_STEPS`], or a commit, which may take a whole budget more.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::Time;
use slotmap::Key;

use crate::engine::delivery::acks::Settling;
use crate::engine::delivery::consume::Got;
use crate::engine::delivery::requeue::Requeue;
use crate::engine::keys::{ConsumerKey, QueueKey, SessionKey};
use crate::engine::queue::dead_letter::DeadLetter;
use crate::engine::session::Release;
use crate::engine::session::channel::Closing;
use crate::engine::session::publish::{Spread, Unrouted};
use crate::engine::session::tx::{Commit, Rollback};
use crate::engine::topology::delete::{Ending, Remains};
use crate::engine::{At, Engine};

/// The steps of a turn, at most. A batch of publishes with deliveries stays below it.
const BUDGET: u32 = 2048;
/// The steps of a turn, at least. Taking the lock costs less than these.
const LEAST: u32 = 64;
/// The steps that a connection gets at once when it ends. They suffice for most.
const FEW: u32 = 8;
/// The time of a turn that spends its budget.
const TURN: Duration = Duration::from_micros(500);
/// The steps that an owner gets before it is the next one's turn.
const SHARE: u32 = 256;

/// The turns of one connection: short at first, and longer as long as it spends them.
///
/// Many connections may have input at the same time, each enough for a whole turn: a client that shares the broker with
/// a thousand of them would wait for a thousand turns. So a connection that was idle begins with [`LEAST`] steps, and
/// all turns are shorter while many connections spend theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    steps: u32,
    /// When it had something to do last.
    busy: Time,
    /// Whether it has spent its last turn, and is counted among those.
    spends: bool,
}

/// The connections that have spent their last turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spenders(u32);

/// How many connections may spend whole turns.
const MANY: u32 = 16;
/// After this time without anything to do, a connection begins with short turns again.
const REST: Duration = Duration::from_millis(5);

impl Pace {
    pub(crate) fn new() -> Self {
        Self { steps: LEAST, busy: Time::ZERO, spends: false }
    }

    /// Begins a turn of a connection.
    pub(crate) fn begin(&mut self, now: Time, engine: &mut Engine, spenders: Spenders) {
        if now - self.busy > REST {
            self.steps = LEAST;
        }
        engine.shorten_turn(self.steps * MANY / spenders.0.max(MANY));
    }

    /// Ends a turn, after which the connection goes on at once if it has spent it. Returns whether it has.
    pub(crate) fn end(&mut self, now: Time, engine: &Engine, spenders: &mut Spenders) -> bool {
        if engine.is_spent() {
            self.steps = (self.steps * 2).min(BUDGET);
        }
        if engine.steps() > 0 {
            self.busy = now;
        }
        self.set(engine.is_spent(), spenders);
        self.spends
    }

    /// Ends the turns of a connection.
    pub(crate) fn leave(&mut self, spenders: &mut Spenders) {
        self.set(false, spenders);
    }

    fn set(&mut self, spends: bool, spenders: &mut Spenders) {
        spenders.0 = spenders.0 + u32::from(spends) - u32::from(self.spends);
        self.spends = spends;
    }
}

/// How many steps of routing, each of which visits a node or a binding, take as long as one that moves a message.
const ROUTING_STEPS: u64 = 4;

/// An operation that is done in steps.
#[derive(Debug)]
pub(in crate::engine) enum Task {
    /// Deliver the messages of a queue to its consumers.
    Drive(QueueKey),
    /// Acknowledge or reject deliveries.
    Settle(Settling),
    /// Move deliveries to what a transaction has settled.
    Collect(Settling),
    Requeue(Requeue),
    /// Take a closed channel apart.
    Close(Closing),
    Commit(Commit),
    Rollback(Rollback),
    /// Drop messages.
    Discard(Remains),
    /// Take a deleted queue or exchange apart.
    End(Ending),
    /// Resume the consumers of a channel that share a limit.
    ResumeAll(At),
    /// Put consumers that may have room again back into the turns.
    Resume(VecDeque<ConsumerKey>),
    /// Hold a connection until what it has changed is synced.
    Hold(SessionKey),
    /// Handle a declaration that had to wait.
    Declare(At, Bytes),
    /// Answer `basic.get`.
    Get(Got),
    /// Drop the messages of a queue that are above its limit.
    Shorten(QueueKey),
    /// Close the channels of a queue's consumers, because its next message can't be read.
    Refuse(QueueKey),
    /// Find the queues of a message, and pass it to them.
    Route(Box<Unrouted>),
    /// Pass a message to many queues.
    Spread(Spread),
    /// Release what a connection holds.
    Release(Release),
    /// Remove a connection that has left.
    Forget(SessionKey),
}

/// What an owner has yet to do.
#[derive(Debug, Default)]
struct Unfinished {
    owner: SessionKey,
    /// The last one is next.
    tasks: Vec<Task>,
    /// What the running operation leaves, the first one first. It comes before `tasks`.
    left: Vec<Task>,
    /// Dead letters that are not yet routed.
    dead_letters: VecDeque<DeadLetter>,
    /// Whether its connection is held.
    is_held: bool,
}

impl Unfinished {
    #[inline]
    fn is_empty(&self) -> bool {
        self.left.is_empty() && self.tasks.is_empty() && self.dead_letters.is_empty()
    }
}

/// See the [module's documentation](self).
#[derive(Debug)]
pub(in crate::engine) struct Work {
    /// The steps of a turn.
    budget: u32,
    /// The steps of this turn, at most the budget.
    allowed: u32,
    /// The budget, at most.
    ceiling: u32,
    /// The steps since the turn began.
    spent: u32,
    /// The steps after which tasks stop.
    limit: u32,
    /// The most steps that a turn has had.
    most: u32,
    /// The work of the owner whose operation runs.
    running: Unfinished,
    /// The work of the other owners, in the order of their turns. None is empty.
    waiting: VecDeque<Unfinished>,
}

impl Work {
    pub(in crate::engine) fn new() -> Self {
        Self {
            budget: BUDGET,
            allowed: BUDGET,
            ceiling: BUDGET,
            spent: 0,
            limit: BUDGET,
            most: 0,
            running: Unfinished::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Counts steps.
    #[inline]
    pub(in crate::engine) fn count(&mut self, steps: u32) {
        self.spent = self.spent.saturating_add(steps);
    }

    /// Whether what has no task of its own must stop.
    #[inline]
    pub(in crate::engine) fn is_spent(&self) -> bool {
        self.spent >= self.limit
    }

    /// Whether a task must stop: the budget is spent, or it has left something that must be done before the rest.
    #[inline]
    pub(in crate::engine) fn must_stop(&self) -> bool {
        self.spent >= self.limit || !self.running.left.is_empty()
    }

    /// Lets the running task have a whole turn's budget, whatever of it was spent.
    pub(in crate::engine) fn widen(&mut self) {
        self.limit = self.limit.max(self.spent.saturating_add(self.budget));
    }

    /// Lets the running operation have a few steps at once.
    pub(in crate::engine) fn narrow(&mut self) {
        self.limit = self.limit.min(self.spent.saturating_add(FEW));
    }

    /// Adds a task of the running operation.
    pub(in crate::engine) fn leave(&mut self, task: Task) {
        self.running.left.push(task);
    }

    pub(in crate::engine) fn leave_dead_letter(&mut self, dead_letter: DeadLetter) {
        self.running.dead_letters.push_back(dead_letter);
    }

    /// Returns the dead letters of the running owner.
    pub(in crate::engine) fn dead_letters(&mut self) -> &mut VecDeque<DeadLetter> {
        &mut self.running.dead_letters
    }

    /// Takes the next task of the running owner.
    fn next(&mut self) -> Option<Task> {
        let Unfinished { tasks, left, .. } = &mut self.running;
        tasks.extend(left.drain(..).rev());
        tasks.pop()
    }
}

impl Engine {
    /// Begins a turn: the driver has taken the lock.
    #[inline]
    pub(crate) fn start_turn(&mut self) {
        let work = &mut self.work;
        work.most = work.most.max(work.spent);
        work.spent = 0;
        (work.allowed, work.limit) = (work.budget, work.budget);
    }

    /// Makes this turn a short one, of so many steps: see [`Pace`].
    #[inline]
    pub(crate) fn shorten_turn(&mut self, steps: u32) {
        let allowed = self.work.budget.min(steps.max(FEW));
        (self.work.allowed, self.work.limit) = (allowed, allowed);
    }

    /// Ends a turn, which took this long: sets the budget of the next ones by what a step of this one took. The budget
    /// is at most halved or doubled, as the system may have stopped the thread meanwhile.
    #[inline]
    pub(crate) fn end_turn(&mut self, took: impl FnOnce() -> Duration) {
        let Work { budget, ceiling, spent, .. } = self.work;
        if spent < LEAST {
            return;
        }
        let took = took();
        if took > TURN || spent >= budget && budget < ceiling {
            let fits = u128::from(spent) * TURN.as_nanos() / took.as_nanos().max(1);
            let fits = u32::try_from(fits).unwrap_or(u32::MAX).clamp(budget / 2, budget.saturating_mul(2));
            self.work.budget = fits.clamp(LEAST.min(ceiling), ceiling);
            (self.work.allowed, self.work.limit) = (self.work.budget, self.work.budget);
        }
    }

    /// Whether the turn must end: the driver must release the lock before it handles more input.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.work.spent >= self.work.allowed
    }

    /// Returns the steps since the turn began.
    #[inline]
    pub(crate) fn steps(&self) -> u32 {
        self.work.spent
    }

    /// Whether [`Engine::work`] has something to do.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.work.waiting.is_empty()
    }

    /// Does a turn of unfinished work.
    pub(crate) fn work(&mut self, now: Time) {
        self.now = now;
        while self.work.spent < self.work.budget
            && let Some(next) = self.work.waiting.pop_front()
        {
            self.work.running = next;
            self.work.limit = self.work.allowed.min(self.work.spent.saturating_add(SHARE));
            self.run();
            self.put_away();
        }
        self.work.limit = self.work.allowed;
    }

    /// Counts a step that no operation took.
    #[cfg(test)]
    pub(crate) fn count_step(&mut self) {
        self.work.count(1);
    }

    /// Does all unfinished work at once, at the end of the broker.
    pub(crate) fn finish_work(&mut self, now: Time) {
        while self.has_work() {
            self.start_turn();
            self.work(now);
        }
        self.start_turn();
    }

    /// Sets the budget of a turn, at most.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn set_budget(&mut self, steps: u32) {
        let work = &mut self.work;
        (work.ceiling, work.budget, work.allowed, work.limit) = (steps, steps, steps, steps);
    }

    /// Returns the most steps that a turn has had since the last call.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn take_most_steps(&mut self) -> u32 {
        self.start_turn();
        std::mem::take(&mut self.work.most)
    }

    /// Drops all unfinished work, for a crash.
    #[cfg(feature = "testing")]
    pub(in crate::engine) fn forget_work(&mut self) {
        let Work { budget, ceiling, .. } = self.work;
        self.work = Work { budget, ceiling, allowed: budget, limit: budget, ..Work::new() };
    }

    /// Begins an operation of a connection, or of none.
    #[inline]
    pub(in crate::engine) fn begin(&mut self, owner: SessionKey) {
        debug_assert!(self.work.running.is_empty(), "an operation within another one");
        if self.has_left_work(owner)
            && let Some(index) = self.work.waiting.iter().position(|other| other.owner == owner)
            && let Some(unfinished) = self.work.waiting.remove(index)
        {
            // What the operation leaves comes before the rest of the tasks, as what a task leaves does.
            self.work.running = unfinished;
        }
        self.work.running.owner = owner;
    }

    /// Whether an owner may have unfinished work. Most have none, and are not searched for.
    #[inline]
    fn has_left_work(&self, owner: SessionKey) -> bool {
        self.has_work() && self.sessions.get(owner).is_none_or(|session| session.is_working)
    }

    /// Begins the operations that timers cause. They get a share of the turn if others have work.
    pub(in crate::engine) fn begin_timers(&mut self) {
        if self.has_work() {
            self.work.limit = self.work.allowed.min(self.work.spent.saturating_add(SHARE));
        }
        self.begin(SessionKey::null());
    }

    /// Does what the last operation has left. Returns whether all is done, and there is budget for another operation.
    pub(in crate::engine) fn goes_on(&mut self) -> bool {
        self.run();
        let goes_on = self.work.running.is_empty() && self.work.spent < self.work.limit;
        self.work.count(1);
        goes_on
    }

    /// Ends an operation: does what it has left, as far as the budget goes.
    #[inline]
    pub(in crate::engine) fn end(&mut self) {
        self.count_routing();
        self.retry_after_changes();
        if !self.work.running.is_empty() {
            self.run();
        }
        self.work.limit = self.work.allowed;
        self.put_away();
    }

    /// Does the work of the running owner, as far as the budget goes.
    fn run(&mut self) {
        while self.work.spent < self.work.limit {
            if let Some(task) = self.work.next() {
                self.work.count(1);
                let rest = self.step(task);
                self.work.running.tasks.extend(rest);
                self.count_routing();
            } else if let Some(dead_letter) = self.work.running.dead_letters.pop_front() {
                self.route_dead_letter(dead_letter);
                self.count_routing();
            } else {
                break;
            }
        }
    }

    /// Counts the steps that routing has taken, which it counts itself. They are smaller.
    #[inline]
    pub(in crate::engine) fn count_routing(&mut self) {
        let steps = self.routing.steps.replace(0) / ROUTING_STEPS;
        self.work.count(u32::try_from(steps).unwrap_or(u32::MAX));
    }

    /// Returns the steps that a route may take now, in those of routing.
    #[inline]
    pub(in crate::engine) fn routing_left(&self) -> u64 {
        u64::from(self.work.limit.saturating_sub(self.work.spent)) * ROUTING_STEPS
    }

    /// Adds what is left of the running owner's work to the list, and holds the connection until it is done.
    #[inline]
    fn put_away(&mut self) {
        let is_working = !self.work.running.is_empty();
        if is_working != self.work.running.is_held {
            self.hold_for_work(is_working);
        }
        if is_working {
            let unfinished = std::mem::take(&mut self.work.running);
            self.work.waiting.push_back(unfinished);
        }
    }

    /// Holds the running owner until its work is done, or resumes it.
    #[cold]
    fn hold_for_work(&mut self, is_working: bool) {
        let owner = self.work.running.owner;
        self.work.running.is_held = is_working;
        if let Some(session) = self.sessions.get_mut(owner) {
            session.is_working = is_working;
            if !is_working {
                Self::wake(&mut self.woken, owner, session);
            }
        }
    }

    /// Does as much of a task as the budget allows, or as must be done before the rest. Returns the rest.
    fn step(&mut self, task: Task) -> Option<Task> {
        match task {
            Task::Drive(queue) => {
                if self.queues.contains_key(queue) {
                    self.drive(queue);
                }
            }
            Task::Settle(settling) => return self.settle_some(settling),
            Task::Collect(settling) => return self.collect_some(settling),
            Task::Requeue(requeue) => return self.requeue_some(requeue),
            Task::Close(closing) => return self.close_some(closing),
            Task::Commit(commit) => return self.commit_some(commit),
            Task::Rollback(rollback) => return self.roll_back_some(rollback),
            Task::Discard(remains) => return self.discard_some(remains),
            Task::End(ending) => return self.end_some(ending),
            Task::Hold(id) => self.hold_for_all(id),
            Task::Declare(at, method) => self.handle_method(at.session, at.channel, &method),
            Task::Get(got) => return self.get_some(got),
            Task::Shorten(queue) => self.drop_above_limit(queue),
            Task::Refuse(queue) => self.refuse_consumers(queue),
            Task::Route(unrouted) => return self.route_some(unrouted),
            Task::Spread(spread) => return self.spread_some(spread),
            Task::ResumeAll(at) => self.resume_all(at),
            Task::Release(release) => return self.release_some(release),
            Task::Resume(mut consumers) => {
                while let Some(consumer) = consumers.pop_front() {
                    self.work.count(1);
                    self.resume(consumer);
                    if self.work.must_stop() {
                        return Some(Task::Resume(consumers));
                    }
                }
            }
            Task::Forget(id) => drop(self.sessions.remove(id)),
        }
        None
    }
}
