//! The import of definitions.

use std::collections::HashSet;

use hopmq_proto::method::{exchange, queue};
use serde_json::{Map, Value as Json};
use tracing::subscriber::NoSubscriber;

use super::format::{Binding, Definitions, Exchange, Parameter, Queue, User, Vhost, of_pairs};
use super::values::to_table;
use super::{ARGON2, DefinitionsError, IMPERSONATOR, QUEUE_TYPE, SHA256, SHA512};
use crate::engine::{Definition, UserLimits, VhostSettings};
use crate::server::passwords::{Cost, fits, is_argon2};
use crate::server::{Broker, Permissions, UserError};

type Result<T = ()> = std::result::Result<T, DefinitionsError>;

/// One import.
struct Import<'a> {
    broker: &'a Broker,
    all: &'a Definitions,
    /// What was left out; `None` if the import must fail instead.
    left_out: Option<Vec<String>>,
    /// Virtual hosts and names of queues and exchanges that were left out.
    missing: HashSet<(&'a str, &'a str)>,
}

impl Broker {
    /// Imports definitions in RabbitMQ's format: those of [`Broker::definitions`], of `rabbitmqctl export_definitions`
    /// and of RabbitMQ's management. Existing queues, exchanges and bindings stay, and must be equivalent; existing
    /// users get the imported password and permissions. Of the users' tags, only `impersonator` has an effect, and
    /// global parameters have none.
    ///
    /// Definitions with users, but without `guest`, remove the predeclared `guest` and its publicly known password;
    /// RabbitMQ creates no such user either when it starts with definitions. A `guest` with another password stays.
    ///
    /// # Errors
    /// If the text is not such JSON; if a client's declaration would be refused; if a permission is for a virtual host
    /// or a user that does not exist; if a password hash is of an unknown kind; and if there are policies, operator
    /// policies, parameters of plugins or other things that this broker does not support. All of those are named.
    /// Nothing is imported then, unless an exclusive queue has the name of a queue.
    pub fn import_definitions(&self, json: &str) -> Result {
        self.import(json, None).map(drop)
    }

    /// Imports definitions as [`Broker::import_definitions`] does, without what this broker does not support: policies
    /// and parameters, users with an unknown kind of hash, queues and exchanges of a type that it does not have, and
    /// their bindings. Each of these is logged as a warning. Returns what was left out, with the reasons.
    ///
    /// # Errors
    /// The other errors of [`Broker::import_definitions`].
    ///
    /// ```
    /// let broker = hopmq_broker::Broker::in_memory();
    /// let json = r#"{"policies": [{"name": "ttl", "vhost": "/", "pattern": "^t", "definition": {}}]}"#;
    /// assert!(broker.import_definitions(json).is_err());
    /// assert_eq!(broker.import_supported_definitions(json)?, [r#"policy "ttl" in "/": policies are not supported"#]);
    /// # Ok::<_, hopmq_broker::DefinitionsError>(())
    /// ```
    pub fn import_supported_definitions(&self, json: &str) -> Result<Vec<String>> {
        self.import(json, Some(Vec::new()))
    }

    fn import(&self, json: &str, left_out: Option<Vec<String>>) -> Result<Vec<String>> {
        let all: Definitions = serde_json::from_str(json)
            .map_err(|error| DefinitionsError(format!("the text is not definitions in JSON: {error}")))?;
        self.try_import(&all, left_out.clone())?;
        let left_out = Import { broker: self, all: &all, left_out, missing: HashSet::new() }.run()?;
        if !all.global_parameters.is_empty() {
            let names: Vec<&str> = all.global_parameters.iter().map(|parameter| &*parameter.name).collect();
            tracing::info!(?names, "global parameters have no effect on this broker, and are not kept");
        }
        tracing::info!(
            vhosts = all.vhosts.len(),
            users = all.users.len(),
            exchanges = all.exchanges.len(),
            queues = all.queues.len(),
            bindings = all.bindings.len(),
            left_out = left_out.len(),
            "definitions imported"
        );
        Ok(left_out)
    }

