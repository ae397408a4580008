//! Connections, their events and counters.
//!
//! Owns nothing but the handle of the core. In come calls; out go operations, channels and events. It must never know
//! an event loop.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::Stream;
use hopmq::Event as Core;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::channel;
use crate::convert::seconds;
use crate::errors::{IntoPy, exception};
use crate::operation::{self, Operation, Outcome, opening};
use crate::shared::Shared;
use crate::table;

/// A connection to a broker. Usable from any task and thread.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Connection {
    pub(crate) core: hopmq::Connection,
}

#[pymethods]
impl Connection {
    /// Opens a channel: `async with` or `await` it.
    fn channel(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        opening(py, channel::open(self.core.channel()))
    }

    /// Returns the same connection with another timeout for all waits, also of the channels that it opens.
    fn within(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { core: self.core.within(seconds(timeout)?) })
    }

    /// Gives the broker a new secret, such as a token, before the old one expires.
    #[pyo3(signature = (secret, reason=""))]
    fn update_secret(&self, secret: &str, reason: &str) -> Operation {
        channel::done(self.core.update_secret(secret, reason))
    }

    /// Closes the connection after everything is sent and confirmed.
    fn close(&self) -> Operation {
        let core = self.core.clone();
        Operation::start(async move {
            let closed = core.close().await;
            Python::attach(|py| closed.py(py).map(|()| py.None()))
        })
    }

    /// Stops all consumers, waits until all messages are settled and confirmed, and closes; at the latest after
    /// `deadline`.
    #[pyo3(signature = (deadline=None))]
    fn shutdown(&self, deadline: Option<&Bound<'_, PyAny>>) -> PyResult<Operation> {
        let (core, deadline) = (self.core.clone(), crate::connect::deadline(deadline)?);
        Ok(Operation::start(async move {
            let ended = core.shutdown(deadline).await;
            Python::attach(|py| ended.py(py).map(|()| py.None()))
        }))
    }

    /// Waits until the connection has ended, and returns why, as an exception.
    fn closed(&self) -> Operation {
        let core = self.core.clone();
        Operation::start(async move {
            let error = core.closed().await;
            Python::attach(|py| Ok(exception(py, &error).into_value(py).into_any()))
        })
    }

    /// Whether the connection can be used, also while it reconnects.
    #[getter]
    fn is_open(&self) -> bool {
        self.core.is_open()
    }

    /// Whether there is a link to the broker at the moment.
    #[getter]
    fn is_connected(&self) -> bool {
        self.core.is_connected()
    }

    /// Returns the events from now on, as an async iterator.
    fn events(&self) -> Events {
        Events { core: Arc::new(Shared::new(self.core.events())) }
    }

    /// Returns the counters of the connection so far.
    fn stats(&self) -> Stats {
        let stats = self.core.stats();
        Stats {
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            writes: stats.writes,
            reads: stats.reads,
            received: stats.received,
            published: stats.published,
            confirmed: stats.confirmed,
            nacked: stats.nacked,
            returned: stats.returned,
            delivered: stats.delivered,
            acked: stats.acked,
            rejected: stats.rejected,
            unknown_deliveries: stats.unknown_deliveries,
            blocked: stats.blocked,
        }
    }

    /// What the broker says about itself.
    #[getter]
    fn server_properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        table::dict(py, &self.core.server_properties().as_ref_table())
    }

    /// The negotiated highest channel number.
    #[getter]
    fn channel_max(&self) -> u16 {
        self.core.channel_max()
    }

    /// The negotiated largest frame, in bytes.
    #[getter]
    fn frame_max(&self) -> u32 {
        self.core.frame_max()
    }

    /// The negotiated heartbeat interval.
    #[getter]
    fn heartbeat(&self) -> Duration {
        self.core.heartbeat()
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

    fn __repr__(&self) -> &'static str {
        match (self.core.is_open(), self.core.is_connected()) {
            (true, true) => "<Connection>",
            (true, false) => "<Connection reconnecting>",
            (false, _) => "<Connection closed>",
        }
    }
}

