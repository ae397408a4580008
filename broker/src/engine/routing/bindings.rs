//! Binding queues and exchanges to exchanges.
//!
//! A binding is added or removed in time linear in its size and logarithmic in the number of bindings. What a deletion
//! removes is removed one binding at a time.

use std::collections::BTreeSet;

use hopmq_proto::method::{exchange, queue};
use hopmq_proto::{FieldTable, Value, code};

use crate::engine::access::{Permission, Resource};
use crate::engine::invariant::Invariant;
use crate::engine::keys::ExchangeKey;
use crate::engine::name::not_the_default;
use crate::engine::refusal::Refusal;
use crate::engine::routing::exchange::{Binding, Destination, Kind};
use crate::engine::routing::{headers, weighted};
use crate::engine::values::{shown, type_name};
use crate::engine::{At, Engine};

/// Returns the steps of adding or removing a binding, which finds it in the lists, each word of its key in a trie, and
/// each name of its arguments in the dictionary.
fn steps_of(binding: &Binding) -> u64 {
    8 + binding.key.len() as u64 / 2 + binding.arguments.len() as u64 / 8
}

impl Engine {
    pub(in crate::engine) fn queue_bind(&mut self, at: At, bind: &queue::Bind<'_>) -> Result<(), Refusal> {
        let (source, binding) =
            self.binding_of_queue(at, bind.queue, bind.exchange, bind.routing_key, bind.arguments)?;
        self.check_new_binding(at, source, &binding)?;
        self.bind(source, binding)?;
        self.hold(at.session);
        if !bind.nowait {
            self.answer(at, &queue::BindOk {});
        }
        Ok(())
    }

    pub(in crate::engine) fn queue_unbind(&mut self, at: At, unbind: &queue::Unbind<'_>) -> Result<(), Refusal> {
        let found = self.binding_of_queue(at, unbind.queue, unbind.exchange, unbind.routing_key, unbind.arguments);
        self.unbind(found)?;
        self.hold(at.session);
        self.answer(at, &queue::UnbindOk {});
        Ok(())
    }

    pub(in crate::engine) fn exchange_bind(&mut self, at: At, bind: &exchange::Bind<'_>) -> Result<(), Refusal> {
        let (source, binding) =
            self.binding_of_exchange(at, bind.destination, bind.source, bind.routing_key, bind.arguments)?;
        self.check_new_binding(at, source, &binding)?;
        self.bind(source, binding)?;
        self.hold(at.session);
        if !bind.nowait {
            self.answer(at, &exchange::BindOk {});
        }
        Ok(())
    }

    pub(in crate::engine) fn exchange_unbind(&mut self, at: At, unbind: &exchange::Unbind<'_>) -> Result<(), Refusal> {
        let exchange::Unbind { destination, source, routing_key, nowait, arguments } = *unbind;
        self.unbind(self.binding_of_exchange(at, destination, source, routing_key, arguments))?;
        self.hold(at.session);
        if !nowait {
            self.answer(at, &exchange::UnbindOk {});
        }
        Ok(())
    }

    fn check_new_binding(&self, at: At, source: ExchangeKey, binding: &Binding) -> Result<(), Refusal> {
        match self.exchanges.get(source).is_some_and(|exchange| exchange.has(binding)) {
            true => Ok(()),
            false => self.check_binding_limit(at),
        }
    }

    fn binding_of_queue(
        &self,
        at: At,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: FieldTable<&[u8]>,
    ) -> Result<(ExchangeKey, Binding), Refusal> {
        let name = self.queue_name(at, queue)?;
        // If queue and routing key are both empty, RabbitMQ takes the queue's name for the key.
        let key = if queue.is_empty() && key.is_empty() { &name } else { key };
        self.check(at, Permission::Write, Resource::Queue(&name))?;
        not_the_default(exchange)?;
        self.check(at, Permission::Read, Resource::Exchange(exchange))?;
        if let Some(source) = self.exchange_named(at.vhost, exchange) {
            self.check_topic(at, Permission::Read, source, key)?;
        }
        let destination = Destination::Queue(self.find_queue(at.vhost, &name)?);
        self.check_access_to_destination(at, destination)?;
        let source = self.find_exchange(at.vhost, exchange)?;
        Ok((source, Binding { destination, key: key.as_bytes().into(), arguments: arguments.as_bytes().into() }))
    }

    fn check_access_to_destination(&self, at: At, destination: Destination) -> Result<(), Refusal> {
        match destination {
            Destination::Queue(queue) => self.check_owner(at.session, queue),
            Destination::Exchange(_) => Ok(()),
        }
    }

    fn binding_of_exchange(
        &self,
        at: At,
        destination: &str,
        source: &str,
        key: &str,
        arguments: FieldTable<&[u8]>,
    ) -> Result<(ExchangeKey, Binding), Refusal> {
        not_the_default(destination)?;
        self.check(at, Permission::Write, Resource::Exchange(destination))?;
        not_the_default(source)?;
        self.check(at, Permission::Read, Resource::Exchange(source))?;
        if let Some(source) = self.exchange_named(at.vhost, source) {
            self.check_topic(at, Permission::Read, source, key)?;
        }
        let source = self.find_exchange(at.vhost, source)?;
        let destination = Destination::Exchange(self.find_exchange(at.vhost, destination)?);
        Ok((source, Binding { destination, key: key.as_bytes().into(), arguments: arguments.as_bytes().into() }))
    }

