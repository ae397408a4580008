//! A broker written as simply as possible, to compare the engine with: lists that are searched from the start.

use std::collections::{BTreeMap, BTreeSet};

use hopmq_proto::FieldTable;

#[derive(Debug, Default)]
pub(in crate::engine) struct Naive {
    pub(in crate::engine) queues: BTreeMap<String, Queue>,
    bindings: Vec<(String, String, String)>,
    /// Source, key and destination of the bindings between exchanges.
    between: Vec<(String, String, String)>,
    /// What the transactional channel has not committed.
    pending: Pending,
    /// Tags whose settling was rolled back, which the client does not know.
    rolled_back: BTreeSet<u64>,
    consumers: Vec<Consumer>,
    held: Vec<Held>,
    tags: BTreeMap<u16, u64>,
    published: BTreeMap<u16, u64>,
    now: u64,
    /// Dead letters, which are routed one by one when the operation is over.
    dead: Vec<(String, Message, bool)>,
    pub(in crate::engine) seen: BTreeMap<u16, Vec<String>>,
    pub(in crate::engine) confirmed: Vec<(u16, u64, bool)>,
}

/// The transactional channel.
pub(in crate::engine) const TRANSACTIONAL: u16 = 3;

#[derive(Debug, Default)]
struct Pending {
    publishes: Vec<Publish>,
    settled: Vec<(u64, Vec<Held>)>,
}

#[derive(Debug)]
struct Publish {
    names: Vec<String>,
    mandatory: bool,
    priority: u8,
    body: String,
}

#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct QueueArguments {
    pub(in crate::engine) time_to_live: Option<u64>,
    pub(in crate::engine) most: Option<u64>,
    pub(in crate::engine) rejects: bool,
    pub(in crate::engine) dead_letters: Option<String>,
    pub(in crate::engine) priorities: bool,
    /// The delivery limit of a quorum queue.
    pub(in crate::engine) quorum: Option<u64>,
}

impl QueueArguments {
    pub(in crate::engine) fn table(&self) -> FieldTable {
        let mut table = FieldTable::new();
        if let Some(time) = self.time_to_live {
            table.insert("x-message-ttl", time as i64);
        }
        if let Some(most) = self.most {
            table.insert("x-max-length", most as i64);
        }
        if self.rejects {
            table.insert("x-overflow", "reject-publish");
        }
        if let Some(queue) = &self.dead_letters {
            table.insert("x-dead-letter-exchange", "").insert("x-dead-letter-routing-key", queue.as_str());
        }
        if self.priorities {
            table.insert("x-max-priority", 2);
        }
        if let Some(limit) = self.quorum {
            table.insert("x-queue-type", "quorum").insert("x-delivery-limit", limit as i64);
        }
        table
    }
}

#[derive(Debug)]
pub(in crate::engine) struct Queue {
    arguments: QueueArguments,
    ready: Vec<Message>,
    next: u64,
    /// Consumers, in the order of their turns.
    turns: Vec<String>,
}

#[derive(Clone, Debug)]
struct Message {
    position: u64,
    body: String,
    priority: u8,
    redelivered: bool,
    returned: u64,
    expires: Option<u64>,
    /// The queues in which it died and whether it was rejected there, the latest first.
    deaths: Vec<(String, &'static str)>,
}

#[derive(Clone, Debug)]
struct Consumer {
    tag: String,
    channel: u16,
    queue: String,
    no_ack: bool,
    prefetch: u16,
}

#[derive(Clone, Debug)]
struct Held {
    channel: u16,
    tag: u64,
    queue: String,
    consumer: Option<String>,
    message: Message,
}

impl Queue {
    /// Returns the place of a message: by priority, the highest first, and then by position.
    fn insert(&mut self, message: Message) {
        let level = |message: &Message| if self.arguments.priorities { message.priority.min(2) } else { 0 };
        let key = |message: &Message| (u8::MAX - level(message), message.position);
        let place = self.ready.iter().position(|other| key(other) > key(&message)).unwrap_or(self.ready.len());
        self.ready.insert(place, message);
    }
}

impl Naive {
    fn see(&mut self, channel: u16, line: String) {
        self.seen.entry(channel).or_default().push(line);
    }

