//! The worker of one queue whose handler takes batches.
//!
//! Owns the slots, the batches in work, and the consumer. In come batches; out go settlements, forwards and answers,
//! for each message as for a single one. It must never spawn, and decides nothing that [`flow`](crate::flow) decides.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;
use futures_util::stream::FuturesUnordered;
use hopmq::{Batches, Consumer, Deliveries, Time};

use super::intake::Admission;
use super::ready::Ready;
use super::{End, Gate, Intake, Job, carry, panicked, random};
use crate::alarms::Sleep;
use crate::batch::{BatchSlot, Verdicts};
use crate::context::Context;
use crate::flow::{Facts, Policy, Settle, Verdict, admit, decide};
use crate::incoming::Incoming;
use crate::observe::{Ended, Mark, Observer};
use crate::topology::Queue;

/// A worker of batches: a future that ends as a [`Worker`](super::Worker) does.
pub(crate) struct BatchWorker<'a, S, T> {
    shared: Shared<'a, S>,
    batches: Option<Batches>,
    places: Vec<Place<T>>,
    ready: Arc<Ready>,
    ending: Option<End>,
}

/// What all places need.
struct Shared<'a, S> {
    state: &'a S,
    intake: &'a mut Intake,
    queue: Arc<Queue>,
    gate: Arc<Gate>,
    policy: Policy,
    context: Context,
    observers: Arc<[Arc<dyn Observer>]>,
}

/// A slot with the batch that it works on.
struct Place<T> {
    slot: T,
    work: Work,
    /// The messages that the handler works on, in their order.
    messages: Vec<Observed>,
    /// Settles all of them together, as long as none needs to be settled alone.
    whole: Option<Deliveries>,
    began: Time,
    /// The messages that are moved or answered.
    carrying: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The messages that the handler gets again, and after which time.
    again: Vec<Incoming>,
    delay: Duration,
    waker: Waker,
}

struct Observed {
    incoming: Incoming,
    marks: Vec<Mark>,
}

enum Work {
    Idle,
    /// The handler runs.
    Handler,
    /// The handler has ended, and some of its messages are not settled yet.
    Settling,
    /// Some messages wait for their next attempt.
    Waiting(Sleep),
}

impl<'a, S, T: BatchSlot<S>> BatchWorker<'a, S, T> {
    pub(crate) fn new(job: Job<'a, S>, consumer: Consumer, mut slot: impl FnMut() -> T) -> Self {
        let Job { state, queue, context, gate, observers, intake, .. } = job;
        let limits = queue.batch.unwrap_or_default();
        let batches = consumer.batches().max_count(limits.messages).max_size(limits.bytes).wait(limits.wait);
        let ready = Ready::new(queue.concurrency);
        let places = (0..queue.concurrency).map(|index| Place::new(slot(), ready.waker(index))).collect();
        let shared = Shared {
            state,
            intake,
            policy: queue.policy(),
            queue: Arc::clone(queue),
            gate: Arc::clone(gate),
            context: context.clone(),
            observers: Arc::clone(observers),
        };
        Self { shared, batches: Some(batches), places, ready, ending: None }
    }

    fn busy(&self) -> usize {
        self.places.iter().filter(|place| !matches!(place.work, Work::Idle)).count()
    }

    /// Takes batches while slots are free.
    fn take_batches(&mut self, task: &mut TaskContext<'_>) {
        while self.ending.is_none() {
            if self.shared.gate.take_renewal() {
                return self.leave(End::Paused);
            }
            let busy = self.busy();
            match self.shared.intake.admit(&self.shared.gate, busy, task) {
                Admission::Take => {}
                Admission::Wait => return,
                Admission::Leave => return self.leave(End::Paused),
            }
            let Some(place) = self.places.iter_mut().find(|place| matches!(place.work, Work::Idle)) else { return };
            let Some(batches) = &mut self.batches else { return };
            match Pin::new(batches).poll_next(task) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(deliveries))) => {
                    self.shared.gate.note_taken();
                    self.shared.intake.took(deliveries.len());
                    place.begin(&mut self.shared, deliveries);
                }
                Poll::Ready(end) => {
                    self.batches = None;
                    self.ending = Some(End::Lost(end.and_then(Result::err)));
                }
            }
        }
    }

    /// Takes no more batches, and gives back what no handler works on.
    fn leave(&mut self, end: End) {
        if self.ending.is_some() && !matches!(end, End::Stopped) {
            return;
        }
        self.ending = Some(end);
        // The next consumer of a queue in order must not begin before this one has ended: its channel is closed then.
        if !self.shared.queue.keeps_order() {
            self.batches = None;
        }
    }
}

