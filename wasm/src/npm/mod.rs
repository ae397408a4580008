//! What the npm package is made of: the core's handles, for the hand-written TypeScript in `wasm/npm`.
//!
//! Nothing here decides anything. A method checks nothing that the core checks, and holds no state but handles. What
//! crosses the border is coarse: deliveries go out by the batch, in one buffer ([`delivery_batch`]), and so does what became of
//! publishes ([`publish_outcomes`]); tables and properties cross as AMQP encodes them.
//!
//! Errors are `[kind, code, message]`, of which TypeScript makes its own.
// What wasm-bindgen generates is not for people.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]

mod channel;
mod connection;
mod credentials;
mod delivery_batch;
mod publish_outcomes;

use std::future::Future;

use hopmq::{Error, ErrorKind, FieldTable, Result};
use js_sys::{Array, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

/// `[kind, code, message]`; the code is 0 where AMQP has none for it.
fn thrown(error: &Error) -> JsValue {
    let code = error.code().unwrap_or_default();
    Array::of3(&name(error.kind()).into(), &code.into(), &error.to_string().into()).into()
}

fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => "config",
        ErrorKind::Io => "io",
        ErrorKind::Tls => "tls",
        ErrorKind::WebSocket => "websocket",
        ErrorKind::Authentication => "authentication",
        ErrorKind::ConnectionClosed => "connection-closed",
        ErrorKind::ChannelClosed => "channel-closed",
        ErrorKind::Closed => "closed",
        ErrorKind::ConsumerCancelled => "consumer-cancelled",
        ErrorKind::Protocol => "protocol",
        ErrorKind::Usage => "usage",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Heartbeat => "heartbeat",
        ErrorKind::Nacked => "nacked",
        ErrorKind::Returned => "returned",
        ErrorKind::OutcomeUnknown => "outcome-unknown",
        ErrorKind::Recovering => "recovering",
        _ => "other",
    }
}

/// A promise of what `future` ends with. The future has begun: a request is sent when it is made.
fn promise<T: 'static>(
    future: impl Future<Output = Result<T>> + 'static,
    finish: impl FnOnce(T) -> JsValue + 'static,
) -> Promise {
    let future: std::pin::Pin<Box<dyn Future<Output = Result<JsValue, JsValue>>>> = Box::pin(async move {
        match future.await {
            Ok(value) => Ok(finish(value)),
            Err(error) => Err(thrown(&error)),
        }
    });
    future_to_promise(future)
}

fn done(future: impl Future<Output = Result<()>> + 'static) -> Promise {
    promise(future, |()| JsValue::UNDEFINED)
}

fn table(bytes: Vec<u8>) -> Result<FieldTable, JsValue> {
    FieldTable::parse(bytes).map_err(|error| thrown(&error.into()))
}
