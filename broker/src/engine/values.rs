//! Field values as RabbitMQ writes them in its errors.

use hopmq_proto::Value;

/// Returns RabbitMQ's name for the type of a value.
pub(crate) fn type_name(value: Value<'_>) -> &'static str {
    match value {
        Value::Void => "void",
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) => "long",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::Str(_) => "longstr",
        Value::Bytes(_) => "binary",
        Value::Timestamp(_) => "timestamp",
        Value::Array(_) => "array",
        Value::Table(_) => "table",
    }
}

/// Returns the text that RabbitMQ shows for a value.
pub(crate) fn shown(value: Value<'_>) -> String {
    match value {
        Value::Str(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        other => match other.as_i64() {
            Some(number) => number.to_string(),
            None => format!("{other:?}"),
        },
    }
}
