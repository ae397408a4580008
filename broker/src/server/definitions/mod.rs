//! Definitions in RabbitMQ's format: virtual hosts, users, permissions, exchanges, queues and bindings as JSON
//! (RabbitMQ's page "Schema Definition Export and Import").

mod format;
mod import;
mod values;

use std::error;
use std::fmt;

use serde_json::{Map, Value as Json};

use super::Broker;
use super::passwords::{is_argon2, public_hash};
use crate::engine::{UserLimits, VhostSettings};
use crate::inspect::Destination;
use format::{Binding, Definitions, Exchange, Parameter, Permission, Queue, Tags, TopicPermission, User, Vhost};
use values::to_json;

/// Why an import of definitions failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionsError(String);

impl fmt::Display for DefinitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for DefinitionsError {}

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
            let hash = account.hash.unwrap_or_else(|| public_hash(user.as_bytes()));
            let algorithm = match hash.len() {
                _ if is_argon2(&hash) => ARGON2,
                SHA512_LEN => SHA512,
                _ => SHA256,
            };
            let UserLimits { connections, channels } = account.limits;
            all.users.push(User {
                name: user.clone(),
                password_hash: Some(hash),
                hashing_algorithm: Some(algorithm.to_owned()),
                tags: Tags::List(account.impersonator.then(|| IMPERSONATOR.to_owned()).into_iter().collect()),
                limits: limits([("max-connections", connections), ("max-channels", channels)]),
                ..User::default()
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
            let VhostSettings { quorum, connections, queues } = self.change(|engine, _| engine.vhost_settings(&vhost));
            let limits = limits([("max-connections", connections), ("max-queues", queues)]);
            if !limits.is_empty() {
                let (component, name) = ("vhost-limits".to_owned(), "limits".to_owned());
                all.parameters.push(Parameter { component, vhost: vhost.clone(), name, value: Json::Object(limits) });
            }
            let default_queue_type = quorum.then(|| "quorum".to_owned());
            all.vhosts.push(Vhost { name: vhost, default_queue_type, ..Vhost::default() });
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
}

const SHA256: &str = "rabbit_password_hashing_sha256";
const SHA512: &str = "rabbit_password_hashing_sha512";
/// The characters of RabbitMQ's hash with SHA-512.
const SHA512_LEN: usize = 92;
const ARGON2: &str = "argon2";
const IMPERSONATOR: &str = "impersonator";
const QUEUE_TYPE: &str = "x-queue-type";

fn limits(limits: [(&str, Option<u32>); 2]) -> Map<String, Json> {
    limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), Json::from(limit?)))).collect()
}
