//! Publishers: one place to publish to, and a window of messages in flight.
//!
//! Owns the confirms that are not there yet, at most as many as the window, and the failures until the program asks. In
//! come bodies; out go operations that wait while the window is full. It must never know a queue.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use hopmq::Body;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::confirm::Confirms;
use crate::convert;
use crate::errors::{IntoPy, exception};
use crate::operation::Operation;
use crate::properties::Extras;
use crate::publish::{Form, publish};
use crate::shared::Shared;

/// How many failures are kept with their reasons.
const KEPT: usize = 1000;

/// Publishes to one exchange, with up to `window` messages that the broker has not confirmed yet.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Publisher {
    core: hopmq::Publisher,
    exchange: String,
    routing_key: Option<String>,
    extras: Extras,
    window: usize,
    flight: Arc<Shared<Flight>>,
}

/// The messages that are under way.
#[derive(Default)]
struct Flight {
    confirms: VecDeque<(u64, hopmq::Confirm)>,
    published: u64,
    failed: Vec<(u64, hopmq::Error)>,
    /// How many failed beyond those that are kept.
    more_failed: u64,
}

impl Flight {
    /// Notes all outcomes that are there, in order. Pending while more than `most` messages are under way.
    fn poll(&mut self, most: usize, context: &mut Context<'_>) -> Poll<()> {
        while let Some((number, confirm)) = self.confirms.front_mut() {
            let number = *number;
            match Pin::new(confirm).poll(context) {
                Poll::Ready(outcome) => {
                    self.confirms.pop_front();
                    if let Err(error) = outcome {
                        match self.failed.len() < KEPT {
                            true => self.failed.push((number, error)),
                            false => self.more_failed += 1,
                        }
                    }
                }
                Poll::Pending if self.confirms.len() > most => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }
}

impl Publisher {
    pub(crate) fn new(
        channel: &hopmq::Channel,
        exchange: &str,
        routing_key: Option<&str>,
        window: usize,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if window == 0 {
            return Err(PyValueError::new_err("`window` must be 1 or more messages"));
        }
        let extras = Extras::read(arguments, None)?;
        let mut core = channel.publisher(exchange, routing_key.unwrap_or_default());
        if let Some(properties) = &extras.properties {
            core = core.properties(hopmq::Properties::clone(properties));
        }
        if extras.mandatory {
            core = core.mandatory();
        }
        let (exchange, routing_key) = (exchange.to_owned(), routing_key.map(str::to_owned));
        Ok(Self { core, exchange, routing_key, extras, window, flight: Arc::new(Shared::new(Flight::default())) })
    }

    fn lock(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock()
    }

    /// Splits the arguments `([routing_key,] body)`.
    fn route<'a, 'py>(
        &'a self,
        first: &'a Bound<'py, PyAny>,
        second: Option<&'a Bound<'py, PyAny>>,
    ) -> PyResult<(std::borrow::Cow<'a, str>, &'a Bound<'py, PyAny>)> {
        match (second, &self.routing_key) {
            (Some(body), _) => {
                let key = first.cast::<pyo3::types::PyString>().map_err(|_| {
                    let kind = convert::type_name(first);
                    PyTypeError::new_err(format!("`routing_key` must be a str, not {kind}"))
                })?;
                Ok((key.to_cow()?.into_owned().into(), body))
            }
            (None, Some(key)) => Ok((key.as_str().into(), first)),
            (None, None) => Err(PyTypeError::new_err(
                "this publisher has no routing key of its own: give `publish` the routing key and the body",
            )),
        }
    }

    fn send_one(
        &self,
        py: Python<'_>,
        key: &str,
        body: &Bound<'_, PyAny>,
        arguments: Option<&Bound<'_, PyDict>>,
        form: Form,
    ) -> PyResult<Operation> {
        if arguments.is_none() && self.routing_key.as_deref() == Some(key) && is_plain(body) {
            let encoded = convert::body(body)?;
            let publish = self.core.publish(encoded.payload.as_slice());
            if let Some(operation) = crate::publish::attempt(py, publish, form) {
                return Ok(operation);
            }
        }
        let arguments = self.merged(py, arguments)?;
        publish(py, self.core.channel(), (&self.exchange, key), body, Some(&arguments), form)
    }

    /// Adds the publisher's properties to the arguments of a call.
    fn merged<'py>(&self, py: Python<'py>, arguments: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyDict>> {
        let merged = PyDict::new(py);
        if let Some(core) = &self.extras.properties {
            let properties = crate::properties::Properties { core: Arc::clone(core) };
            merged.set_item("properties", Py::new(py, properties)?)?;
        }
        if self.extras.mandatory {
            merged.set_item("mandatory", true)?;
        }
        if let Some(arguments) = arguments {
            merged.update(arguments.as_mapping())?;
        }
        Ok(merged)
    }
}

fn is_plain(body: &Bound<'_, PyAny>) -> bool {
    body.is_instance_of::<pyo3::types::PyBytes>() || body.is_instance_of::<pyo3::types::PyString>()
}

#[pymethods]
impl Publisher {
    /// Publishes a body, with the routing key in front if the publisher has none, and waits while `window` messages
    /// are under way. How each ended is told by `flush`, or at the end of `async with`.
    #[pyo3(signature = (first, second=None, /, **properties))]
    fn publish(
        &self,
        py: Python<'_>,
        first: &Bound<'_, PyAny>,
        second: Option<&Bound<'_, PyAny>>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let (key, body) = self.route(first, second)?;
        let sent = self.send_one(py, &key, body, properties, Form::Later)?;
        let flight = Arc::clone(&self.flight);
        let window = self.window;
        let note = move |confirm: Py<PyAny>, py: Python<'_>| -> PyResult<()> {
            let confirm = confirm.bind(py).cast::<crate::confirm::Confirm>()?.get().take();
            let mut flight = flight.lock();
            let number = flight.published;
            flight.published += 1;
            flight.confirms.extend(confirm.map(|confirm| (number, confirm)));
            Ok(())
        };
        match sent.take_ready() {
            Ok(confirm) => note(confirm?, py)?,
            Err(waiting) => {
                let flight = Arc::clone(&self.flight);
                return Ok(Operation::waiting(Box::pin(async move {
                    let confirm = waiting.await?;
                    Python::attach(|py| note(confirm, py))?;
                    flight
                        .wait(|flight: &mut Flight, context: &mut Context<'_>| flight.poll(window - 1, context))
                        .await;
                    Python::attach(|py| Ok(py.None()))
                })));
            }
        }
        if self.lock().confirms.len() < window
            || self.flight.try_poll(|flight, context| flight.poll(window - 1, context)).is_ready()
        {
            return Ok(Operation::ready(Ok(py.None())));
        }
        let flight = Arc::clone(&self.flight);
        // Half of the window is let go at once, so that the task is not woken for each message.
        let most = window / 2;
        Ok(Operation::waiting(Box::pin(async move {
            flight.wait(|flight: &mut Flight, context: &mut Context<'_>| flight.poll(most, context)).await;
            Python::attach(|py| Ok(py.None()))
        })))
    }

    /// Publishes a body and waits for its confirm.
    #[pyo3(signature = (first, second=None, /, **properties))]
    fn publish_now(
        &self,
        py: Python<'_>,
        first: &Bound<'_, PyAny>,
        second: Option<&Bound<'_, PyAny>>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let (key, body) = self.route(first, second)?;
        self.send_one(py, &key, body, properties, Form::Confirm)
    }

    /// Publishes a body without a confirm.
    #[pyo3(signature = (first, second=None, /, **properties))]
    fn send(
        &self,
        py: Python<'_>,
        first: &Bound<'_, PyAny>,
        second: Option<&Bound<'_, PyAny>>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let (key, body) = self.route(first, second)?;
        self.send_one(py, &key, body, properties, Form::Send)
    }

    /// Publishes many bodies to the publisher's routing key, and waits until the broker has confirmed all.
    fn publish_many(&self, bodies: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let (core, bodies) = self.many(bodies)?;
        Ok(Operation::start(async move {
            let outcome = core.publish_many(bodies.into_iter().map(Body::Shared)).confirm().await;
            Python::attach(|py| outcome.py(py).map(|()| py.None()))
        }))
    }

    /// Publishes many bodies to the publisher's routing key, and returns one confirm of all.
    fn publish_many_later(&self, bodies: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let (core, bodies) = self.many(bodies)?;
        Ok(Operation::start(async move {
            let confirms = core.publish_many(bodies.into_iter().map(Body::Shared)).confirm_later().await;
            Python::attach(|py| Ok(Py::new(py, Confirms::new(confirms.py(py)?))?.into_any()))
        }))
    }

    /// Publishes many bodies to the publisher's routing key, without confirms. Returns their number.
    fn send_many(&self, bodies: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let (core, bodies) = self.many(bodies)?;
        Ok(Operation::start(async move {
            let sent = core.publish_many(bodies.into_iter().map(Body::Shared)).send().await;
            Python::attach(|py| Ok(sent.py(py)?.into_pyobject(py)?.into_any().unbind()))
        }))
    }

    /// Waits until nothing is under way. Raises an `ExceptionGroup` of what failed since the last time.
    fn flush(&self) -> Operation {
        let flight = Arc::clone(&self.flight);
        // Polled only when it is awaited: failures that a cancelled task held would be lost.
        Operation::waiting(Box::pin(async move {
            flight.wait(|flight: &mut Flight, context: &mut Context<'_>| flight.poll(0, context)).await;
            let (failed, more) = {
                let mut flight = flight.lock();
                (std::mem::take(&mut flight.failed), std::mem::take(&mut flight.more_failed))
            };
            Python::attach(|py| match failed.is_empty() {
                true => Ok(py.None()),
                false => Err(group(py, &failed, more)),
            })
        }))
    }

    /// How many messages are under way.
    #[getter]
    fn in_flight(&self) -> usize {
        let _known = self.flight.try_poll(|flight, context| flight.poll(usize::MAX, context));
        self.lock().confirms.len()
    }

    /// How many messages were published.
    #[getter]
    fn published(&self) -> u64 {
        self.lock().published
    }

    #[getter]
    fn window(&self) -> usize {
        self.window
    }

    fn __aenter__(slf: Py<Self>) -> Operation {
        Operation::ready(Ok(slf.into_any()))
    }

    #[pyo3(signature = (kind=None, value=None, traceback=None))]
    fn __aexit__(
        &self,
        kind: Option<&Bound<'_, PyAny>>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> Operation {
        let _unused = (kind, value, traceback);
        self.flush()
    }

    fn __repr__(&self) -> String {
        let (exchange, in_flight) = (&self.exchange, self.lock().confirms.len());
        format!("<Publisher exchange={exchange:?} window={} in_flight={in_flight}>", self.window)
    }
}

impl Publisher {
    /// Takes what `publish_many` needs.
    fn many(&self, bodies: &Bound<'_, PyAny>) -> PyResult<(hopmq::Publisher, Vec<Bytes>)> {
        if self.routing_key.is_none() {
            return Err(PyTypeError::new_err(
                "give the publisher a routing key: all messages of a batch have the same",
            ));
        }
        let mut all = Vec::with_capacity(bodies.len().unwrap_or(0));
        for body in bodies.try_iter()? {
            all.push(convert::body(&body?)?.payload.into_bytes());
        }
        Ok((self.core.clone(), all))
    }
}

/// Makes the group of the exceptions of messages that failed.
#[cold]
fn group(py: Python<'_>, failed: &[(u64, hopmq::Error)], more: u64) -> PyErr {
    let make = || -> PyResult<Bound<'_, PyAny>> {
        let list = PyList::empty(py);
        for (number, error) in failed {
            let error = exception(py, error).into_value(py);
            error.call_method1(py, "add_note", (format!("message {number} of this publisher"),))?;
            list.append(error)?;
        }
        py.import("hopmq.errors")?.getattr("group_of")?.call1((list, more))
    };
    match make() {
        Ok(group) => PyErr::from_value(group),
        Err(error) => error,
    }
}
