//! Declares, purges and deletes queues.

use hopmq_proto::method::queue;
use slotmap::Key;

use crate::engine::access::{Permission, Resource};
use crate::engine::invariant::Invariant;
use crate::engine::keys::{QueueKey, SessionKey, VhostKey};
use crate::engine::name::Name;
use crate::engine::name::{check_name, clean};
use crate::engine::queue::arguments::{Invalid, QueueType, compared};
use crate::engine::queue::settings::Settings;
use crate::engine::queue::{Queue, QueueSpec};
use crate::engine::refusal::Refusal;
use crate::engine::topology::delete::Remains;
use crate::engine::topology::equivalence::{same_argument, same_field, same_type};
use crate::engine::work::Task;
use crate::engine::{At, Engine};
use hopmq_proto::printable;

/// RabbitMQ's text for a queue that is neither durable nor exclusive.
const TRANSIENT_REFUSED: &str = "Feature `transient_nonexcl_queues` is deprecated.\nBy default, this feature is not \
    permitted anymore.\nThe feature will be removed from a future major RabbitMQ version, regardless of the \
    configuration; actual version to be determined.";

impl Engine {
    pub(in crate::engine) fn queue_named(&self, vhost: VhostKey, name: &str) -> Option<QueueKey> {
        self.vhosts.get(vhost)?.queues.get(name).copied()
    }

    pub(in crate::engine) fn find_queue(&self, vhost: VhostKey, name: &str) -> Result<QueueKey, Refusal> {
        self.queue_named(vhost, name).ok_or_else(|| Refusal::no_queue(name, &self.vhost_name(vhost)))
    }

    /// Returns the name of a queue. An empty one stands for the queue that the channel declared last.
    pub(in crate::engine) fn queue_name(&self, at: At, name: &str) -> Result<String, Refusal> {
        if !name.is_empty() {
            return Ok(clean(name));
        }
        let channel = self.sessions.get(at.session).and_then(|session| session.channel(at.channel));
        match channel.and_then(|channel| channel.last_queue.as_deref()) {
            Some(last) => Ok(last.to_owned()),
            None => Err(Refusal::not_found("no previously declared queue")),
        }
    }

    /// Refuses with 405 if the queue is exclusive to another connection.
    pub(in crate::engine) fn check_owner(&self, session: SessionKey, queue: QueueKey) -> Result<(), Refusal> {
        let Some(queue) = self.queues.get(queue).invariant("queue") else { return Ok(()) };
        match queue.spec.exclusive {
            Some(owner) if owner != session => Err(Refusal::locked(&queue.name, &self.vhost_name(queue.vhost))),
            _ => Ok(()),
        }
    }