    fn next_tag(&mut self, channel: u16) -> u64 {
        let tag = self.tags.entry(channel).or_default();
        *tag += 1;
        *tag
    }

    pub(in crate::engine) fn declare(&mut self, channel: u16, name: &str, arguments: QueueArguments) {
        self.queues.insert(name.to_owned(), Queue { arguments, ready: Vec::new(), next: 1, turns: Vec::new() });
        self.see(channel, "0 of 0".to_owned());
    }

    pub(in crate::engine) fn delete(&mut self, channel: u16, name: &str) {
        let Some(queue) = self.queues.remove(name) else { return };
        self.bindings.retain(|(_, _, bound)| bound != name);
        // Unacked messages can still be settled, but no longer belong to a queue of this name.
        let pending = self.pending.settled.iter_mut().flat_map(|(_, held)| held);
        for held in self.held.iter_mut().chain(pending).filter(|held| held.queue == name) {
            held.queue.clear();
        }
        self.consumers.retain(|consumer| consumer.queue != name);
        self.see(channel, format!("deleted {}", queue.ready.len()));
    }

    pub(in crate::engine) fn purge(&mut self, channel: u16, name: &str) {
        let count = self.queues.get_mut(name).map_or(0, |queue| std::mem::take(&mut queue.ready).len());
        self.see(channel, format!("purged {count}"));
    }

    pub(in crate::engine) fn bind(&mut self, exchange: &str, key: &str, queue: &str) {
        let binding = (exchange.to_owned(), key.to_owned(), queue.to_owned());
        if !self.bindings.contains(&binding) {
            self.bindings.push(binding);
        }
    }

    pub(in crate::engine) fn unbind(&mut self, exchange: &str, key: &str, queue: &str) {
        self.bindings
            .retain(|binding| (binding.0.as_str(), binding.1.as_str(), binding.2.as_str()) != (exchange, key, queue));
    }

    pub(in crate::engine) fn consumer_of(&self, channel: u16) -> Option<String> {
        self.consumers.iter().find(|consumer| consumer.channel == channel).map(|consumer| consumer.tag.clone())
    }

    pub(in crate::engine) fn consume(&mut self, channel: u16, queue: &str, tag: &str, no_ack: bool, prefetch: u16) {
        let tag = tag.to_owned();
        let queue = queue.to_owned();
        self.consumers.push(Consumer { tag: tag.clone(), channel, queue: queue.clone(), no_ack, prefetch });
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.turns.push(tag);
        }
        self.drive(&queue);
        self.route_dead_letters();
    }

    pub(in crate::engine) fn cancel(&mut self, _channel: u16, tag: &str) {
        self.consumers.retain(|consumer| consumer.tag != tag);
        for queue in self.queues.values_mut() {
            queue.turns.retain(|other| other != tag);
        }
    }

    /// Whether a consumer has room for one more delivery.
    fn has_room(&self, consumer: &Consumer) -> bool {
        let pending = self.pending.settled.iter().flat_map(|(_, held)| held);
        let held =
            self.held.iter().chain(pending).filter(|held| held.consumer.as_deref() == Some(&consumer.tag)).count();
        consumer.no_ack || consumer.prefetch == 0 || held < usize::from(consumer.prefetch)
    }

    /// Returns the consumer whose turn it is. Consumers without room leave the turns.
    fn turn(&mut self, name: &str) -> Option<Consumer> {
        loop {
            let tag = self.queues.get(name)?.turns.first()?.clone();
            let consumer = self.consumers.iter().find(|consumer| consumer.tag == tag)?.clone();
            let has_room = self.has_room(&consumer);
            let queue = self.queues.get_mut(name)?;
            queue.turns.remove(0);
            if has_room {
                queue.turns.push(tag);
                return Some(consumer);
            }
        }
    }

