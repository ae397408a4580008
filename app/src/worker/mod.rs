//! The worker of one queue: takes deliveries, lets the handler work on them, and settles them.
//!
//! Owns the slots, the lanes of messages with the same key, and the consumer. In come deliveries; out go settlements,
//! forwards and answers. It must never spawn, and decides nothing that [`flow`](crate::flow) decides.

mod batch;
mod breaker;
mod carry;
mod gate;
mod intake;
mod rate;
mod ready;

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;
use hopmq::{Acker, Consumer, Delivery, Time};

use crate::alarms::Sleep;
use crate::context::Context;
use crate::flow::{Facts, Failure, Policy, Settle, Verdict, admit, decide};
use crate::handler::Slot;
use crate::incoming::Incoming;
use crate::observe::{Ended, Mark, Observer};
use crate::topology::Queue;

pub(crate) use batch::BatchWorker;
pub(crate) use carry::{insert_origin, moved};
pub(crate) use gate::Gate;
use intake::Admission;
pub(crate) use intake::Intake;
use ready::Ready;

/// How many messages a worker starts before it lets others run.
const TURN: usize = 256;
/// How often a worker looks whether its consumer has ended while it takes no deliveries.
const WATCH: Duration = Duration::from_secs(10);
/// How many messages may wait for others with the same key, if the prefetch is unlimited.
const LONGEST_BACKLOG: usize = 4096;

/// How a worker ended.
pub(crate) enum End {
    /// The app was stopped, and all messages in work are settled.
    Stopped,
    /// No messages are taken for a while, and all messages in work are settled.
    Paused,
    /// The broker cancelled the consumer, or closed its channel; all messages in work are settled as far as possible.
    Lost(Option<hopmq::Error>),
}

/// What a worker of one queue works with.
pub(crate) struct Job<'a, S> {
    pub(crate) state: &'a S,
    pub(crate) queue: &'a Arc<Queue>,
    pub(crate) context: &'a Context,
    pub(crate) gate: &'a Arc<Gate>,
    pub(crate) observers: &'a Arc<[Arc<dyn Observer>]>,
    pub(crate) intake: &'a mut Intake,
    /// How long handlers may go on after the consumer was lost.
    pub(crate) grace: Duration,
}

/// A worker: a future that ends when the app is stopped or the consumer is lost.
pub(crate) struct Worker<'a, S, T: Slot<S>> {
    state: &'a S,
    queue: Arc<Queue>,
    policy: Policy,
    context: Context,
    /// The context of the last message, for the next one: a clone costs two atomic operations.
    spare: Option<Context>,
    gate: Arc<Gate>,
    observers: Arc<[Arc<dyn Observer>]>,
    intake: &'a mut Intake,
    consumer: Option<Consumer>,
    places: Vec<Place<T>>,
    free: Vec<usize>,
    ready: Arc<Ready>,
    /// The messages that wait for one with the same key, by that key.
    lanes: HashMap<u64, VecDeque<Incoming>>,
    backlog: usize,
    /// How many messages waited when observers were told last.
    waiting: usize,
    /// Why the worker takes no more messages.
    ending: Option<End>,
    /// How long handlers may go on after the consumer was lost.
    grace: Duration,
    /// The end of that time.
    given_up: Option<Sleep>,
    /// Deliveries that were taken to see whether the consumer had ended.
    ahead: VecDeque<Delivery>,
    watch: Sleep,
    watcher: Waker,
}

/// A slot with what it works on.
struct Place<T> {
    slot: T,
    work: Work,
    incoming: Option<Incoming>,
    key: Option<u64>,
    waker: Waker,
    marks: Vec<Mark>,
    began: Time,
}

