//! Dead letters: messages that a queue drops go to its dead-letter exchange, with their history (RabbitMQ's page "Dead
//! Letter Exchanges").
//!
//! Owns the dead letters that are not yet routed. They are routed after the operation that dropped them, not within it,
//! so that a chain of queues needs no stack, however long it is.

use hopmq_proto::{FieldArray, FieldTable, Properties, Value};

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{QueueKey, VhostKey};
use crate::engine::name::Name;
use crate::engine::profile::Profile;
use crate::engine::queue::message::{Message, sort_headers};
use crate::engine::queue::ready::Entry;
use crate::store::QueueId;

/// The steps of a dead letter, besides those of its queues: its header `x-death` is written anew.
const STEPS: u32 = 4;

/// The bytes of a dead letter's properties that take a step.
const DEATH_BYTES_PER_STEP: u32 = 16;

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

/// A message for a dead-letter exchange, as it was when it died.
#[derive(Debug)]
pub(in crate::engine) struct DeadLetter {
    vhost: VhostKey,
    queue: Name,
    target: Target,
    message: Message,
    reason: Reason,
    /// Seconds since 1970.
    died: u64,
    /// What becomes of the dead message once this is routed.
    source: Source,
    /// How many more dead letters its routing may cause at once.
    allowance: u32,
}

/// Where dead letters go.
type Target = crate::engine::queue::settings::DeadLetters;

/// The dead message of a dead letter.
#[derive(Debug)]
enum Source {
    /// It is in no queue.
    None,
    /// It is settled in the store once the dead letter is routed, so that a crash loses neither.
    Stored(QueueKey, QueueId, u64),
    /// Its queue keeps it, at this position, until the dead letter is taken.
    Kept(QueueKey, u64),
}

/// How many dead letters one may cause at once, in queues with a time to live of zero or that are full. Those beyond
/// are dropped: an exchange that all of its n queues have as their dead-letter exchange makes n! of them.
const ALLOWANCE: u32 = 10_000;

impl Engine {
    /// Drops a message of a queue, which becomes a dead letter if the queue has a dead-letter exchange.
    pub(in crate::engine) fn drop_message(&mut self, id: QueueKey, entry: Entry, reason: Reason) {
        self.work.count(1);
        let queue = self.queues.get(id);
        let dead_letters = queue.and_then(|queue| queue.settings.dead_letters.as_ref());
        let at_least_once = dead_letters.is_some_and(|dead_letters| dead_letters.at_least_once);
        if dead_letters.is_some() {
            let stored = queue.and_then(|queue| queue.stored).filter(|_| entry.stored);
            let Some(message) = self.message_for(id, &entry, "to pass it to the dead-letter exchange") else {
                if at_least_once {
                    self.note_dead_retry(id);
                    self.keep_dead(id, entry, reason);
                }
                return;
            };
            if at_least_once {
                self.push_dead_letter(id, message, reason, Source::Kept(id, entry.position));
                return self.keep_dead(id, entry, reason);
            }
            let source = stored.map_or(Source::None, |stored| Source::Stored(id, stored, entry.position));
            if let Some(queue) = self.queues.get_mut(id).filter(|_| stored.is_some()) {
                queue.dying += 1;
            }
            return self.push_dead_letter(id, message, reason, source);
        }
        self.settled(id, &entry);
    }

    /// Passes a message that a full queue refused to the queue's dead-letter exchange.
    pub(in crate::engine) fn dead_letter_refused(&mut self, id: QueueKey, message: &Message) {
        self.push_dead_letter(id, message.clone(), Reason::TooLong, Source::None);
    }

    /// Adds the dead letter of a message that its queue keeps to those that must be routed.
    pub(super) fn retry_dead_letter(&mut self, id: QueueKey, message: Message, reason: Reason, position: u64) {
        self.push_dead_letter(id, message, reason, Source::Kept(id, position));
    }

    /// Adds the dead letter of a message to those that must be routed, if the queue has a dead-letter exchange.
    fn push_dead_letter(&mut self, id: QueueKey, message: Message, reason: Reason, source: Source) {
        let died = self.config.wall_epoch + self.now.since_epoch().as_secs();
        let Some(queue) = self.queues.get(id) else { return };
        let Some(target) = queue.settings.dead_letters.clone() else { return };
        let (vhost, queue) = (queue.vhost, queue.name.clone());
        let allowance = ALLOWANCE;
        self.work.leave_dead_letter(DeadLetter { vhost, queue, target, message, reason, died, source, allowance });
    }

