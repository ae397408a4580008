//! Publishing one message in its three forms.
//!
//! Owns nothing. In come a route, a body and what else the caller said; out goes the operation. A message for which
//! there is room is sent by the call itself, from Python's own bytes; only one that must wait is copied. It must never
//! know which object was asked to publish.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hopmq::{Body, Channel};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::confirm::{self, Confirm};
use crate::convert::{self, Payload};
use crate::errors::IntoPy;
use crate::operation::{Operation, Outcome};
use crate::properties::Extras;

/// When the operation is done.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// When the message is in the output buffer.
    Send,
    /// When the broker has confirmed it.
    Confirm,
    /// When it is in the output buffer, with its confirm.
    Later,
}

/// Publishes with the arguments of a Python method.
pub(crate) fn publish(
    py: Python<'_>,
    channel: &Channel,
    (exchange, routing_key): (&str, &str),
    body: &Bound<'_, PyAny>,
    arguments: Option<&Bound<'_, PyDict>>,
    form: Form,
) -> PyResult<Operation> {
    let encoded = convert::body(body)?;
    let extras = Extras::read(arguments, encoded.content_type.as_deref())?;
    let body = encoded.payload.as_slice().into();
    let first = attempt(py, build(channel, exchange, routing_key, body, &extras), form);
    Ok(match first {
        Some(operation) => operation,
        None => later(channel.clone(), exchange.to_owned(), routing_key.to_owned(), encoded.payload, extras, form),
    })
}

fn build<'a>(
    channel: &'a Channel,
    exchange: &'a str,
    routing_key: &'a str,
    body: Body<'a>,
    extras: &'a Extras,
) -> hopmq::Publish<'a> {
    let publish = channel.publish(exchange, routing_key, body);
    let publish = match &extras.properties {
        Some(properties) => publish.properties(properties),
        None => publish,
    };
    if extras.mandatory { publish.mandatory() } else { publish }
}

/// Tries to publish at once. `None` if there is no room.
pub(crate) fn attempt(py: Python<'_>, publish: hopmq::Publish<'_>, form: Form) -> Option<Operation> {
    let mut context = Context::from_waker(Waker::noop());
    match form {
        Form::Send => match Pin::new(&mut publish.send()).poll(&mut context) {
            Poll::Ready(sent) => Some(Operation::ready(sent.py(py).map(|()| py.None()))),
            Poll::Pending => None,
        },
        Form::Confirm | Form::Later => match Pin::new(&mut publish.confirm_later()).poll(&mut context) {
            Poll::Ready(Ok(confirm)) if matches!(form, Form::Later) => Some(Operation::ready(object(py, confirm))),
            Poll::Ready(Ok(confirm)) => Some(confirm::outcome(confirm)),
            Poll::Ready(Err(error)) => Some(Operation::ready(Err(error).py(py))),
            Poll::Pending => None,
        },
    }
}

fn object(py: Python<'_>, confirm: hopmq::Confirm) -> Outcome {
    Ok(Py::new(py, Confirm::new(confirm))?.into_any())
}

/// Publishes when there is room.
fn later(
    channel: Channel,
    exchange: String,
    routing_key: String,
    payload: Payload,
    extras: Extras,
    form: Form,
) -> Operation {
    let bytes = payload.into_bytes();
    Operation::waiting(Box::pin(async move {
        let publish = build(&channel, &exchange, &routing_key, Body::Shared(bytes), &extras);
        match form {
            Form::Send => {
                let sent = publish.send().await;
                Python::attach(|py| sent.py(py).map(|()| py.None()))
            }
            Form::Confirm => {
                let confirmed = publish.confirm().await;
                Python::attach(|py| confirmed.py(py).map(|()| py.None()))
            }
            Form::Later => {
                let confirm = publish.confirm_later().await;
                Python::attach(|py| object(py, confirm.py(py)?))
            }
        }
    }))
}
