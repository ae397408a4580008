//! Confirms of published messages.
//!
//! Owns what the broker has not answered yet. In come the confirms of the core; out go awaitables. It must never know
//! what was published.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::errors::{IntoPy, usage};
use crate::operation::Operation;

/// The confirm of one message: `await` it, or `wait()` for it, once.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Confirm(Mutex<Option<hopmq::Confirm>>);

/// The confirms of many messages: `await` them, or `wait()` for them, once.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Confirms(Mutex<Option<hopmq::Confirms>>);

/// Starts to wait for the outcome of one message.
pub(crate) fn outcome(confirm: hopmq::Confirm) -> Operation {
    Operation::start(async move {
        let outcome = confirm.await;
        Python::attach(|py| outcome.py(py).map(|()| py.None()))
    })
}

macro_rules! awaitable {
    ($name:ident, $core:ty, $begin:expr) => {
        impl $name {
            pub(crate) fn new(core: $core) -> Self {
                Self(Mutex::new(Some(core)))
            }

            fn begin(&self, py: Python<'_>) -> PyResult<Operation> {
                let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                taken.map($begin).ok_or_else(|| usage(py, "this confirm was awaited already"))
            }
        }

        #[pymethods]
        impl $name {
            fn __await__(&self, py: Python<'_>) -> PyResult<Operation> {
                self.begin(py)
            }

            fn __iter__(&self, py: Python<'_>) -> PyResult<Operation> {
                self.begin(py)
            }

            /// Waits on this thread for the broker's answer, and raises why the message is not there.
            #[pyo3(signature = (timeout=None))]
            fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
                self.begin(py)?.wait(py, timeout)
            }
        }
    };
}

awaitable!(Confirm, hopmq::Confirm, outcome);
awaitable!(Confirms, hopmq::Confirms, |confirms| {
    Operation::start(async move {
        let outcome = confirms.await;
        Python::attach(|py| outcome.py(py).map(|()| py.None()))
    })
});

impl Confirm {
    /// Takes the confirm of the core.
    pub(crate) fn take(&self) -> Option<hopmq::Confirm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
