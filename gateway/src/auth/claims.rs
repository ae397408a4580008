//! The claims of a token.

use serde_json::{Map, Value};

/// The last second of the year 9999. Later times are mistakes, and would not fit into calculations.
const TIME_MAX: u64 = 253_402_300_799;

/// What a token says about its bearer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Map<String, Value>);

impl From<Value> for Claims {
    fn from(value: Value) -> Self {
        match value {
            Value::Object(claims) => Self(claims),
            _ => Self::default(),
        }
    }
}

impl Claims {
    /// Returns the claim of this name. Unless a claim has the whole name, dots lead into objects.
    fn value(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value);
        }
        let mut keys = name.split('.');
        let first = self.0.get(keys.next()?)?;
        keys.try_fold(first, |value, key| value.get(key))
    }

    /// Returns a claim as text if it is a number or a text that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Returns a claim that is a time, in seconds since 1970; `None` also if it is not a time before the year 10000.
    pub(crate) fn seconds(&self, name: &str) -> Option<u64> {
        let value = self.0.get(name)?;
        let time = value.as_u64().or_else(|| value.as_f64().filter(|time| *time >= 0.0).map(|time| time as u64));
        time.filter(|time| *time <= TIME_MAX)
    }

    /// Whether the token has a claim of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether the claim equals `wanted`, is a list with such an entry, or is a text with such a word.
    pub(crate) fn has(&self, name: &str, wanted: &str) -> bool {
        match self.value(name) {
            Some(Value::String(text)) => text == wanted || text.split(' ').any(|word| word == wanted),
            Some(Value::Array(values)) => values.iter().any(|value| value.as_str() == Some(wanted)),
            Some(Value::Bool(value)) => value.to_string() == wanted,
            Some(Value::Number(number)) => number.to_string() == wanted,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = Claims::from(serde_json::json!({
            "sub": "alice", "scope": "chat read", "realm": {"roles": ["user"]}, "a.b": "dotted", "exp": 7.5, "no": "",
        }));
        assert_eq!(claims.text("a.b").as_deref(), Some("dotted"));
        assert_eq!((claims.text("realm.roles"), claims.text("no"), claims.text("gone")), (None, None, None));
        assert!(claims.has("scope", "read") && claims.has("realm.roles", "user") && !claims.has("sub", "al"));
        assert_eq!(claims.seconds("exp"), Some(7));
    }
}
