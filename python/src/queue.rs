//! Queues and exchanges: declarations by keyword arguments, and the handles of what was declared.
//!
//! Owns the names of the arguments in Python. In come keyword arguments; out go declarations of the core. It must never
//! know what RabbitMQ makes of an argument: the broker judges.

use hopmq::{DeadLetterStrategy, LeaderLocator, Overflow, QueueDeclare};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::channel::{done, fetched, number, table_or_empty};
use crate::consumer;
use crate::convert::{seconds, type_name};
use crate::errors::IntoPy;
use crate::operation::{Operation, opening};
use crate::publish::{Form, publish};
use crate::publisher::Publisher;
use crate::table;

/// What a declaration says besides arguments.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "these are the fields of queue.declare")]
pub(crate) struct Flags {
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
}

/// Declares a queue.
pub(crate) fn declare(
    channel: &hopmq::Channel,
    name: &str,
    flags: Flags,
    arguments: Option<&Bound<'_, PyDict>>,
) -> PyResult<Operation> {
    let mut declare = channel.queue(name);
    if flags.durable {
        declare = declare.durable();
    }
    if flags.exclusive {
        declare = declare.exclusive();
    }
    if flags.auto_delete {
        declare = declare.auto_delete();
    }
    if let Some(arguments) = arguments {
        for (key, value) in arguments.iter() {
            if !value.is_none() {
                declare = set(declare, &key.cast_into::<PyString>()?.to_cow()?, &value)?;
            }
        }
    }
    let channel = channel.clone();
    let request = if flags.passive { declare.declare_passive() } else { declare.declare() };
    Ok(Operation::start(async move {
        let queue = request.await;
        Python::attach(|py| Ok(Py::new(py, Queue { channel, core: queue.py(py)? })?.into_any()))
    }))
}

/// Sets one argument by its name.
fn set<'a>(declare: QueueDeclare<'a>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<QueueDeclare<'a>> {
    let wrong = |wanted: &str| {
        PyTypeError::new_err(format!("`{name}` of a queue must be {wanted}, not {} {value}", type_name(value)))
    };
    let text = || value.extract::<String>().map_err(|_| wrong("a str"));
    let flag = || value.extract::<bool>().map_err(|_| wrong("a bool"));
    let count = || value.extract::<u32>().map_err(|_| wrong("an int from 0 to 4294967295"));
    let bytes = || value.extract::<u64>().map_err(|_| wrong("an int of 0 or more"));
    let small = || value.extract::<u8>().map_err(|_| wrong("an int from 0 to 255"));
    Ok(match name {
        "quorum" if flag()? => declare.quorum(),
        "classic" if flag()? => declare.classic(),
        "stream" if flag()? => declare.stream(),
        "lazy" if flag()? => declare.lazy(),
        "single_active_consumer" if flag()? => declare.single_active_consumer(),
        "quorum" | "classic" | "stream" | "lazy" | "single_active_consumer" => declare,
        "message_ttl" => declare.message_ttl(seconds(value)?),
        "expires" => declare.expires(seconds(value)?),
        "max_length" => declare.max_length(count()?),
        "max_length_bytes" => declare.max_length_bytes(bytes()?),
        "overflow" => declare.overflow(match text()?.as_str() {
            "drop-head" => Overflow::DropHead,
            "reject-publish" => Overflow::RejectPublish,
            "reject-publish-dlx" => Overflow::RejectPublishDlx,
            other => return Err(one_of(name, other, "drop-head, reject-publish or reject-publish-dlx")),
        }),
        "dead_letter_exchange" => declare.dead_letter_exchange(&text()?),
        "dead_letter_routing_key" => declare.dead_letter_routing_key(&text()?),
        "dead_letter_strategy" => declare.dead_letter_strategy(match text()?.as_str() {
            "at-most-once" => DeadLetterStrategy::AtMostOnce,
            "at-least-once" => DeadLetterStrategy::AtLeastOnce,
            other => return Err(one_of(name, other, "at-most-once or at-least-once")),
        }),
        "delivery_limit" => declare.delivery_limit(count()?),
        "max_priority" => declare.max_priority(small()?),
        "max_age" => declare.max_age(&text()?),
        "max_segment_size" => declare.max_segment_size(bytes()?),
        "initial_group_size" => declare.initial_group_size(small()?),
        "leader_locator" => declare.leader_locator(match text()?.as_str() {
            "client-local" => LeaderLocator::ClientLocal,
            "balanced" => LeaderLocator::Balanced,
            other => return Err(one_of(name, other, "client-local or balanced")),
        }),
        "arguments" => declare.arguments(&table::table("arguments", value)?),
        _ => return Err(unknown(name)),
    })
}

