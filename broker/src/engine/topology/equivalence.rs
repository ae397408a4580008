//! Whether a repeated declaration is equivalent, and RabbitMQ's error if it is not.

use std::fmt::Display;

use hopmq_proto::{FieldTable, Value};

use crate::engine::refusal::Refusal;
use crate::engine::values::{shown, type_name};

/// Refuses with 406 unless a field has its declared value. `resource` is for instance `queue 'q' in vhost '/'`.
pub(crate) fn same_field<T: PartialEq + Display>(
    name: &str,
    resource: &str,
    received: T,
    current: T,
) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(Refusal::precondition(format_args!(
        "inequivalent arg '{name}' for {resource}: received '{received}' but current is '{current}'"
    )))
}

/// Refuses with 406 unless an argument has its declared value.
pub(crate) fn same_argument(
    name: &str,
    resource: &str,
    received: &FieldTable<&[u8]>,
    current: &FieldTable,
) -> Result<(), Refusal> {
    let received = received.get(name);
    let current = current.get(name);
    let describe = |value: Option<Value<'_>>| match value {
        Some(value) => format!("the value '{}' of type '{}'", shown(value), type_name(value)),
        None => "none".to_owned(),
    };
    match (received, current) {
        (None, None) => Ok(()),
        (Some(received), Some(current)) if received == current || same_number(received, current) => Ok(()),
        (Some(received), Some(current)) if are_alike(received, current) => {
            same_field(name, resource, shown(received), shown(current))
        }
        _ => Err(Refusal::precondition(format_args!(
            "inequivalent arg '{name}' for {resource}: received {} but current is {}",
            describe(received),
            describe(current)
        ))),
    }
}

/// Refuses with 406 unless both types of a queue are the same. None is `classic`, and `names_both` says whether the
/// refusal calls it so.
pub(crate) fn same_type(
    resource: &str,
    received: &FieldTable<&[u8]>,
    current: &FieldTable,
    names_both: bool,
) -> Result<(), Refusal> {
    const TYPE: &str = "x-queue-type";
    let name = |value: Option<Value<'_>>| value.map_or_else(|| "classic".to_owned(), shown);
    let names = (name(received.get(TYPE)), name(current.get(TYPE)));
    match names.0 == names.1 {
        true => Ok(()),
        false if names_both => same_field(TYPE, resource, names.0, names.1),
        false => same_argument(TYPE, resource, received, current),
    }
}

/// Whether both are of the same kind. Numbers of all widths are.
fn are_alike(received: Value<'_>, current: Value<'_>) -> bool {
    let both = |is: fn(&Value<'_>) -> bool| is(&received) && is(&current);
    both(|value| value.as_i64().is_some())
        || both(|value| value.as_f64().is_some())
        || type_name(received) == type_name(current)
}

/// Whether both are integers of the same value, of any width.
fn same_number(received: Value<'_>, current: Value<'_>) -> bool {
    received.as_i64().is_some() && received.as_i64() == current.as_i64()
}