impl<S, T: BatchSlot<S> + Unpin> Future for BatchWorker<'_, S, T> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<End> {
        let this = self.get_mut();
        this.ready.register(task.waker());
        this.shared.gate.register(task.waker());
        let mut woken = Vec::new();
        this.ready.take(|index| woken.push(index));
        for index in woken {
            this.places[index].advance(&mut this.shared);
        }
        if this.shared.gate.is_stopped() && !matches!(this.ending, Some(End::Stopped)) {
            this.leave(End::Stopped);
        }
        this.take_batches(task);
        if this.ending.is_some() {
            if !matches!(this.ending, Some(End::Lost(_))) {
                let settle = !this.shared.queue.keeps_order();
                this.places.iter_mut().for_each(|place| place.release_waiting(settle));
            }
            // What still arrives goes back when the channel is closed.
            while let Some(batches) = &mut this.batches
                && let Poll::Ready(Some(Ok(_))) = Pin::new(batches).poll_next(task)
            {}
            if this.busy() == 0
                && let Some(end) = this.ending.take()
            {
                return Poll::Ready(end);
            }
        }
        Poll::Pending
    }
}

impl<T> Place<T> {
    fn new(slot: T, waker: Waker) -> Self {
        Self {
            slot,
            work: Work::Idle,
            messages: Vec::new(),
            whole: None,
            began: Time::ZERO,
            carrying: FuturesUnordered::new(),
            again: Vec::new(),
            delay: Duration::ZERO,
            waker,
        }
    }

    fn begin<S>(&mut self, shared: &mut Shared<'_, S>, deliveries: Deliveries)
    where
        T: BatchSlot<S>,
    {
        let mut messages: Vec<_> =
            deliveries.iter().map(|delivery| Incoming::lent(delivery, &shared.context)).collect();
        self.whole = Some(deliveries);
        let admitted: Vec<_> =
            messages.iter().map(|incoming| admit(&shared.policy, incoming.delivery_count())).collect();
        if admitted.iter().any(Option::is_some) {
            self.share_out(&mut messages);
        }
        let mut called = Vec::with_capacity(messages.len());
        for (incoming, verdict) in messages.into_iter().zip(admitted) {
            match verdict {
                Some(verdict) => self.end(shared, Observed { incoming, marks: Vec::new() }, verdict, false),
                None => called.push(incoming),
            }
        }
        self.call(shared, called);
    }

    /// Gives each message the means to settle it alone.
    fn share_out<'m>(&mut self, messages: impl IntoIterator<Item = &'m mut Incoming>) {
        let Some(whole) = self.whole.take() else { return };
        messages.into_iter().zip(whole).for_each(|(incoming, delivery)| incoming.give(delivery));
    }

    fn share_out_all(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        self.share_out(messages.iter_mut().map(|observed| &mut observed.incoming));
        self.messages = messages;
    }

    /// Calls the handler.
    fn call<S>(&mut self, shared: &mut Shared<'_, S>, mut messages: Vec<Incoming>)
    where
        T: BatchSlot<S>,
    {
        self.began = shared.context.alarms().now();
        let marks: Vec<_> = messages
            .iter()
            .map(|incoming| shared.observers.iter().map(|observer| observer.begin(incoming)).collect())
            .collect();
        let slot = &mut self.slot;
        let started = catch_unwind(AssertUnwindSafe(|| match messages.is_empty() {
            true => Vec::new(),
            false => slot.start(&mut messages, &shared.context, shared.state),
        }));
        let observed = |(incoming, marks)| Observed { incoming, marks };
        self.messages = messages.into_iter().zip(marks).map(observed).collect();
        match started {
            Ok(unreadable) => {
                if !unreadable.is_empty() {
                    self.share_out_all();
                }
                // From the end, so that the indexes of the others stay.
                for (index, verdict) in unreadable.into_iter().rev() {
                    let observed = self.messages.remove(index);
                    self.end(shared, observed, verdict, false);
                }
                self.work = if self.messages.is_empty() { Work::Settling } else { Work::Handler };
                self.advance(shared);
            }
            Err(panic) => self.panicked(shared, &*panic),
        }
    }

    /// Goes on with a slot that was woken.
    fn advance<S>(&mut self, shared: &mut Shared<'_, S>)
    where
        T: BatchSlot<S>,
    {
        let waker = self.waker.clone();
        let mut task = TaskContext::from_waker(&waker);
        while let Poll::Ready(Some(())) = Pin::new(&mut self.carrying).poll_next(&mut task) {}
        match &mut self.work {
            Work::Idle => {}
            Work::Handler => {
                let each = |messages: &mut Vec<Observed>, act: fn(&dyn Observer, &mut Mark)| {
                    for observed in messages {
                        for (observer, mark) in shared.observers.iter().zip(&mut observed.marks) {
                            act(&**observer, mark);
                        }
                    }
                };
                each(&mut self.messages, |observer, mark| observer.enter(mark));
                let slot = &mut self.slot;
                let polled = catch_unwind(AssertUnwindSafe(|| slot.poll(&mut task)));
                each(&mut self.messages, |observer, mark| observer.exit(mark));
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(verdicts)) => self.end_all(shared, verdicts, false),
                    Err(panic) => self.panicked(shared, &*panic),
                }
            }
            Work::Settling if self.carrying.is_empty() => {
                if self.again.is_empty() {
                    return self.rest();
                }
                self.work = Work::Waiting(shared.context.sleep(std::mem::take(&mut self.delay)));
                self.advance(shared);
            }
            Work::Settling => {}
            Work::Waiting(sleep) => {
                if Pin::new(sleep).poll(&mut task).is_ready() {
                    let mut messages = std::mem::take(&mut self.again);
                    messages.iter_mut().for_each(Incoming::count_attempt);
                    self.call(shared, messages);
                }
            }
        }
    }