enum Work {
    Idle,
    /// The message is the next of its lane, and its handler is not called yet.
    Next,
    /// The handler runs.
    Handler,
    /// The message waits for its next attempt.
    Waiting(Sleep),
    /// The message is moved or answered.
    Carrying(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl<'a, S, T: Slot<S>> Worker<'a, S, T> {
    pub(crate) fn new(job: Job<'a, S>, consumer: Consumer, mut slot: impl FnMut() -> T) -> Self {
        let Job { state, queue, context, gate, observers, intake, grace } = job;
        let ready = Ready::new(queue.concurrency + 1);
        let watcher = ready.waker(queue.concurrency);
        watcher.wake_by_ref();
        let places: Vec<_> = (0..queue.concurrency).map(|index| Place::new(slot(), ready.waker(index))).collect();
        Self {
            state,
            policy: queue.policy(),
            queue: Arc::clone(queue),
            context: context.clone(),
            spare: None,
            gate: Arc::clone(gate),
            observers: Arc::clone(observers),
            intake,
            consumer: Some(consumer),
            free: (0..places.len()).rev().collect(),
            places,
            ready,
            lanes: HashMap::new(),
            backlog: 0,
            waiting: 0,
            ending: None,
            grace,
            given_up: None,
            ahead: VecDeque::new(),
            watch: context.sleep(WATCH),
            watcher,
        }
    }

    /// Takes deliveries while slots are free. Returns whether there may be more at once.
    fn take_deliveries(&mut self, task: &mut TaskContext<'_>) -> bool {
        for _ in 0..TURN {
            if self.free.is_empty() || self.backlog >= LONGEST_BACKLOG || self.ending.is_some() {
                return false;
            }
            let busy = self.places.len() - self.free.len();
            match self.intake.admit(&self.gate, busy, task) {
                Admission::Take => {}
                Admission::Wait => return false,
                Admission::Leave => {
                    self.ending = Some(End::Paused);
                    return false;
                }
            }
            if let Some(delivery) = self.ahead.pop_front() {
                self.accept(delivery);
                continue;
            }
            let Some(consumer) = &mut self.consumer else { return false };
            match Pin::new(consumer).poll_next(task) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(delivery))) => self.accept(delivery),
                Poll::Ready(end) => {
                    self.lose(end.and_then(Result::err));
                    return false;
                }
            }
        }
        true
    }

    fn accept(&mut self, delivery: Delivery) {
        let context = self.spare.take().unwrap_or_else(|| self.context.clone());
        let incoming = Incoming::new(delivery, context);
        self.gate.note_taken();
        self.intake.took(1);
        let key = self.queue.key.as_ref().map(|key| {
            let read = catch_unwind(AssertUnwindSafe(|| key.read(incoming.message())));
            read.map_err(|panic| panicked("the function of `ordered_by`", &*panic))
        });
        let (key, failure) = match key {
            Some(Ok(key)) => (Some(key), None),
            Some(Err(failure)) => (None, Some(failure)),
            None => (None, None),
        };
        if let Some(key) = key {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.push_back(incoming);
                self.backlog += 1;
                return;
            }
            self.lanes.insert(key, VecDeque::new());
        }
        let Some(index) = self.free.pop() else { return };
        self.places[index].key = key;
        match failure {
            Some(failure) => {
                self.places[index].incoming = Some(incoming);
                self.end(index, Verdict::Reject(failure), true);
            }
            None => self.begin(index, incoming),
        }
    }

    /// Begins to work on a message, and goes on with the next of its lane when it is done at once.
    fn begin(&mut self, index: usize, incoming: Incoming) {
        let admitted = admit(&self.policy, incoming.delivery_count());
        self.places[index].incoming = Some(incoming);
        match admitted {
            Some(verdict) => self.end(index, verdict, false),
            None => self.call(index),
        }
    }

    /// Calls the handler.
    fn call(&mut self, index: usize) {
        let place = &mut self.places[index];
        let Some(incoming) = &mut place.incoming else { return };
        if !self.observers.is_empty() {
            place.began = self.context.alarms().now();
            place.marks.extend(self.observers.iter().map(|observer| observer.begin(incoming)));
        }
        let slot = &mut place.slot;
        for (observer, mark) in self.observers.iter().zip(&mut place.marks) {
            observer.enter(mark);
        }
        let started = catch_unwind(AssertUnwindSafe(|| slot.start(incoming, self.state)));
        for (observer, mark) in self.observers.iter().zip(&mut place.marks).rev() {
            observer.exit(mark);
        }
        match started {
            Ok(None) => self.poll_handler(index),
            Ok(Some(verdict)) => self.end(index, verdict, false),
            Err(panic) => self.fail(index, &*panic),
        }
    }

    fn poll_handler(&mut self, index: usize) {
        let place = &mut self.places[index];
        let Some(incoming) = &mut place.incoming else { return };
        for (observer, mark) in self.observers.iter().zip(&mut place.marks) {
            observer.enter(mark);
        }
        let (slot, mut task) = (&mut place.slot, TaskContext::from_waker(&place.waker));
        let polled = catch_unwind(AssertUnwindSafe(|| slot.poll(incoming, self.state, &mut task)));
        for (observer, mark) in self.observers.iter().zip(&mut place.marks).rev() {
            observer.exit(mark);
        }
        match polled {
            Ok(Poll::Pending) => place.work = Work::Handler,
            Ok(Poll::Ready(verdict)) => self.end(index, verdict, false),
            Err(panic) => self.fail(index, &*panic),
        }
    }

    /// Notices that the consumer has ended while no deliveries are taken: a handler that never ends must not keep the
    /// queue from being served again.
    fn watch(&mut self) {
        let watcher = self.watcher.clone();
        let mut task = TaskContext::from_waker(&watcher);
        while Pin::new(&mut self.watch).poll(&mut task).is_ready() {
            self.watch = self.context.sleep(WATCH);
        }
        while self.is_full()
            && self.ahead.len() < LONGEST_BACKLOG
            && let Some(consumer) = &mut self.consumer
        {
            match Pin::new(consumer).poll_next(&mut task) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(delivery))) => self.ahead.push_back(delivery),
                Poll::Ready(end) => self.lose(end.and_then(Result::err)),
            }
        }
    }

    /// Whether no more deliveries are taken now.
    fn is_full(&self) -> bool {
        self.free.is_empty() || self.backlog >= LONGEST_BACKLOG || self.gate.is_paused()
    }

    fn lose(&mut self, error: Option<hopmq::Error>) {
        self.ending = Some(End::Lost(error));
        self.consumer = None;
        self.gate.set_consuming(false);
        // The broker takes these back with the channel.
        self.ahead.clear();
    }

    /// Goes on with a slot that was woken.
    fn advance(&mut self, index: usize) {
        if index == self.places.len() {
            return self.watch();
        }
        let place = &mut self.places[index];
        let mut task = TaskContext::from_waker(&place.waker);
        match &mut place.work {
            Work::Idle => {}
            Work::Next => {
                if let Some(incoming) = place.incoming.take() {
                    self.begin(index, incoming);
                }
            }
            Work::Handler => self.poll_handler(index),
            Work::Waiting(sleep) => {
                if Pin::new(sleep).poll(&mut task).is_ready() {
                    if let Some(incoming) = &mut place.incoming {
                        incoming.count_attempt();
                    }
                    self.call(index);
                }
            }
            Work::Carrying(carrying) => {
                if carrying.as_mut().poll(&mut task).is_ready() {
                    self.done(index);
                }
            }
        }
    }

    fn fail(&mut self, index: usize, panic: &(dyn Any + Send)) {
        self.places[index].clear();
        self.end(index, Verdict::Retry(panicked("the handler", panic)), true);
    }

    /// Decides what happens with a message whose handler has ended, and begins to do it.
    fn end(&mut self, index: usize, verdict: Verdict, panicked: bool) {
        let place = &mut self.places[index];
        let Some(incoming) = &mut place.incoming else { return };
        if !place.marks.is_empty() {
            let elapsed = self.context.alarms().now() - place.began;
            let ended = Ended { verdict: &verdict, elapsed, panicked };
            for (observer, mark) in self.observers.iter().zip(place.marks.drain(..)) {
                observer.end(mark, incoming, &ended);
            }
        }
        self.intake.ended(&verdict);
        if incoming.is_taken() {
            return self.done(index);
        }
        if matches!(verdict, Verdict::Ack) {
            if let Err(error) = incoming.settle(Acker::ack) {
                tracing::debug!(queue = self.queue.name(), %error, "an ack could not be sent");
            }
            return self.done(index);
        }
        let attempt = incoming.attempt();
        if let Some(failure) = verdict.failure() {
            let queue = self.queue.name();
            tracing::warn!(queue, attempt, verdict = verdict.name(), error = %failure, "a message failed");
        }
        let random = random(incoming.delivery_tag(), self.context.alarms().now());
        let plan = decide(&self.policy, Facts { attempt, random }, verdict);
        if let Some(delay) = plan.again {
            place.work = Work::Waiting(self.context.sleep(delay));
            // Going on here would recurse once for each attempt without a wait: the slot is woken instead.
            return place.waker.wake_by_ref();
        }
        if plan.forward.is_none() && plan.reply.is_none() {
            carry::settle(incoming, plan.settle);
            return self.done(index);
        }
        let mut incoming = place.incoming.take();
        if let (None, Some(reply)) = (&plan.forward, &plan.reply) {
            let mut task = TaskContext::from_waker(&place.waker);
            incoming = incoming.and_then(|incoming| carry::answer_now(incoming, reply, plan.settle, &mut task));
            if incoming.is_none() {
                return self.done(index);
            }
        }
        if let Some(incoming) = incoming {
            let carrying = carry::carry(incoming, plan, Arc::clone(&self.queue), Arc::clone(&self.gate));
            place.work = Work::Carrying(Box::pin(carrying));
            self.advance(index);
        }
    }

    /// Frees a place, or gives it to the next message with the same key.
    fn done(&mut self, index: usize) {
        let place = &mut self.places[index];
        place.work = Work::Idle;
        if let Some(incoming) = place.incoming.take() {
            self.spare = Some(incoming.into_context());
        }
        let Some(key) = place.key else { return self.free.push(index) };
        let next = self.lanes.get_mut(&key).and_then(VecDeque::pop_front);
        match next {
            // Beginning it here would recurse once for each message of the lane: the slot is woken instead.
            Some(next) => {
                self.backlog -= 1;
                place.incoming = Some(next);
                place.work = Work::Next;
                place.waker.wake_by_ref();
            }
            None => {
                self.lanes.remove(&key);
                place.key = None;
                self.free.push(index);
            }
        }
    }

    /// Tells observers how many messages wait.
    fn report_waiting(&mut self) {
        let waits = |place: &&Place<T>| matches!(place.work, Work::Waiting(_) | Work::Next);
        let waiting = self.backlog + self.places.iter().filter(waits).count();
        if waiting != self.waiting {
            self.waiting = waiting;
            self.observers.iter().for_each(|observer| observer.waiting(self.queue.name(), waiting));
        }
    }

    /// Gives back what no handler works on now. Where order matters, the messages go back when the channel is closed,
    /// after the last handler has ended: the next consumer must not begin before, and a quorum queue delivers messages
    /// in the order in which they came back.
    fn release(&mut self, task: &mut TaskContext<'_>) {
        let in_order = self.queue.keeps_order();
        let release = |incoming: &mut Incoming| {
            if !in_order {
                carry::settle(incoming, Settle::NackRequeue);
            }
        };
        if !in_order {
            self.consumer = None;
        }
        while let Some(consumer) = &mut self.consumer
            && let Poll::Ready(Some(Ok(_))) = Pin::new(consumer).poll_next(task)
        {}
        self.lanes.values_mut().flat_map(|lane| lane.drain(..)).for_each(|mut incoming| release(&mut incoming));
        self.backlog = 0;
        let ahead = std::mem::take(&mut self.ahead);
        if !in_order {
            ahead.into_iter().for_each(|delivery| drop(delivery.nack(true)));
        }
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            if let (Work::Waiting(_) | Work::Next, Some(incoming)) = (&place.work, &mut place.incoming) {
                release(incoming);
                self.done(index);
            }
        }
    }

    /// Gives up what can't be settled any more, a while after the consumer was lost: the broker delivers it again,
    /// and a handler that never ends must not prevent that.
    fn give_up(&mut self, task: &mut TaskContext<'_>) {
        let (context, grace) = (&self.context, self.grace);
        let sleep = self.given_up.get_or_insert_with(|| context.sleep(grace));
        if Pin::new(sleep).poll(task).is_pending() {
            return;
        }
        for index in 0..self.places.len() {
            if self.places[index].incoming.is_some() || matches!(self.places[index].work, Work::Carrying(_)) {
                tracing::warn!(queue = self.queue.name(), after = ?grace, "gave up a handler whose consumer was lost");
                self.places[index].clear();
                self.done(index);
            }
        }
    }
}

