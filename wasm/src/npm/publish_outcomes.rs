//! What became of publishes, told by the batch.
//!
//! Each publish that is awaited has a number. What settles between two turns of the browser's event loop is told in one
//! call: the numbers that went well as ranges, each failure with its reason.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use hopmq::Result;
use js_sys::{Array, Function, Uint32Array};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;

use super::thrown;

pub(super) struct Outcomes {
    /// Called with first and last of each range, and with number and error in turn.
    tell: Function,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    last: u32,
    ranges: Vec<u32>,
    failures: Option<Array>,
    told: bool,
}

impl Outcomes {
    pub(super) fn new(tell: Function) -> Rc<Self> {
        let state = State { told: true, ..State::default() };
        Rc::new(Self { tell, state: RefCell::new(state) })
    }

    /// Awaits one outcome. Returns its number.
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
        if std::mem::take(&mut state.told) {
            drop(state);
            // Behind all that settles now.
            spawn_local(async move { self.tell() });
        }
    }

    fn tell(&self) {
        let (ranges, failures) = {
            let mut state = self.state.borrow_mut();
            state.told = true;
            let ranges = Uint32Array::from(&state.ranges[..]);
            state.ranges.clear();
            (ranges, state.failures.take())
        };
        let failures = failures.map_or(JsValue::UNDEFINED, JsValue::from);
        // It throws nothing: it resolves promises.
        let _ = self.tell.call2(&JsValue::UNDEFINED, &ranges, &failures);
    }
}
