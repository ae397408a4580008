//! What a worker in Python works on: one message or a batch, and the right to say what happens with it.
//!
//! Owns the message until the worker has an outcome. In come messages of the app; out go Python objects, and one
//! verdict. It must never settle a message, because the app does.

use bytes::Bytes;
use hopmq_app::batch::{Batch, BatchHandler, Verdicts};
use hopmq_app::flow::{Failure, Payload};
use hopmq_app::{Context, Deadline, FromDelivery, Handler, Incoming, Verdict};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use std::sync::Arc;

use super::inbox::{Answer, Entry, Inbox, Waiting, pair};
use crate::convert::{self, seconds, type_name};
use crate::errors::IntoPy;
use crate::message::Message;
use crate::operation::Operation;
use crate::properties::Extras;
use crate::table;

/// What a job shows of its message.
pub(crate) struct Facts {
    message: hopmq::Message,
    /// The body, decompressed.
    body: Bytes,
    attempt: u32,
    redelivered: bool,
    deadline: Deadline,
    origin: Option<(String, String)>,
}

impl FromDelivery<()> for Facts {
    fn from_delivery(incoming: &mut Incoming, state: &()) -> Result<Self, Verdict> {
        let body = incoming.decoded_body_bytes()?;
        let deadline = Deadline::from_delivery(incoming, state)?;
        let message = incoming.message().clone();
        let moved = incoming.exchange() != message.exchange() || incoming.routing_key() != message.routing_key();
        let origin = moved.then(|| (incoming.exchange().to_owned(), incoming.routing_key().to_owned()));
        let (attempt, redelivered) = (incoming.attempt(), incoming.redelivered());
        Ok(Self { message, body, attempt, redelivered, deadline, origin })
    }
}

/// One message that a worker works on.
#[pyclass(frozen, name = "Incoming", module = "hopmq._hopmq")]
pub(crate) struct Job {
    /// The number of the handler.
    #[pyo3(get, name = "_route")]
    route: usize,
    facts: Facts,
    context: Context,
    /// None for a message of a batch, which has an outcome with the others.
    answer: Option<Answer<Verdict>>,
}

/// The handler of one queue: it puts jobs into the inbox.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) index: usize,
    pub(crate) inbox: Arc<Inbox>,
    /// Whether a call whose deadline has passed is dropped.
    pub(crate) answers: bool,
}

/// Marks the handlers of this module.
pub(crate) struct InPython;

impl Handler<(), InPython> for Route {
    type Outcome = Verdict;
    type Future = Waiting<Verdict>;

    fn call(&self, incoming: &mut Incoming, state: &()) -> Result<Self::Future, Verdict> {
        let facts = Facts::from_delivery(incoming, state)?;
        if self.answers && facts.deadline.has_passed() {
            return Err(Verdict::Ack);
        }
        let (answer, waiting) = pair();
        let context = incoming.context().clone();
        self.inbox.push(Entry::Single(Job { route: self.index, facts, context, answer: Some(answer) }));
        Ok(waiting)
    }
}

impl BatchHandler<(), InPython> for Route {
    type Item = Facts;
    type Outcome = Verdicts;
    type Future = Waiting<Verdicts>;

    fn call(&self, batch: Batch<Facts>, context: &Context, (): &()) -> Self::Future {
        let (answer, waiting) = pair();
        let batch = BatchJob { route: self.index, facts: batch.0, context: context.clone(), answer };
        self.inbox.push(Entry::Batch(batch));
        waiting
    }
}

/// A batch before a worker takes it.
pub(crate) struct BatchJob {
    route: usize,
    facts: Vec<Facts>,
    context: Context,
    answer: Answer<Verdicts>,
}

impl BatchJob {
    pub(crate) fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Self { route, facts, context, answer } = self;
        let jobs = facts.into_iter().map(|facts| Job { route, facts, context: context.clone(), answer: None });
        let jobs: Vec<_> = jobs.map(|job| Py::new(py, job)).collect::<PyResult<_>>()?;
        let messages = PyList::new(py, jobs)?.unbind();
        Ok(Py::new(py, Jobs { route, messages, context, answer })?.into_any())
    }
}

/// A batch of messages that a worker works on.
#[pyclass(frozen, name = "IncomingBatch", module = "hopmq._hopmq")]
pub(crate) struct Jobs {
    /// The number of the handler.
    #[pyo3(get, name = "_route")]
    route: usize,
    /// The messages.
    #[pyo3(get)]
    messages: Py<PyList>,
    context: Context,
    answer: Answer<Verdicts>,
}

/// Makes the verdict of its name in Python.
fn verdict(kind: &str, class: &str, text: &str, after: Option<&Bound<'_, PyAny>>) -> PyResult<Verdict> {
    let failure = || {
        let failure = Failure::new(class.to_owned(), text);
        PyResult::Ok(match after {
            Some(after) => failure.after(seconds(after)?),
            None => failure,
        })
    };
    Ok(match kind {
        "ack" => Verdict::Ack,
        "retry" => Verdict::Retry(failure()?),
        "reject" => Verdict::Reject(failure()?),
        "park" => Verdict::Park(failure()?),
        "release" => Verdict::Release,
        _ => return Err(PyValueError::new_err(format!("there is no outcome {kind:?}"))),
    })
}

#[cold]
fn finished_twice() -> PyErr {
    PyRuntimeError::new_err("this job has its outcome already")
}

fn given(done: bool) -> PyResult<()> {
    if done { Ok(()) } else { Err(finished_twice()) }
}