impl<S, T: Slot<S> + Unpin> Future for Worker<'_, S, T> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<End> {
        let this = self.get_mut();
        this.ready.register(task.waker());
        this.gate.register(task.waker());
        let mut woken = Vec::new();
        this.ready.take(|index| woken.push(index));
        woken.into_iter().for_each(|index| this.advance(index));
        if this.gate.is_stopped() {
            this.ending = Some(End::Stopped);
        } else if this.gate.take_renewal() {
            this.ending.get_or_insert(End::Paused);
        }
        if this.take_deliveries(task) {
            task.waker().wake_by_ref();
        }
        if !this.observers.is_empty() {
            this.report_waiting();
        }
        if this.ending.is_none() {
            return Poll::Pending;
        }
        this.release(task);
        if matches!(this.ending, Some(End::Lost(_))) && this.free.len() < this.places.len() {
            this.give_up(task);
        }
        if this.free.len() < this.places.len() {
            return Poll::Pending;
        }
        Poll::Ready(this.ending.take().unwrap_or(End::Stopped))
    }
}

impl<T> Place<T> {
    fn new(slot: T, waker: Waker) -> Self {
        let marks = Vec::new();
        Self { slot, work: Work::Idle, incoming: None, key: None, waker, marks, began: Time::ZERO }
    }

    /// Gives up what the handler holds, which may panic when it is dropped.
    fn clear<S>(&mut self)
    where
        T: Slot<S>,
    {
        let _ = catch_unwind(AssertUnwindSafe(|| self.slot.clear()));
    }
}

/// What a handler holds may panic when it is dropped, and a second panic at once would end the process.
impl<S, T: Slot<S>> Drop for Worker<'_, S, T> {
    fn drop(&mut self) {
        self.places.iter_mut().for_each(Place::clear);
    }
}

/// Returns the failure of a message for which user code panicked.
fn panicked(what: &str, panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::new("panic", format!("{what} panicked: {}", text.unwrap_or("no text")))
}

/// Mixes two numbers that differ from message to message.
fn random(tag: u64, now: Time) -> u32 {
    let mut mixed = tag ^ (now.since_epoch().as_nanos() as u64).rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}
