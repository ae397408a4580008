//! The declaration of a queue from the settings that Python gives.
//!
//! Owns the names of the settings. In come dictionaries; out go declarations of the crate `hopmq-app`. It must never
//! know a handler.

use std::time::Duration;

use hopmq_app::{Backoff, BatchLimits, Breaker, DeadLetter, Exchange, Existing, Queue, Rate};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};

use crate::convert::{seconds, type_name};
use crate::table;

/// Reads a queue. `name` is what it is called unless the settings subscribe a group.
pub(crate) fn queue(name: &str, settings: &Bound<'_, PyDict>) -> PyResult<Queue> {
    more(named(name, settings)?, settings)
}

/// Adds settings to a queue.
pub(super) fn more(mut queue: Queue, settings: &Bound<'_, PyDict>) -> PyResult<Queue> {
    for (key, value) in settings.iter() {
        if !value.is_none() {
            let key = key.cast_into::<PyString>()?;
            queue = set(queue, &key.to_cow()?, &value)?;
        }
    }
    Ok(queue)
}

/// Without a name, it is a subscription: a group shares its messages among its members, and without a group each
/// app gets them all.
fn named(name: &str, settings: &Bound<'_, PyDict>) -> PyResult<Queue> {
    let binds = match settings.get_item("bind")? {
        Some(binds) if !binds.is_none() => bindings(&binds)?,
        _ => Vec::new(),
    };
    let group: Option<String> = match settings.get_item("group")? {
        Some(group) => argument("group", "a str", &group)?,
        None => None,
    };
    if group.is_none() && !name.is_empty() {
        let bind = |queue: Queue, (exchange, key, arguments): Bind<'_>| {
            let arguments =
                arguments.map(|arguments| table::table("the arguments of `bind`", &arguments)).transpose()?;
            PyResult::Ok(queue.bind_with(exchange, key, arguments.unwrap_or_default()))
        };
        return binds.into_iter().try_fold(Queue::new(name), bind);
    }
    let mut binds = binds.into_iter();
    let Some((exchange, key, _)) = binds.next() else {
        return Err(PyValueError::new_err(
            "a consumer without the name of a queue subscribes to an exchange: give it `bind=(exchange, routing_key)`",
        ));
    };
    let mut subscription = Queue::subscribe(exchange.clone(), key);
    for (other, key, _) in binds {
        if other != exchange {
            let text = format!("a subscription is to one exchange, and has {exchange:?} already: {other:?} is another");
            return Err(PyValueError::new_err(text));
        }
        subscription = subscription.and(key);
    }
    Ok(match group {
        Some(group) => subscription.group(&group),
        None => subscription.each(),
    })
}

type Bind<'py> = (String, String, Option<Bound<'py, PyAny>>);

fn bindings<'py>(value: &Bound<'py, PyAny>) -> PyResult<Vec<Bind<'py>>> {
    argument("bind", "a list of (exchange, routing_key, arguments)", value)
}

fn argument<'py, T: FromPyObjectOwned<'py>>(name: &str, what: &str, value: &Bound<'py, PyAny>) -> PyResult<T> {
    value
        .extract()
        .map_err(|_| PyTypeError::new_err(format!("`{name}` must be {what}, not {}: {value}", type_name(value))))
}

fn set(queue: Queue, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Queue> {
    let flag = || argument::<bool>(name, "a bool", value);
    let small = || argument::<u16>(name, "an int from 0 to 65535", value);
    let count = || argument::<u32>(name, "an int of at least 0", value);
    Ok(match name {
        "bind" | "group" => queue,
        "quorum" | "classic" | "exclusive" | "auto_delete" | "single_active_consumer" => match (name, flag()?) {
            ("quorum", true) => queue.quorum(),
            ("classic", true) => queue.classic(),
            ("exclusive", true) => queue.exclusive(),
            ("auto_delete", true) => queue.auto_delete(),
            ("single_active_consumer", true) => queue.single_active_consumer(),
            _ => queue,
        },
        "retry" => queue.retry(backoff(value)?),
        "retry_class" => {
            let classes = value.cast::<PyDict>().map_err(|_| wrong("retry_class", "a dict of classes", value))?;
            let mut queue = queue;
            for (class, retry) in classes.iter() {
                queue =
                    queue.retry_class(argument::<String>("retry_class", "a dict of str", &class)?, backoff(&retry)?);
            }
            queue
        }
        "broker_retry" => {
            let (first, longest) = argument::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>(name, "(first, longest)", value)?;
            queue.broker_retry(seconds(&first)?, seconds(&longest)?)
        }
        "dead_letter" => queue.dead_letter(dead_letter(value)?),
        "delivery_limit" => queue.delivery_limit(count()?),
        "body_limit" => queue.body_limit(argument(name, "a number of bytes", value)?),
        "concurrency" => queue.concurrency(argument(name, "an int of at least 1", value)?),
        "prefetch" => queue.prefetch(small()?),
        "partitions" => queue.partitions(small()?),
        "priority" => queue.priority(argument(name, "an int", value)?),
        "consumer_tag" => queue.consumer_tag(argument::<String>(name, "a str", value)?),
        "batch" => queue.batch(batch(value)?),
        "rate_limit" => queue.rate_limit(rate(value)?),
        "breaker" => queue.breaker(breaker(value)?),
        "ordered_by" => ordered_by(queue, value)?,
        "existing" => queue.existing(existing(value)?),
        "arguments" => table::table("`arguments`", value)?
            .iter()
            .fold(queue, |queue, (key, value)| queue.argument(key.as_ref(), value)),
        "consumer_arguments" => table::table("`consumer_arguments`", value)?
            .iter()
            .fold(queue, |queue, (key, value)| queue.consumer_argument(key.as_ref(), value)),
        _ => return Err(PyTypeError::new_err(format!("a queue has no setting `{name}`"))),
    })
}

fn wrong(name: &str, what: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("`{name}` must be {what}, not {}", type_name(value)))
}

