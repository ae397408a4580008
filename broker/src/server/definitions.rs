//! Definitions in RabbitMQ's format: virtual hosts, users, permissions, exchanges, queues and bindings as JSON
//! (RabbitMQ's page "Schema Definition Export and Import").

use std::error;
use std::fmt;

use hopmq_proto::method::{exchange, queue};
use hopmq_proto::{FieldArray, FieldTable, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value as Json};

use super::users::{fits, public_hash};
use super::{Broker, Permissions, UserError};
use crate::engine::Definition;
use crate::inspect::Destination;

/// Why an import of definitions failed. Definitions before the refused one may have been imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionsError(String);

impl fmt::Display for DefinitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for DefinitionsError {}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Definitions {
    product_name: String,
    product_version: String,
    users: Vec<User>,
    vhosts: Vec<Vhost>,
    permissions: Vec<Permission>,
    topic_permissions: Vec<TopicPermission>,
    /// Not supported: an import with any of these is refused.
    policies: Vec<Json>,
    parameters: Vec<Json>,
    queues: Vec<Queue>,
    exchanges: Vec<Exchange>,
    bindings: Vec<Binding>,
}

#[derive(Debug, Deserialize, Serialize)]
struct User {
    name: String,
    password_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hashing_algorithm: Option<String>,
    #[serde(default)]
    tags: Tags,
}

/// A list, or a text with commas in older files.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    Text(String),
}