    /// Frees the place; the worker is woken because it may take the next batch.
    fn rest(&mut self) {
        self.work = Work::Idle;
        self.waker.wake_by_ref();
    }

    fn panicked<S>(&mut self, shared: &mut Shared<'_, S>, panic: &(dyn std::any::Any + Send))
    where
        T: BatchSlot<S>,
    {
        let slot = &mut self.slot;
        // What the handler held may panic as well when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| slot.clear()));
        let verdict = Verdict::Retry(panicked("the handler", panic));
        self.end_all(shared, Verdicts::All(verdict), true);
    }

    fn end_all<S>(&mut self, shared: &mut Shared<'_, S>, verdicts: Verdicts, panicked: bool)
    where
        T: BatchSlot<S>,
    {
        let verdicts = verdicts.each(self.messages.len());
        let all_done = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Ack));
        if !all_done {
            self.share_out_all();
        }
        let whole = self.whole.take();
        for (observed, verdict) in std::mem::take(&mut self.messages).into_iter().zip(verdicts) {
            self.end(shared, observed, verdict, panicked);
        }
        if let Some(whole) = whole
            && let Err(error) = whole.ack_all()
        {
            tracing::debug!(queue = shared.queue.name(), %error, "a batch could not be acknowledged");
        }
        self.work = Work::Settling;
        self.advance(shared);
    }

    /// Decides what happens with one message, and begins to do it.
    fn end<S>(&mut self, shared: &mut Shared<'_, S>, observed: Observed, verdict: Verdict, panicked: bool) {
        let Observed { mut incoming, marks } = observed;
        if !marks.is_empty() {
            let elapsed = shared.context.alarms().now() - self.began;
            let ended = Ended { verdict: &verdict, elapsed, panicked };
            for (observer, mark) in shared.observers.iter().zip(marks) {
                observer.end(mark, &incoming, &ended);
            }
        }
        shared.intake.ended(&verdict);
        let attempt = incoming.attempt();
        if let Some(failure) = verdict.failure() {
            let queue = shared.queue.name();
            tracing::warn!(queue, attempt, verdict = verdict.name(), error = %failure, "a message of a batch failed");
        }
        let random = random(incoming.delivery_tag(), shared.context.alarms().now());
        let plan = decide(&shared.policy, Facts { attempt, random }, verdict);
        if let Some(delay) = plan.again {
            self.delay = self.delay.max(delay);
            self.again.push(incoming);
        } else if plan.forward.is_none() && plan.reply.is_none() {
            carry::settle(&mut incoming, plan.settle);
        } else {
            self.carrying.push(Box::pin(carry::carry(
                incoming,
                plan,
                Arc::clone(&shared.queue),
                Arc::clone(&shared.gate),
            )));
        }
    }

    /// Gives back what waits for its next attempt, now or when the channel is closed.
    fn release_waiting(&mut self, now: bool) {
        if let Work::Waiting(_) = self.work {
            let waiting = std::mem::take(&mut self.again);
            if now {
                waiting.into_iter().for_each(|mut incoming| carry::settle(&mut incoming, Settle::NackRequeue));
            }
            self.rest();
        }
    }
}