/// Publishes as the app does: mandatory and confirmed, on the channel that all handlers share.
fn publish(
    context: &Context,
    exchange: &str,
    routing_key: &str,
    body: &Bound<'_, PyAny>,
    properties: Option<&Bound<'_, PyDict>>,
) -> PyResult<Operation> {
    let encoded = convert::body(body)?;
    let extras = Extras::read(properties, encoded.content_type.as_deref())?;
    let (context, exchange, key) = (context.clone(), exchange.to_owned(), routing_key.to_owned());
    let body = encoded.payload.into_bytes();
    Ok(Operation::start(async move {
        let properties = extras.properties.unwrap_or_default();
        let published = context.publish(&exchange, &key, &properties, body).await;
        Python::attach(|py| published.py(py).map(|()| py.None()))
    }))
}

impl Job {
    fn give(&self, verdict: Verdict) -> PyResult<()> {
        match &self.answer {
            Some(answer) => given(answer.give(verdict)),
            None => Err(PyRuntimeError::new_err("a message of a batch has its outcome with the others")),
        }
    }
}

#[pymethods]
impl Job {
    /// The body, decompressed, as `bytes`.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.facts.body)
    }

    /// The message as it arrived.
    #[getter]
    fn message(&self) -> Message {
        Message::of_message(self.facts.message.clone())
    }

    /// The content type; `None` if the message has none.
    #[getter]
    fn content_type(&self) -> Option<String> {
        self.facts.message.properties().content_type().map(str::to_owned)
    }

    /// The property `type`, which is the method of a call.
    #[getter]
    fn kind(&self) -> Option<String> {
        let kind = self.facts.message.properties().kind_bytes()?.to_vec();
        String::from_utf8(kind).ok()
    }

    /// Returns one header, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn header<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.facts.message.header(name) {
            Some(value) => table::object(py, value),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    /// The attempt that this is, beginning with 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.facts.attempt
    }

    /// Whether the broker delivered the message before.
    #[getter]
    fn redelivered(&self) -> bool {
        self.facts.redelivered
    }

    /// The queue of the handler.
    #[getter]
    fn queue(&self) -> &str {
        self.context.queue()
    }

    /// The exchange that the message was first published to.
    #[getter]
    fn exchange(&self) -> &str {
        self.facts.origin.as_ref().map_or_else(|| self.facts.message.exchange(), |(exchange, _)| exchange)
    }

    /// The routing key that the message was first published with.
    #[getter]
    fn routing_key(&self) -> &str {
        self.facts.origin.as_ref().map_or_else(|| self.facts.message.routing_key(), |(_, key)| key)
    }

    /// How many seconds the sender still waits for the reply; `None` if it set no deadline.
    #[getter]
    fn remaining(&self) -> Option<f64> {
        self.facts.deadline.remaining().map(|left| left.as_secs_f64())
    }

    /// Whether the app waits for the outcome no more.
    #[getter]
    fn is_gone(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::is_gone)
    }

    /// The message is done.
    #[pyo3(name = "_ack")]
    fn ack(&self) -> PyResult<()> {
        self.give(Verdict::Ack)
    }

    /// Ends the job as `retry`, `reject`, `park` or `release`.
    #[pyo3(name = "_fail", signature = (kind, error_class="", text="", after=None))]
    fn fail(&self, kind: &str, error_class: &str, text: &str, after: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.give(verdict(kind, error_class, text, after)?)
    }

    /// Answers the sender, with a result or, if `fault` is its class, with a fault.
    #[pyo3(name = "_reply", signature = (body, content_type=None, fault=None))]
    fn reply(&self, body: &Bound<'_, PyAny>, content_type: Option<String>, fault: Option<String>) -> PyResult<()> {
        let encoded = convert::body(body)?;
        let content_type = content_type.or_else(|| encoded.content_type.as_deref().map(str::to_owned));
        let payload = Payload {
            fault: fault.map(Into::into),
            ..Payload::new(encoded.payload.into_bytes(), content_type.unwrap_or_default())
        };
        self.give(Verdict::Reply(payload))
    }

    /// Publishes a message, mandatory and confirmed, on the channel of the app.
    #[pyo3(signature = (exchange, routing_key, body, **properties))]
    fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(&self.context, exchange, routing_key, body, properties)
    }
}

#[pymethods]
impl Jobs {
    /// The queue of the handler.
    #[getter]
    fn queue(&self) -> &str {
        self.context.queue()
    }

    /// All messages are done.
    #[pyo3(name = "_ack")]
    fn ack(&self) -> PyResult<()> {
        given(self.answer.give(Verdicts::All(Verdict::Ack)))
    }

    /// Ends all messages as `retry`, `reject`, `park` or `release`.
    #[pyo3(name = "_fail", signature = (kind, error_class="", text="", after=None))]
    fn fail(&self, kind: &str, error_class: &str, text: &str, after: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        given(self.answer.give(Verdicts::All(verdict(kind, error_class, text, after)?)))
    }

    /// Gives each message its outcome, in the order of the batch: a list of `(kind, error_class, text, after)`.
    #[pyo3(name = "_each")]
    fn each(&self, outcomes: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let mut verdicts = Vec::with_capacity(outcomes.len());
        for outcome in &outcomes {
            let parts = outcome
                .cast::<PyTuple>()
                .map_err(|_| PyTypeError::new_err(format!("an outcome must be a tuple, not {}", type_name(outcome))))?;
            let (kind, class, text, after): (String, String, String, Option<Bound<'_, PyAny>>) = parts.extract()?;
            verdicts.push(verdict(&kind, &class, &text, after.as_ref())?);
        }
        given(self.answer.give(Verdicts::Each(verdicts)))
    }

    /// Publishes a message, mandatory and confirmed, on the channel of the app.
    #[pyo3(signature = (exchange, routing_key, body, **properties))]
    fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(&self.context, exchange, routing_key, body, properties)
    }
}
