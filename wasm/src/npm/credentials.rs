//! Credentials from a JavaScript function, fetched at each connect and before they expire.
//!
//! The core requires a `Send` provider, and a JavaScript function is not `Send`. The provider therefore holds a number
//! that identifies the function in a thread-local list.

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

/// Calls a JavaScript function that returns `[username, password, milliseconds until they expire]`, or a promise of it.
pub(super) struct JsCredentials {
    number: u32,
}

#[derive(Default)]
struct Reply {
    credentials: Option<Result<Credentials>>,
    waker: Option<Waker>,
}

impl JsCredentials {
    pub(super) fn new(function: Function) -> Self {
        let number = LAST.get() + 1;
        LAST.set(number);
        FUNCTIONS.with_borrow_mut(|functions| functions.push((number, function)));
        Self { number }
    }
}

impl Drop for JsCredentials {
    fn drop(&mut self) {
        FUNCTIONS.with_borrow_mut(|functions| functions.retain(|(number, _)| *number != self.number));
    }
}

impl CredentialsProvider for JsCredentials {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Credentials>> + Send + '_>> {
        let reply = Arc::<Mutex<Reply>>::default();
        let number = self.number;
        let task_reply = Arc::clone(&reply);
        spawn_local(async move {
            let credentials = call_function(number).await;
            let mut reply = task_reply.lock().unwrap_or_else(PoisonError::into_inner);
            reply.credentials = Some(credentials);
            if let Some(waker) = reply.waker.take() {
                waker.wake();
            }
        });
        Box::pin(poll_fn(move |context| {
            let mut reply = reply.lock().unwrap_or_else(PoisonError::into_inner);
            match reply.credentials.take() {
                Some(credentials) => Poll::Ready(credentials),
                None => {
                    reply.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

async fn call_function(number: u32) -> Result<Credentials> {
    let with_number = |(known, function): &(u32, Function)| (*known == number).then(|| function.clone());
    let function = FUNCTIONS.with_borrow(|functions| functions.iter().find_map(with_number));
    let function = function.ok_or_else(|| Error::new(ErrorKind::Closed, "the connection was dropped"))?;
    let returned = function.call0(&JsValue::UNDEFINED).map(|answer| Promise::resolve(&answer));
    let answer = match returned {
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
    let reason = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    let reason = reason.or_else(|| thrown.as_string()).unwrap_or_default();
    Error::new(ErrorKind::Authentication, format!("the auth function failed: {reason}"))
}