    fn drive(&mut self, name: &str) {
        loop {
            self.expire(name);
            if self.queues.get(name).is_none_or(|queue| queue.ready.is_empty()) {
                return;
            }
            let Some(consumer) = self.turn(name) else { return };
            let Some(queue) = self.queues.get_mut(name) else { return };
            let message = queue.ready.remove(0);
            self.deliver(&consumer, name, message);
        }
    }

    fn deliver(&mut self, consumer: &Consumer, queue: &str, message: Message) {
        let tag = self.next_tag(consumer.channel);
        let count = self.count(queue, &message, true);
        let line = format!("{} {tag} {} {}{count}", consumer.tag, message.body, message.redelivered);
        self.see(consumer.channel, line);
        if !consumer.no_ack {
            let channel = consumer.channel;
            let queue = queue.to_owned();
            let consumer = Some(consumer.tag.clone());
            self.held.push(Held { channel, tag, queue, consumer, message });
        }
    }

    pub(in crate::engine) fn get(&mut self, channel: u16, name: &str, no_ack: bool) {
        self.expire(name);
        let Some(queue) = self.queues.get_mut(name) else { return };
        if queue.ready.is_empty() {
            self.see(channel, "empty".to_owned());
        } else {
            let message = queue.ready.remove(0);
            let left = queue.ready.len();
            let tag = self.next_tag(channel);
            let count = self.count(name, &message, false);
            self.see(channel, format!("got {tag} {} {} {left}{count}", message.body, message.redelivered));
            if !no_ack {
                self.held.push(Held { channel, tag, queue: name.to_owned(), consumer: None, message });
            }
        }
        self.route_dead_letters();
    }

    pub(in crate::engine) fn unacked(&self, channel: u16) -> Vec<u64> {
        let held = self.held.iter().filter(|held| held.channel == channel).map(|held| held.tag);
        held.filter(|tag| channel != TRANSACTIONAL || !self.rolled_back.contains(tag)).collect()
    }

    pub(in crate::engine) fn settle(&mut self, channel: u16, tag: u64, multiple: bool, how: u64) {
        let is_meant = |held: &Held| held.channel == channel && (held.tag == tag || multiple && held.tag < tag);
        let (mut meant, rest): (Vec<Held>, Vec<Held>) = self.held.drain(..).partition(is_meant);
        self.held = rest;
        meant.sort_by_key(|held| held.tag);
        if channel == TRANSACTIONAL {
            self.pending.settled.push((how, meant));
        } else {
            self.settle_all(meant, how);
            self.route_dead_letters();
        }
    }

    fn settle_all(&mut self, meant: Vec<Held>, how: u64) {
        if how == 1 {
            self.requeue(meant);
        } else {
            // One by one, because each makes room for the next delivery.
            let mut waiting = meant.into_iter();
            while let Some(held) = waiting.next() {
                let later: Vec<Held> = waiting.clone().collect();
                self.held.extend(later.iter().cloned());
                if how == 2 {
                    self.drop_message(&held.queue, held.message, "rejected");
                }
                self.resume(held.consumer.as_deref());
                self.held.retain(|other| {
                    !later.iter().any(|later| (later.channel, later.tag) == (other.channel, other.tag))
                });
            }
        }
    }

    pub(in crate::engine) fn commit(&mut self) {
        let Pending { publishes, settled } = std::mem::take(&mut self.pending);
        for (_, held) in &settled {
            self.held.extend(held.iter().cloned());
        }
        for Publish { mut names, mandatory, priority, body } in publishes {
            names.retain(|name| self.queues.contains_key(name));
            if names.is_empty() && mandatory {
                self.see(TRANSACTIONAL, format!("returned {body}"));
            }
            self.enqueue_all(names, priority, &body);
        }
        for (how, held) in settled {
            let is_meant =
                |other: &Held| other.channel == TRANSACTIONAL && held.iter().any(|held| held.tag == other.tag);
            let (mut meant, rest): (Vec<Held>, Vec<Held>) = self.held.drain(..).partition(is_meant);
            self.held = rest;
            meant.sort_by_key(|held| held.tag);
            self.settle_all(meant, how);
        }
        self.route_dead_letters();
    }

