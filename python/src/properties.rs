//! The properties of messages: from keyword arguments, and back as attributes.
//!
//! Owns the names of the properties in Python. In come keyword arguments; out go the properties of the core, and
//! attributes of messages. It must never know where a message goes.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyDict, PyString};

use crate::convert::{seconds, type_name};
use crate::table;

type Core = hopmq::Properties;

/// Properties that serve many messages: the same keyword arguments as those of `publish`, encoded once.
#[pyclass(frozen, eq, module = "hopmq._hopmq")]
#[derive(PartialEq)]
pub(crate) struct Properties {
    pub(crate) core: Arc<Core>,
}

/// What a publish is given besides its route and body.
#[derive(Clone, Default)]
pub(crate) struct Extras {
    pub(crate) mandatory: bool,
    pub(crate) properties: Option<Arc<Core>>,
}

impl Extras {
    /// Reads keyword arguments. `content_type` is that of an encoded body, unless the arguments have one.
    pub(crate) fn read(arguments: Option<&Bound<'_, PyDict>>, content_type: Option<&str>) -> PyResult<Self> {
        let Some(arguments) = arguments else {
            let properties = content_type.map(|text| Arc::new(Core::new().with_content_type(text)));
            return Ok(Self { mandatory: false, properties });
        };
        let mut extras = Self::default();
        let mut core = None::<Core>;
        for (name, value) in arguments.iter() {
            let name = name.cast_into::<PyString>()?;
            match &*name.to_cow()? {
                "mandatory" => extras.mandatory = flag("mandatory", &value)?,
                "properties" if value.is_none() => {}
                "properties" if arguments.len() == 1 && content_type.is_none() => {
                    extras.properties = Some(Arc::clone(&shared(&value)?.get().core));
                    return Ok(extras);
                }
                "properties" => {
                    if core.is_some() {
                        return Err(PyTypeError::new_err("`properties` must be the first keyword argument"));
                    }
                    core = Some(Core::clone(&shared(&value)?.get().core));
                }
                _ if value.is_none() => {}
                name => core = Some(set(core.unwrap_or_default(), name, &value)?),
            }
        }
        if let Some(content_type) = content_type
            && core.as_ref().is_none_or(|core| core.content_type().is_none())
        {
            core = Some(core.unwrap_or_default().with_content_type(content_type));
        }
        extras.properties = core.map(Arc::new);
        Ok(extras)
    }
}

fn shared<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, Properties>> {
    value
        .cast()
        .map_err(|_| PyTypeError::new_err(format!("`properties` must be hopmq.Properties, not {}", type_name(value))))
}

fn flag(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| PyTypeError::new_err(format!("`{name}` must be a bool, not {}", type_name(value))))
}

/// Sets one property by its name.
fn set(core: Core, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Core> {
    let text = || -> PyResult<String> {
        match value.cast::<PyString>() {
            Ok(text) => Ok(text.to_cow()?.into_owned()),
            Err(_) => Err(PyTypeError::new_err(format!("`{name}` must be a str, not {}", type_name(value)))),
        }
    };
    let small = || -> PyResult<u8> {
        value
            .extract()
            .map_err(|_| PyTypeError::new_err(format!("`{name}` must be an int from 0 to 255, not {}", printed(value))))
    };
    let core = match name {
        "persistent" if flag(name, value)? => core.with_persistent(),
        "persistent" => core,
        "content_type" => core.with_content_type(&text()?),
        "content_encoding" => core.with_content_encoding(&text()?),
        "headers" => core.with_headers(&table::table("headers", value)?),
        "delivery_mode" => core.with_delivery_mode(small()?),
        "priority" => core.with_priority(small()?),
        "correlation_id" => core.with_correlation_id(&text()?),
        "reply_to" => core.with_reply_to(&text()?),
        "expiration" => core.with_time_to_live(seconds(value)?),
        "message_id" => core.with_message_id(&text()?),
        "timestamp" if value.is_instance_of::<PyDateTime>() => {
            core.with_timestamp(table::timestamp("timestamp", value)?)
        }
        "timestamp" => core.with_timestamp(value.extract().map_err(|_| {
            PyTypeError::new_err(format!(
                "`timestamp` must be a datetime or seconds since 1970, not {}",
                printed(value)
            ))
        })?),
        "type" => core.with_kind(&text()?),
        "user_id" => core.with_user_id(&text()?),
        "app_id" => core.with_app_id(&text()?),
        _ => return Err(unknown(name)),
    };
    core.validity().map_err(|error| PyValueError::new_err(format!("`{name}` can't be sent: {error}")))?;
    Ok(core)
}

fn printed(value: &Bound<'_, PyAny>) -> String {
    format!("{} {value}", type_name(value))
}

#[cold]
fn unknown(name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "there is no keyword argument `{name}`: a message has content_type, content_encoding, headers, persistent, \
         delivery_mode, priority, correlation_id, reply_to, expiration, message_id, timestamp, type, user_id, app_id, \
         and a publish takes mandatory and properties besides"
    ))
}

