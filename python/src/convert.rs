//! Python values as arguments: times and bodies.
//!
//! Owns the words of the errors for arguments of a wrong type. In come Python objects and the argument's name; out go
//! values of the core. It must never know an operation.

use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDelta, PyString};

/// Reads a time: seconds as a number, a `timedelta`, or a text such as `"1.5s"`, `"200ms"`, `"9m59s"`.
pub(crate) fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    if let Ok(text) = value.cast::<PyString>() {
        return parse(&text.to_cow()?).ok_or_else(|| {
            PyValueError::new_err(format!(
                "a time must be like \"200ms\", \"1.5s\", \"10m\", \"2h\" or \"1d\", not {text:?}"
            ))
        });
    }
    if let Ok(delta) = value.cast::<PyDelta>() {
        return delta.extract();
    }
    let seconds: f64 = value.extract().map_err(|_| {
        let kind = type_name(value);
        PyTypeError::new_err(format!("a time must be seconds, a timedelta or a text such as \"10m\", not {kind}"))
    })?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("a time must be 0 or more seconds, not {seconds}")))
}

/// Reads parts such as `9m59s`, at least one.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = rest[unit..].trim_start();
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

/// Returns the name of a value's type, for an error.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// A body to publish, as it is in Python.
pub(crate) enum Payload {
    Bytes(PyBackedBytes),
    Text(PyBackedStr),
}

/// What a body is, and the content type that belongs to it if it was encoded.
pub(crate) struct Encoded {
    pub(crate) payload: Payload,
    pub(crate) content_type: Option<PyBackedStr>,
}

impl Payload {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => Bytes::copy_from_slice(&bytes),
            Self::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
        }
    }
}

/// Reads a body: bytes and text as they are, other objects through the package's codecs.
pub(crate) fn body(value: &Bound<'_, PyAny>) -> PyResult<Encoded> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Encoded { payload: Payload::Bytes(bytes.clone().into()), content_type: None });
    }
    if let Ok(text) = value.cast::<PyString>() {
        let payload = Payload::Text(PyBackedStr::try_from(text.clone())?);
        return Ok(Encoded { payload, content_type: None });
    }
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let encode = ENCODE.get_or_try_init(py, || PyResult::Ok(py.import("hopmq.codec")?.getattr("encode")?.unbind()))?;
    let (bytes, content_type): (Bound<'_, PyBytes>, Option<PyBackedStr>) = encode.call1(py, (value,))?.extract(py)?;
    Ok(Encoded { payload: Payload::Bytes(bytes.into()), content_type })
}