/// The counters of a connection.
#[pyclass(frozen, get_all, module = "hopmq._hopmq")]
pub(crate) struct Stats {
    bytes_sent: u64,
    bytes_received: u64,
    writes: u64,
    reads: u64,
    received: u64,
    published: u64,
    confirmed: u64,
    nacked: u64,
    returned: u64,
    delivered: u64,
    acked: u64,
    rejected: u64,
    unknown_deliveries: u64,
    blocked: Duration,
}

/// The events of a connection: an async iterator that ends with it.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Events {
    core: Arc<Shared<hopmq::Events>>,
}

fn poll(core: &mut hopmq::Events, context: &mut Context<'_>) -> Poll<Option<Core>> {
    Pin::new(core).poll_next(context)
}

#[pymethods]
impl Events {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self) -> Operation {
        let core = Arc::clone(&self.core);
        // Polled only when it is awaited: what a cancelled task held would be lost.
        Operation::waiting(Box::pin(async move {
            let next = core.wait(poll).await;
            Python::attach(|py| match next {
                Some(next) => event(py, &next),
                None => Err(PyStopAsyncIteration::new_err(())),
            })
        }))
    }

    /// Waits on this thread for the next event; `None` when the connection has ended.
    #[pyo3(signature = (timeout=None))]
    fn next_blocking(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let limit = timeout.map(seconds).transpose()?;
        match operation::wait(py, self.core.wait(poll), limit)? {
            Some(next) => next.map(|next| event(py, &next)).transpose(),
            None => Err(pyo3::exceptions::PyTimeoutError::new_err("no event came in time")),
        }
    }
}

/// Makes the `hopmq.Event` of an event.
fn event(py: Python<'_>, event: &Core) -> Outcome {
    let fields = PyDict::new(py);
    let put_error = |error: &hopmq::Error| fields.set_item("error", exception(py, error).into_value(py));
    let kind = match event {
        Core::Blocked { reason } => {
            fields.set_item("reason", reason)?;
            "blocked"
        }
        Core::Unblocked => "unblocked",
        Core::Flow { channel, active } => {
            fields.set_item("channel", channel)?;
            fields.set_item("active", active)?;
            "flow"
        }
        Core::ChannelClosed { channel, error } => {
            fields.set_item("channel", channel)?;
            put_error(error)?;
            "channel-closed"
        }
        Core::Lost { error } => {
            put_error(error)?;
            "lost"
        }
        Core::Connecting { attempt, host } => {
            fields.set_item("attempt", attempt)?;
            fields.set_item("host", host)?;
            "connecting"
        }
        Core::Connected { host } => {
            fields.set_item("host", host)?;
            "connected"
        }
        Core::Retrying { attempt, delay, error } => {
            fields.set_item("attempt", attempt)?;
            fields.set_item("delay", *delay)?;
            put_error(error)?;
            "retrying"
        }
        Core::NotRestored { entity, error } => {
            fields.set_item("entity", entity)?;
            put_error(error)?;
            "not-restored"
        }
        Core::Waiting { entity, error } => {
            fields.set_item("entity", entity)?;
            put_error(error)?;
            "waiting"
        }
        Core::Restored { entity, waiting } => {
            fields.set_item("entity", entity)?;
            fields.set_item("waiting", waiting)?;
            "restored"
        }
        Core::Recovered { replayed, outage } => {
            let counts = PyDict::new(py);
            for (name, count) in [
                ("exchanges", replayed.exchanges),
                ("queues", replayed.queues),
                ("bindings", replayed.bindings),
                ("channels", replayed.channels),
                ("consumers", replayed.consumers),
                ("publishes", replayed.publishes),
                ("failures", replayed.failures),
                ("waiting", replayed.waiting),
            ] {
                counts.set_item(name, count)?;
            }
            fields.set_item("replayed", counts)?;
            fields.set_item("outage", *outage)?;
            "recovered"
        }
        Core::GaveUp { attempts, error } => {
            fields.set_item("attempt", attempts)?;
            put_error(error)?;
            "gave-up"
        }
        Core::Closed { error } => {
            put_error(error)?;
            "closed"
        }
        _ => "other",
    };
    Ok(py.import("hopmq.events")?.getattr("Event")?.call((kind,), Some(&fields))?.unbind())
}
