//! Field tables as dictionaries, both ways.
//!
//! Owns the pairs of types: AMQP's and Python's. In come dictionaries and tables; out go the others. It must never know
//! what a table is for.

use hopmq::{FieldArray, FieldTable, Value};
use pyo3::exceptions::{PyOverflowError, PyRecursionError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDateTime, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple, PyTzInfo,
};

use crate::convert::type_name;

/// How deep tables may be nested.
const DEEPEST: usize = 64;

/// Writes a dictionary as a table. `what` names it in errors.
pub(crate) fn table(what: &str, value: &Bound<'_, PyAny>) -> PyResult<FieldTable> {
    to_table(what, value, 0)
}

fn to_table(what: &str, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<FieldTable> {
    let mapping = value
        .cast::<PyMapping>()
        .map_err(|_| PyTypeError::new_err(format!("{what} must be a dict, not {}", type_name(value))))?;
    let mut table = FieldTable::new();
    for item in mapping.items()?.iter() {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let Ok(key) = key.cast::<PyString>() else {
            let kind = type_name(&key);
            return Err(PyTypeError::new_err(format!("a key of {what} must be a str, not {kind}: {key:?}")));
        };
        let key = key.to_cow()?;
        put(&format!("{what}[{key:?}]"), &value, depth, &mut |value| {
            table.insert(&key, value);
        })?;
    }
    Ok(table)
}

/// Converts one value, and hands it on.
fn put(what: &str, value: &Bound<'_, PyAny>, depth: usize, take: &mut dyn FnMut(Value<'_>)) -> PyResult<()> {
    if depth > DEEPEST {
        return Err(PyRecursionError::new_err(format!("{what} is nested more than {DEEPEST} deep")));
    }
    if value.is_none() {
        take(Value::Void);
    } else if let Ok(value) = value.cast::<PyBool>() {
        take(Value::Bool(value.is_true()));
    } else if value.is_instance_of::<PyInt>() {
        let value: i64 = value.extract().map_err(|_| {
            PyOverflowError::new_err(format!("{what} does not fit into 64 bits with a sign: {value}; send it as a str"))
        })?;
        match i32::try_from(value) {
            Ok(small) => take(Value::I32(small)),
            Err(_) => take(Value::I64(value)),
        }
    } else if value.is_instance_of::<PyFloat>() {
        take(Value::F64(value.extract()?));
    } else if let Ok(text) = value.cast::<PyString>() {
        take(Value::Str(text.to_cow()?.as_bytes()));
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        take(Value::Bytes(bytes.as_bytes()));
    } else if let Ok(bytes) = value.cast::<PyByteArray>() {
        take(Value::Bytes(&bytes.to_vec()));
    } else if value.is_instance_of::<PyDateTime>() {
        take(Value::Timestamp(timestamp(what, value)?));
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let mut array = FieldArray::new();
        for (index, item) in value.try_iter()?.enumerate() {
            put(&format!("{what}[{index}]"), &item?, depth + 1, &mut |value| {
                array.push(value);
            })?;
        }
        take(Value::Array(array.as_ref_array()));
    } else if value.cast::<PyMapping>().is_ok() {
        take(Value::Table(to_table(what, value, depth + 1)?.as_ref_table()));
    } else if value.is_instance(decimal_class(value.py())?)? {
        let (scale, value) = decimal(what, value)?;
        take(Value::Decimal { scale, value });
    } else {
        return Err(PyTypeError::new_err(format!(
            "{what} must be None, bool, int, float, Decimal, str, bytes, datetime, list, tuple or dict, not {}",
            type_name(value)
        )));
    }
    Ok(())
}

/// Reads the seconds since 1970 of a `datetime`. One without a time zone is in the local one, as Python has it.
pub(crate) fn timestamp(what: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let seconds: f64 = value.call_method0(intern!(value.py(), "timestamp"))?.extract()?;
    if seconds < 0.0 {
        return Err(PyOverflowError::new_err(format!("{what} must not be before 1970: {value}")));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "datetimes end in the year 9999")]
    Ok(seconds as u64)
}

