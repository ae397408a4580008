//! The way from a future around a handler to the slot of the handler.
//!
//! Owns the switch between the two: the future asks for a run of the handler, the slot runs it and hands the verdict
//! back. It must never hold the message or the handler, so that the future owns nothing of the slot.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::flow::{Failure, Verdict};
use crate::handler::Slot;
use crate::incoming::Incoming;

/// Asks for runs of a handler; clones ask for the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Switch(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    serial: u64,
    run: Run,
    /// The future that asked was dropped while the handler ran.
    cancelled: bool,
    /// The task of the future that asked.
    caller: Option<Waker>,
    /// The slot's task, while the future around the handler is polled elsewhere.
    slot: Option<Waker>,
}

#[derive(Debug, Default)]
enum Run {
    #[default]
    Idle,
    Asked(u64),
    Started(u64),
    Done(u64, Verdict),
}

/// What the slot must do with the handler.
enum Order {
    Start,
    Clear,
    Nothing,
}

impl Switch {
    pub(super) fn run(&self) -> Running {
        Running { switch: self.clone(), serial: None }
    }

    fn order(&self) -> Order {
        let mut state = self.lock();
        if std::mem::take(&mut state.cancelled) {
            return Order::Clear;
        }
        match state.run {
            Run::Asked(serial) => {
                state.run = Run::Started(serial);
                Order::Start
            }
            _ => Order::Nothing,
        }
    }

    fn done(&self, verdict: Verdict) {
        let mut state = self.lock();
        if let Run::Started(serial) = state.run {
            state.run = Run::Done(serial, verdict);
            // The slot polls its future next, and need not be woken for that.
            let caller = state.caller.take();
            let elsewhere = |caller: &Waker| !state.slot.as_ref().is_some_and(|slot| slot.will_wake(caller));
            let caller = caller.filter(elsewhere);
            drop(state);
            if let Some(caller) = caller {
                caller.wake();
            }
        }
    }

    /// Forgets what was asked for the last message.
    fn reset(&self) {
        let mut state = self.lock();
        (state.run, state.cancelled, state.caller) = (Run::Idle, false, None);
    }

    fn set_slot(&self, waker: &Waker) {
        let mut state = self.lock();
        if !state.slot.as_ref().is_some_and(|slot| slot.will_wake(waker)) {
            state.slot = Some(waker.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The future of a run of the handler: its verdict. Dropping it drops the handler's future.
#[derive(Debug)]
#[must_use = "the handler does not run before this is awaited"]
pub struct Running {
    switch: Switch,
    serial: Option<u64>,
}

impl Future for Running {
    type Output = Verdict;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Verdict> {
        let this = self.get_mut();
        let mut state = this.switch.lock();
        match (&state.run, this.serial) {
            (Run::Idle, None) => {
                state.serial += 1;
                this.serial = Some(state.serial);
                state.run = Run::Asked(state.serial);
                state.caller = Some(task.waker().clone());
                let slot = state.slot.clone().filter(|slot| !slot.will_wake(task.waker()));
                drop(state);
                if let Some(slot) = slot {
                    slot.wake();
                }
                Poll::Pending
            }
            (Run::Done(done, _), Some(serial)) if *done == serial => {
                this.serial = None;
                match std::mem::take(&mut state.run) {
                    Run::Done(_, verdict) => Poll::Ready(verdict),
                    _ => Poll::Pending,
                }
            }
            (Run::Asked(asked) | Run::Started(asked), Some(serial)) if *asked == serial => {
                if !state.caller.as_ref().is_some_and(|caller| caller.will_wake(task.waker())) {
                    state.caller = Some(task.waker().clone());
                }
                Poll::Pending
            }
            (_, None) => Poll::Ready(misused("the layer called the handler while it was running")),
            (_, Some(_)) => Poll::Ready(misused("the layer awaited the handler after it had returned an outcome")),
        }
    }
}

fn misused(text: &str) -> Verdict {
    Verdict::Retry(Failure::new("layer", text))
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(serial) = self.serial else { return };
        let mut state = self.switch.lock();
        match state.run {
            Run::Asked(asked) if asked == serial => state.run = Run::Idle,
            Run::Started(started) if started == serial => {
                state.run = Run::Idle;
                state.cancelled = true;
            }
            Run::Done(done, _) if done == serial => state.run = Run::Idle,
            _ => {}
        }
    }
}

/// A future around the handler, as the slot sees it.
pub(super) trait Outer {
    fn start(&mut self, incoming: Incoming);

    fn poll(&mut self, task: &mut Context<'_>) -> Poll<Verdict>;

    fn clear(&mut self);
}

/// A slot whose handler runs when a future around it asks for it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Wrapped<O, T> {
    outer: O,
    inner: T,
    switch: Switch,
    runs: bool,
}

impl<O, T> Wrapped<O, T> {
    pub(super) fn new(outer: O, inner: T, switch: Switch) -> Self {
        Self { outer, inner, switch, runs: false }
    }
}

#[allow(private_bounds, reason = "the type is public only because a trait names it")]
impl<S, O: Outer, T: Slot<S>> Slot<S> for Wrapped<O, T> {
    fn start(&mut self, incoming: &mut Incoming, _: &S) -> Option<Verdict> {
        self.switch.reset();
        self.outer.start(incoming.share());
        None
    }

    fn poll(&mut self, incoming: &mut Incoming, state: &S, task: &mut Context<'_>) -> Poll<Verdict> {
        self.switch.set_slot(task.waker());
        loop {
            if let Poll::Ready(verdict) = self.outer.poll(task) {
                if std::mem::take(&mut self.runs) {
                    self.inner.clear();
                }
                return Poll::Ready(verdict);
            }
            let started = match self.switch.order() {
                Order::Start => {
                    let started = self.inner.start(incoming, state);
                    self.runs = started.is_none();
                    started
                }
                Order::Clear => {
                    self.runs = false;
                    self.inner.clear();
                    // The future may have asked for the next run.
                    continue;
                }
                Order::Nothing => None,
            };
            let verdict = match started {
                Some(verdict) => verdict,
                None if !self.runs => return Poll::Pending,
                None => match self.inner.poll(incoming, state, task) {
                    Poll::Ready(verdict) => verdict,
                    Poll::Pending => return Poll::Pending,
                },
            };
            self.runs = false;
            self.switch.done(verdict);
        }
    }

    fn clear(&mut self) {
        self.outer.clear();
        self.switch.reset();
        self.runs = false;
        self.inner.clear();
    }
}