    pub(in crate::engine) fn declare_queue(&mut self, at: At, declare: &queue::Declare<'_>) -> Result<(), Refusal> {
        if self.takes_replies(declare.queue) {
            self.answer(at, &queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 1 });
            return Ok(());
        }
        let is_transient = !declare.passive && !declare.durable && !declare.exclusive;
        if is_transient && self.config.profile.refuses_transient_queues() {
            return Err(Refusal::internal(TRANSIENT_REFUSED));
        }
        let id = if declare.passive {
            let name = clean(declare.queue);
            let id = self.find_queue(at.vhost, &name)?;
            self.check_owner(at.session, id)?;
            id
        } else {
            let typed = self.with_default_type(at.vhost, declare);
            let declare = &queue::Declare {
                arguments: typed.as_ref().map_or(declare.arguments, |typed| typed.as_ref_table()),
                ..*declare
            };
            let name = match clean(declare.queue) {
                name if name.is_empty() => {
                    check_broker_named(declare)?;
                    self.generate_name("amq.gen-")
                }
                name => {
                    // Definitions may hold a durable queue that a client let the broker name.
                    if !at.session.is_null() {
                        check_name("queue", &name)?;
                    }
                    name
                }
            };
            self.check(at, Permission::Configure, Resource::Queue(&name))?;
            match self.queue_named(at.vhost, &name) {
                Some(existing) => {
                    self.check_same_queue(at, existing, declare)?;
                    existing
                }
                None => self.add_declared_queue(at, name, declare)?,
            }
        };
        let now = self.now;
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return Ok(()) };
        queue.used = now;
        let name = queue.name.clone();
        let ready = queue.ready.len() as u32;
        let consumers = queue.consumers.len() as u32;
        self.set_queue_timer(id);
        if !declare.nowait {
            self.answer(at, &queue::DeclareOk { queue: &name, message_count: ready, consumer_count: consumers });
        }
        if let Some(channel) = self.sessions.get_mut(at.session).and_then(|session| session.channel_mut(at.channel)) {
            channel.last_queue = Some(name);
        }
        Ok(())
    }

    fn add_declared_queue(&mut self, at: At, name: String, declare: &queue::Declare<'_>) -> Result<QueueKey, Refusal> {
        self.check_queue_limit(at, &name)?;
        let spec = QueueSpec {
            durable: is_durable(declare),
            auto_delete: declare.auto_delete,
            exclusive: declare.exclusive.then_some(at.session),
            arguments: declare.arguments.into(),
        };
        let vhost = self.vhost_name(at.vhost);
        let profile = self.config.profile;
        Settings::check(&spec.arguments, profile).map_err(|invalid| refusal_of(&invalid, &name, &vhost))?;
        let settings = Settings::of(&spec.arguments, profile);
        if settings.quorum {
            let fault = [
                (spec.auto_delete, "auto-delete"),
                (spec.exclusive.is_some(), "exclusive-owner"),
                (!spec.durable, "non-durable"),
            ];
            if let Some((_, property)) = fault.into_iter().find(|(wrong, _)| *wrong) {
                return Err(refusal_of(&Invalid::Property(property), &name, &vhost));
            }
        }
        if let Some(dead_letters) = &settings.dead_letters {
            self.check(at, Permission::Read, Resource::Queue(&name))?;
            self.check(at, Permission::Write, Resource::Exchange(&dead_letters.exchange))?;
        }
        self.warn_of_deprecated_queue(at, &name, &spec);
        if let Some(meaning) = settings.replaced(&spec.arguments) {
            let queue = &*printable(&name);
            tracing::warn!(connection = at.session.number(), queue, meaning, "argument without effect");
        }
        let id = self.add_queue(at.vhost, name.into(), spec, settings);
        self.store_queue(id);
        self.hold(at.session);
        Ok(id)
    }

    pub(in crate::engine) fn add_queue(
        &mut self,
        vhost: VhostKey,
        name: Name,
        spec: QueueSpec,
        settings: Settings,
    ) -> QueueKey {
        let owner = spec.exclusive;
        let profile = self.config.profile;
        let queue = Queue::new(name.clone(), vhost, spec, settings, profile, self.now, self.meter_of(vhost));
        let id = self.queues.insert(Box::new(queue));
        if let Some(vhost) = self.vhosts.get_mut(vhost) {
            vhost.queues.insert(name, id);
        }
        if let Some(session) = owner.and_then(|owner| self.sessions.get_mut(owner)) {
            session.exclusive.insert(id);
        }
        self.topology += 1;
        id
    }

    fn check_same_queue(&self, at: At, existing: QueueKey, declare: &queue::Declare<'_>) -> Result<(), Refusal> {
        let Some(queue) = self.queues.get(existing).invariant("queue") else { return Ok(()) };
        let vhost = self.vhost_name(queue.vhost);
        if queue.spec.exclusive != declare.exclusive.then_some(at.session) {
            return Err(Refusal::locked(&queue.name, &vhost));
        }
        let resource = format!("queue '{}' in vhost '{vhost}'", queue.name);
        same_field("durable", &resource, is_durable(declare), queue.spec.durable)?;
        same_field("auto_delete", &resource, declare.auto_delete, queue.spec.auto_delete)?;
        let current = &queue.spec.arguments;
        let profile = self.config.profile;
        compared(queue.kind(), profile).try_for_each(|name| match name {
            "x-queue-type" => same_type(&resource, &declare.arguments, current, profile.names_queue_types()),
            _ => same_argument(name, &resource, &declare.arguments, current),
        })
    }

    pub(in crate::engine) fn purge(&mut self, at: At, purge: &queue::Purge<'_>) -> Result<(), Refusal> {
        let name = self.queue_name(at, purge.queue)?;
        self.check(at, Permission::Read, Resource::Queue(&name))?;
        let id = self.find_queue(at.vhost, &name)?;
        self.check_owner(at.session, id)?;
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return Ok(()) };
        queue.unreadable = None;
        let gone = queue.ready.detach();
        let stored = queue.stored;
        if !purge.nowait {
            self.answer(at, &queue::PurgeOk { message_count: gone.len() as u32 });
        }
        self.work.leave(Task::Discard(Remains { stored, ready: gone, ..Remains::default() }));
        Ok(())
    }

    pub(in crate::engine) fn queue_delete(&mut self, at: At, delete: &queue::Delete<'_>) -> Result<(), Refusal> {
        let name = self.queue_name(at, delete.queue)?;
        self.check(at, Permission::Configure, Resource::Queue(&name))?;
        let id = self.queue_named(at.vhost, &name);
        let mut count = 0;
        // It is no error if the queue does not exist (RabbitMQ's page "Specification").
        if let Some(id) = id {
            self.check_owner(at.session, id)?;
            let vhost = self.vhost_name(at.vhost);
            if let Some(queue) = self.queues.get(id) {
                if queue.settings.quorum {
                    check_unconditional(delete, &name, &vhost)?;
                }
                if delete.if_unused && !queue.consumers.is_empty() {
                    return Err(Refusal::precondition(format_args!("queue '{name}' in vhost '{vhost}' in use")));
                }
                if delete.if_empty && !queue.ready.is_empty() {
                    return Err(Refusal::precondition(format_args!("queue '{name}' in vhost '{vhost}' not empty")));
                }
                count = queue.ready.len();
            }
        }
        // Before the cancels of its consumers, as in RabbitMQ.
        if !delete.nowait {
            self.answer(at, &queue::DeleteOk { message_count: count as u32 });
        }
        if let Some(id) = id {
            self.delete_queue(id);
            self.work.leave(Task::Hold(at.session));
        }
        Ok(())
    }
}

