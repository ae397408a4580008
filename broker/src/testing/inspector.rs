//! Reads a broker's state: the content of its queues, its connections, and the route of a message.

use std::fmt;
use std::sync::Arc;

use hopmq_proto::{FieldTable, Time};

use crate::engine::{Engine, VhostKey};
use crate::inspect::{Binding, Channel, Connection, Consumer, Counts, Exchange, Held, Memory, Message, Queue};
use crate::server::{Broker, Shared};

/// Reads the state of a broker, in the virtual host `/` by default. Each call returns the state at that moment.
///
/// ```
/// let broker = hopmq_broker::Broker::in_memory();
/// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
/// let channel = connection.channel()?;
/// let queue = channel.queue("orders").declare()?;
/// queue.bind("amq.topic", "order.#")?;
/// channel.publish("amq.topic", "order.pizza", "a pizza").confirm()?;
///
/// let inspector = broker.inspect();
/// assert_eq!(inspector.ready("orders")[0].text(), "a pizza");
/// assert_eq!(inspector.route("amq.topic", "order.salad"), ["orders"]);
/// assert!(inspector.unacked().is_empty());
/// # connection.close()?;
/// # Ok::<_, hopmq_blocking::Error>(())
/// ```
#[derive(Clone)]
pub struct Inspect {
    shared: Arc<Shared>,
    vhost: String,
}

impl Broker {
    /// Returns an inspector of the broker.
    pub fn inspect(&self) -> Inspect {
        Inspect { shared: Arc::clone(&self.0.shared), vhost: "/".to_owned() }
    }
}

impl Inspect {
    /// Returns an inspector of another virtual host. One that does not exist appears empty.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Self {
        Self { shared: Arc::clone(&self.shared), vhost: name.to_owned() }
    }

    fn with_engine<T>(&self, read: impl FnOnce(&Engine, Time) -> T) -> T {
        let now = self.shared.clock.now();
        read(&self.shared.lock().engine, now)
    }

    fn with_vhost<T: Default>(&self, read: impl FnOnce(&Engine, VhostKey, Time) -> T) -> T {
        self.with_engine(|engine, now| {
            engine.find_vhost(&self.vhost).map_or_else(T::default, |id| read(engine, id, now))
        })
    }

    /// Returns how many of each kind exist in the whole broker.
    pub fn counts(&self) -> Counts {
        self.with_engine(|engine, _| engine.inspect_counts())
    }

    /// Returns the memory that the whole broker takes, by its own count.
    pub fn memory(&self) -> Memory {
        self.with_engine(|engine, _| engine.inspect_memory())
    }

    /// Returns the queues.
    pub fn queues(&self) -> Vec<Queue> {
        self.with_vhost(|engine, vhost, _| engine.inspect_queues(vhost))
    }

    /// Returns the queue of this name.
    pub fn queue(&self, name: &str) -> Option<Queue> {
        self.with_vhost(|engine, vhost, _| engine.inspect_queue_named(vhost, name))
    }

    /// Returns the ready messages of a queue, the next one first. Empty if there is no such queue.
    pub fn ready(&self, queue: &str) -> Vec<Message> {
        self.with_vhost(|engine, vhost, now| engine.inspect_ready(now, vhost, queue))
    }

    /// Returns all unsettled deliveries, with their channels.
    pub fn unacked(&self) -> Vec<Held> {
        self.with_vhost(|engine, vhost, now| engine.inspect_unacked(now, vhost))
    }

    /// Returns the exchanges, without the default one.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.with_vhost(|engine, vhost, _| engine.inspect_exchanges(vhost))
    }

    /// Returns the bindings, by exchange.
    pub fn bindings(&self) -> Vec<Binding> {
        self.with_vhost(|engine, vhost, _| engine.inspect_bindings(vhost))
    }

    /// Returns the connections of the whole broker.
    pub fn connections(&self) -> Vec<Connection> {
        self.with_engine(|engine, _| engine.inspect_connections())
    }

    /// Returns the channels of the whole broker.
    pub fn channels(&self) -> Vec<Channel> {
        self.with_engine(|engine, _| engine.inspect_channels())
    }

    /// Returns the consumers of the whole broker.
    pub fn consumers(&self) -> Vec<Consumer> {
        self.with_engine(|engine, _| engine.inspect_consumers())
    }

    /// Returns the queues that a message would be routed to. Empty if there is no such exchange; `""` is the default
    /// one.
    pub fn route(&self, exchange: &str, routing_key: &str) -> Vec<String> {
        self.route_with(exchange, routing_key, &FieldTable::new())
    }

    /// Returns the queues that a message with these headers would be routed to.
    pub fn route_with(&self, exchange: &str, routing_key: &str, headers: &FieldTable) -> Vec<String> {
        let route = |engine: &Engine, vhost, _| engine.inspect_route(vhost, exchange, routing_key, headers);
        self.with_vhost(route).unwrap_or_default()
    }

    /// Returns a line for each open connection, and for each unsettled delivery.
    pub(super) fn open_items(&self) -> Vec<String> {
        self.with_engine(|engine, now| {
            let mut lines = Vec::new();
            for connection in engine.inspect_connections() {
                let name = connection.name.as_deref().unwrap_or("unnamed");
                let id = connection.id;
                let channels = connection.channels;
                lines.push(format!("connection {id} ({name}) is open, with {channels} channels"));
            }
            for held in engine.vhost_ids().flat_map(|vhost| engine.inspect_unacked(now, vhost)) {
                lines.push(format!(
                    "a delivery of queue {:?} is unacked: delivery tag {} of channel {} on connection {}, \
                     consumer {}",
                    held.queue,
                    held.delivery_tag,
                    held.channel,
                    held.connection,
                    held.consumer.as_deref().unwrap_or("none (basic.get)")
                ));
            }
            lines
        })
    }
}

impl fmt::Debug for Inspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspect").field("vhost", &self.vhost).field("counts", &self.counts()).finish()
    }
}