    /// Routes a dead letter.
    pub(in crate::engine) fn route_dead_letter(&mut self, dead: DeadLetter) {
        let DeadLetter { vhost, ref queue, ref target, ref message, reason, died, ref source, allowance } = dead;
        self.work.count(STEPS);
        let exchange = &*target.exchange;
        let new_key = target.routing_key.as_deref();
        let history = with_history(message, reason, queue, new_key, died, self.config.profile);
        let Some((properties, key)) = history else { return self.give_up(source) };
        // The deaths so far are read and written again.
        self.work.count(properties.as_ref_properties().as_bytes().len() as u32 / DEATH_BYTES_PER_STEP);
        self.scratch.meter = self.vhosts.get(vhost).map_or(self.meter, |vhost| vhost.meter.meter());
        let body = message.payload();
        let message = &Message::dead(&mut self.scratch, exchange.as_bytes(), key, properties.as_ref_properties(), body);
        let properties = message.properties();
        let headers = properties.headers().unwrap_or_default();
        let mut keys = vec![message.routing_key()];
        if new_key.is_none() {
            keys.extend(crate::engine::routing::route::copies(&headers).unwrap_or_default());
        }
        let mut queues = Vec::new();
        if exchange.is_empty() {
            let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
            queues.extend(names.filter_map(|name| self.queue_named(vhost, name)));
        } else if let Some(exchange) = self.exchange_named(vhost, exchange) {
            self.route_from(vhost, exchange, &keys, &properties, &mut queues);
        }
        self.sort_by_name(&mut queues);
        let facts = message.facts();
        queues.retain(|queue| {
            reason == Reason::Rejected || self.queues.get(*queue).is_none_or(|queue| !is_cycle(&headers, &queue.name))
        });
        let before = self.work.dead_letters().len();
        if let Source::Kept(queue, position) = *source {
            self.place(queue, position, &queues, message, facts);
        } else {
            for queue in queues {
                self.enqueue(queue, message, facts);
            }
            self.store_message(message, facts.priority);
        }
        self.settle_dead(source);
        self.limit_offspring(before, allowance);
    }

    /// Shares what a dead letter may cause among those that it has caused.
    fn limit_offspring(&mut self, before: usize, allowance: u32) {
        let letters = self.work.dead_letters();
        let caused = (letters.len() - before) as u32;
        if caused == 0 {
            return;
        }
        let each = allowance.saturating_sub(caused) / caused;
        letters.range_mut(before..).for_each(|letter| letter.allowance = each);
        if each == 0 {
            tracing::warn!("dead letters cause more and more dead letters: the last ones are dropped");
            let dropped: Vec<_> = letters.drain(before..).collect();
            dropped.iter().for_each(|letter| self.give_up(&letter.source));
        }
    }

    /// Drops a dead letter. A message that its queue keeps stays there.
    fn give_up(&mut self, source: &Source) {
        match *source {
            Source::Kept(queue, position) => self.note_undelivered(queue, position),
            _ => self.settle_dead(source),
        }
    }

    /// Settles a dead message whose dead letter is routed, or dropped.
    fn settle_dead(&mut self, source: &Source) {
        let Source::Stored(id, stored, position) = *source else { return };
        self.settled_in(stored, position);
        // It stays in the table until its dead letters are routed.
        if let Some(queue) = self.queues.get_mut(id).invariant("queue") {
            queue.dying -= 1;
        }
    }
}

/// The most deaths in the header `x-death`, and the most bytes of them besides the last one.
const DEATHS: usize = 128;
const DEATHS_BYTES: usize = 64 * 1024;

/// Returns the properties of a dead letter, with one more death in its history, and its routing key. The history is
/// bounded: the oldest deaths are left out. A message that has died so often without a client having rejected it counts
/// as one in a cycle: `None`.
fn with_history<'a>(
    message: &'a Message,
    reason: Reason,
    queue: &str,
    new_key: Option<&'a str>,
    seconds: u64,
    profile: Profile,
) -> Option<(Properties, &'a [u8])> {
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
    let mut is_rejected = reason == Reason::Rejected;
    let mut is_full = false;
    let last = history.as_bytes().len();
    for (number, other) in deaths.iter().filter(|death| !is_same(death)).enumerate() {
        is_full |= number + 2 > DEATHS || history.as_bytes().len() - last > DEATHS_BYTES;
        is_rejected |= is_rejection(&other);
        if is_full && is_rejected {
            break;
        }
        if !is_full {
            history.push(other);
        }
    }
    if is_full && !is_rejected {
        tracing::warn!(queue, deaths = deaths.len(), "dropped a message that died again and again");
        return None;
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
    Some((sorted.unwrap_or(properties), key))
}

fn is_rejection(death: &Value<'_>) -> bool {
    let death = death.as_table().unwrap_or_default();
    death.get("reason").and_then(|value| value.as_str()) == Some(Reason::Rejected.name())
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