/// Whether the declared queue is durable. An exclusive queue, which ends with its connection, never is.
fn is_durable(declare: &queue::Declare<'_>) -> bool {
    declare.durable && !declare.exclusive
}

/// A quorum queue needs a name of the client's.
fn check_broker_named(declare: &queue::Declare<'_>) -> Result<(), Refusal> {
    match QueueType::of(&declare.arguments) {
        Ok(QueueType::Quorum) => Err(Refusal::precondition(format_args!(
            "Cannot declare a server-named queue for type {}",
            QueueType::Quorum.module()
        ))),
        _ => Ok(()),
    }
}

/// A quorum queue can't be deleted on a condition.
fn check_unconditional(delete: &queue::Delete<'_>, queue: &str, vhost: &str) -> Result<(), Refusal> {
    let conditions = [(delete.if_unused, "if-unused"), (delete.if_empty, "if-empty")];
    match conditions.into_iter().find(|(is_set, _)| *is_set) {
        Some((_, condition)) => Err(Refusal::not_implemented(format_args!(
            "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {condition} flag set are \
             not supported by quorum queues"
        ))),
        None => Ok(()),
    }
}

fn refusal_of(invalid: &Invalid, queue: &str, vhost: &str) -> Refusal {
    let text = invalid.text(queue, vhost);
    match invalid {
        Invalid::Withdrawn(_) => Refusal::internal(text),
        _ => Refusal::precondition(text),
    }
}
