//! The core's handles, exported to the TypeScript in `wasm/npm`.
//!
//! This layer makes no decisions: methods repeat none of the core's checks and hold no state but handles. Calls between
//! WebAssembly and JavaScript are few and large: deliveries leave in batches, in one buffer ([`delivery_batch`]), and
//! so do the outcomes of publishes ([`publish_outcomes`]). Tables and properties keep their AMQP encoding.
//!
//! Errors are `[kind, code, message]`, which TypeScript turns into `AmqpError`.
// The items that wasm-bindgen generates have no docs.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]

mod channel;
mod connection;
mod consumer;
mod credentials;
mod delivery_batch;
mod publish_outcomes;

use std::future::Future;

use hopmq::{Error, ErrorKind, FieldTable, Result};
use js_sys::{Array, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

/// Returns an error as `[kind, code, message]`; the code is 0 if AMQP has none.
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

/// Returns a promise of the future's result. Requests are already sent when their future is created.
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
