//! Time in a browser: `performance.now` and `setTimeout`.
//!
//! A browser slows the timers of a hidden page down, to once a minute in the end, and a broker gives up a client that
//! is silent for two heartbeats. The timers of a worker go on. So where there is a page and it is hidden, an alarm is
//! set in a worker too, which all connections share; whichever rings first counts. A page whose policy forbids the
//! worker keeps its timers. And whenever the page is hidden or shown, every alarm is looked at anew.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hopmq::{Clock, Time, Timer};
use js_sys::Function;
use wasm_bindgen::prelude::*;
use web_sys::{Document, MessageEvent, Worker};

/// The alarm of a browser, a worker or Node: for the driver of one connection.
pub struct BrowserTimer {
    shared: Rc<Alarm>,
    ring: Closure<dyn FnMut()>,
    /// What `setTimeout` returned, which is no number in Node.
    timeout: Option<JsValue>,
    key: u32,
}

struct Alarm {
    waker: RefCell<Option<Waker>>,
    /// When it rings, if it is set.
    due: Cell<Option<Time>>,
}

impl Alarm {
    /// Lets its task look at the time again.
    fn ring(&self) {
        self.due.set(None);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl BrowserTimer {
    /// An alarm that is not set.
    pub fn new() -> Self {
        let shared = Rc::new(Alarm { waker: RefCell::new(None), due: Cell::new(None) });
        let alarm = Rc::clone(&shared);
        let ring = Closure::new(move || alarm.ring());
        let key = PAGE.with(|page| page.insert(Rc::clone(&shared)));
        Self { shared, ring, timeout: None, key }
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
            // It rings when the moment has come, not shortly before.
            let milliseconds = ((deadline - now).as_secs_f64() * 1000.0).ceil().min(LONGEST);
            self.timeout = Some(set_timeout(self.ring.as_ref().unchecked_ref(), milliseconds));
            PAGE.with(|page| page.set(self.key, milliseconds));
            self.shared.due.set(Some(deadline));
        }
        Poll::Pending
    }
}

impl Drop for BrowserTimer {
    fn drop(&mut self) {
        self.clear();
        PAGE.with(|page| page.alarms.borrow_mut().retain(|(key, _)| *key != self.key));
    }
}

impl fmt::Debug for BrowserTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserTimer").field("due", &self.shared.due.get()).finish_non_exhaustive()
    }
}

/// What `setTimeout` can count, in milliseconds; an alarm that is farther off is set again then.
const LONGEST: f64 = 2_147_483_647.0;

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

/// All alarms, and the page that they are on, if they are on one.
struct Page {
    document: Option<Document>,
    alarms: RefCell<Vec<(u32, Rc<Alarm>)>>,
    last: Cell<u32>,
    worker: RefCell<Option<Worker>>,
}

/// Rings after the milliseconds that it is sent, with the key that it is sent; for each key the last counts.
const WORKER: &str = "data:text/javascript,const t={};onmessage=({data:[k,m]})=>{clearTimeout(t[k]);\
                      t[k]=setTimeout(()=>{delete t[k];postMessage(k)},m)}";

impl Page {
    fn new() -> Self {
        let document = DOCUMENT.with(Clone::clone);
        if let Some(document) = &document {
            let look = Closure::<dyn FnMut()>::new(|| PAGE.with(Self::ring_all));
            // A page that can't say when it is hidden has timers all the same.
            let _ = document.add_event_listener_with_callback("visibilitychange", look.as_ref().unchecked_ref());
            look.forget();
        }
        Self { document, alarms: RefCell::default(), last: Cell::new(0), worker: RefCell::new(None) }
    }

    fn insert(&self, alarm: Rc<Alarm>) -> u32 {
        let key = self.last.get() + 1;
        self.last.set(key);
        self.alarms.borrow_mut().push((key, alarm));
        key
    }

    fn ring_all(&self) {
        let alarms: Vec<_> = self.alarms.borrow().iter().map(|(_, alarm)| Rc::clone(alarm)).collect();
        alarms.iter().for_each(|alarm| alarm.ring());
    }

    /// Sets the alarm in the worker, if the page is hidden.
    fn set(&self, key: u32, milliseconds: f64) {
        if !self.document.as_ref().is_some_and(Document::hidden) {
            return;
        }
        let mut worker = self.worker.borrow_mut();
        if worker.is_none() {
            *worker = Worker::new(WORKER).ok();
            if let Some(worker) = &*worker {
                let ring = Closure::<dyn FnMut(MessageEvent)>::new(|event: MessageEvent| {
                    let key = event.data().as_f64().unwrap_or_default() as u32;
                    let mine = |(known, alarm): &(u32, Rc<Alarm>)| (*known == key).then(|| Rc::clone(alarm));
                    let alarm = PAGE.with(|page| page.alarms.borrow().iter().find_map(mine));
                    if let Some(alarm) = alarm {
                        alarm.ring();
                    }
                });
                worker.set_onmessage(Some(ring.as_ref().unchecked_ref()));
                ring.forget();
            }
        }
        if let Some(worker) = &*worker {
            // Without the worker, the page's own timer rings.
            let _ = worker.post_message(&js_sys::Array::of2(&key.into(), &milliseconds.into()));
        }
    }
}
