//! Credentials from JavaScript: asked for at each connect, and before they expire.
//!
//! The core may ask from any thread, and a JavaScript function belongs to one. Here there is only one; still, what the
//! core holds is a number, by which the function is found where it belongs.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use hopmq::sasl::{Credentials, CredentialsProvider};
use hopmq::{Error, ErrorKind, Result};
use js_sys::{Array, Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

thread_local! {
    static FUNCTIONS: RefCell<Vec<(u32, Function)>> = const { RefCell::new(Vec::new()) };
    static LAST: Cell<u32> = const { Cell::new(0) };
}

/// Asks a function of JavaScript's, which promises `[username, password, milliseconds until they expire]`.
pub(super) struct Asked {
    number: u32,
}

#[derive(Default)]
struct Slot {
    answer: Option<Result<Credentials>>,
    waker: Option<Waker>,
}

impl Asked {
    pub(super) fn new(function: Function) -> Self {
        let number = LAST.get() + 1;
        LAST.set(number);
        FUNCTIONS.with_borrow_mut(|functions| functions.push((number, function)));
        Self { number }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        FUNCTIONS.with_borrow_mut(|functions| functions.retain(|(number, _)| *number != self.number));
    }
}

impl CredentialsProvider for Asked {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Credentials>> + Send + '_>> {
        let slot = Arc::<Mutex<Slot>>::default();
        let (number, answered) = (self.number, Arc::clone(&slot));
        spawn_local(async move {
            let answer = ask(number).await;
            let mut slot = answered.lock().unwrap_or_else(PoisonError::into_inner);
            slot.answer = Some(answer);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        });
        Box::pin(poll_fn(move |context| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

async fn ask(number: u32) -> Result<Credentials> {
    let known = |(known, function): &(u32, Function)| (*known == number).then(|| function.clone());
    let function = FUNCTIONS.with_borrow(|functions| functions.iter().find_map(known));
    let function = function.ok_or_else(|| Error::new(ErrorKind::Closed, "nobody asks for credentials any more"))?;
    let promised = function.call0(&JsValue::UNDEFINED).map(|answer| Promise::resolve(&answer));
    let answer = match promised {
        Ok(promise) => JsFuture::from(promise).await,
        Err(thrown) => Err(thrown),
    };
    let answer: Array = answer.map_err(|thrown| failed(&thrown))?.unchecked_into();
    let text = |index| answer.get(index).as_string().unwrap_or_default();
    let credentials = Credentials::new(text(0), text(1));
    Ok(match answer.get(2).as_f64() {
        Some(time) => credentials.expires_in(super::connection::milliseconds(time)),
        None => credentials,
    })
}

fn failed(thrown: &JsValue) -> Error {
    let why = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    let why = why.or_else(|| thrown.as_string()).unwrap_or_default();
    Error::new(ErrorKind::Authentication, format!("no credentials, for the function that gives them failed: {why}"))
}
