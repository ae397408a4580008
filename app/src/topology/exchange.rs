use hopmq::{FieldTable, IntoValue};

use super::Existing;

/// An exchange that an app declares: durable, unless [`transient`](Self::transient).
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) durable: bool,
    pub(crate) existing: Existing,
    pub(crate) arguments: FieldTable,
}

impl Exchange {
    /// Returns an exchange of any type, also of a plugin's, such as `x-consistent-hash`.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        let (name, kind) = (name.into(), kind.into());
        Self { name, kind, durable: true, existing: Existing::Refuse, arguments: FieldTable::new() }
    }

    /// Returns a topic exchange.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(name, "topic")
    }

    /// Returns a direct exchange.
    pub fn direct(name: impl Into<String>) -> Self {
        Self::new(name, "direct")
    }

    /// Returns a fanout exchange.
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::new(name, "fanout")
    }

    /// Returns a headers exchange.
    pub fn headers(name: impl Into<String>) -> Self {
        Self::new(name, "headers")
    }

    /// Lets the exchange go when the broker restarts.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Sets what happens if the exchange exists with other settings.
    #[must_use]
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Adds any argument, such as `alternate-exchange`.
    #[must_use]
    pub fn argument(mut self, key: &str, value: impl IntoValue) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the type, such as `topic`.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}
