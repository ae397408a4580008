//! Channels: all operations on queues, exchanges and messages.
//!
//! Owns nothing but the handle of the core. In come calls with Python's arguments; out go operations. It must never
//! know an event loop.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::consumer::{self, Returns};
use crate::convert::seconds;
use crate::errors::IntoPy;
use crate::message::Message;
use crate::operation::{Operation, opening};
use crate::publish::{Form, publish};
use crate::publisher::Publisher;
use crate::queue::{self, Exchange};
use crate::table;

/// A channel: the place of all operations on queues, exchanges and messages. Usable from any task and thread.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Channel {
    pub(crate) core: hopmq::Channel,
}

/// Makes the operation of a request whose reply is nothing.
pub(crate) fn done(request: hopmq::Request<()>) -> Operation {
    Operation::start(async move {
        let reply = request.await;
        Python::attach(|py| reply.py(py).map(|()| py.None()))
    })
}

/// Makes the operation of a request whose reply is a number.
pub(crate) fn number(request: hopmq::Request<u32>) -> Operation {
    Operation::start(async move {
        let reply = request.await;
        Python::attach(|py| Ok(reply.py(py)?.into_pyobject(py)?.into_any().unbind()))
    })
}

/// Makes the operation of fetching a message.
pub(crate) fn fetched(request: hopmq::Request<Option<hopmq::Delivery>>) -> Operation {
    Operation::start(async move {
        let reply = request.await;
        Python::attach(|py| match reply.py(py)? {
            Some(delivery) => Ok(Py::new(py, Message::of_delivery(delivery, None))?.into_any()),
            None => Ok(py.None()),
        })
    })
}

#[pymethods]
impl Channel {
    /// The number of the channel.
    #[getter]
    fn id(&self) -> u16 {
        self.core.id()
    }

    /// Whether the channel can be used.
    #[getter]
    fn is_open(&self) -> bool {
        self.core.is_open()
    }

    /// The connection of the channel.
    #[getter]
    fn connection(&self) -> crate::connection::Connection {
        crate::connection::Connection { core: self.core.connection() }
    }

