//! A timer from `performance.now` and `setTimeout`.
//!
//! Browsers throttle the timers of a hidden page, down to one a minute, and a broker closes a connection that is silent
//! for two heartbeats. Timers in a worker are not throttled. While the page is hidden, each timer is therefore also set
//! in one worker that all connections share; the first of the two to fire counts. If the page's policy forbids the
//! worker, only the throttled timer remains. All timers are re-evaluated whenever the page is hidden or shown.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hopmq::{Clock, Time, Timer};
use js_sys::Function;
use wasm_bindgen::prelude::*;
use web_sys::{Document, MessageEvent, Worker};

/// A timer for the driver of one connection, in a page, a worker or Node.
pub struct BrowserTimer {
    shared: Rc<TimerState>,
    fire: Closure<dyn FnMut()>,
    /// The value that `setTimeout` returned: an object in Node.
    timeout: Option<JsValue>,
    key: u32,
}

struct TimerState {
    waker: RefCell<Option<Waker>>,
    /// The deadline of the running timer.
    due: Cell<Option<Time>>,
}

impl TimerState {
    /// Wakes the task, which compares its deadline with the clock again.
    fn fire(&self) {
        self.due.set(None);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl BrowserTimer {
    /// Creates a timer without a deadline.
    pub fn new() -> Self {
        let shared = Rc::new(TimerState { waker: RefCell::new(None), due: Cell::new(None) });
        let timer = Rc::clone(&shared);
        let fire = Closure::new(move || timer.fire());
        let key = PAGE.with(|page| page.insert(Rc::clone(&shared)));
        Self { shared, fire, timeout: None, key }
    }

    fn clear(&mut self) {
        if let Some(timeout) = self.timeout.take() {
            clear_timeout(&timeout);
        }
    }
}

impl Default for BrowserTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for BrowserTimer {
    fn clock(&self) -> Clock {
        Clock::new(now)
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        let now = now();
        if now >= deadline {
            return Poll::Ready(());
        }
        *self.shared.waker.borrow_mut() = Some(context.waker().clone());
        if self.shared.due.get() != Some(deadline) {
            self.clear();
            // Round up: a timer that fires early only has to be set again.
            let milliseconds = ((deadline - now).as_secs_f64() * 1000.0).ceil().min(TIMEOUT_MAX);
            self.timeout = Some(set_timeout(self.fire.as_ref().unchecked_ref(), milliseconds));
            PAGE.with(|page| page.set_in_worker(self.key, milliseconds));
            self.shared.due.set(Some(deadline));
        }
        Poll::Pending
    }
}

impl Drop for BrowserTimer {
    fn drop(&mut self) {
        self.clear();
        PAGE.with(|page| page.timers.borrow_mut().retain(|(key, _)| *key != self.key));
    }
}

impl fmt::Debug for BrowserTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserTimer").field("due", &self.shared.due.get()).finish_non_exhaustive()
    }
}

/// The longest delay of `setTimeout`, in milliseconds. Later deadlines set the timer again.
const TIMEOUT_MAX: f64 = 2_147_483_647.0;

fn now() -> Time {
    Time::from_epoch(Duration::from_secs_f64(performance_now() / 1000.0))
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
    #[wasm_bindgen(js_name = setTimeout)]
    pub(crate) fn set_timeout(handler: &Function, milliseconds: f64) -> JsValue;
    #[wasm_bindgen(js_name = clearTimeout)]
    pub(crate) fn clear_timeout(timeout: &JsValue);
    /// `undefined` in workers and in Node.
    #[wasm_bindgen(thread_local_v2, js_name = document)]
    static DOCUMENT: Option<Document>;
}

thread_local! {
    static PAGE: Page = Page::new();
}

/// All timers of the program, and the page's document if there is one.
struct Page {
    document: Option<Document>,
    timers: RefCell<Vec<(u32, Rc<TimerState>)>>,
    last: Cell<u32>,
    worker: RefCell<Option<Worker>>,
}

/// A worker that receives `[key, milliseconds]` and posts `key` after that time. A newer timer replaces an older one
/// with the same key.
const WORKER: &str = "data:text/javascript,const t={};onmessage=({data:[k,m]})=>{clearTimeout(t[k]);\
                      t[k]=setTimeout(()=>{delete t[k];postMessage(k)},m)}";

impl Page {
    fn new() -> Self {
        let document = DOCUMENT.with(Clone::clone);
        if let Some(document) = &document {
            let fire_all = Closure::<dyn FnMut()>::new(|| PAGE.with(Self::fire_all));
            // Without this event, timers still fire, only later while the page is hidden.
            let _ = document.add_event_listener_with_callback("visibilitychange", fire_all.as_ref().unchecked_ref());
            fire_all.forget();
        }
        Self { document, timers: RefCell::default(), last: Cell::new(0), worker: RefCell::new(None) }
    }

    fn insert(&self, timer: Rc<TimerState>) -> u32 {
        let key = self.last.get() + 1;
        self.last.set(key);
        self.timers.borrow_mut().push((key, timer));
        key
    }

    fn fire_all(&self) {
        let timers: Vec<_> = self.timers.borrow().iter().map(|(_, timer)| Rc::clone(timer)).collect();
        timers.iter().for_each(|timer| timer.fire());
    }

    /// Sets a timer in the worker too, if the page is hidden.
    fn set_in_worker(&self, key: u32, milliseconds: f64) {
        if !self.document.as_ref().is_some_and(Document::hidden) {
            return;
        }
        let mut worker = self.worker.borrow_mut();
        if worker.is_none() {
            *worker = Worker::new(WORKER).ok();
            if let Some(worker) = &*worker {
                let on_message = Closure::<dyn FnMut(MessageEvent)>::new(|event: MessageEvent| {
                    let key = event.data().as_f64().unwrap_or_default() as u32;
                    let with_key = |(known, timer): &(u32, Rc<TimerState>)| (*known == key).then(|| Rc::clone(timer));
                    let timer = PAGE.with(|page| page.timers.borrow().iter().find_map(with_key));
                    if let Some(timer) = timer {
                        timer.fire();
                    }
                });
                worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
                on_message.forget();
            }
        }
        if let Some(worker) = &*worker {
            // If this fails, the page's own timer fires.
            let _ = worker.post_message(&js_sys::Array::of2(&key.into(), &milliseconds.into()));
        }
    }
}
