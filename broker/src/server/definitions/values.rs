//! Arguments as JSON, and back.

use hopmq_proto::{FieldArray, FieldTable, Value};
use serde_json::{Map, Number, Value as Json};

pub(super) fn to_json(table: &FieldTable<&[u8]>) -> Map<String, Json> {
    table.iter().map(|(key, value)| (key.to_owned(), value_to_json(&value))).collect()
}

fn value_to_json(value: &Value<'_>) -> Json {
    match value {
        Value::Void => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::F32(number) => Number::from_f64(f64::from(*number)).map_or(Json::Null, Json::Number),
        Value::F64(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Timestamp(seconds) => Json::from(*seconds),
        Value::Decimal { scale, value } => Json::from(f64::from(*value) / 10_f64.powi(i32::from(*scale))),
        Value::Array(values) => values.iter().map(|value| value_to_json(&value)).collect(),
        Value::Table(table) => Json::Object(to_json(table)),
        other => match (other.as_i64(), other.as_bytes()) {
            (Some(number), _) => Json::from(number),
            (None, bytes) => Json::String(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()),
        },
    }
}

pub(super) fn to_table(json: &Map<String, Json>) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in json {
        with_value(value, &mut |value| {
            table.insert(key, value);
        });
    }
    table
}

/// Calls `take` with RabbitMQ's field value for a JSON value.
fn with_value(json: &Json, take: &mut dyn FnMut(Value<'_>)) {
    match json {
        Json::Null => take(Value::Void),
        Json::Bool(flag) => take(Value::Bool(*flag)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => take(Value::I64(number)),
            (None, number) => take(Value::F64(number.unwrap_or_default())),
        },
        Json::String(text) => take(Value::Str(text.as_bytes())),
        Json::Array(values) => {
            let mut array = FieldArray::new();
            values.iter().for_each(|value| {
                with_value(value, &mut |value| {
                    array.push(value);
                });
            });
            take(Value::from(&array));
        }
        Json::Object(object) => take(Value::from(&to_table(object))),
    }
}