#[derive(Debug, Deserialize, Serialize)]
struct Vhost {
    name: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Permission {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct TopicPermission {
    user: String,
    vhost: String,
    exchange: String,
    write: String,
    read: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Queue {
    name: String,
    vhost: String,
    durable: bool,
    auto_delete: bool,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default)]
    arguments: Map<String, Json>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Exchange {
    name: String,
    vhost: String,
    #[serde(rename = "type")]
    kind: String,
    durable: bool,
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: Map<String, Json>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Binding {
    source: String,
    vhost: String,
    destination: String,
    destination_type: String,
    routing_key: String,
    #[serde(default)]
    arguments: Map<String, Json>,
}

impl Default for Tags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Tags {
    fn has(&self, tag: &str) -> bool {
        match self {
            Self::List(tags) => tags.iter().any(|other| other == tag),
            Self::Text(tags) => tags.split(',').any(|other| other.trim() == tag),
        }
    }
}

impl Broker {
    /// Returns all virtual hosts, users with their password hashes, permissions, exchanges, queues and bindings, as
    /// JSON in RabbitMQ's format. Exclusive queues and predeclared exchanges are left out. RabbitMQ can't verify argon2
    /// hashes, which `hashing_algorithm` marks.
    ///
    /// ```
    /// use hopmq_broker::Broker;
    ///
    /// let one = Broker::in_memory();
    /// one.add_vhost("kitchen");
    /// let other = Broker::in_memory();
    /// other.import_definitions(&one.definitions())?;
    /// assert_eq!(other.definitions(), one.definitions());
    /// # Ok::<_, hopmq_broker::DefinitionsError>(())
    /// ```
    pub fn definitions(&self) -> String {
        let (vhosts, accounts) = self.change(|engine, _| (engine.vhost_names(), engine.define_users()));
        let mut all = Definitions {
            product_name: "HopMQ".to_owned(),
            product_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Definitions::default()
        };
        for account in accounts {
            let user = &account.name;
            let is_argon2 = account.hash.as_ref().is_some_and(|hash| hash.starts_with('$'));
            all.users.push(User {
                name: user.clone(),
                password_hash: account.hash.unwrap_or_else(|| public_hash(user.as_bytes())),
                hashing_algorithm: Some(if is_argon2 { ARGON2 } else { SHA256 }.to_owned()),
                tags: Tags::List(account.impersonator.then(|| IMPERSONATOR.to_owned()).into_iter().collect()),
            });
            for [vhost, configure, write, read] in account.permissions {
                all.permissions.push(Permission { user: user.clone(), vhost, configure, write, read });
            }
            for [vhost, exchange, write, read] in account.topics {
                all.topic_permissions.push(TopicPermission { user: user.clone(), vhost, exchange, write, read });
            }
        }
        for vhost in vhosts {
            self.define_vhost(&vhost, &mut all);
            all.vhosts.push(Vhost { name: vhost });
        }
        // Texts, numbers and lists can always be serialized.
        serde_json::to_string_pretty(&all).unwrap_or_default()
    }

    fn define_vhost(&self, vhost: &str, all: &mut Definitions) {
        let shown = self.change(|engine, _| {
            let vhost = engine.find_vhost(vhost)?;
            Some((engine.inspect_queues(vhost), engine.inspect_exchanges(vhost), engine.inspect_bindings(vhost)))
        });
        let Some((queues, exchanges, bindings)) = shown else { return };
        let is_kept = |name: &str| queues.iter().any(|queue| queue.name == name && queue.exclusive.is_none());
        for exchange in exchanges.into_iter().filter(|exchange| !exchange.name.starts_with("amq.")) {
            all.exchanges.push(Exchange {
                name: exchange.name,
                vhost: exchange.vhost,
                kind: exchange.kind.to_owned(),
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: exchange.internal,
                arguments: to_json(&exchange.arguments.as_ref_table()),
            });
        }
        for binding in bindings {
            let (destination, destination_type) = match binding.destination {
                Destination::Queue(name) if !is_kept(&name) => continue,
                Destination::Queue(name) => (name, "queue"),
                Destination::Exchange(name) => (name, "exchange"),
            };
            all.bindings.push(Binding {
                source: binding.source,
                vhost: binding.vhost,
                destination,
                destination_type: destination_type.to_owned(),
                routing_key: binding.routing_key,
                arguments: to_json(&binding.arguments.as_ref_table()),
            });
        }
        for queue in queues.into_iter().filter(|queue| queue.exclusive.is_none()) {
            let kind = queue.arguments.get(QUEUE_TYPE).and_then(|kind| kind.as_str()).unwrap_or("classic");
            all.queues.push(Queue {
                kind: Some(kind.to_owned()),
                arguments: to_json(&queue.arguments.as_ref_table()),
                name: queue.name,
                vhost: queue.vhost,
                durable: queue.durable,
                auto_delete: queue.auto_delete,
            });
        }
    }

    /// Imports definitions in RabbitMQ's format: those of [`Broker::definitions`], of `rabbitmqctl export_definitions`
    /// and of RabbitMQ's management. Existing queues, exchanges and bindings stay, and must be equivalent; existing
    /// users get the imported password and permissions. Of the users' tags, only `impersonator` has an effect.
    ///
    /// # Errors
    /// If the text is not such JSON; if a client's declaration would be refused; if a password hash is of an unknown
    /// kind; and if there are policies or parameters, which this broker does not support.
    pub fn import_definitions(&self, json: &str) -> Result<(), DefinitionsError> {
        let all: Definitions = serde_json::from_str(json)
            .map_err(|error| DefinitionsError(format!("the text is not definitions in JSON: {error}")))?;
        for (what, list) in [("policies", &all.policies), ("parameters", &all.parameters)] {
            if let Some(first) = list.first() {
                let name = first.get("name").and_then(Json::as_str).unwrap_or_default();
                return Err(DefinitionsError(format!(
                    "{what} are not supported, such as {name:?}: remove them from the definitions"
                )));
            }
        }
        for vhost in &all.vhosts {
            self.change(|engine, _| engine.define_vhost(&vhost.name));
        }
        self.import_users(&all)?;
        for exchange in all.exchanges.iter().filter(|exchange| !exchange.name.is_empty()) {
            let arguments = to_table(&exchange.arguments);
            let declare = exchange::Declare {
                exchange: &exchange.name,
                kind: &exchange.kind,
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: exchange.internal,
                nowait: true,
                arguments: arguments.as_ref_table(),
                ..Default::default()
            };
            self.define("exchange", &exchange.name, &exchange.vhost, &Definition::Exchange(declare))?;
        }
        for queue in &all.queues {
            let mut arguments = to_table(&queue.arguments);
            if let Some(kind) = queue.kind.as_deref().filter(|kind| *kind != "classic")
                && !arguments.contains_key(QUEUE_TYPE)
            {
                arguments.insert(QUEUE_TYPE, kind);
            }
            let declare = queue::Declare {
                queue: &queue.name,
                durable: queue.durable,
                auto_delete: queue.auto_delete,
                nowait: true,
                arguments: arguments.as_ref_table(),
                ..Default::default()
            };
            self.define("queue", &queue.name, &queue.vhost, &Definition::Queue(declare))?;
        }
        for binding in all.bindings.iter().filter(|binding| !binding.source.is_empty()) {
            self.import_binding(binding)?;
        }
        tracing::info!(
            vhosts = all.vhosts.len(),
            users = all.users.len(),
            exchanges = all.exchanges.len(),
            queues = all.queues.len(),
            bindings = all.bindings.len(),
            "definitions imported"
        );
        Ok(())
    }

    fn import_binding(&self, binding: &Binding) -> Result<(), DefinitionsError> {
        let arguments = to_table(&binding.arguments);
        let routing_key = &*binding.routing_key;
        let nowait = true;
        let arguments = arguments.as_ref_table();
        let definition = match &*binding.destination_type {
            "queue" => Definition::QueueBinding(queue::Bind {
                queue: &binding.destination,
                exchange: &binding.source,
                routing_key,
                nowait,
                arguments,
            }),
            "exchange" => Definition::ExchangeBinding(exchange::Bind {
                destination: &binding.destination,
                source: &binding.source,
                routing_key,
                nowait,
                arguments,
            }),
            other => {
                return Err(DefinitionsError(format!(
                    "binding of {:?} in {:?}: destination_type is {other:?}; it must be \"queue\" or \"exchange\"",
                    binding.source, binding.vhost
                )));
            }
        };
        self.define("binding of", &binding.source, &binding.vhost, &definition)
    }

    fn define(&self, what: &str, name: &str, vhost: &str, definition: &Definition<'_>) -> Result<(), DefinitionsError> {
        let defined = self.change(|engine, _| engine.define(vhost, definition));
        defined.map_err(|why| DefinitionsError(format!("{what} {name:?} in {vhost:?}: {why}")))
    }

    fn import_users(&self, all: &Definitions) -> Result<(), DefinitionsError> {
        let refused = |name: &str, error: UserError| DefinitionsError(format!("user {name:?}: {error}"));
        for user in &all.users {
            let name = &*user.name;
            let known = [SHA256, ARGON2];
            if let Some(other) = user.hashing_algorithm.as_deref().filter(|hashing| !known.contains(hashing)) {
                return Err(DefinitionsError(format!(
                    "user {name:?}: hashing_algorithm {other:?} is not supported; use {SHA256:?}, or set a password"
                )));
            }
            // Its publicly known password works from this machine only, as in RabbitMQ.
            let is_public =
                name == "guest" && !user.password_hash.starts_with('$') && fits(b"guest", &user.password_hash);
            match is_public {
                true => self.change(|engine, _| engine.restore_guest()),
                false => self.add_user_with_hash(name, &user.password_hash).map_err(|error| refused(name, error))?,
            }
            self.set_impersonator(name, user.tags.has(IMPERSONATOR)).map_err(|error| refused(name, error))?;
        }
        for Permission { user, vhost, configure, write, read } in &all.permissions {
            let set = self.set_permissions(user, vhost, Permissions { configure, write, read });
            set.map_err(|error| refused(user, error))?;
        }
        for TopicPermission { user, vhost, exchange, write, read } in &all.topic_permissions {
            let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
            self.set_topic_permissions(user, vhost, exchange, write, read).map_err(|error| refused(user, error))?;
        }
        Ok(())
    }
}

const SHA256: &str = "rabbit_password_hashing_sha256";
const ARGON2: &str = "argon2";
const IMPERSONATOR: &str = "impersonator";
const QUEUE_TYPE: &str = "x-queue-type";

fn to_json(table: &FieldTable<&[u8]>) -> Map<String, Json> {
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

fn to_table(json: &Map<String, Json>) -> FieldTable {
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
