//! Connecting: the settings of a connection by keyword arguments.
//!
//! Owns the names of the settings in Python. In come an address and settings; out goes the operation of connecting. It
//! must never show a password.

use std::time::Duration;

use hopmq::sasl::{AmqPlain, Anonymous, Credentials, External};
use hopmq::tls::Tls;
use hopmq::{Builder, Error, ErrorKind, OnFailure, Recovery, Unconfirmed, WhileLost};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::connection::Connection;
use crate::convert::{seconds, type_name};
use crate::errors::IntoPy;
use crate::operation::Operation;
use crate::table;

/// Connects to a broker.
#[pyfunction]
#[pyo3(signature = (uri, **settings))]
pub(crate) fn open(uri: &str, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Operation> {
    let mut builder = hopmq::Connection::builder().uri(uri);
    if let Some(settings) = settings {
        for (name, value) in settings.iter() {
            if !value.is_none() {
                builder = set(builder, &name.cast_into::<PyString>()?.to_cow()?, &value)?;
            }
        }
    }
    Ok(Operation::start(async move {
        let opened = builder.open().await;
        Python::attach(|py| Ok(Py::new(py, Connection { core: opened.py(py)? })?.into_any()))
    }))
}

fn set(builder: Builder, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Builder> {
    let wrong = |wanted: &str| PyTypeError::new_err(format!("`{name}` must be {wanted}, not {}", type_name(value)));
    let text = || value.extract::<String>().map_err(|_| wrong("a str"));
    let texts = || value.extract::<Vec<String>>().map_err(|_| wrong("a list of str"));
    let count = || value.extract::<usize>().map_err(|_| wrong("an int of 0 or more"));
    Ok(match name {
        "vhost" => builder.vhost(&text()?),
        "name" => builder.connection_name(&text()?),
        "credentials" => credentials(builder, value)?,
        "mechanism" => match text()?.as_str() {
            "PLAIN" => builder,
            "AMQPLAIN" => builder.mechanism(AmqPlain),
            "EXTERNAL" => builder.mechanism(External),
            "ANONYMOUS" => builder.mechanism(Anonymous),
            other => {
                let text = format!("`mechanism` must be PLAIN, AMQPLAIN, EXTERNAL or ANONYMOUS, not {other:?}");
                return Err(PyValueError::new_err(text));
            }
        },
        "client_properties" => {
            let mut builder = builder;
            for (key, value) in table::table(name, value)?.iter() {
                builder = builder.client_property(key, value);
            }
            builder
        }
        "hosts" => {
            let hosts = texts()?;
            builder.hosts(hosts.iter().map(String::as_str))
        }
        "heartbeat" => builder.heartbeat(seconds(value)?),
        "connect_timeout" => builder.connect_timeout(seconds(value)?),
        "request_timeout" => builder.request_timeout(seconds(value)?),
        "confirm_timeout" => builder.confirm_timeout(seconds(value)?),
        "close_timeout" => builder.close_timeout(seconds(value)?),
        "write_timeout" => builder.write_timeout(seconds(value)?),
        "tcp_user_timeout" => builder.tcp_user_timeout(seconds(value)?),
        "wait_for_broker" => builder.wait_for_broker(seconds(value)?),
        "spin" => builder.spin(seconds(value)?),
        "frame_max" => builder.frame_max(value.extract().map_err(|_| wrong("an int of 32 bits"))?),
        "initial_frame_max" => builder.initial_frame_max(value.extract().map_err(|_| wrong("an int of 32 bits"))?),
        "channel_max" => builder.channel_max(value.extract().map_err(|_| wrong("an int from 0 to 65535"))?),
        "high_water_mark" => builder.high_water_mark(count()?),
        "receive_limit" => builder.receive_limit(count()?),
        "max_message_size" => builder.max_message_size(value.extract().map_err(|_| wrong("an int of 0 or more"))?),
        "recovery" => builder.recovery(recovery(value)?),
        "tls" => builder.tls(tls(value)?),
        "websocket_protocols" => {
            let protocols = texts()?;
            builder.websocket_protocols(protocols.iter().map(String::as_str))
        }
        _ => return Err(unknown(name)),
    })
}

#[cold]
fn unknown(name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "a connection has no setting `{name}`: it has vhost, name, credentials, mechanism, client_properties, hosts, \
         heartbeat, connect_timeout, request_timeout, confirm_timeout, close_timeout, write_timeout, \
         tcp_user_timeout, wait_for_broker, spin, frame_max, initial_frame_max, channel_max, high_water_mark, \
         receive_limit, max_message_size, recovery, tls, websocket_protocols"
    ))
}

/// Reads `(username, password)`, with a lifetime as a third part if it has one.
fn pair(value: &Bound<'_, PyAny>) -> PyResult<Credentials> {
    let wrong = || {
        // The value is not shown: it may hold a password.
        PyTypeError::new_err("`credentials` must be (username, password) or (username, password, lifetime)")
    };
    let parts = value.cast::<PyTuple>().map_err(|_| wrong())?;
    let (username, password): (String, String) = match parts.len() {
        2 | 3 => {
            (parts.get_item(0)?.extract().map_err(|_| wrong())?, parts.get_item(1)?.extract().map_err(|_| wrong())?)
        }
        _ => return Err(wrong()),
    };
    let credentials = Credentials::new(username, password);
    match parts.get_item(2) {
        Ok(lifetime) if !lifetime.is_none() => Ok(credentials.expires_in(seconds(&lifetime)?)),
        _ => Ok(credentials),
    }
}