#[cold]
fn one_of(name: &str, value: &str, values: &str) -> PyErr {
    PyValueError::new_err(format!("`{name}` must be {values}, not {value:?}"))
}

#[cold]
fn unknown(name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "a queue has no argument `{name}`: it has durable, exclusive, auto_delete, passive, classic, quorum, stream, \
         message_ttl, expires, max_length, max_length_bytes, overflow, dead_letter_exchange, dead_letter_routing_key, \
         dead_letter_strategy, delivery_limit, max_priority, single_active_consumer, lazy, max_age, max_segment_size, \
         initial_group_size, leader_locator; others go into arguments={{\"x-…\": …}}"
    ))
}

/// Deletes a queue.
pub(crate) fn delete(channel: &hopmq::Channel, queue: &str, if_unused: bool, if_empty: bool) -> Operation {
    let mut delete = channel.queue_delete(queue);
    if if_unused {
        delete = delete.if_unused();
    }
    if if_empty {
        delete = delete.if_empty();
    }
    number(delete.delete())
}

/// Deletes an exchange.
pub(crate) fn delete_exchange(channel: &hopmq::Channel, exchange: &str, if_unused: bool) -> Operation {
    let mut delete = channel.exchange_delete(exchange);
    if if_unused {
        delete = delete.if_unused();
    }
    done(delete.delete())
}

/// A queue that was declared, on the channel that declared it.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Queue {
    pub(crate) channel: hopmq::Channel,
    pub(crate) core: hopmq::Queue,
}

#[pymethods]
impl Queue {
    /// The name of the queue.
    #[getter]
    fn name(&self) -> &str {
        self.core.name()
    }

    /// How many ready messages it had when it was declared.
    #[getter]
    fn message_count(&self) -> u32 {
        self.core.message_count()
    }

    /// How many consumers it had when it was declared.
    #[getter]
    fn consumer_count(&self) -> u32 {
        self.core.consumer_count()
    }

    /// Publishes to the queue without a confirm.
    #[pyo3(signature = (body, /, **properties))]
    fn send(
        &self,
        py: Python<'_>,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.channel, ("", self.core.name()), body, properties, Form::Send)
    }

    /// Publishes to the queue, and waits until the broker has the message.
    #[pyo3(signature = (body, /, **properties))]
    fn publish(
        &self,
        py: Python<'_>,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.channel, ("", self.core.name()), body, properties, Form::Confirm)
    }

    /// Publishes to the queue, and returns the `Confirm` to await later.
    #[pyo3(signature = (body, /, **properties))]
    fn publish_later(
        &self,
        py: Python<'_>,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.channel, ("", self.core.name()), body, properties, Form::Later)
    }

    /// Returns a publisher to this queue.
    #[pyo3(signature = (*, window=1000, **properties))]
    fn publisher(&self, window: usize, properties: Option<&Bound<'_, PyDict>>) -> PyResult<Publisher> {
        Publisher::new(&self.channel, "", Some(self.core.name()), window, properties)
    }

    /// Binds the queue to an exchange.
    #[pyo3(signature = (exchange, routing_key="", arguments=None))]
    fn bind(&self, exchange: &str, routing_key: &str, arguments: Option<&Bound<'_, PyAny>>) -> PyResult<Operation> {
        let table = table_or_empty(arguments)?;
        Ok(done(self.channel.queue_bind(self.core.name(), exchange, routing_key, table)))
    }