    pub(in crate::engine) fn bind(&mut self, source: ExchangeKey, binding: Binding) -> Result<(), Refusal> {
        let destination = binding.destination;
        let name = match destination {
            Destination::Queue(queue) => self.queues.get(queue).map(|queue| queue.name.clone()),
            Destination::Exchange(exchange) => self.exchanges.get(exchange).map(|exchange| exchange.name.clone()),
        };
        let Some(name) = name.invariant("destination") else { return Ok(()) };
        self.routing.steps.set(self.routing.steps.get() + steps_of(&binding));
        let Some(exchange) = self.exchanges.get_mut(source).invariant("exchange") else { return Ok(()) };
        match exchange.spec.routing() {
            Kind::Headers => {
                if let Ok(arguments) = FieldTable::parse(&binding.arguments[..])
                    && let Some(unknown) = headers::unknown_mode(&arguments)
                {
                    return Err(mode_refused(unknown));
                }
            }
            Kind::ConsistentHash => {
                weighted::weight(&binding.key)?;
            }
            Kind::LocalRandom if !binding.key.is_empty() => {
                let key = String::from_utf8_lossy(&binding.key);
                return Err(Refusal::precondition(format_args!("Non empty binding '{key}' key not permitted")));
            }
            Kind::LocalRandom => match destination {
                Destination::Queue(queue) if self.queues.get(queue).is_some_and(|queue| queue.settings.quorum) => {
                    let text = "Queue type rabbit_quorum_queue not valid for this exchange type";
                    return Err(Refusal::precondition(text));
                }
                Destination::Queue(_) => {}
                Destination::Exchange(_) => return Err(Refusal::precondition("Destination not found")),
            },
            _ => {}
        }
        if exchange.bind(binding.clone(), &name, &mut self.routing.words) {
            self.topology += 1;
            self.store_binding(source, &binding, true);
            match destination {
                Destination::Queue(queue) => {
                    if let Some(queue) = self.queues.get_mut(queue) {
                        queue.sources.insert(source);
                    }
                }
                Destination::Exchange(other) => {
                    if let Some(other) = self.exchanges.get_mut(other) {
                        other.sources.insert(source);
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes a binding. As in RabbitMQ, it is no error if the binding, the queue or the exchange does not exist.
    fn unbind(&mut self, found: Result<(ExchangeKey, Binding), Refusal>) -> Result<(), Refusal> {
        let (source, binding) = match found {
            Err(refusal) if refusal.code == code::NOT_FOUND && !refusal.text.contains("previously") => return Ok(()),
            found => found?,
        };
        if self.remove_binding(source, &binding) && self.is_unused(source) {
            self.delete_exchanges(vec![source]);
        }
        Ok(())
    }

    /// Removes a binding to a deleted destination from one of `sources`, or a source without more of them from these.
    /// Takes time logarithmic in the number of bindings. An auto-delete exchange that loses its last binding is added
    /// to `unused`. Returns whether sources are left.
    pub(in crate::engine) fn unbind_one_to(
        &mut self,
        destination: Destination,
        sources: &mut BTreeSet<ExchangeKey>,
        unused: &mut Vec<ExchangeKey>,
    ) -> bool {
        let Some(&source) = sources.first() else { return false };
        let binding = self.exchanges.get(source).and_then(|exchange| exchange.first_binding_to(destination)).cloned();
        match binding {
            Some(binding) => {
                self.remove_binding(source, &binding);
                unused.extend(Some(source).filter(|source| self.is_unused(*source)));
            }
            None => drop(sources.remove(&source)),
        }
        !sources.is_empty()
    }

    /// Removes a binding of a deleted exchange. Takes time logarithmic in the number of bindings. Returns whether there
    /// was one.
    pub(in crate::engine) fn unbind_one_from(&mut self, source: ExchangeKey) -> bool {
        let binding = self.exchanges.get(source).and_then(|exchange| exchange.bindings().next()).cloned();
        binding.is_some_and(|binding| self.remove_binding(source, &binding))
    }

    /// Removes a binding, also from the store. Returns whether it existed.
    fn remove_binding(&mut self, source: ExchangeKey, binding: &Binding) -> bool {
        let Some(exchange) = self.exchanges.get_mut(source) else { return false };
        if !exchange.unbind(binding, &mut self.routing.words) {
            return false;
        }
        let destination = binding.destination;
        let is_last = exchange.first_binding_to(destination).is_none();
        self.routing.steps.set(self.routing.steps.get() + steps_of(binding));
        self.topology += 1;
        self.store_binding(source, binding, false);
        let sources = match destination {
            Destination::Queue(queue) => self.queues.get_mut(queue).map(|queue| &mut queue.sources),
            Destination::Exchange(other) => self.exchanges.get_mut(other).map(|exchange| &mut exchange.sources),
        };
        if let Some(sources) = sources.filter(|_| is_last) {
            sources.remove(&source);
        }
        true
    }

    /// Whether it is an auto-delete exchange without bindings, which is deleted with its last one.
    fn is_unused(&self, id: ExchangeKey) -> bool {
        self.exchanges.get(id).is_some_and(|exchange| exchange.spec.auto_delete && exchange.is_unbound())
    }
}

fn mode_refused(unknown: Value<'_>) -> Refusal {
    Refusal::precondition(match unknown {
        Value::Str(text) => format!(
            "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
            String::from_utf8_lossy(text)
        ),
        other => {
            let (kind, value) = (type_name(other), shown(other));
            format!("Invalid x-match field type {kind} (value {value}); expected longstr")
        }
    })
}