    pub(in crate::engine) fn roll_back(&mut self) {
        for (_, held) in std::mem::take(&mut self.pending).settled {
            self.rolled_back.extend(held.iter().map(|held| held.tag));
            self.held.extend(held);
        }
    }

    pub(in crate::engine) fn recover(&mut self, channel: u16) {
        let (mut all, rest): (Vec<Held>, Vec<Held>) = self.held.drain(..).partition(|held| held.channel == channel);
        self.held = rest;
        all.sort_by_key(|held| held.tag);
        self.requeue(all);
        self.route_dead_letters();
    }

    fn requeue(&mut self, all: Vec<Held>) {
        let mut queues: Vec<String> = Vec::new();
        let mut consumers = Vec::new();
        for held in all {
            consumers.extend(held.consumer);
            let Some(queue) = self.queues.get_mut(&held.queue) else { continue };
            let message = Message { redelivered: true, returned: held.message.returned + 1, ..held.message };
            if queue.arguments.quorum.is_some_and(|limit| message.returned > limit) {
                self.drop_message(&held.queue, message, "delivery_limit");
                continue;
            }
            queue.insert(message);
            if !queues.contains(&held.queue) {
                queues.push(held.queue);
            }
        }
        for queue in queues {
            self.shorten(&queue);
            self.drive(&queue);
        }
        for consumer in consumers {
            self.resume(Some(&consumer));
        }
    }

