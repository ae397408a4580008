//! Messages: their bodies, properties and facts as attributes, and the right to settle them.
//!
//! Owns the right to settle one delivery, once. In come deliveries, fetched and returned messages; out go Python
//! objects, made when they are asked for. It must never know a consumer.

use std::sync::{Arc, Mutex, PoisonError};

use hopmq::{Acker, Delivery, Returned, Settled};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::consumer::{Held, Part};
use crate::errors::{IntoPy, usage};
use crate::properties::attribute;
use crate::table;

/// A message, and the right to settle it if it was delivered.
#[pyclass(frozen, weakref, module = "hopmq._hopmq")]
pub(crate) struct Message {
    message: hopmq::Message,
    right: Mutex<Right>,
    /// The consumer that it was delivered to.
    consumer: Option<Py<PyString>>,
    tag: u64,
    link: u32,
    redelivered: bool,
    resumed: bool,
    /// How many messages were left in the queue when it was fetched.
    left: Option<u32>,
    /// Why it was returned.
    refusal: Option<(u16, String)>,
}

/// The right to settle a delivery.
enum Right {
    Own(Acker),
    InBatch(Arc<Held>, usize),
    /// It was used, or never there.
    Gone(&'static str),
}

impl Message {
    pub(crate) fn of_delivery(delivery: Delivery, consumer: Option<Py<PyString>>) -> Self {
        let (tag, link, left) = (delivery.delivery_tag(), delivery.link(), delivery.message_count());
        let (redelivered, resumed) = (delivery.redelivered(), delivery.resumed());
        let (message, acker) = delivery.split();
        let right = Mutex::new(Right::Own(acker));
        Self { message, right, consumer, tag, link, redelivered, resumed, left, refusal: None }
    }

    pub(crate) fn of_batch(
        message: hopmq::Message,
        (tag, link, redelivered): (u64, u32, bool),
        held: &Arc<Held>,
        index: usize,
        consumer: Option<Py<PyString>>,
    ) -> Self {
        let right = Mutex::new(Right::InBatch(Arc::clone(held), index));
        Self { message, right, consumer, tag, link, redelivered, resumed: false, left: None, refusal: None }
    }

    pub(crate) fn of_returned(returned: Returned) -> Self {
        let refusal = Some((returned.code(), returned.reason().to_owned()));
        Self { refusal, ..Self::of_message(returned.into_message()) }
    }

    /// Makes a message that can't be settled.
    pub(crate) fn of_message(message: hopmq::Message) -> Self {
        let right = Mutex::new(Right::Gone("this message was not delivered by a queue: there is nothing to settle"));
        Self {
            message,
            right,
            consumer: None,
            tag: 0,
            link: 0,
            redelivered: false,
            resumed: false,
            left: None,
            refusal: None,
        }
    }

    /// Gives the message back to its queue, if it was delivered and is not settled.
    pub(crate) fn give_back(&self) {
        let gone = Right::Gone("this message was given back to its queue: the task that fetched it was cancelled");
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if let Right::Own(acker) = std::mem::replace(&mut *right, gone) {
            // A link that was lost has given it back already.
            let _settled = acker.nack(true);
        }
    }

    /// Uses the right to settle.
    fn settle(&self, py: Python<'_>, own: impl FnOnce(Acker) -> hopmq::Result<Settled>) -> PyResult<bool> {
        let gone = Right::Gone("this message was settled already: ack, nack or reject it once");
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = match std::mem::replace(&mut *right, gone) {
            Right::Own(acker) => own(acker),
            Right::InBatch(held, index) => match held.take(index) {
                Part::Acker(acker) => own(acker),
                Part::NotNeeded => Ok(Settled::NotNeeded),
                Part::Gone => return Err(usage(py, "this message was settled with its batch")),
            },
            Right::Gone(why) => {
                *right = Right::Gone(why);
                return Err(usage(py, why));
            }
        };
        drop(right);
        Ok(settled.py(py)? != Settled::Stale)
    }
}

#[pymethods]
impl Message {
    /// Makes a message that was not delivered, for tests of handlers.
    #[new]
    #[pyo3(signature = (body, exchange="", routing_key="", **properties))]
    fn new(
        py: Python<'_>,
        body: &Bound<'_, PyAny>,
        exchange: &str,
        routing_key: &str,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let encoded = crate::convert::body(body)?;
        let extras = crate::properties::Extras::read(properties, encoded.content_type.as_deref())?;
        let properties = extras.properties.unwrap_or_default();
        let message = hopmq::Message::new(exchange, routing_key, &properties, encoded.payload.as_slice()).py(py)?;
        Ok(Self::of_message(message))
    }

    /// The body, as `bytes`.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.message.body())
    }