    /// Removes a binding.
    #[pyo3(signature = (exchange, routing_key="", arguments=None))]
    fn unbind(&self, exchange: &str, routing_key: &str, arguments: Option<&Bound<'_, PyAny>>) -> PyResult<Operation> {
        let table = table_or_empty(arguments)?;
        Ok(done(self.channel.queue_unbind(self.core.name(), exchange, routing_key, table)))
    }

    /// Consumes the queue: `async with` or `await` it for the `Consumer`.
    #[pyo3(signature = (
        *, prefetch=None, tag=None, no_ack=false, exclusive=false, no_local=false, priority=None, arguments=None
    ))]
    #[allow(clippy::too_many_arguments, reason = "these are keyword arguments of Python")]
    fn consume(
        &self,
        py: Python<'_>,
        prefetch: Option<u16>,
        tag: Option<&str>,
        no_ack: bool,
        exclusive: bool,
        no_local: bool,
        priority: Option<i32>,
        arguments: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let settings = consumer::Settings { prefetch, tag, no_ack, exclusive, no_local, priority };
        opening(py, consumer::start(&self.channel, self.core.name(), settings, arguments)?)
    }

    /// Fetches one message, or `None` if there is none.
    #[pyo3(signature = (*, no_ack=false))]
    fn get(&self, no_ack: bool) -> Operation {
        fetched(if no_ack { self.channel.get_no_ack(self.core.name()) } else { self.core.get() })
    }

    /// Drops all ready messages. Returns their number.
    fn purge(&self) -> Operation {
        number(self.core.purge())
    }

    /// Deletes the queue. Returns how many messages it had.
    #[pyo3(signature = (*, if_unused=false, if_empty=false))]
    fn delete(&self, if_unused: bool, if_empty: bool) -> Operation {
        delete(&self.channel, self.core.name(), if_unused, if_empty)
    }

    fn __repr__(&self) -> String {
        format!("<Queue {:?}>", self.core.name())
    }
}

/// An exchange that was declared, on the channel that declared it.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Exchange {
    pub(crate) channel: hopmq::Channel,
    pub(crate) core: hopmq::Exchange,
}

#[pymethods]
impl Exchange {
    /// The name of the exchange.
    #[getter]
    fn name(&self) -> &str {
        self.core.name()
    }

    /// Publishes without a confirm.
    #[pyo3(signature = (routing_key, body, /, **properties))]
    fn send(
        &self,
        py: Python<'_>,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.channel, (self.core.name(), routing_key), body, properties, Form::Send)
    }

    /// Publishes, and waits until the broker has the message.
    #[pyo3(signature = (routing_key, body, /, **properties))]
    fn publish(
        &self,
        py: Python<'_>,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.channel, (self.core.name(), routing_key), body, properties, Form::Confirm)
    }

    /// Publishes, and returns the `Confirm` to await later.
    #[pyo3(signature = (routing_key, body, /, **properties))]
    fn publish_later(
        &self,
        py: Python<'_>,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.channel, (self.core.name(), routing_key), body, properties, Form::Later)
    }

    /// Returns a publisher to this exchange.
    #[pyo3(signature = (routing_key=None, *, window=1000, **properties))]
    fn publisher(
        &self,
        routing_key: Option<&str>,
        window: usize,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Publisher> {
        Publisher::new(&self.channel, self.core.name(), routing_key, window, properties)
    }

    /// Binds the exchange to another one, from which messages come.
    #[pyo3(signature = (source, routing_key="", arguments=None))]
    fn bind_to(&self, source: &str, routing_key: &str, arguments: Option<&Bound<'_, PyAny>>) -> PyResult<Operation> {
        let table = table_or_empty(arguments)?;
        Ok(done(self.channel.exchange_bind(self.core.name(), source, routing_key, table)))
    }

    /// Deletes the exchange.
    #[pyo3(signature = (*, if_unused=false))]
    fn delete(&self, if_unused: bool) -> Operation {
        delete_exchange(&self.channel, self.core.name(), if_unused)
    }

    fn __repr__(&self) -> String {
        format!("<Exchange {:?}>", self.core.name())
    }
}
