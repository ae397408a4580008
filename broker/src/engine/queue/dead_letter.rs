//! Dead letters: messages that a queue drops go to its dead-letter exchange, with their history (RabbitMQ's page "Dead
//! Letter Exchanges").
//!
//! Owns the dead letters that are not yet routed. They are routed after the operation that dropped them, not within it,
//! so that a chain of queues needs no stack, however long it is.

use std::collections::VecDeque;

use hopmq_proto::{FieldArray, FieldTable, Properties, Value};

use crate::engine::Engine;
use crate::engine::keys::{QueueKey, VhostKey};
use crate::engine::name::Name;
use crate::engine::profile::Profile;
use crate::engine::queue::message::{Message, sort_headers};
use crate::engine::queue::ready::Entry;

/// Why a queue drops a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    TooLong,
    DeliveryLimit,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::TooLong => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message for a dead-letter exchange.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    vhost: VhostKey,
    exchange: Name,
    message: Message,
    reason: Reason,
    /// Whether the message goes to the routing keys in its headers as well.
    copied: bool,
    /// The position of the dead message in the queue that keeps it until the dead letter is taken.
    kept: Option<(QueueKey, u64)>,
}

/// Dead letters that are not yet routed.
pub(crate) type PendingDeadLetters = VecDeque<DeadLetter>;

impl Engine {
    /// Drops a message of a queue, which becomes a dead letter if the queue has a dead-letter exchange.
    pub(in crate::engine) fn drop_message(&mut self, id: QueueKey, entry: Entry, reason: Reason) {
        let dead_letters = self.queues.get(id).and_then(|queue| queue.settings.dead_letters.as_ref());
        let at_least_once = dead_letters.is_some_and(|dead_letters| dead_letters.at_least_once);
        if dead_letters.is_some()
            && let Some(message) = self.message_of(id, &entry)
        {
            self.push_dead_letter(id, &message, reason, at_least_once.then_some(entry.position));
            if at_least_once {
                return self.keep_dead(id, entry, reason);
            }
        }
        self.settled(id, &entry);
    }

    /// Passes a message that a full queue refused to the queue's dead-letter exchange.
    pub(in crate::engine) fn dead_letter_refused(&mut self, id: QueueKey, message: &Message) {
        self.push_dead_letter(id, message, Reason::TooLong, None);
    }

    /// Adds the dead letter of a message to those that must be routed. `kept` is the position of a message that stays
    /// in its queue until then.
    pub(super) fn push_dead_letter(&mut self, id: QueueKey, message: &Message, reason: Reason, kept: Option<u64>) {
        if let Some(dead) = self.dead_letter(id, message, reason) {
            let kept = kept.map(|position| (id, position));
            self.pending_dead_letters.push_back(DeadLetter { kept, ..dead });
        }
    }

    /// Returns the dead letter of a message, if the queue has a dead-letter exchange.
    fn dead_letter(&mut self, id: QueueKey, message: &Message, reason: Reason) -> Option<DeadLetter> {
        let seconds = self.config.wall_epoch + self.now.since_epoch().as_secs();
        let queue = self.queues.get(id)?;
        let target = queue.settings.dead_letters.as_ref()?;
        let new_key = target.routing_key.as_deref();
        let (properties, key) = with_history(message, reason, &queue.name, new_key, seconds, self.config.profile);
        let copied = new_key.is_none();
        let vhost = queue.vhost;
        self.scratch.meter = self.vhosts.get(vhost).map_or(self.meter, |vhost| vhost.meter.meter());
        let exchange = target.exchange.clone();
        let message = Message::dead(
            &mut self.scratch,
            exchange.as_bytes(),
            key,
            properties.as_ref_properties(),
            message.payload(),
        );
        Some(DeadLetter { vhost, exchange, message, reason, copied, kept: None })
    }