    /// Imports definitions into another broker with the same definitions, so that those that are refused change nothing
    /// here.
    fn try_import(&self, all: &Definitions, left_out: Option<Vec<String>>) -> Result {
        let own = serde_json::from_str(&self.definitions()).unwrap_or_default();
        let profile = self.change(|engine, _| engine.profile());
        // What it logs is logged again here.
        tracing::subscriber::with_default(NoSubscriber::new(), || {
            let trial = Broker::builder().profile(profile).by_hand();
            let _ = Import { broker: &trial, all: &own, left_out: None, missing: HashSet::new() }.run();
            Import { broker: &trial, all, left_out, missing: HashSet::new() }.run().map(drop)
        })
    }
}

impl<'a> Import<'a> {
    /// Returns what was left out.
    fn run(mut self) -> Result<Vec<String>> {
        self.check_support()?;
        self.check_references()?;
        self.vhosts();
        self.users()?;
        self.permissions()?;
        self.topology()?;
        Ok(self.left_out.unwrap_or_default())
    }

    /// Leaves something out with a warning, or fails.
    fn leave_out(&mut self, what: String) -> Result {
        let Some(left_out) = &mut self.left_out else { return Err(DefinitionsError(what)) };
        tracing::warn!(what, "left out of the definitions");
        left_out.push(what);
        Ok(())
    }

    /// Finds all things that are not supported, before anything is changed.
    fn check_support(&mut self) -> Result {
        let all = self.all;
        let mut unsupported: Vec<String> = all.policies.iter().map(|policy| named("policy", policy)).collect();
        unsupported.iter_mut().for_each(|text| text.push_str(": policies are not supported"));
        for parameter in &all.parameters {
            match &*parameter.component {
                VHOST_LIMITS => {
                    let limits = of_pairs(&parameter.value).unwrap_or_default();
                    unsupported.extend(unknown(&limits, &VHOST_LIMIT_NAMES, "virtual host", &parameter.vhost));
                }
                "operator_policy" => {
                    unsupported.push(named("operator policy", parameter) + ": policies are not supported");
                }
                component => unsupported
                    .push(named("parameter", parameter) + &format!(": parameters of {component:?} are not supported")),
            }
        }
        for vhost in &all.vhosts {
            unsupported.extend(unknown(&vhost.limits, &VHOST_LIMIT_NAMES, "virtual host", &vhost.name));
            if let Some(kind) = vhost.default_type().filter(|kind| *kind != "quorum") {
                unsupported
                    .push(format!("default_queue_type {kind:?} of virtual host {:?} is not supported", vhost.name));
            }
        }
        for user in &all.users {
            unsupported.extend(unknown(&user.limits, &USER_LIMIT_NAMES, "user", &user.name));
            if let Some(hashing) = unknown_hashing(user) {
                unsupported.push(format!(
                    "user {:?}: hashing_algorithm {hashing:?} is not supported; use {SHA256:?}, or set a password",
                    user.name
                ));
            }
        }
        if self.left_out.is_none() && !unsupported.is_empty() {
            return Err(DefinitionsError(unsupported.join("; ")));
        }
        unsupported.into_iter().try_for_each(|what| self.leave_out(what))
    }

    /// Checks that permissions and limits are for what exists.
    fn check_references(&self) -> Result {
        let all = self.all;
        let (vhosts, users) = self.broker.change(|engine, _| (engine.vhost_names(), engine.define_users()));
        let own = all.vhosts.iter().map(|vhost| &vhost.name);
        let vhosts: HashSet<&String> = vhosts.iter().chain(own).collect();
        let own = all.users.iter().map(|user| &user.name);
        let users: HashSet<&String> = users.iter().map(|user| &user.name).chain(own).collect();
        let permissions = all.permissions.iter().map(|permission| (&permission.user, &permission.vhost));
        let topics = all.topic_permissions.iter().map(|permission| (&permission.user, &permission.vhost));
        for (user, vhost) in permissions.chain(topics) {
            if !vhosts.contains(vhost) {
                return Err(DefinitionsError(format!("permissions of user {user:?}: no virtual host {vhost:?}")));
            }
            if !users.contains(user) {
                return Err(DefinitionsError(format!("permissions in {vhost:?}: no user {user:?}")));
            }
        }
        for parameter in all.parameters.iter().filter(|parameter| parameter.component == VHOST_LIMITS) {
            if !vhosts.contains(&parameter.vhost) {
                return Err(DefinitionsError(format!("limits: no virtual host {:?}", parameter.vhost)));
            }
        }
        Ok(())
    }

