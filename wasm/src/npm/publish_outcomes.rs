//! Outcomes of publishes, reported in batches.
//!
//! Each awaited publish has a number. All outcomes of one turn of the event loop are reported in one call: successes as
//! ranges of numbers, each failure with its error.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use hopmq::Result;
use js_sys::{Array, Function, Uint32Array};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;

use super::thrown;

pub(super) struct PublishOutcomes {
    /// Called with `[first, last, …]` for the successes and `[number, error, …]` for the failures.
    report: Function,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    last: u32,
    ranges: Vec<u32>,
    failures: Option<Array>,
    /// Whether a report is scheduled.
    scheduled: bool,
}

impl PublishOutcomes {
    pub(super) fn new(report: Function) -> Rc<Self> {
        Rc::new(Self { report, state: RefCell::default() })
    }

    /// Awaits an outcome and returns its number.
    pub(super) fn watch(self: &Rc<Self>, outcome: impl Future<Output = Result<()>> + 'static) -> u32 {
        let number = {
            let mut state = self.state.borrow_mut();
            state.last = state.last.wrapping_add(1);
            state.last
        };
        let this = Rc::clone(self);
        spawn_local(async move {
            let outcome = outcome.await;
            this.settle(number, outcome);
        });
        number
    }

    fn settle(self: Rc<Self>, number: u32, outcome: Result<()>) {
        let mut state = self.state.borrow_mut();
        match outcome {
            Ok(()) => match &mut state.ranges[..] {
                [.., last] if last.wrapping_add(1) == number => *last = number,
                _ => state.ranges.extend([number, number]),
            },
            Err(error) => {
                let failures = state.failures.get_or_insert_with(Array::new);
                failures.push(&number.into());
                failures.push(&thrown(&error));
            }
        }
        if !std::mem::replace(&mut state.scheduled, true) {
            drop(state);
            // A new task runs after the tasks that settle in this turn.
            spawn_local(async move { self.send_report() });
        }
    }

    fn send_report(&self) {
        let (ranges, failures) = {
            let mut state = self.state.borrow_mut();
            state.scheduled = false;
            let ranges = Uint32Array::from(&state.ranges[..]);
            state.ranges.clear();
            (ranges, state.failures.take())
        };
        let failures = failures.map_or(JsValue::UNDEFINED, JsValue::from);
        // The function only settles promises and does not throw.
        let _ = self.report.call2(&JsValue::UNDEFINED, &ranges, &failures);
    }
}