    /// Routes all dead letters, and those that result from them.
    pub(in crate::engine) fn route_dead_letters(&mut self) {
        self.retry_after_changes();
        while let Some(dead) = self.pending_dead_letters.pop_front() {
            let message = &dead.message;
            let properties = message.properties();
            let headers = properties.headers().unwrap_or_default();
            let mut keys = vec![message.routing_key()];
            if dead.copied {
                keys.extend(crate::engine::routing::route::copies(&headers).unwrap_or_default());
            }
            let mut queues = Vec::new();
            if dead.exchange.is_empty() {
                let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
                queues.extend(names.filter_map(|name| self.queue_named(dead.vhost, name)));
            } else if let Some(exchange) = self.exchange_named(dead.vhost, &dead.exchange) {
                self.route_from(dead.vhost, exchange, &keys, &properties, &mut queues);
            }
            self.sort_by_name(&mut queues);
            let facts = message.facts();
            queues.retain(|queue| {
                dead.reason == Reason::Rejected
                    || self.queues.get(*queue).is_none_or(|queue| !is_cycle(&headers, &queue.name))
            });
            if let Some((queue, position)) = dead.kept {
                self.place(queue, position, &queues, message, facts);
                continue;
            }
            for queue in queues {
                self.enqueue(queue, message, facts);
            }
            self.store_message(message, facts.priority);
        }
    }
}

/// Returns the properties of a dead letter, with one more death in its history, and its routing key.
fn with_history<'a>(
    message: &'a Message,
    reason: Reason,
    queue: &str,
    new_key: Option<&'a str>,
    seconds: u64,
    profile: Profile,
) -> (Properties, &'a [u8]) {
    let properties = message.properties();
    let old = properties.headers().unwrap_or_default();
    let exchange = Value::Str(message.exchange());
    let key = new_key.map_or(message.routing_key(), str::as_bytes);
    let mut headers = old.to_owned_table();
    let is_continued = message.is_dead() || profile.continues_clients_deaths();
    let deaths = old.get("x-death").filter(|_| is_continued).and_then(|value| value.as_array()).unwrap_or_default();
    let is_same = |death: &Value<'_>| {
        let death = death.as_table().unwrap_or_default();
        let text = |key| death.get(key).and_then(|value| value.as_str());
        text("queue") == Some(queue) && text("reason") == Some(reason.name())
    };
    let mut death = FieldTable::new();
    match deaths.iter().find(is_same).and_then(|value| value.as_table()) {
        Some(known) => {
            let count = known.get("count").and_then(|value| value.as_i64()).unwrap_or(0);
            death = known.to_owned_table();
            death.insert("count", count.saturating_add(1));
        }
        None => {
            let mut keys = FieldArray::new().with(Value::Str(message.routing_key()));
            // Blind copies must stay hidden.
            let copies = old.get("CC").and_then(|copies| copies.as_array()).unwrap_or_default();
            for copy in copies.iter().filter_map(|key| key.as_bytes()) {
                keys.push(Value::Str(copy));
            }
            death.insert("count", 1_i64);
            death.insert("reason", reason.name());
            death.insert("queue", queue);
            death.insert("time", Value::Timestamp(seconds));
            death.insert("exchange", exchange);
            death.insert("routing-keys", &keys);
            if let Some(expiration) = properties.expiration() {
                death.insert("original-expiration", expiration);
            }
        }
    }
    let mut history = FieldArray::new().with(&death);
    for other in deaths.iter().filter(|death| !is_same(death)) {
        history.push(other);
    }
    headers.insert("x-death", &history);
    if deaths.is_empty() {
        headers.insert("x-first-death-reason", reason.name());
        headers.insert("x-first-death-queue", queue);
        headers.insert("x-first-death-exchange", exchange);
    }
    if profile.names_last_death() {
        headers.insert("x-last-death-reason", reason.name());
        headers.insert("x-last-death-queue", queue);
        headers.insert("x-last-death-exchange", exchange);
    }
    if new_key.is_some() {
        if !profile.keeps_cc() {
            headers.remove("CC");
        }
        headers.remove("BCC");
    }
    let properties = properties.to_owned_properties().with_headers(&headers).without_expiration();
    let sorted = profile.sorts_headers().then(|| sort_headers(&properties.as_ref_properties())).flatten();
    (sorted.unwrap_or(properties), key)
}

/// Whether a message would enter a queue again that it died in, without a client having rejected it.
fn is_cycle(headers: &FieldTable<&[u8]>, queue: &str) -> bool {
    let deaths = headers.get("x-death").and_then(|value| value.as_array()).unwrap_or_default();
    for death in deaths.iter() {
        let death = death.as_table().unwrap_or_default();
        let text = |key| death.get(key).and_then(|value| value.as_str());
        if text("reason") == Some("rejected") {
            return false;
        }
        if text("queue") == Some(queue) {
            return true;
        }
    }
    false
}