#[pymethods]
impl Properties {
    #[new]
    #[pyo3(signature = (**arguments))]
    fn new(arguments: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let extras = Extras::read(arguments, None)?;
        if extras.mandatory {
            return Err(PyTypeError::new_err("`mandatory` is not a property: give it to the publish"));
        }
        Ok(Self { core: extras.properties.unwrap_or_default() })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = Vec::new();
        for name in NAMES {
            let value = attribute(py, self.core.as_ref_properties(), name)?;
            if !value.is_none() {
                parts.push(format!("{name}={}", value.repr()?));
            }
        }
        Ok(format!("Properties({})", parts.join(", ")))
    }

    /// The MIME type of the body.
    #[getter]
    fn content_type<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "content_type")
    }

    /// The encoding of the body, such as `gzip`.
    #[getter]
    fn content_encoding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "content_encoding")
    }

    /// The headers, as a new dict.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "headers")
    }

    /// Whether the broker keeps it over a restart, if its queue is durable.
    #[getter]
    fn persistent<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "persistent")
    }

    /// 1 is transient, 2 persistent.
    #[getter]
    fn delivery_mode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "delivery_mode")
    }

    /// The priority, 0 to 255.
    #[getter]
    fn priority<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "priority")
    }

    /// What ties a reply to its request.
    #[getter]
    fn correlation_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "correlation_id")
    }

    /// The queue for replies.
    #[getter]
    fn reply_to<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "reply_to")
    }

    /// How long it may stay in a queue, as a `timedelta`.
    #[getter]
    fn expiration<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "expiration")
    }

    /// The application's id.
    #[getter]
    fn message_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "message_id")
    }

    /// The time of its creation, as a `datetime` in UTC.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "timestamp")
    }

    /// The application's type.
    #[getter]
    #[pyo3(name = "type")]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "type")
    }

    /// The publishing user.
    #[getter]
    fn user_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "user_id")
    }

    /// The id of the publishing application.
    #[getter]
    fn app_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        attribute(py, self.core.as_ref_properties(), "app_id")
    }
}

/// All attributes of properties.
pub(crate) const NAMES: [&str; 14] = [
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "persistent",
];

/// Reads a property by its name in Python; `None` if the message does not have it.
pub(crate) fn attribute<'py>(
    py: Python<'py>,
    core: hopmq::Properties<&[u8]>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let text = |value: Option<&str>| -> PyResult<Bound<'py, PyAny>> { Ok(value.into_pyobject(py)?.into_any()) };
    match name {
        "content_type" => text(core.content_type()),
        "content_encoding" => text(core.content_encoding()),
        "headers" => match core.headers() {
            Ok(headers) => Ok(table::dict(py, &headers)?.into_any()),
            Err(error) => Err(PyValueError::new_err(format!("the headers of this message can't be read: {error}"))),
        },
        "persistent" => Ok(core.is_persistent().into_pyobject(py)?.to_owned().into_any()),
        "delivery_mode" => Ok(core.delivery_mode().into_pyobject(py)?.into_any()),
        "priority" => Ok(core.priority().into_pyobject(py)?.into_any()),
        "correlation_id" => text(core.correlation_id()),
        "reply_to" => text(core.reply_to()),
        "expiration" => {
            let millis = core.expiration().and_then(|text| text.parse().ok()).map(Duration::from_millis);
            Ok(millis.into_pyobject(py)?.into_any())
        }
        "message_id" => text(core.message_id()),
        "timestamp" => match core.timestamp() {
            Some(seconds) => table::datetime(py, seconds),
            None => Ok(py.None().into_bound(py)),
        },
        "type" => text(core.kind()),
        "user_id" => text(core.user_id()),
        "app_id" => text(core.app_id()),
        _ => Err(pyo3::exceptions::PyAttributeError::new_err(format!("there is no property `{name}`"))),
    }
}
