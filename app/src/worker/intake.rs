//! Whether a worker may take a message now.
//!
//! Owns the rate, the circuit breaker and the length of a pause of one queue, over all its consumers. In come the time,
//! what was taken and how it ended; out goes one word: take, wait or leave. It must never know a delivery.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use hopmq::Time;

use super::Gate;
use super::breaker::Circuit;
use super::rate::Bucket;
use crate::alarms::Sleep;
use crate::context::Context;
use crate::flow::Verdict;
use crate::observe::Observer;
use crate::topology::{BreakerState, Queue};

/// A pause of this length, or longer, gives the messages that were sent ahead to other consumers.
const LONG: Duration = Duration::from_secs(1);

/// Decides when messages of one queue are taken.
pub(crate) struct Intake {
    context: Context,
    observers: Arc<[Arc<dyn Observer>]>,
    bucket: Option<Bucket>,
    circuit: Option<Circuit>,
    paused: Option<Time>,
    alarm: Option<Sleep>,
    /// Whether the consumer was started to probe.
    probe: bool,
}

/// What a worker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Take a message.
    Take,
    /// Take none until it is woken.
    Wait,
    /// Finish what is in work, and end the consumer.
    Leave,
}

impl Intake {
    pub(crate) fn new(queue: &Queue, context: &Context, observers: &Arc<[Arc<dyn Observer>]>) -> Self {
        Self {
            context: context.clone(),
            observers: Arc::clone(observers),
            bucket: queue.rate.as_ref().map(|rate| Bucket::new(rate, context.alarms().now())),
            circuit: queue.breaker.clone().map(Circuit::new),
            paused: None,
            alarm: None,
            probe: false,
        }
    }

    /// Waits until a consumer may be started, or the queue is stopped.
    pub(crate) async fn opened(&mut self, gate: &Gate) {
        self.probe = false;
        std::future::poll_fn(|task| {
            gate.register(task.waker());
            if gate.is_stopped() {
                return Poll::Ready(());
            }
            match self.admit(gate, 0, task) {
                Admission::Leave => Poll::Pending,
                Admission::Take | Admission::Wait if gate.is_paused() => Poll::Pending,
                Admission::Take | Admission::Wait => Poll::Ready(()),
            }
        })
        .await;
        self.probe = self.circuit.as_ref().is_some_and(|circuit| circuit.state() == BreakerState::Probing);
    }

    /// Returns how many messages the broker sends ahead: one, if it is to show whether handlers succeed again.
    pub(crate) fn prefetch(&self, queue: &Queue) -> u16 {
        if self.probe { 1 } else { queue.prefetch_or_default() }
    }

    /// Says whether a message may be taken while `busy` are in work, and wakes the task when that may change.
    pub(super) fn admit(&mut self, gate: &Gate, busy: usize, task: &mut TaskContext<'_>) -> Admission {
        let paused = gate.is_paused();
        if !paused && self.circuit.is_none() && self.bucket.is_none() {
            // A queue without limits must not pay for reading the clock with each message.
            self.paused = None;
            return Admission::Take;
        }
        let now = self.context.alarms().now();
        if paused {
            let end = *self.paused.get_or_insert(now) + LONG;
            return if now >= end { Admission::Leave } else { self.wait_until(end, task) };
        }
        self.paused = None;
        if let Some(circuit) = &mut self.circuit {
            if let Some(end) = circuit.closed_until(now) {
                let long = self.probe || circuit.pause() >= LONG;
                let wait = self.wait_until(end, task);
                return if long { Admission::Leave } else { wait };
            }
            if circuit.begin_probe() {
                self.tell();
            }
            match self.circuit.as_ref().map(Circuit::state) {
                Some(BreakerState::Probing) if busy > 0 => return Admission::Wait,
                // The consumer that probed gets one message at a time.
                Some(BreakerState::Closed) if self.probe => return Admission::Leave,
                _ => {}
            }
        }
        match self.bucket.as_mut().and_then(|bucket| bucket.next_at(now)) {
            Some(time) => self.wait_until(time, task),
            None => Admission::Take,
        }
    }

    /// Notes that messages were taken.
    pub(super) fn took(&mut self, messages: usize) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(messages);
        }
    }

    /// Notes how a message ended.
    pub(super) fn ended(&mut self, verdict: &Verdict) {
        let Some(circuit) = &mut self.circuit else { return };
        if circuit.ended(verdict, self.context.alarms().now()) {
            self.tell();
        }
    }

    fn wait_until(&mut self, time: Time, task: &mut TaskContext<'_>) -> Admission {
        if self.alarm.as_ref().is_none_or(|alarm| alarm.deadline() != time) {
            self.alarm = Some(self.context.alarms().until(time));
        }
        if let Some(alarm) = &mut self.alarm
            && Pin::new(alarm).poll(task).is_ready()
        {
            // The time came since it was read: the task must ask again.
            task.waker().wake_by_ref();
        }
        Admission::Wait
    }

    fn tell(&self) {
        let Some(circuit) = &self.circuit else { return };
        let (queue, state) = (self.context.queue(), circuit.state());
        tracing::warn!(queue, ?state, "the circuit breaker turned");
        self.observers.iter().for_each(|observer| observer.breaker(queue, state));
    }
}
