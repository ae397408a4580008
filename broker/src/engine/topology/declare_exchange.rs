//! Declares and deletes exchanges.

use hopmq_proto::method::exchange;
use hopmq_proto::{FieldTable, Value};

use crate::engine::access::{Permission, Resource};
use crate::engine::capacity::Shrink;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ExchangeKey, VhostKey};
use crate::engine::name::{check_name, clean, not_the_default};
use crate::engine::refusal::Refusal;
use crate::engine::routing::exchange::{DELAYED_TYPE, Destination, Exchange, ExchangeSpec, Kind};
use crate::engine::routing::weighted::Hashed;
use crate::engine::topology::equivalence::{same_argument, same_field};
use crate::engine::values::type_name;
use crate::engine::{At, Engine};

impl Engine {
    pub(in crate::engine) fn exchange_named(&self, vhost: VhostKey, name: &str) -> Option<ExchangeKey> {
        self.vhosts.get(vhost)?.exchanges.get(name).copied()
    }

    pub(in crate::engine) fn find_exchange(&self, vhost: VhostKey, name: &str) -> Result<ExchangeKey, Refusal> {
        self.exchange_named(vhost, name).ok_or_else(|| Refusal::no_exchange(name, &self.vhost_name(vhost)))
    }

    pub(in crate::engine) fn declare_exchange(
        &mut self,
        at: At,
        declare: &exchange::Declare<'_>,
    ) -> Result<(), Refusal> {
        let name = clean(declare.exchange);
        if declare.passive {
            not_the_default(&name)?;
            self.find_exchange(at.vhost, &name)?;
        } else {
            let kind = self.exchange_kind(declare.kind)?;
            not_the_default(&name)?;
            self.check(at, Permission::Configure, Resource::Exchange(&name))?;
            match self.exchange_named(at.vhost, &name) {
                Some(existing) => self.check_same_exchange(existing, &name, kind, declare)?,
                None => {
                    check_name("exchange", &name)?;
                    self.check_exchange_limit(at, &name)?;
                    self.check_alternate(at, &name, declare)?;
                    self.check_arguments_of(kind, &declare.arguments)?;
                    let spec = ExchangeSpec {
                        kind,
                        durable: declare.durable,
                        auto_delete: declare.auto_delete,
                        internal: declare.internal,
                        arguments: declare.arguments.into(),
                    };
                    let id = self.add_exchange(at.vhost, &name, spec);
                    self.store_exchange(id);
                    self.hold(at.session);
                }
            }
        }
        if !declare.nowait {
            self.answer(at, &exchange::DeclareOk {});
        }
        Ok(())
    }

    fn exchange_kind(&self, name: &str) -> Result<Kind, Refusal> {
        let profile = self.config.profile;
        let kind = Kind::of(name).filter(|kind| *kind != Kind::LocalRandom || profile.has_local_random());
        kind.ok_or_else(|| {
            let text = format_args!("unknown exchange type '{name}'");
            match profile.unknown_exchange_is_hard() {
                true => Refusal::command_invalid(text),
                false => Refusal::precondition(text),
            }
        })
    }

    fn check_arguments_of(&self, kind: Kind, arguments: &FieldTable<&[u8]>) -> Result<(), Refusal> {
        match kind {
            Kind::ConsistentHash => Hashed::of(arguments).map(|_| ()),
            Kind::DelayedMessage => {
                let inner = arguments.get(DELAYED_TYPE).and_then(|name| name.as_str());
                match inner.map(|name| self.exchange_kind(name)).transpose()? {
                    Some(inner) if inner != Kind::DelayedMessage => self.check_arguments_of(inner, arguments),
                    _ => Err(Refusal::precondition(
                        "Invalid argument, 'x-delayed-type' must be an existing exchange type",
                    )),
                }
            }
            _ => Ok(()),
        }
    }

    fn check_alternate(&self, at: At, name: &str, declare: &exchange::Declare<'_>) -> Result<(), Refusal> {
        match declare.arguments.get("alternate-exchange") {
            None => Ok(()),
            Some(Value::Str(alternate)) => {
                let alternate = String::from_utf8_lossy(alternate);
                self.check(at, Permission::Read, Resource::Exchange(name))?;
                self.check(at, Permission::Write, Resource::Exchange(&alternate))
            }
            Some(other) => Err(Refusal::precondition(format_args!(
                "invalid type '{}' for arg 'alternate-exchange' in exchange '{name}' in vhost '{}'",
                type_name(other),
                self.vhost_name(at.vhost)
            ))),
        }
    }