fn decimal_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static DECIMAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(DECIMAL.get_or_try_init(py, || PyResult::Ok(py.import("decimal")?.getattr("Decimal")?.unbind()))?.bind(py))
}

/// AMQP's decimals are digits without a sign, and a scale.
fn decimal(what: &str, value: &Bound<'_, PyAny>) -> PyResult<(u8, u32)> {
    let wrong = || {
        PyOverflowError::new_err(format!(
            "{what} must be a Decimal from 0 to 4294967295 without its point, with up to 255 places, not {value}"
        ))
    };
    let parts = value.call_method0(intern!(value.py(), "as_tuple"))?;
    let (sign, digits, exponent): (u8, Vec<u8>, Bound<'_, PyAny>) = parts.extract()?;
    let exponent: i32 = exponent.extract().map_err(|_| wrong())?;
    let mut number: u32 = 0;
    for digit in digits {
        number = number.checked_mul(10).and_then(|number| number.checked_add(u32::from(digit))).ok_or_else(wrong)?;
    }
    if sign != 0 && number != 0 {
        return Err(wrong());
    }
    let scale = match exponent {
        ..=0 => exponent.unsigned_abs(),
        1.. => {
            let factor = 10_u32.checked_pow(exponent.unsigned_abs()).ok_or_else(wrong)?;
            number = number.checked_mul(factor).ok_or_else(wrong)?;
            0
        }
    };
    Ok((u8::try_from(scale).map_err(|_| wrong())?, number))
}

/// Reads a table as a dictionary.
pub(crate) fn dict<'py>(py: Python<'py>, table: &FieldTable<&[u8]>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in table.iter() {
        dict.set_item(key, object(py, value)?)?;
    }
    Ok(dict)
}

/// Reads one value.
pub(crate) fn object<'py>(py: Python<'py>, value: Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Void => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        Value::I8(value) => value.into_pyobject(py)?.into_any(),
        Value::U8(value) => value.into_pyobject(py)?.into_any(),
        Value::I16(value) => value.into_pyobject(py)?.into_any(),
        Value::U16(value) => value.into_pyobject(py)?.into_any(),
        Value::I32(value) => value.into_pyobject(py)?.into_any(),
        Value::U32(value) => value.into_pyobject(py)?.into_any(),
        Value::I64(value) => value.into_pyobject(py)?.into_any(),
        Value::F32(value) => PyFloat::new(py, f64::from(value)).into_any(),
        Value::F64(value) => PyFloat::new(py, value).into_any(),
        Value::Decimal { scale, value } => {
            let digits: Vec<u32> = value.to_string().chars().filter_map(|digit| digit.to_digit(10)).collect();
            let digits = PyTuple::new(py, digits)?;
            decimal_class(py)?.call1(((0, digits, -i32::from(scale)),))?
        }
        // Names and texts of most programs are UTF-8; what is not stays as it is.
        Value::Str(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => PyString::new(py, text).into_any(),
            Err(_) => PyBytes::new(py, bytes).into_any(),
        },
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Timestamp(seconds) => datetime(py, seconds)?,
        Value::Array(array) => {
            let list = PyList::empty(py);
            for value in array.iter() {
                list.append(object(py, value)?)?;
            }
            list.into_any()
        }
        Value::Table(table) => dict(py, &table)?.into_any(),
    })
}

/// Makes the `datetime`, in UTC, of seconds since 1970; an `int` where no `datetime` is that late.
pub(crate) fn datetime(py: Python<'_>, seconds: u64) -> PyResult<Bound<'_, PyAny>> {
    /// The end of the year 9999.
    const LAST: u64 = 253_402_300_799;
    if seconds > LAST {
        return Ok(seconds.into_pyobject(py)?.into_any());
    }
    let utc = PyTzInfo::utc(py)?.to_owned();
    #[allow(clippy::cast_precision_loss, reason = "seconds up to the year 9999 are exact")]
    Ok(PyDateTime::from_timestamp(py, seconds as f64, Some(&utc))?.into_any())
}
