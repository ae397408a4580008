//! The embedded broker, for tests.
//!
//! Owns a broker in this process and its clock. In come the commands of a test; out goes what the broker holds. It must
//! never know a client.

use hopmq_broker::{self as core, inspect};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::seconds;
use crate::errors::IntoPy;
use crate::message::Message;

/// A broker within the process, that behaves as RabbitMQ.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Broker {
    core: core::Broker,
    manual: bool,
}

#[pymethods]
impl Broker {
    /// Starts a broker. With `manual`, its time stands still until `advance` moves it.
    #[new]
    #[pyo3(signature = (*, manual=false, seed=None, profile=None))]
    fn new(manual: bool, seed: Option<u64>, profile: Option<&str>) -> PyResult<Self> {
        let mut builder = core::Broker::builder();
        if manual {
            builder = builder.clock(&core::Clock::manual());
        }
        if let Some(seed) = seed {
            builder = builder.seed(seed);
        }
        if let Some(profile) = profile {
            builder = builder.profile(profile.parse::<core::Profile>().map_err(PyValueError::new_err)?);
        }
        Ok(Self { core: builder.start(), manual })
    }

    /// The address that clients connect to.
    #[getter]
    fn uri(&self, py: Python<'_>) -> String {
        py.detach(|| self.core.uri())
    }

    /// Moves the time of a manual clock.
    fn advance(&self, py: Python<'_>, time: &Bound<'_, PyAny>) -> PyResult<()> {
        let time = seconds(time)?;
        if !self.manual {
            return Err(PyValueError::new_err("the time of this broker can't be moved: start it with manual=True"));
        }
        py.detach(|| self.core.advance(time));
        Ok(())
    }

    /// Waits until the broker has done everything that was asked of it.
    fn settle(&self, py: Python<'_>) {
        py.detach(|| self.core.settle());
    }

    /// Returns the ready messages of a queue, without taking them.
    fn ready(&self, py: Python<'_>, queue: &str) -> PyResult<Vec<Message>> {
        let inspect = self.core.inspect();
        if inspect.queue(queue).is_none() {
            return Err(PyValueError::new_err(format!("there is no queue {queue:?}")));
        }
        let ready = py.detach(|| inspect.ready(queue));
        ready.iter().map(|message| peeked(py, message)).collect()
    }

    /// Returns the names of all queues, with how many messages are ready and unacked.
    fn queues<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let queues = PyDict::new(py);
        for queue in self.core.inspect().queues() {
            queues.set_item(queue.name, (queue.ready, queue.unacked))?;
        }
        Ok(queues)
    }
}

/// Makes the message of one that lies in a queue.
fn peeked(py: Python<'_>, message: &inspect::Message) -> PyResult<Message> {
    let core = hopmq::Message::new(&message.exchange, &message.routing_key, &message.properties, &message.body);
    Ok(Message::of_message(core.py(py)?))
}
