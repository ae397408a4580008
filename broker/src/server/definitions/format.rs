//! The JSON of definitions, as RabbitMQ's tools and its management export it, in all their variants.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json};

/// All definitions.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Definitions {
    pub(super) product_name: String,
    pub(super) product_version: String,
    pub(super) users: Vec<User>,
    pub(super) vhosts: Vec<Vhost>,
    pub(super) permissions: Vec<Permission>,
    pub(super) topic_permissions: Vec<TopicPermission>,
    pub(super) policies: Vec<Parameter>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) global_parameters: Vec<Parameter>,
    pub(super) queues: Vec<Queue>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) bindings: Vec<Binding>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) name: String,
    /// A user without it, or with an empty one, can't log in with a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password_hash: Option<String>,
    /// Only ever imported, never exported.
    #[serde(skip_serializing)]
    pub(super) password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hashing_algorithm: Option<String>,
    pub(super) tags: Tags,
    #[serde(deserialize_with = "object")]
    pub(super) limits: Map<String, Json>,
}

/// A list, or a text with commas in older files.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Tags {
    List(Vec<String>),
    Text(String),
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Vhost {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_queue_type: Option<String>,
    #[serde(skip_serializing, deserialize_with = "object")]
    pub(super) metadata: Map<String, Json>,
    #[serde(skip_serializing, deserialize_with = "object")]
    pub(super) limits: Map<String, Json>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Permission {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct TopicPermission {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) exchange: String,
    pub(super) write: String,
    pub(super) read: String,
}

/// A policy or a runtime parameter.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Parameter {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) component: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) vhost: String,
    pub(super) name: String,
    pub(super) value: Json,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) vhost: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub(super) arguments: Map<String, Json>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) vhost: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default, deserialize_with = "object")]
    pub(super) arguments: Map<String, Json>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Binding {
    pub(super) source: String,
    pub(super) vhost: String,
    pub(super) destination: String,
    pub(super) destination_type: String,
    #[serde(default)]
    pub(super) routing_key: String,
    #[serde(default, deserialize_with = "object")]
    pub(super) arguments: Map<String, Json>,
}

impl Default for Tags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Tags {
    pub(super) fn has(&self, tag: &str) -> bool {
        match self {
            Self::List(tags) => tags.iter().any(|other| other == tag),
            Self::Text(tags) => tags.split(',').any(|other| other.trim() == tag),
        }
    }
}

impl Vhost {
    /// Returns the type of queues that are declared without one, if it is not the classic one.
    pub(super) fn default_type(&self) -> Option<&str> {
        let own = self.default_queue_type.as_deref();
        let own = own.or_else(|| self.metadata.get("default_queue_type").and_then(Json::as_str));
        own.filter(|kind| !matches!(*kind, "" | "classic" | "undefined" | "rabbit_classic_queue"))
    }
}

/// Reads an object. Erlang has one type for objects and lists of pairs, so that RabbitMQ's tools also write `[]` and
/// `[["x-max-length", 10]]`.
pub(super) fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Json>, D::Error> {
    let json = Json::deserialize(deserializer)?;
    of_pairs(&json).ok_or_else(|| D::Error::custom(format!("expected an object, not {json}")))
}

/// Returns an object from its form as such, or as a list of pairs.
pub(super) fn of_pairs(json: &Json) -> Option<Map<String, Json>> {
    match json {
        Json::Null => Some(Map::new()),
        Json::Object(object) => Some(object.clone()),
        Json::Array(pairs) => pairs
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([Json::String(key), value]) => Some((key.clone(), value.clone())),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_may_be_a_list_of_pairs() {
        let object = |text: &str| of_pairs(&serde_json::from_str(text).unwrap());
        let expected = object(r#"{"max-queues": 3}"#).unwrap();
        assert_eq!(object(r#"[["max-queues", 3]]"#), Some(expected));
        assert_eq!(object("[]"), Some(Map::new()));
        assert_eq!(object("null"), Some(Map::new()));
        assert_eq!(object("[1]"), None);
        assert_eq!(object("\"text\""), None);
    }
}