/// Takes credentials, or a function that is asked for them before each connection is made. It is called on a thread of
/// its own.
fn credentials(builder: Builder, value: &Bound<'_, PyAny>) -> PyResult<Builder> {
    if !value.is_callable() {
        let credentials = pair(value)?;
        return Ok(builder.credentials_from(credentials));
    }
    let provider = std::sync::Arc::new(value.clone().unbind());
    Ok(builder.credentials_from(move || {
        let provider = std::sync::Arc::clone(&provider);
        async move {
            let ask = move || {
                Python::try_attach(|py| pair(provider.call0(py)?.bind(py)))
                    .unwrap_or_else(|| Err(PyValueError::new_err("the interpreter is shutting down")))
            };
            let asked = hopmq::unblock(ask).await;
            let failed = |error: PyErr| {
                Error::with_source(ErrorKind::Config, "the function that provides `credentials` failed", error)
            };
            match asked {
                Ok(credentials) => credentials.map_err(failed),
                Err(error) => {
                    Err(Error::with_source(ErrorKind::Io, "the function for `credentials` could not run", error))
                }
            }
        }
    }))
}

/// Reads `hopmq.Recovery`, or a bool.
fn recovery(value: &Bound<'_, PyAny>) -> PyResult<Recovery> {
    if let Ok(on) = value.extract::<bool>() {
        return Ok(if on { Recovery::new() } else { Recovery::off() });
    }
    let field = |name: &str| {
        value.getattr(name).map_err(|_| {
            PyTypeError::new_err(format!("`recovery` must be hopmq.Recovery or a bool, not {}", type_name(value)))
        })
    };
    let word = |name: &str| -> PyResult<String> { field(name)?.extract() };
    let unknown = |name: &str, word: &str, words: &str| {
        PyValueError::new_err(format!("`{name}` of hopmq.Recovery must be {words}, not {word:?}"))
    };
    let mut recovery = Recovery::new()
        .delays(seconds(&field("first_delay")?)?, seconds(&field("longest_delay")?)?)
        .refusals(field("refusals")?.extract()?)
        .topology(field("topology")?.extract()?)
        .republish_limit(field("republish_limit")?.extract()?);
    if let Some(attempts) = field("attempts")?.extract()? {
        recovery = recovery.attempts(attempts);
    }
    let total = field("total_time")?;
    if !total.is_none() {
        recovery = recovery.total_time(seconds(&total)?);
    }
    if let Some(seed) = field("seed")?.extract()? {
        recovery = recovery.seed(seed);
    }
    recovery = recovery.on_failure(match word("on_failure")?.as_str() {
        "skip" => OnFailure::Skip,
        "fail" => OnFailure::Fail,
        "retry" => {
            OnFailure::Retry { attempts: field("retry_attempts")?.extract()?, delay: seconds(&field("retry_delay")?)? }
        }
        other => return Err(unknown("on_failure", other, "skip, retry or fail")),
    });
    recovery = recovery.publishing(match word("publishing")?.as_str() {
        "wait" => WhileLost::Wait,
        "fail" => WhileLost::Fail,
        other => return Err(unknown("publishing", other, "wait or fail")),
    });
    recovery = recovery.unconfirmed(match word("unconfirmed")?.as_str() {
        "republish" => Unconfirmed::Republish,
        "fail" => Unconfirmed::Fail,
        other => return Err(unknown("unconfirmed", other, "republish or fail")),
    });
    if let Some(header) = field("mark_republished")?.extract::<Option<String>>()? {
        recovery = recovery.mark_republished(&header);
    }
    if field("message_ids")?.extract()? {
        recovery = recovery.message_ids();
    }
    Ok(recovery)
}

/// Reads `hopmq.Tls`.
fn tls(value: &Bound<'_, PyAny>) -> PyResult<Tls> {
    let field = |name: &str| {
        value
            .getattr(name)
            .map_err(|_| PyTypeError::new_err(format!("`tls` must be hopmq.Tls, not {}", type_name(value))))
    };
    let path = |name: &str| field(name)?.extract::<Option<std::path::PathBuf>>();
    let mut tls = Tls::new();
    if let Some(roots) = path("roots")? {
        tls = tls.root_file(roots);
    }
    match (path("certificate")?, path("key")?) {
        (Some(certificate), Some(key)) => tls = tls.client_certificate_files(certificate, key),
        (None, None) => {}
        _ => return Err(PyValueError::new_err("hopmq.Tls needs `certificate` and `key` together")),
    }
    if let Some(name) = field("server_name")?.extract::<Option<String>>()? {
        tls = tls.server_name(&name);
    }
    if field("danger_accept_any_certificate")?.extract()? {
        tls = tls.danger_accept_any_certificate();
    }
    Ok(tls)
}

/// The time of `Connection::shutdown`.
pub(crate) fn deadline(value: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    value.map_or(Ok(Duration::from_secs(30)), seconds)
}
