//! Names of queues, exchanges and the like, and the rules for them.

use std::sync::Arc;

use crate::engine::refusal::Refusal;

/// A name. A clone shares its text.
pub(crate) type Name = Arc<str>;

/// Removes line ends from a declared name, as RabbitMQ does.
pub(in crate::engine) fn clean(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}

/// Refuses the names that are reserved for the broker.
pub(in crate::engine) fn check_name(kind: &str, name: &str) -> Result<(), Refusal> {
    if name.starts_with("amq.") {
        return Err(Refusal::access(format_args!("{kind} name '{name}' contains reserved prefix 'amq.*'")));
    }
    Ok(())
}

pub(in crate::engine) fn not_the_default(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::access("operation not permitted on the default exchange"));
    }
    Ok(())
}