    /// Returns the same channel with another timeout for all waits.
    fn within(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { core: self.core.within(seconds(timeout)?) })
    }

    /// Opens a channel in place of one that the broker has closed.
    fn reopen(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        opening(py, open(self.core.reopen()))
    }

    /// Publishes without a confirm: the operation is done when the message is in the output buffer.
    #[pyo3(signature = (exchange, routing_key, body, /, **properties))]
    fn send(
        &self,
        py: Python<'_>,
        exchange: &str,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.core, (exchange, routing_key), body, properties, Form::Send)
    }

    /// Publishes, and waits until the broker has the message.
    #[pyo3(signature = (exchange, routing_key, body, /, **properties))]
    fn publish(
        &self,
        py: Python<'_>,
        exchange: &str,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.core, (exchange, routing_key), body, properties, Form::Confirm)
    }

    /// Publishes, and returns the `Confirm` to await later.
    #[pyo3(signature = (exchange, routing_key, body, /, **properties))]
    fn publish_later(
        &self,
        py: Python<'_>,
        exchange: &str,
        routing_key: &str,
        body: &Bound<'_, PyAny>,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        publish(py, &self.core, (exchange, routing_key), body, properties, Form::Later)
    }

    /// Returns a publisher to one exchange. Without `routing_key`, each publish is given its own.
    #[pyo3(signature = (exchange="", routing_key=None, *, window=1000, **properties))]
    fn publisher(
        &self,
        exchange: &str,
        routing_key: Option<&str>,
        window: usize,
        properties: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Publisher> {
        Publisher::new(&self.core, exchange, routing_key, window, properties)
    }

    /// Returns the messages that the broker gives back because no queue took them, as an async iterator.
    fn returns(&self) -> Returns {
        Returns::new(self.core.returns())
    }

    /// Declares a queue. `queue("")` lets the broker choose a name.
    #[pyo3(signature = (name="", *, passive=false, durable=false, exclusive=false, auto_delete=false, **arguments))]
    #[allow(clippy::fn_params_excessive_bools, reason = "these are keyword arguments of Python")]
    #[allow(clippy::too_many_arguments, reason = "these are keyword arguments of Python")]
    fn queue(
        &self,
        name: &str,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let flags = queue::Flags { passive, durable, exclusive, auto_delete };
        queue::declare(&self.core, name, flags, arguments)
    }

    /// Binds a queue to an exchange.
    #[pyo3(signature = (queue, exchange, routing_key="", arguments=None))]
    fn queue_bind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        Ok(done(self.core.queue_bind(queue, exchange, routing_key, table_or_empty(arguments)?)))
    }

    /// Removes a binding of a queue.
    #[pyo3(signature = (queue, exchange, routing_key="", arguments=None))]
    fn queue_unbind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        Ok(done(self.core.queue_unbind(queue, exchange, routing_key, table_or_empty(arguments)?)))
    }

    /// Drops all ready messages of a queue. Returns their number.
    fn queue_purge(&self, queue: &str) -> Operation {
        number(self.core.queue_purge(queue))
    }

    /// Deletes a queue. Returns how many messages it had.
    #[pyo3(signature = (queue, *, if_unused=false, if_empty=false))]
    fn queue_delete(&self, queue: &str, if_unused: bool, if_empty: bool) -> Operation {
        queue::delete(&self.core, queue, if_unused, if_empty)
    }

    /// Declares an exchange.
    #[pyo3(signature = (
        name, kind="direct", *, passive=false, durable=false, auto_delete=false, internal=false,
        alternate_exchange=None, arguments=None
    ))]
    #[allow(clippy::fn_params_excessive_bools, reason = "these are keyword arguments of Python")]
    #[allow(clippy::too_many_arguments, reason = "these are keyword arguments of Python")]
    fn exchange(
        &self,
        name: &str,
        kind: &str,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        alternate_exchange: Option<&str>,
        arguments: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        let mut declare = self.core.exchange(name).kind(kind);
        if durable {
            declare = declare.durable();
        }
        if auto_delete {
            declare = declare.auto_delete();
        }
        if internal {
            declare = declare.internal();
        }
        if let Some(alternate) = alternate_exchange {
            declare = declare.alternate_exchange(alternate);
        }
        for (key, value) in table_or_empty(arguments)?.iter() {
            declare = declare.argument(key, value);
        }
        let (channel, request) =
            (self.core.clone(), if passive { declare.declare_passive() } else { declare.declare() });
        Ok(Operation::start(async move {
            let exchange = request.await;
            Python::attach(|py| Ok(Py::new(py, Exchange { channel, core: exchange.py(py)? })?.into_any()))
        }))
    }

    /// Binds an exchange to another one, from which messages come.
    #[pyo3(signature = (destination, source, routing_key="", arguments=None))]
    fn exchange_bind(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        Ok(done(self.core.exchange_bind(destination, source, routing_key, table_or_empty(arguments)?)))
    }

    /// Removes a binding of an exchange.
    #[pyo3(signature = (destination, source, routing_key="", arguments=None))]
    fn exchange_unbind(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        Ok(done(self.core.exchange_unbind(destination, source, routing_key, table_or_empty(arguments)?)))
    }

    /// Deletes an exchange.
    #[pyo3(signature = (exchange, *, if_unused=false))]
    fn exchange_delete(&self, exchange: &str, if_unused: bool) -> Operation {
        queue::delete_exchange(&self.core, exchange, if_unused)
    }

    /// Consumes a queue: `async with` or `await` it for the `Consumer`.
    #[pyo3(signature = (
        queue, *, prefetch=None, tag=None, no_ack=false, exclusive=false, no_local=false, priority=None, arguments=None
    ))]
    #[allow(clippy::too_many_arguments, reason = "these are keyword arguments of Python")]
    fn consume(
        &self,
        py: Python<'_>,
        queue: &str,
        prefetch: Option<u16>,
        tag: Option<&str>,
        no_ack: bool,
        exclusive: bool,
        no_local: bool,
        priority: Option<i32>,
        arguments: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let settings = consumer::Settings { prefetch, tag, no_ack, exclusive, no_local, priority };
        opening(py, consumer::start(&self.core, queue, settings, arguments)?)
    }

    /// Cancels a consumer.
    fn cancel(&self, tag: &str) -> Operation {
        done(self.core.cancel(tag))
    }

    /// Fetches one message of a queue, or `None` if it has none.
    #[pyo3(signature = (queue, *, no_ack=false))]
    fn get(&self, queue: &str, no_ack: bool) -> Operation {
        fetched(if no_ack { self.core.get_no_ack(queue) } else { self.core.get(queue) })
    }

    /// Sets how many unsettled messages each later consumer of the channel holds at most; with `shared`, all consumers
    /// together.
    #[pyo3(signature = (count, *, shared=false))]
    fn prefetch(&self, count: u16, shared: bool) -> Operation {
        done(if shared { self.core.prefetch_shared(count) } else { self.core.prefetch(count) })
    }

    /// Gives all unsettled messages of the channel back to their queues.
    fn recover(&self) -> Operation {
        done(self.core.recover())
    }

    /// Makes the channel transactional.
    fn tx_select(&self) -> Operation {
        done(self.core.tx_select())
    }

    /// Carries out what was published and settled since the last commit.
    fn tx_commit(&self) -> Operation {
        done(self.core.tx_commit())
    }

    /// Drops what was published and settled since the last commit.
    fn tx_rollback(&self) -> Operation {
        done(self.core.tx_rollback())
    }

    /// Asks the broker to pause or resume deliveries. Returns what it does.
    fn flow(&self, active: bool) -> Operation {
        let request = self.core.flow(active);
        Operation::start(async move {
            let active = request.await;
            Python::attach(|py| Ok(active.py(py)?.into_pyobject(py)?.to_owned().into_any().unbind()))
        })
    }

    /// Closes the channel.
    fn close(&self) -> Operation {
        done(self.core.close())
    }

    fn __aenter__(slf: Py<Self>) -> Operation {
        Operation::ready(Ok(slf.into_any()))
    }

    #[pyo3(signature = (*_error))]
    fn __aexit__(&self, _error: &Bound<'_, PyTuple>) -> Operation {
        if !self.core.is_open() {
            return Python::attach(|py| Operation::ready(Ok(py.None())));
        }
        self.close()
    }

    fn __repr__(&self) -> String {
        format!("<Channel {}{}>", self.core.id(), if self.core.is_open() { "" } else { " closed" })
    }
}

/// Makes the operation of opening a channel.
pub(crate) fn open(request: hopmq::Request<hopmq::Channel>) -> Operation {
    Operation::start(async move {
        let channel = request.await;
        Python::attach(|py| Ok(Py::new(py, Channel { core: channel.py(py)? })?.into_any()))
    })
}

pub(crate) fn table_or_empty(arguments: Option<&Bound<'_, PyAny>>) -> PyResult<hopmq::FieldTable> {
    arguments.map_or_else(|| Ok(hopmq::FieldTable::new()), |arguments| table::table("arguments", arguments))
}
