//! Restores virtual hosts, users, exchanges, queues, bindings and messages from the store.

use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::Time;
use slotmap::Key;

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::SessionKey;
use crate::engine::persistence::tables::{self, BindingParts};
use crate::engine::queue::dead_letter::Reason;
use crate::engine::queue::message::Stub;
use crate::engine::queue::ready::{Entry, Kept};
use crate::engine::queue::settings::Settings;
use crate::engine::routing::exchange::{Binding, Destination};
use crate::engine::topology::vhost::VhostSettings;
use crate::store::{Recovered, RecoveredMessage, RecoveredQueue};

impl Engine {
    /// Restores the state. Returns the keys of bindings that have lost an end: it was deleted, and the broker was
    /// killed before their turn came.
    pub(crate) fn recover(&mut self, now: Time, recovered: Recovered) -> Vec<Bytes> {
        self.now = now;
        let mut bindings = Vec::new();
        // The rest refers to virtual hosts, which sort between other keys: they come first.
        let (vhosts, rest): (Vec<_>, Vec<_>) =
            recovered.metadata.into_iter().partition(|(key, _)| key.first() == Some(&tables::VHOST));
        for (key, value) in vhosts {
            if let Some([name]) = tables::names(&key[1..]).as_deref() {
                let id = self.add_vhost(name);
                if let Some(vhost) = self.vhosts.get_mut(id) {
                    vhost.settings = VhostSettings::of_bytes(&value);
                }
            }
        }
        // After a crash, which messages were delivered is unknown: all count as redelivered, as in RabbitMQ.
        let crashed = rest.iter().any(|(key, _)| key.first() == Some(&tables::RUNNING));
        for (key, value) in rest {
            match key.first() {
                Some(&tables::RUNNING) => {}
                Some(&tables::EXCHANGE) => self.recover_exchange(&key[1..], &value),
                Some(&tables::USER) => self.recover_user(&key[1..], &value),
                Some(&tables::BINDING) => bindings.push(key),
                _ => {}
            }
        }
        for queue in recovered.queues {
            self.recover_queue(queue, crashed);
        }
        bindings.retain(|key| !self.recover_binding(&key[1..]));
        bindings
    }

    /// Drops the messages whose deliveries exceed the limits of their queues, because one was under way when the broker
    /// was killed. The contents of stored messages must be readable.
    pub(crate) fn drop_over_delivery_limits(&mut self) {
        let limited = self.queues.iter_mut().filter_map(|(id, queue)| {
            let limit = queue.settings.delivery_limit?;
            Some((id, queue.ready.take_over_limit(limit)))
        });
        let dropped: Vec<_> = limited.collect();
        self.begin(SessionKey::null());
        for (id, entries) in dropped {
            entries.into_iter().for_each(|entry| self.drop_message(id, entry, Reason::DeliveryLimit));
        }
        self.end();
    }

    fn recover_exchange(&mut self, key: &[u8], value: &[u8]) {
        let names = tables::names(key).unwrap_or_default();
        if let ([vhost, name], Some(spec)) = (&names[..], tables::exchange_of(value))
            && let Some(vhost) = self.vhost_named(vhost)
            && self.exchange_named(vhost, name).is_none()
        {
            self.add_exchange(vhost, name, spec);
        }
    }

