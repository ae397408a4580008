//! The server's side: a handler that answers calls.
//!
//! Owns the step from a message to a method and from its result to a reply. In come messages; out go verdicts:
//! replies, or an ack for a call whose deadline has passed. It must never publish a single reply itself, because the
//! worker does.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Map};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Fault;
use crate::codec::{self, Codec};
use crate::extract::{Deadline, FromDelivery};
use crate::flow::{Payload, Verdict};
use crate::handler::Handler;
use crate::incoming::Incoming;
use crate::topology::{DeadLetter, Queue};

/// The queue of a service: durable, and deleted with its last server, so that callers learn at once that there is none.
/// It handles 64 calls at once, and keeps no call that failed: the caller knows.
pub fn queue(name: &str) -> Queue {
    Queue::new(name).classic().auto_delete().dead_letter(DeadLetter::Reject).concurrency(64)
}

/// The handler of a service: created by the `serve_…` function that `#[rpc]` generates.
#[derive(Clone, Debug)]
pub struct Service<F>(F);

/// The arguments of a [`Service`], which reads them itself.
#[derive(Debug)]
pub struct Rpc;

impl<F> Service<F> {
    /// Returns a handler that calls `dispatch` for each call whose deadline has not passed.
    pub fn new<S, Fut>(dispatch: F) -> Self
    where
        F: Fn(&mut Incoming, &S) -> Result<Fut, Verdict> + 'static,
        Fut: Future<Output = Verdict> + 'static,
    {
        Self(dispatch)
    }
}

impl<S, F, Fut> Handler<S, Rpc> for Service<F>
where
    F: Fn(&mut Incoming, &S) -> Result<Fut, Verdict> + 'static,
    Fut: Future<Output = Verdict> + 'static,
{
    type Outcome = Verdict;
    type Future = Caught<Fut>;

    fn call(&self, incoming: &mut Incoming, state: &S) -> Result<Self::Future, Verdict> {
        let deadline = argument::<S, Deadline>(incoming, state)?;
        if deadline.has_passed() {
            tracing::debug!(queue = incoming.queue(), "a call was dropped because its deadline has passed");
            return Err(Verdict::Ack);
        }
        match catch_unwind(AssertUnwindSafe(|| (self.0)(incoming, state))) {
            Ok(Ok(future)) => Ok(AssertUnwindSafe(future).catch_unwind().map(caught)),
            Ok(Err(verdict)) => Err(verdict),
            Err(panic) => Err(panicked(&*panic)),
        }
    }
}

/// The future of a call, whose panics become replies.
type Caught<F> = Map<CatchUnwind<AssertUnwindSafe<F>>, fn(Result<Verdict, Box<dyn Any + Send>>) -> Verdict>;

fn caught(ended: Result<Verdict, Box<dyn Any + Send>>) -> Verdict {
    ended.unwrap_or_else(|panic| panicked(&*panic))
}

/// Returns the name of the method that is called.
pub fn method(incoming: &Incoming) -> Cow<'_, str> {
    String::from_utf8_lossy(incoming.message().properties().kind_bytes().unwrap_or_default())
}

/// Reads the arguments of a call.
///
/// # Errors
/// The reply that says why they can't be read.
pub fn arguments<C: Codec, T: DeserializeOwned>(incoming: &mut Incoming) -> Result<T, Verdict> {
    codec::extract::<C, T>(incoming).map_err(|verdict| {
        let why = verdict.failure().map_or_else(String::new, |failure| failure.text().to_owned());
        fault(Fault::DECODE, format!("can't read the arguments of '{}': {why}", method(incoming)))
    })
}

/// Reads an extractor of a method.
///
/// # Errors
/// The reply that says why it can't be read.
pub fn argument<S, T: FromDelivery<S>>(incoming: &mut Incoming, state: &S) -> Result<T, Verdict> {
    T::from_delivery(incoming, state).map_err(|verdict| match verdict.failure() {
        Some(failure) => fault(Fault::DECODE, failure.text()),
        None => verdict,
    })
}

/// Replies that the service has no such method.
pub fn unknown_method(incoming: &Incoming, methods: &[&str]) -> Verdict {
    let text = format!(
        "the service '{}' has no method '{}'; it has {}",
        incoming.queue(),
        method(incoming),
        methods.join(", "),
    );
    fault(Fault::UNKNOWN_METHOD, text)
}

/// Replies with a result.
pub fn reply<C: Codec, T: Serialize>(result: &T) -> Verdict {
    match C::write(result) {
        Ok(payload) => Verdict::Reply(payload),
        Err(error) => fault(Fault::ENCODE, format!("can't write the result: {error}")),
    }
}

/// Replies with a result, or with the error that the method returned.
pub fn reply_result<C: Codec, T: Serialize, E: Serialize>(result: &Result<T, E>) -> Verdict {
    match result {
        Ok(result) => reply::<C, T>(result),
        Err(error) => match reply::<C, E>(error) {
            Verdict::Reply(payload) if payload.fault.is_none() => {
                Verdict::Reply(Payload { fault: Some(Fault::FAILED.into()), ..payload })
            }
            other => other,
        },
    }
}

pub(super) fn fault(class: &'static str, text: impl Into<String>) -> Verdict {
    Verdict::Reply(Payload {
        body: text.into().into(),
        content_type: "text/plain; charset=utf-8".into(),
        fault: Some(class.into()),
        ..Payload::default()
    })
}

pub(super) fn panicked(panic: &(dyn Any + Send)) -> Verdict {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no text");
    tracing::warn!(text, "a method of a service panicked");
    fault(Fault::PANIC, format!("the method panicked: {text}"))
}
