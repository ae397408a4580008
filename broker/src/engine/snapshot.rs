//! Copies of the engine's state, and where a message would be routed.
//!
//! Changes nothing but when clients were last heard of ([`Engine::all_alive`]).

use hopmq_proto::{FieldTable, Properties, Time};

use super::Engine;
use crate::engine::keys::{QueueKey, SessionKey, VhostKey};
use crate::engine::meter::Purpose;
use crate::engine::queue::Queue;
use crate::engine::queue::ready::Entry;
use crate::engine::routing::exchange::Destination;
use crate::engine::session::resource_alarms::WATERMARK;
use crate::inspect;

impl Engine {
    /// Returns all virtual hosts.
    pub(crate) fn vhost_ids(&self) -> impl Iterator<Item = VhostKey> {
        self.vhosts.iter().map(|(id, _)| id)
    }

    /// Counts all clients as alive: a client on another clock can't know that a heartbeat is due.
    pub(crate) fn all_alive(&mut self, now: Time) {
        self.sessions.iter_mut().for_each(|(_, session)| session.proto.received(now));
    }

    fn name_of(&self, vhost: VhostKey) -> String {
        self.vhost_name(vhost).to_string()
    }

    /// Returns the virtual host of this name.
    pub(crate) fn find_vhost(&self, name: &str) -> Option<VhostKey> {
        self.vhost_named(name)
    }

    pub(crate) fn inspect_counts(&self) -> inspect::Counts {
        inspect::Counts {
            vhosts: self.vhosts.len(),
            connections: self.sessions.len(),
            channels: self.sessions.iter().map(|(_, session)| session.channels.iter().flatten().count()).sum(),
            exchanges: self.exchanges.len(),
            queues: self.seen_queues().count(),
            consumers: self.consumers.len(),
            ready: self.queues.iter().map(|(_, queue)| queue.ready.len()).sum(),
            unacked: self.queues.iter().map(|(_, queue)| queue.unacked).sum(),
        }
    }

    pub(crate) fn inspect_memory(&self) -> inspect::Memory {
        let of = |purpose| self.meter.bytes(purpose);
        inspect::Memory {
            used: self.meter.total(),
            limit: self.config.memory_limit,
            alarm: self.shortage & WATERMARK != 0,
            messages: of(Purpose::Messages),
            declared: self.meter.declared(),
            connections: of(Purpose::Connections),
            store: of(Purpose::Store),
        }
    }

    pub(crate) fn inspect_queues(&self, vhost: VhostKey) -> Vec<inspect::Queue> {
        self.seen_queues().filter(|queue| queue.vhost == vhost).map(|queue| self.inspect_queue(queue)).collect()
    }

