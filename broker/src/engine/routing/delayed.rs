//! Delayed-message exchanges: a message with the header `x-delay` is routed that many milliseconds later (the page of
//! RabbitMQ's plugin "delayed message exchange").
//!
//! Each exchange owns a queue that no client sees. Its messages wait there, in the store if the exchange is durable,
//! and are routed when the queue's timer fires.

use std::time::Duration;

use hopmq_proto::{FieldTable, Properties, Value};

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ExchangeKey, QueueKey};
use crate::engine::queue::message::{Facts, Message};
use crate::engine::queue::ready::{Entry, Kept};
use crate::engine::queue::settings::Settings;
use crate::engine::queue::{Queue, QueueSpec};
use crate::engine::routing::route::copies;

const DELAY: &str = "x-delay";

/// The longest delay in milliseconds. With a longer one, a message is not delayed.
const LONGEST: i64 = 0xFFFF_FFFF;

/// Returns how long a message must be delayed, if at all.
pub(crate) fn delay(properties: &Properties<&[u8]>) -> Option<Duration> {
    let headers = properties.headers().ok()?;
    let milliseconds = milliseconds(headers.get(DELAY)?)?;
    (1..=LONGEST).contains(&milliseconds).then(|| Duration::from_millis(milliseconds as u64))
}

fn milliseconds(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Str(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        other => other.as_i64().or_else(|| other.as_f64().map(|number| number as i64)),
    }
}

/// Returns the properties of a message after its delay, which its header has as a negative number.
fn after_delay(properties: &Properties<&[u8]>) -> Properties {
    let mut headers = properties.headers().unwrap_or_default().to_owned_table();
    if let Some(delay) = headers.get(DELAY).and_then(milliseconds) {
        match i32::try_from(-delay) {
            Ok(delay) => headers.insert(DELAY, delay),
            Err(_) => headers.insert(DELAY, -delay),
        };
    }
    properties.to_owned_properties().with_headers(&headers)
}

impl Engine {
    /// Adds the queue of a delayed-message exchange.
    pub(in crate::engine) fn add_delayed_queue(&mut self, id: ExchangeKey) {
        let Some(vhost) = self.exchanges.get(id).invariant("exchange").map(|exchange| exchange.vhost) else { return };
        let meter = self.meter_of(vhost);
        let Some(exchange) = self.exchanges.get_mut(id).invariant("exchange") else { return };
        let durable = exchange.spec.durable;
        let spec = QueueSpec { durable, auto_delete: false, exclusive: None, arguments: FieldTable::new() };
        let settings = Settings::default();
        let mut queue =
            Queue::new(exchange.name.clone(), exchange.vhost, spec, settings, self.config.profile, self.now, meter);
        queue.delays = Some(id);
        exchange.delayed = Some(self.queues.insert(Box::new(queue)));
    }

    /// Removes the queue of a deleted delayed-message exchange.
    pub(in crate::engine) fn remove_delayed_queue(&mut self, id: QueueKey) {
        let Some(queue) = self.queues.remove(id).invariant("queue") else { return };
        self.forget_queue(&queue);
        if let Some(deadline) = queue.timer {
            self.queue_timers.remove(&(deadline, id));
        }
    }

    /// Delays a message of a delayed-message exchange.
    pub(in crate::engine) fn delay_message(&mut self, id: QueueKey, message: &Message, facts: Facts) {
        let until = self.now + delay(&message.properties()).unwrap_or_default();
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        let position = queue.next_position;
        queue.next_position += 1;
        let keeper = queue.stored;
        let stored = keeper.is_some() && self.note_target(keeper, position, Some(until));
        let Some(queue) = self.queues.get(id).invariant("queue") else { return };
        let content = match stored && self.leaves_memory(queue) {
            true => Kept::Stored(message.to_stub()),
            false => Kept::Here(message.clone()),
        };
        let priority = facts.priority;
        let entry =
            Entry { position, content, expires: None, returned: 0, acquired: 0, priority, redelivered: false, stored };
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return };
        queue.waiting.insert(until, entry);
        self.set_queue_timer(id);
    }

    /// Routes a message whose delay is over.
    pub(in crate::engine) fn route_delayed(&mut self, id: QueueKey, source: ExchangeKey, entry: &Entry) {
        let vhost = self.exchanges.get(source).invariant("exchange").map(|exchange| exchange.vhost);
        if let (Some(vhost), Some(message)) = (vhost, self.message_of(id, entry)) {
            let properties = after_delay(&message.properties());
            let properties = properties.as_ref_properties();
            let make = if message.is_dead() { Message::dead } else { Message::new };
            let (exchange, key) = (message.exchange(), message.routing_key());
            self.scratch.meter = self.meter_of(vhost);
            let message = make(&mut self.scratch, exchange, key, properties, message.payload());
            let headers = properties.headers().unwrap_or_default();
            let mut keys = vec![message.routing_key()];
            keys.extend(copies(&headers).unwrap_or_default());
            let mut queues = Vec::new();
            self.route_from(vhost, source, &keys, &properties, &mut queues);
            self.sort_by_name(&mut queues);
            let facts = message.facts();
            for queue in queues {
                self.enqueue(queue, &message, facts);
            }
            self.store_message(&message, facts.priority);
        }
        self.settled(id, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delayed(value: impl Into<Value<'static>>) -> Option<u128> {
        let properties = Properties::new().with_header(DELAY, value);
        delay(&properties.as_ref_properties()).map(|delay| delay.as_millis())
    }

    #[test]
    fn a_positive_number_or_its_text_delays_a_message() {
        assert_eq!([delayed(5), delayed("5"), delayed(5.9)], [Some(5); 3]);
        assert_eq!([delayed(0), delayed(-5), delayed("soon"), delayed(true), delayed(LONGEST + 1)], [None; 5]);
        assert_eq!(delay(&Properties::EMPTY), None);
    }

    #[test]
    fn a_message_that_was_delayed_has_the_delay_as_a_negative_number() {
        let properties = Properties::new().with_header("a", 1).with_header(DELAY, "5");
        let after = after_delay(&properties.as_ref_properties());
        assert_eq!(after.headers().unwrap().get(DELAY), Some(Value::I32(-5)));
        assert_eq!(delay(&after.as_ref_properties()), None);
        let long = Properties::new().with_header(DELAY, LONGEST);
        let after = after_delay(&long.as_ref_properties());
        assert_eq!(after.headers().unwrap().get(DELAY), Some(Value::I64(-LONGEST)));
    }
}
