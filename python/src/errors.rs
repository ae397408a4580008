//! Errors of the core as exceptions of the package.
//!
//! Owns nothing: the tree of exceptions is Python's (`hopmq/errors.py`). In come errors; out go exceptions with kind,
//! code and, where there is one, the returned message.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;

use crate::message::Message;

/// Makes the exception of an error.
#[cold]
pub(crate) fn exception(py: Python<'_>, error: &hopmq::Error) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = MAKE
        .get_or_try_init(py, || PyResult::Ok(py.import("hopmq.errors")?.getattr("of_core")?.unbind()))
        .and_then(|make| {
            let returned = error.returned().map(|returned| Message::of_returned(returned.clone()));
            make.call1(py, (format!("{:?}", error.kind()), error.code(), error.to_string(), returned))
        });
    match made {
        Ok(exception) => PyErr::from_value(exception.into_bound(py)),
        Err(error) => error,
    }
}

/// Makes the exception of a batch of which some messages failed.
#[cold]
pub(crate) fn many(py: Python<'_>, error: &hopmq::PublishManyError) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = MAKE
        .get_or_try_init(py, || PyResult::Ok(py.import("hopmq.errors")?.getattr("of_many")?.unbind()))
        .and_then(|make| {
            let failed = PyList::empty(py);
            for (index, error) in error.failed() {
                failed.append((index, exception(py, error)))?;
            }
            make.call1(py, (error.to_string(), error.sent(), failed))
        });
    match made {
        Ok(exception) => PyErr::from_value(exception.into_bound(py)),
        Err(error) => error,
    }
}

/// Makes the exception of a use that can't be right.
#[cold]
pub(crate) fn usage(py: Python<'_>, text: &str) -> PyErr {
    exception(py, &hopmq::Error::new(hopmq::ErrorKind::Usage, text))
}

/// Turns a result of the core into one of Python.
pub(crate) trait IntoPy<T> {
    fn py(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> IntoPy<T> for hopmq::Result<T> {
    fn py(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}

impl<T> IntoPy<T> for Result<T, hopmq::PublishManyError> {
    fn py(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| many(py, &error))
    }
}