/// Reads `(attempts, delays, (first, factor, longest), jitter)`: either the delays or the growing ones are there.
fn backoff(value: &Bound<'_, PyAny>) -> PyResult<Backoff> {
    type Growing<'py> = (Bound<'py, PyAny>, u32, Bound<'py, PyAny>);
    type Parts<'py> = (u32, Option<Vec<Bound<'py, PyAny>>>, Option<Growing<'py>>, u8);
    let (attempts, delays, growing, jitter) = argument::<Parts<'_>>("retry", "hopmq.Retry", value)?;
    let backoff = match (delays, growing) {
        (Some(delays), _) => Backoff::list(delays.iter().map(seconds).collect::<PyResult<Vec<_>>>()?),
        (None, Some((first, factor, longest))) => {
            Backoff::exponential(seconds(&first)?, factor).max(seconds(&longest)?)
        }
        (None, None) => Backoff::never(),
    };
    Ok(backoff.attempts(attempts).jitter(jitter))
}

fn dead_letter(value: &Bound<'_, PyAny>) -> PyResult<DeadLetter> {
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(if flag.is_true() { DeadLetter::Queues } else { DeadLetter::Reject });
    }
    argument("dead_letter", "True, False or the name of a queue", value).map(DeadLetter::To)
}

fn existing(value: &Bound<'_, PyAny>) -> PyResult<Existing> {
    match &*argument::<String>("existing", "a str", value)? {
        "refuse" => Ok(Existing::Refuse),
        "adopt" => Ok(Existing::Adopt),
        "require" => Ok(Existing::Require),
        other => Err(PyValueError::new_err(format!(
            "`existing` must be \"refuse\", \"adopt\" or \"require\", not {other:?}"
        ))),
    }
}

fn batch(value: &Bound<'_, PyAny>) -> PyResult<BatchLimits> {
    type Parts<'py> = (usize, Option<usize>, Option<Bound<'py, PyAny>>);
    let (messages, bytes, within) = argument::<Parts<'_>>("batch", "hopmq.BatchLimits or an int", value)?;
    let mut limits = BatchLimits::of(messages);
    if let Some(bytes) = bytes {
        limits = limits.bytes(bytes);
    }
    if let Some(within) = within {
        limits = limits.within(seconds(&within)?);
    }
    Ok(limits)
}

fn rate(value: &Bound<'_, PyAny>) -> PyResult<Rate> {
    type Parts<'py> = (u32, Bound<'py, PyAny>, Option<u32>);
    let (messages, per, burst) = argument::<Parts<'_>>("rate_limit", "hopmq.Rate", value)?;
    let per = seconds(&per)?;
    if per == Duration::ZERO {
        return Err(PyValueError::new_err("the time of `rate_limit` must be more than 0 seconds"));
    }
    let rate = Rate::new(messages, per);
    Ok(match burst {
        Some(burst) => rate.burst(burst),
        None => rate,
    })
}

fn breaker(value: &Bound<'_, PyAny>) -> PyResult<Breaker> {
    type Parts<'py> = (usize, Option<usize>, Option<Bound<'py, PyAny>>, Vec<String>);
    let (failures, of, pause, classes) = argument::<Parts<'_>>("breaker", "hopmq.Breaker", value)?;
    let mut breaker = Breaker::after(failures);
    if let Some(of) = of {
        breaker = breaker.of(of);
    }
    if let Some(pause) = pause {
        breaker = breaker.pause(seconds(&pause)?);
    }
    Ok(classes.into_iter().fold(breaker, Breaker::class))
}

/// Orders by a header, or by what a function of the message returns. Both are compared as text.
fn ordered_by(queue: Queue, value: &Bound<'_, PyAny>) -> PyResult<Queue> {
    if let Ok(name) = value.cast::<PyString>() {
        let name = name.to_cow()?.into_owned();
        return Ok(queue.ordered_by(move |message| match message.header(&name) {
            Some(value) => value.as_str().map_or_else(|| format!("{value:?}"), str::to_owned),
            None => String::new(),
        }));
    }
    if !value.is_callable() {
        return Err(wrong("ordered_by", "the name of a header or a function of the message", value));
    }
    let function = value.clone().unbind();
    Ok(queue.ordered_by(move |message| {
        let message = crate::message::Message::of_message(message.clone());
        let key = Python::attach(|py| function.call1(py, (message,))?.bind(py).str()?.extract::<String>());
        // The worker of the queue turns this into the reason with which it rejects the message.
        key.unwrap_or_else(|error| panic!("{error}"))
    }))
}

/// Reads an exchange: `(name, kind, durable, existing, arguments)`.
pub(crate) fn exchange(value: &Bound<'_, PyAny>) -> PyResult<Exchange> {
    type Parts<'py> = (String, String, bool, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);
    let (name, kind, durable, exists, arguments) = argument::<Parts<'_>>("exchange", "hopmq.Exchange", value)?;
    let mut exchange = Exchange::new(name, kind).existing(existing(&exists)?);
    if !durable {
        exchange = exchange.transient();
    }
    if let Some(arguments) = arguments {
        let arguments = table::table("the arguments of an exchange", &arguments)?;
        exchange = arguments.iter().fold(exchange, |exchange, (key, value)| exchange.argument(key.as_ref(), value));
    }
    Ok(exchange)
}