    fn recover_queue(&mut self, recovered: RecoveredQueue, crashed: bool) {
        if let Some((vhost, exchange)) = tables::delayed_of(&recovered.definition) {
            return self.recover_delayed(&vhost, &exchange, &recovered);
        }
        let Some((vhost, name, spec)) = tables::queue_of(&recovered.definition) else {
            let messages = recovered.messages.len();
            tracing::error!(queue = recovered.id.0, messages, "the definition of a stored queue can't be read");
            return;
        };
        let Some(vhost) = self.vhost_named(&vhost) else {
            let messages = recovered.messages.len();
            tracing::error!(name, vhost, messages, "a stored queue belongs to a virtual host that is not stored");
            return;
        };
        // It was valid when it was declared, in the release that the broker followed then.
        let settings = Settings::of(&spec.arguments, self.config.profile);
        let id = self.add_queue(vhost, name.into(), spec, settings);
        let now = self.now;
        let meter = self.meter_of(vhost);
        let wall = u128::from(self.config.wall_epoch) * 1000;
        let entry = |message: &RecoveredMessage| {
            let left = message.expires.map(|at| Duration::from_millis(u128::from(at).saturating_sub(wall) as u64));
            Entry {
                position: message.position.0,
                content: Kept::Stored(Stub::new(message.body_len, meter)),
                expires: left.map(Time::from_epoch),
                returned: tables::returned(message.deliveries),
                acquired: tables::acquired(message.deliveries),
                priority: tables::priority(message.priority),
                redelivered: crashed || message.deliveries > 0,
                stored: true,
            }
        };
        if let Some(queue) = self.queues.get_mut(id) {
            queue.stored = Some(recovered.id);
            queue.next_position = recovered.next.0;
            for message in &recovered.messages {
                let entry = entry(message);
                if let Some(reason) = tables::reason(message.deliveries) {
                    queue.dead.restore(now, entry, reason);
                    continue;
                }
                // The wait for a delayed retry begins anew.
                let retry = queue.settings.delayed_retry.as_ref().filter(|_| entry.acquired > 0);
                match retry.and_then(|retry| retry.delay(entry.acquired, entry.returned > 0)) {
                    Some(delay) => queue.waiting.insert(now + delay, entry),
                    None => queue.ready.push(entry),
                }
            }
            if queue.dead.len() > 0 {
                self.undelivered.insert(id);
            }
        }
        self.set_queue_timer(id);
    }

    fn recover_delayed(&mut self, vhost: &str, exchange: &str, recovered: &RecoveredQueue) {
        let found = self.vhost_named(vhost).and_then(|vhost| self.exchange_named(vhost, exchange));
        let Some(id) = found.and_then(|id| self.exchanges.get(id)?.delayed) else {
            let messages = recovered.messages.len();
            tracing::error!(exchange, vhost, messages, "stored messages belong to an exchange that is not stored");
            return;
        };
        let wall = u128::from(self.config.wall_epoch) * 1000;
        let meter = self.queues.get(id).map_or(self.meter, |queue| self.meter_of(queue.vhost));
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        queue.stored = Some(recovered.id);
        queue.next_position = recovered.next.0;
        for message in &recovered.messages {
            let until = u128::from(message.expires.unwrap_or(0)).saturating_sub(wall) as u64;
            let entry = Entry {
                position: message.position.0,
                content: Kept::Stored(Stub::new(message.body_len, meter)),
                expires: None,
                returned: 0,
                acquired: 0,
                priority: tables::priority(message.priority),
                redelivered: false,
                stored: true,
            };
            queue.waiting.insert(Time::from_epoch(Duration::from_millis(until)), entry);
        }
        self.set_queue_timer(id);
    }

    /// Restores a binding. Returns whether to keep its key: false if one of its ends does not exist.
    fn recover_binding(&mut self, key: &[u8]) -> bool {
        let Some(parts) = BindingParts::parse(key) else {
            tracing::error!(?key, "a stored binding can't be read");
            return true;
        };
        let Some(vhost) = self.vhost_named(parts.vhost) else {
            tracing::error!(?parts, "a stored binding belongs to a virtual host that is not stored");
            return true;
        };
        let destination = match parts.kind {
            tables::TO_QUEUE => self.queue_named(vhost, parts.destination).map(Destination::Queue),
            _ => self.exchange_named(vhost, parts.destination).map(Destination::Exchange),
        };
        let (Some(source), Some(destination)) = (self.exchange_named(vhost, parts.source), destination) else {
            return false;
        };
        let binding = Binding { destination, key: parts.key.into(), arguments: parts.arguments.into() };
        // It was valid when it was bound.
        let _ = self.bind(source, binding);
        true
    }
}