    fn vhosts(&self) {
        for vhost in &self.all.vhosts {
            self.broker.change(|engine, _| {
                engine.define_vhost(&vhost.name);
                let settings = changed(engine.vhost_settings(&vhost.name), vhost);
                engine.set_vhost(&vhost.name, settings);
            });
        }
        // Of a virtual host that is not in the file.
        for Parameter { vhost, value, .. } in self.all.parameters.iter().filter(|it| it.component == VHOST_LIMITS) {
            let limits = of_pairs(value).unwrap_or_default();
            self.broker.change(|engine, _| {
                let mut settings = engine.vhost_settings(vhost);
                (settings.connections, settings.queues) = vhost_limits(&limits);
                engine.set_vhost(vhost, settings);
            });
        }
    }

    fn users(&mut self) -> Result {
        for user in self.all.users.iter().filter(|user| unknown_hashing(user).is_none()) {
            let name = &*user.name;
            let refused = |error: UserError| DefinitionsError(format!("user {name:?}: {error}"));
            let hash = user.password_hash.as_deref().unwrap_or_default();
            let password = user.password.as_deref().unwrap_or_default();
            // Its publicly known password works from this machine only, as in RabbitMQ.
            let is_public = name == "guest"
                && (password == "guest" || !is_argon2(hash) && fits(b"guest", Some(hash), &[], Cost::Least));
            match password {
                _ if is_public => self.broker.change(|engine, _| engine.restore_guest()),
                "" => self.broker.add_user_with_hash(name, hash).map_err(refused)?,
                password => self.broker.add_user(name, password).map_err(refused)?,
            }
            self.broker.set_impersonator(name, user.tags.has(IMPERSONATOR)).map_err(refused)?;
            let limits = UserLimits {
                connections: limit(&user.limits, "max-connections"),
                channels: limit(&user.limits, "max-channels"),
            };
            self.broker.change(|engine, _| engine.change_access(name, |access| access.set_limits(name, limits)));
        }
        // As in RabbitMQ, which has no default user when definitions are imported: a publicly known password must not
        // stay beside those of a production.
        let brings_users = !self.all.users.is_empty() && self.all.users.iter().all(|user| user.name != "guest");
        if brings_users && self.broker.change(|engine, _| engine.remove_default_user()) {
            tracing::info!("the predeclared user guest was removed: the definitions bring other users");
        }
        Ok(())
    }

    fn permissions(&self) -> Result {
        // Of users that were left out.
        let ignored = self.all.users.iter().filter(|user| unknown_hashing(user).is_some());
        let ignored: HashSet<&str> = ignored.map(|user| &*user.name).collect();
        let refused = |name: &str, error: UserError| DefinitionsError(format!("user {name:?}: {error}"));
        for permission in self.all.permissions.iter().filter(|permission| !ignored.contains(&*permission.user)) {
            let (user, vhost) = (&permission.user, &permission.vhost);
            let patterns =
                Permissions { configure: &permission.configure, write: &permission.write, read: &permission.read };
            self.broker.set_permissions(user, vhost, patterns).map_err(|error| refused(user, error))?;
        }
        for permission in self.all.topic_permissions.iter().filter(|permission| !ignored.contains(&*permission.user)) {
            let exchange = if permission.exchange.is_empty() { "amq.default" } else { &permission.exchange };
            let (user, vhost) = (&permission.user, &permission.vhost);
            let set = self.broker.set_topic_permissions(user, vhost, exchange, &permission.write, &permission.read);
            set.map_err(|error| refused(user, error))?;
        }
        Ok(())
    }

    fn topology(&mut self) -> Result {
        let all = self.all;
        for exchange in all.exchanges.iter().filter(|exchange| !exchange.name.is_empty()) {
            self.exchange(exchange)?;
        }
        for queue in &all.queues {
            self.queue(queue)?;
        }
        for binding in all.bindings.iter().filter(|binding| !binding.source.is_empty()) {
            self.binding(binding)?;
        }
        Ok(())
    }

    fn exchange(&mut self, exchange: &'a Exchange) -> Result {
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
        self.declare("exchange", &exchange.name, &exchange.vhost, &Definition::Exchange(declare))
    }

    fn queue(&mut self, queue: &'a Queue) -> Result {
        let mut arguments = to_table(&queue.arguments);
        // The type is in the file in any case, and the default type of the virtual host must not replace it.
        if let Some(kind) =
            queue.kind.as_deref().filter(|kind| *kind != "classic" || self.is_quorum_vhost(&queue.vhost))
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
        self.declare("queue", &queue.name, &queue.vhost, &Definition::Queue(declare))
    }

