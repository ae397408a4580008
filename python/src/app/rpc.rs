//! Calls: the queue of a service, and the client that calls it.
//!
//! Owns nothing: the wire and the waits are those of `hopmq_app::rpc`. In come bodies; out go replies, or faults as
//! exceptions. It must never know the type of a question or an answer.

use hopmq_app::Queue;
use hopmq_app::flow::{Payload, headers};
use hopmq_app::rpc::{self, Client, Fault, RpcError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connection::Connection;
use crate::convert::{self, seconds};
use crate::errors::{IntoPy, exception};
use crate::message::Message;
use crate::operation::Operation;

/// Reads the queue of a service: that of `hopmq_app::rpc::queue`, with the settings on top.
pub(super) fn queue(name: &str, settings: &Bound<'_, PyDict>) -> PyResult<Queue> {
    super::queue::more(rpc::queue(name), settings)
}

/// Calls services. All calls share one channel and one consumer.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Caller {
    core: Client,
}

#[pymethods]
impl Caller {
    /// Opens a client on a connection.
    #[staticmethod]
    fn open(connection: &Bound<'_, Connection>) -> Operation {
        let connection = connection.get().core.clone();
        Operation::start(async move {
            let core = Client::open(&connection).await;
            Python::attach(|py| Ok(Py::new(py, Caller { core: core.py(py)? })?.into_any()))
        })
    }

    /// Calls a method of a service, and returns the reply.
    #[pyo3(signature = (service, method, body, content_type=None, timeout=None))]
    fn call(
        &self,
        service: String,
        method: String,
        body: &Bound<'_, PyAny>,
        content_type: Option<String>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        let encoded = convert::body(body)?;
        let content_type = content_type.or_else(|| encoded.content_type.as_deref().map(str::to_owned));
        let payload = Payload::new(encoded.payload.into_bytes(), content_type.unwrap_or_default());
        let client = match timeout {
            Some(timeout) => self.core.clone().within(seconds(timeout)?),
            None => self.core.clone(),
        };
        Ok(Operation::start(async move {
            let reply = client.call_raw(service, method, payload).await;
            Python::attach(|py| match reply {
                Ok(reply) => {
                    let fault = reply.header(headers::FAULT).and_then(|class| class.as_str().map(str::to_owned));
                    let reply = Py::new(py, Message::of_message(reply))?;
                    Ok((reply, fault).into_pyobject(py)?.into_any().unbind())
                }
                Err(error) => Err(raised(py, &error)),
            })
        }))
    }

    /// How many calls wait for their replies.
    #[getter]
    fn in_flight(&self) -> usize {
        self.core.in_flight()
    }
}

/// Makes the exception of a call without a result.
fn raised(py: Python<'_>, error: &RpcError) -> PyErr {
    let kind = match error {
        RpcError::Connection(error) => return exception(py, error),
        RpcError::NoServer { .. } => "NoServer",
        RpcError::Deadline { .. } => "Timeout",
        RpcError::OutcomeUnknown(_) => "OutcomeUnknown",
        RpcError::Fault(Fault { .. }) => "Fault",
        _ => "Decode",
    };
    let made = py.import("hopmq.errors").and_then(|errors| errors.getattr("of_call"));
    match made.and_then(|make| make.call1((kind, error.to_string()))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