    /// Returns the queues without those of delayed-message exchanges.
    fn seen_queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values().map(|queue| &**queue).filter(|queue| queue.delays.is_none())
    }

    pub(crate) fn inspect_queue_named(&self, vhost: VhostKey, name: &str) -> Option<inspect::Queue> {
        Some(self.inspect_queue(self.queues.get(self.queue_named(vhost, name)?)?))
    }

    fn inspect_queue(&self, queue: &Queue) -> inspect::Queue {
        inspect::Queue {
            name: queue.name.to_string(),
            vhost: self.name_of(queue.vhost),
            durable: queue.spec.durable,
            auto_delete: queue.spec.auto_delete,
            exclusive: queue.spec.exclusive.map(SessionKey::number),
            arguments: queue.spec.arguments.clone(),
            ready: queue.ready.len(),
            ready_bytes: queue.ready.bytes(),
            delayed: queue.waiting.len(),
            unacked: queue.unacked,
            consumers: queue.consumers.len(),
        }
    }

    /// Returns the ready messages of a queue, in delivery order.
    pub(crate) fn inspect_ready(&self, now: Time, vhost: VhostKey, name: &str) -> Vec<inspect::Message> {
        let Some(id) = self.queue_named(vhost, name) else { return Vec::new() };
        let entries = self.queues.get(id).into_iter().flat_map(|queue| queue.ready.iter());
        entries.filter_map(|entry| self.inspect_entry(now, id, entry)).collect()
    }

    /// Returns all unacknowledged messages, by connection, channel and tag.
    pub(crate) fn inspect_unacked(&self, now: Time, vhost: VhostKey) -> Vec<inspect::Held> {
        let mut all = Vec::new();
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.vhost == Some(vhost)) {
            for (number, channel) in session.channels.iter().enumerate() {
                let held = channel.iter().flat_map(|channel| channel.unacked.iter());
                all.extend(held.filter_map(|held| {
                    Some(inspect::Held {
                        queue: self.queues.get(held.queue).map_or_else(String::new, |queue| queue.name.to_string()),
                        connection: id.number(),
                        channel: number as u16,
                        consumer: held.consumer.map(|id| {
                            self.consumers.get(id).map_or_else(String::new, |consumer| consumer.tag.to_string())
                        }),
                        delivery_tag: held.tag,
                        message: self.inspect_entry(now, held.queue, &held.entry)?,
                    })
                }));
            }
        }
        all
    }

    pub(crate) fn inspect_exchanges(&self, vhost: VhostKey) -> Vec<inspect::Exchange> {
        let all = self.exchanges.iter().filter(|(_, exchange)| exchange.vhost == vhost);
        let inspected = all.map(|(_, exchange)| inspect::Exchange {
            name: exchange.name.to_string(),
            vhost: self.name_of(vhost),
            kind: exchange.spec.kind.name(),
            durable: exchange.spec.durable,
            auto_delete: exchange.spec.auto_delete,
            internal: exchange.spec.internal,
            arguments: exchange.spec.arguments.clone(),
        });
        inspected.collect()
    }

    pub(crate) fn inspect_bindings(&self, vhost: VhostKey) -> Vec<inspect::Binding> {
        let all = self.exchanges.iter().filter(|(_, exchange)| exchange.vhost == vhost);
        let bindings = all.flat_map(|(_, exchange)| exchange.bindings().map(move |binding| (exchange, binding)));
        let inspected = bindings.map(|(exchange, binding)| inspect::Binding {
            vhost: self.name_of(vhost),
            source: exchange.name.to_string(),
            destination: match binding.destination {
                Destination::Queue(queue) => inspect::Destination::Queue(
                    self.queues.get(queue).map_or_else(String::new, |queue| queue.name.to_string()),
                ),
                Destination::Exchange(other) => inspect::Destination::Exchange(
                    self.exchanges.get(other).map_or_else(String::new, |other| other.name.to_string()),
                ),
            },
            routing_key: String::from_utf8_lossy(&binding.key).into_owned(),
            arguments: FieldTable::parse(&binding.arguments[..]).map_or_else(|_| FieldTable::new(), FieldTable::from),
        });
        inspected.collect()
    }

    pub(crate) fn inspect_connections(&self) -> Vec<inspect::Connection> {
        let inspected = self.sessions.iter().map(|(id, session)| inspect::Connection {
            id: id.number(),
            user: session.user.as_ref().map_or_else(String::new, |user| user.name.to_string()),
            vhost: session.vhost.map_or_else(String::new, |vhost| self.name_of(vhost)),
            name: session
                .client_properties
                .get("connection_name")
                .and_then(|name| name.as_str())
                .map(ToOwned::to_owned),
            client_properties: session.client_properties.clone(),
            blocked: session.blocked,
            channels: session.channels.iter().flatten().count(),
            queued: session.proto.queued(),
        });
        inspected.collect()
    }

    pub(crate) fn inspect_channels(&self) -> Vec<inspect::Channel> {
        let mut all = Vec::new();
        for (id, session) in self.sessions.iter() {
            for (number, channel) in session.channels.iter().enumerate() {
                let Some(channel) = channel else { continue };
                all.push(inspect::Channel {
                    connection: id.number(),
                    number: number as u16,
                    consumers: channel.consumers.len(),
                    unacked: channel.unacked.len(),
                    confirms: channel.confirms.is_some(),
                    unconfirmed: channel
                        .confirms
                        .as_ref()
                        .map_or(0, crate::engine::session::publish::Confirms::outstanding),
                    prefetch: channel.prefetch,
                    global_prefetch: channel.global_prefetch,
                });
            }
        }
        all
    }

    pub(crate) fn inspect_consumers(&self) -> Vec<inspect::Consumer> {
        let inspected = self.consumers.iter().filter_map(|(id, consumer)| {
            let queue = self.queues.get(consumer.queue)?;
            Some(inspect::Consumer {
                tag: consumer.tag.to_string(),
                queue: queue.name.to_string(),
                vhost: self.name_of(queue.vhost),
                connection: consumer.session.number(),
                channel: consumer.channel,
                no_ack: consumer.no_ack,
                exclusive: consumer.exclusive,
                prefetch: consumer.prefetch,
                unacked: consumer.unacked,
                priority: consumer.priority,
                active: !queue.settings.single_active || queue.consumers.single == Some(id),
                arguments: consumer.arguments.clone(),
            })
        });
        inspected.collect()
    }

    /// Returns the queues that a message would be routed to, each once. `None` if the exchange does not exist.
    pub(crate) fn inspect_route(
        &self,
        vhost: VhostKey,
        exchange: &str,
        key: &str,
        headers: &FieldTable,
    ) -> Option<Vec<String>> {
        let mut queues = Vec::new();
        if exchange.is_empty() {
            queues.extend(self.queue_named(vhost, key));
        } else {
            let source = self.exchange_named(vhost, exchange)?;
            let properties = Properties::new().with_headers(headers);
            self.route_from(vhost, source, &[key.as_bytes()], &properties.as_ref_properties(), &mut queues);
        }
        queues.sort_unstable();
        queues.dedup();
        let queues = queues.into_iter().filter_map(|id| self.queues.get(id)).filter(|queue| queue.delays.is_none());
        Some(queues.map(|queue| queue.name.to_string()).collect())
    }
}

impl Engine {
    /// Returns a message of a queue. `None` if its content was only in the store, and is lost there.
    fn inspect_entry(&self, now: Time, queue: QueueKey, entry: &Entry) -> Option<inspect::Message> {
        let message = self.message_of(queue, entry)?;
        Some(inspect::Message {
            exchange: String::from_utf8_lossy(message.exchange()).into_owned(),
            routing_key: String::from_utf8_lossy(message.routing_key()).into_owned(),
            properties: message.shown().unwrap_or_else(|| message.properties().to_owned_properties()),
            body: message.to_body(),
            redelivered: entry.redelivered,
            time_to_live: entry.expires.map(|at| at.since_epoch().saturating_sub(now.since_epoch())),
        })
    }
}