    fn is_quorum_vhost(&self, vhost: &str) -> bool {
        self.broker.change(|engine, _| engine.vhost_settings(vhost).quorum)
    }

    /// Declares a queue or an exchange. A refusal means that the broker does not support it, unless it does not exist
    /// in the file's own virtual hosts, or differs from an existing one.
    fn declare(&mut self, what: &str, name: &'a str, vhost: &'a str, definition: &Definition<'_>) -> Result {
        match self.define(what, name, vhost, definition) {
            Err(DefinitionsError(why)) => {
                self.leave_out(why)?;
                self.missing.insert((vhost, name));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn binding(&mut self, binding: &Binding) -> Result {
        let arguments = to_table(&binding.arguments);
        let (routing_key, nowait, arguments) = (&*binding.routing_key, true, arguments.as_ref_table());
        let (queue, destination) = (&*binding.destination, &*binding.destination);
        let (exchange, source) = (&*binding.source, &*binding.source);
        let definition = match &*binding.destination_type {
            "queue" => Definition::QueueBinding(queue::Bind { queue, exchange, routing_key, nowait, arguments }),
            "exchange" => {
                Definition::ExchangeBinding(exchange::Bind { destination, source, routing_key, nowait, arguments })
            }
            other => {
                return Err(DefinitionsError(format!(
                    "binding of {source:?} in {:?}: destination_type is {other:?}; write \"queue\" or \"exchange\"",
                    binding.vhost
                )));
            }
        };
        let is_missing = |name: &str| self.missing.contains(&(&*binding.vhost, name));
        if let Some(missing) = [source, destination].into_iter().find(|name| is_missing(name)) {
            let what =
                format!("binding of {source:?} to {destination:?} in {:?}: {missing:?} was left out", binding.vhost);
            return self.leave_out(what);
        }
        self.define("binding of", source, &binding.vhost, &definition)
    }

    fn define(&self, what: &str, name: &str, vhost: &str, definition: &Definition<'_>) -> Result {
        let defined = self.broker.change(|engine, _| engine.define(vhost, definition));
        defined.map_err(|why| DefinitionsError(format!("{what} {name:?} in {vhost:?}: {why}")))
    }
}

const VHOST_LIMITS: &str = "vhost-limits";
const VHOST_LIMIT_NAMES: [&str; 2] = ["max-connections", "max-queues"];
const USER_LIMIT_NAMES: [&str; 2] = ["max-connections", "max-channels"];

fn named(what: &str, parameter: &Parameter) -> String {
    format!("{what} {:?} in {:?}", parameter.name, parameter.vhost)
}

/// Returns the hash function of a user's password, if it is not known.
fn unknown_hashing(user: &User) -> Option<&str> {
    let has_hash = user.password_hash.as_deref().is_some_and(|hash| !hash.is_empty());
    let known = |hashing: &str| [SHA256, SHA512, ARGON2].contains(&hashing);
    user.hashing_algorithm.as_deref().filter(|hashing| has_hash && !known(hashing))
}

/// Returns the limits that are not known.
fn unknown(limits: &Map<String, Json>, known: &[&str], what: &str, name: &str) -> Vec<String> {
    let unknown = limits.keys().filter(|limit| !known.contains(&&***limit));
    unknown.map(|limit| format!("limit {limit:?} of {what} {name:?} is not supported")).collect()
}

/// Changes the settings that the file has.
fn changed(settings: VhostSettings, vhost: &Vhost) -> VhostSettings {
    let quorum = settings.quorum || vhost.default_type() == Some("quorum");
    match vhost.limits.is_empty() {
        true => VhostSettings { quorum, ..settings },
        false => {
            let (connections, queues) = vhost_limits(&vhost.limits);
            VhostSettings { quorum, connections, queues }
        }
    }
}

fn vhost_limits(limits: &Map<String, Json>) -> (Option<u32>, Option<u32>) {
    (limit(limits, "max-connections"), limit(limits, "max-queues"))
}

/// Returns a limit. A negative one is none, as in RabbitMQ.
fn limit(limits: &Map<String, Json>, name: &str) -> Option<u32> {
    limits.get(name).and_then(Json::as_u64).map(|limit| u32::try_from(limit).unwrap_or(u32::MAX))
}