    /// Returns the body as text. Bytes that are not UTF-8 become U+FFFD.
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.message.text()
    }

    /// Returns the value that the body has in JSON.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import(intern!(py, "json"))?.call_method1(intern!(py, "loads"), (self.body(py),))
    }

    /// The size of the body, in bytes.
    #[getter]
    fn size(&self) -> usize {
        self.message.body().len()
    }

    /// The exchange that it was published to; empty for the default exchange.
    #[getter]
    fn exchange(&self) -> &str {
        self.message.exchange()
    }

    /// The routing key that it was published with.
    #[getter]
    fn routing_key(&self) -> &str {
        self.message.routing_key()
    }

    /// Returns one header, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn header<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.message.header(name) {
            Some(value) => table::object(py, value),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    /// Whether the broker has delivered it before, to this consumer or another.
    #[getter]
    fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// The number of the delivery on its channel.
    #[getter]
    fn delivery_tag(&self) -> u64 {
        self.tag
    }

    /// The number of the link to the broker that it came over: 0, then one more for each reconnect.
    #[getter]
    fn link(&self) -> u32 {
        self.link
    }

    /// Whether the link was lost and restored before it: unsettled messages come again.
    #[getter]
    fn resumed(&self) -> bool {
        self.resumed
    }

    /// The tag of the consumer that it was delivered to.
    #[getter]
    fn consumer_tag(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.consumer.as_ref().map(|tag| tag.clone_ref(py))
    }

    /// How many messages were left in the queue when `get` fetched it.
    #[getter]
    fn message_count(&self) -> Option<u32> {
        self.left
    }

    /// The code with which the broker returned it: 312 if no queue took it.
    #[getter]
    fn return_code(&self) -> Option<u16> {
        self.refusal.as_ref().map(|(code, _)| *code)
    }

    /// The broker's words for why it returned it.
    #[getter]
    fn return_reason(&self) -> Option<&str> {
        self.refusal.as_ref().map(|(_, reason)| reason.as_str())
    }

    /// Tells the broker that it is done with; with `multiple`, that all earlier ones of the channel are, too.
    ///
    /// Returns whether the broker will know: `False` if the link was lost since, and the message comes again.
    #[pyo3(signature = (*, multiple=false))]
    fn ack(&self, py: Python<'_>, multiple: bool) -> PyResult<bool> {
        match multiple {
            false => self.settle(py, Acker::ack),
            true => self.settle(py, Acker::ack_multiple),
        }
    }

    /// Gives it back to its queue, or drops or dead-letters it if `requeue` is false.
    #[pyo3(signature = (*, requeue=true, multiple=false))]
    fn nack(&self, py: Python<'_>, requeue: bool, multiple: bool) -> PyResult<bool> {
        match multiple {
            false => self.settle(py, |acker| acker.nack(requeue)),
            true => self.settle(py, |acker| acker.nack_multiple(requeue)),
        }
    }

    /// Drops or dead-letters it, or gives it back to its queue if `requeue` is true.
    #[pyo3(signature = (*, requeue=false))]
    fn reject(&self, py: Python<'_>, requeue: bool) -> PyResult<bool> {
        self.settle(py, |acker| acker.reject(requeue))
    }

    /// Whether it can still be settled.
    #[getter]
    fn is_unsettled(&self) -> bool {
        match &*self.right.lock().unwrap_or_else(PoisonError::into_inner) {
            Right::Own(_) => true,
            Right::InBatch(held, index) => held.has(*index),
            Right::Gone(_) => false,
        }
    }

    /// The MIME type of the body.
    #[getter]
    fn content_type<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "content_type")
    }

    /// The encoding of the body, such as `gzip`.
    #[getter]
    fn content_encoding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "content_encoding")
    }

    /// The headers, as a new dict.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "headers")
    }

    /// Whether the broker keeps it over a restart, if its queue is durable.
    #[getter]
    fn persistent<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "persistent")
    }

    /// 1 is transient, 2 persistent.
    #[getter]
    fn delivery_mode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "delivery_mode")
    }

    /// The priority, 0 to 255.
    #[getter]
    fn priority<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "priority")
    }

    /// What ties a reply to its request.
    #[getter]
    fn correlation_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "correlation_id")
    }

    /// The queue for replies.
    #[getter]
    fn reply_to<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "reply_to")
    }

    /// How long it may stay in a queue, as a `timedelta`.
    #[getter]
    fn expiration<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "expiration")
    }

    /// The application's id.
    #[getter]
    fn message_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "message_id")
    }

    /// The time of its creation, as a `datetime` in UTC.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "timestamp")
    }

    /// The application's type.
    #[getter]
    #[pyo3(name = "type")]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "type")
    }

    /// The publishing user.
    #[getter]
    fn user_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "user_id")
    }

    /// The id of the publishing application.
    #[getter]
    fn app_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.message.properties(), "app_id")
    }

    fn __repr__(&self) -> String {
        let (exchange, key) = (self.exchange(), self.routing_key());
        format!("<Message exchange={exchange:?} routing_key={key:?} size={}>", self.size())
    }
}