    /// Puts a consumer that has room again back into the turns.
    fn resume(&mut self, tag: Option<&str>) {
        let Some(consumer) = self.consumers.iter().find(|consumer| Some(consumer.tag.as_str()) == tag).cloned() else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&consumer.queue) else { return };
        if !queue.turns.contains(&consumer.tag) {
            queue.turns.push(consumer.tag);
            self.drive(&consumer.queue);
        }
    }

    pub(in crate::engine) fn advance(&mut self, time: u64) {
        self.now += time;
        for name in self.queues.keys().cloned().collect::<Vec<_>>() {
            self.expire(&name);
            self.route_dead_letters();
        }
    }

    fn expire(&mut self, name: &str) {
        while let Some(queue) = self.queues.get_mut(name)
            && queue.ready.first().and_then(|message| message.expires).is_some_and(|at| at <= self.now)
        {
            let message = queue.ready.remove(0);
            self.drop_message(name, message, "expired");
        }
    }

    fn shorten(&mut self, name: &str) {
        while let Some(queue) = self.queues.get_mut(name)
            && !queue.arguments.rejects
            && queue.arguments.most.is_some_and(|most| queue.ready.len() as u64 > most)
        {
            let message = queue.ready.remove(0);
            self.drop_message(name, message, "maxlen");
        }
    }

    fn drop_message(&mut self, name: &str, mut message: Message, why: &'static str) {
        let target = self.queues.get(name).and_then(|queue| queue.arguments.dead_letters.clone());
        let Some(target) = target else { return };
        message.deaths.retain(|death| *death != (name.to_owned(), why));
        message.deaths.insert(0, (name.to_owned(), why));
        self.dead.push((target, message, why == "rejected"));
    }

    fn route_dead_letters(&mut self) {
        while !self.dead.is_empty() {
            let (target, message, rejected) = self.dead.remove(0);
            let at = message.deaths.iter().position(|(queue, _)| *queue == target);
            let is_cycle = at.is_some_and(|at| message.deaths[..=at].iter().all(|(_, why)| *why != "rejected"));
            if rejected || !is_cycle {
                self.enqueue(&target, message);
            }
        }
    }

    /// Returns what a client sees of how often a message was returned, in a delivery or else in the answer to a get.
    fn count(&self, queue: &str, message: &Message, is_delivery: bool) -> String {
        let is_quorum = self.queues.get(queue).is_some_and(|queue| queue.arguments.quorum.is_some());
        if is_quorum && (message.returned > 0 || !is_delivery) {
            format!(" after {}", message.returned)
        } else {
            String::new()
        }
    }

    pub(in crate::engine) fn bind_between(&mut self, source: &str, key: &str, destination: &str) {
        self.unbind_between(source, key, destination);
        self.between.push((source.to_owned(), key.to_owned(), destination.to_owned()));
    }

    pub(in crate::engine) fn unbind_between(&mut self, source: &str, key: &str, destination: &str) {
        let other = (source.to_owned(), key.to_owned(), destination.to_owned());
        self.between.retain(|binding| *binding != other);
    }

    pub(in crate::engine) fn publish(
        &mut self,
        channel: u16,
        to: (&str, &str),
        mandatory: bool,
        priority: u8,
        body: &str,
    ) {
        let (exchange, key) = to;
        let matches = |kind: &str, pattern: &str| match kind {
            "amq.fanout" => true,
            "amq.topic" => {
                let words = |text: &str| match text {
                    "" => Vec::new(),
                    text => text.split('.').map(ToOwned::to_owned).collect::<Vec<_>>(),
                };
                topic(&words(pattern), &words(key))
            }
            _ => pattern == key,
        };
        let mut names: Vec<String> = match exchange {
            "" => self.queues.keys().filter(|name| *name == key).cloned().collect(),
            _ => {
                let mut reached = vec![exchange.to_owned()];
                let mut at = 0;
                while at < reached.len() {
                    let from = reached[at].clone();
                    for (source, pattern, destination) in &self.between {
                        if *source == from && matches(source, pattern) && !reached.contains(destination) {
                            reached.push(destination.clone());
                        }
                    }
                    at += 1;
                }
                let bound = self
                    .bindings
                    .iter()
                    .filter(|(source, pattern, _)| reached.contains(source) && matches(source, pattern));
                bound.map(|binding| binding.2.clone()).collect()
            }
        };
        names.sort();
        names.dedup();
        if channel == TRANSACTIONAL {
            self.pending.publishes.push(Publish { names, mandatory, priority, body: body.to_owned() });
            return;
        }
        let number = self.published.entry(channel).or_default();
        *number += 1;
        let number = *number;
        if names.is_empty() && mandatory {
            self.see(channel, format!("returned {body}"));
        }
        let taken = self.enqueue_all(names, priority, body);
        self.route_dead_letters();
        self.confirmed.push((channel, number, taken));
    }

    /// Returns whether all queues accepted it.
    fn enqueue_all(&mut self, names: Vec<String>, priority: u8, body: &str) -> bool {
        let mut taken = true;
        for name in names {
            let message = Message {
                position: 0,
                body: body.to_owned(),
                priority,
                redelivered: false,
                returned: 0,
                expires: None,
                deaths: Vec::new(),
            };
            taken &= self.enqueue(&name, message);
        }
        taken
    }

    fn enqueue(&mut self, name: &str, mut message: Message) -> bool {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(name) else { return true };
        let arguments = &queue.arguments;
        // A quorum queue takes one message more.
        let more = u64::from(arguments.quorum.is_some());
        if arguments.rejects && arguments.most.is_some_and(|most| queue.ready.len() as u64 >= most + more) {
            return false;
        }
        message.position = queue.next;
        queue.next += 1;
        message.redelivered = false;
        message.returned = 0;
        message.expires = arguments.time_to_live.map(|time| now + time);
        if queue.ready.is_empty()
            && let Some(consumer) = self.turn(name)
        {
            self.deliver(&consumer, name, message);
            return true;
        }
        if let Some(queue) = self.queues.get_mut(name) {
            queue.insert(message);
        }
        self.shorten(name);
        self.expire(name);
        true
    }
}

/// The specification's rules (section 3.1.3.3).
fn topic(pattern: &[String], key: &[String]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((word, rest)), _) if word == "#" => topic(rest, key) || !key.is_empty() && topic(pattern, &key[1..]),
        (Some((word, rest)), Some((first, key))) => (word == "*" || word == first) && topic(rest, key),
        _ => false,
    }
}