    fn check_same_exchange(
        &self,
        existing: ExchangeKey,
        name: &str,
        kind: Kind,
        declare: &exchange::Declare<'_>,
    ) -> Result<(), Refusal> {
        let Some(exchange) = self.exchanges.get(existing).invariant("exchange") else { return Ok(()) };
        let resource = format!("exchange '{name}' in vhost '{}'", self.vhost_name(exchange.vhost));
        let spec = &exchange.spec;
        same_field("type", &resource, kind.name(), spec.kind.name())?;
        same_field("durable", &resource, declare.durable, spec.durable)?;
        same_field("auto_delete", &resource, declare.auto_delete, spec.auto_delete)?;
        same_field("internal", &resource, declare.internal, spec.internal)?;
        same_argument("alternate-exchange", &resource, &declare.arguments, &spec.arguments)
    }

    pub(in crate::engine) fn add_exchange(&mut self, vhost: VhostKey, name: &str, spec: ExchangeSpec) -> ExchangeKey {
        let seed = match spec.routing() {
            Kind::Random | Kind::LocalRandom => self.random(),
            _ => 0,
        };
        let is_delaying = spec.kind == Kind::DelayedMessage;
        let meter = self.meter_of(vhost);
        let exchange = Exchange::new(name.into(), vhost, spec, self.config.profile, seed, meter);
        let shared = exchange.name.clone();
        let id = self.exchanges.insert(Box::new(exchange));
        if let Some(vhost) = self.vhosts.get_mut(vhost) {
            vhost.exchanges.insert(shared, id);
        }
        if is_delaying {
            self.add_delayed_queue(id);
        }
        self.topology += 1;
        id
    }

    pub(in crate::engine) fn exchange_delete(&mut self, at: At, delete: &exchange::Delete<'_>) -> Result<(), Refusal> {
        let name = clean(delete.exchange);
        not_the_default(&name)?;
        if name.starts_with("amq.") {
            let vhost = self.vhost_name(at.vhost);
            let text = format_args!("deletion of system exchange '{name}' in vhost '{vhost}' not allowed");
            return Err(Refusal::access(text));
        }
        self.check(at, Permission::Configure, Resource::Exchange(&name))?;
        // It is no error if the exchange does not exist (RabbitMQ's page "Specification").
        if let Some(id) = self.exchange_named(at.vhost, &name) {
            let unbound = self.exchanges.get(id).is_none_or(|exchange| exchange.is_unbound());
            if delete.if_unused && !unbound {
                let vhost = self.vhost_name(at.vhost);
                return Err(Refusal::precondition(format_args!("exchange '{name}' in vhost '{vhost}' in use")));
            }
            self.delete_exchange(id);
            self.hold(at.session);
        }
        if !delete.nowait {
            self.answer(at, &exchange::DeleteOk {});
        }
        Ok(())
    }

    /// Deletes an exchange, and the auto-delete exchanges that lose their last binding by that.
    pub(in crate::engine) fn delete_exchange(&mut self, id: ExchangeKey) {
        let sources = self.exchanges.get_mut(id).map(|exchange| std::mem::take(&mut exchange.sources));
        self.unbind_destination(Destination::Exchange(id), sources.unwrap_or_default());
        let Some(exchange) = self.exchanges.remove(id) else { return };
        self.forget_exchange(&exchange);
        if let Some(delayed) = exchange.delayed {
            self.remove_delayed_queue(delayed);
        }
        if let Some(vhost) = self.vhosts.get_mut(exchange.vhost) {
            vhost.exchanges.remove(&exchange.name);
            vhost.exchanges.shrink_if_sparse();
        }
        self.topology += 1;
        for binding in exchange.bindings() {
            match binding.destination {
                Destination::Queue(queue) => {
                    if let Some(queue) = self.queues.get_mut(queue) {
                        queue.sources.remove(&id);
                    }
                }
                Destination::Exchange(other) => {
                    if let Some(other) = self.exchanges.get_mut(other) {
                        other.sources.remove(&id);
                    }
                }
            }
        }
    }
}
