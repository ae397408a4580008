use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hopmq::{Connection, FieldTable, IntoValue, Message};

use super::group::StableHasher;
use super::{BatchLimits, Breaker, Rate};
use crate::flow::{Backoff, Policy};

/// A queue with its consumers: its declaration, its bindings, what happens with failures, and how many messages are
/// handled at once. Durable unless it says otherwise.
///
/// ```
/// use std::time::Duration;
/// use hopmq_app::{Backoff, Queue};
///
/// let orders = Queue::new("orders")
///     .quorum()
///     .bind("shop", "order.*")
///     .retry(Backoff::exponential(Duration::from_secs(1), 5).attempts(4))
///     .concurrency(8);
/// let names: Vec<_> = orders.all().iter().map(|queue| queue.name().to_owned()).collect();
/// let ladder = ["orders.retry.1000", "orders.retry.5000", "orders.retry.25000"];
/// assert_eq!(names, [&["orders"], &ladder[..], &["orders.dlq", "orders.parked"]].concat());
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Queue {
    pub(crate) name: String,
    pub(crate) kind: Option<&'static str>,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: FieldTable,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) existing: Existing,
    pub(crate) dead_letter: DeadLetter,
    pub(crate) delivery_limit: u32,
    pub(crate) body_limit: usize,
    pub(crate) retry: Backoff,
    pub(crate) retry_class: Vec<(String, Backoff)>,
    /// The delays of the broker's own retries: the first, and the longest.
    pub(crate) broker_retry: Option<(Duration, Duration)>,
    pub(crate) prefetch: Option<u16>,
    pub(crate) concurrency: usize,
    pub(crate) key: Option<Key>,
    pub(crate) consumer_arguments: FieldTable,
    pub(crate) consumer_tag: Option<String>,
    pub(crate) batch: Option<BatchLimits>,
    pub(crate) rate: Option<Rate>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) partitions: Option<u16>,
    /// The queue that this one is a partition of: its name stands in headers, logs, and names of other queues.
    pub(crate) part_of: Option<String>,
    /// Whether the broker chooses the rest of the name.
    pub(crate) anonymous: bool,
    #[cfg(feature = "asyncapi")]
    pub(crate) payloads: crate::asyncapi::Payloads,
}

/// A binding of a queue to an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The routing key, or the pattern for a topic exchange.
    pub routing_key: String,
    /// The arguments, for a headers exchange.
    pub arguments: FieldTable,
}

/// What happens if a queue or an exchange exists with other settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// The app does not start, and its error says which setting differs and what to do. The default.
    #[default]
    Refuse,
    /// The app uses what exists as it is.
    Adopt,
    /// The app declares nothing, and does not start if it does not exist.
    Require,
}

/// Where messages go whose handler rejected them or failed too often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeadLetter {
    /// To the queue `<queue>.dlq`, and parked ones to `<queue>.parked`. The default for durable queues.
    #[default]
    Queues,
    /// To this queue, parked ones included.
    To(String),
    /// They are rejected: the queue's own dead-letter exchange takes them, or they are dropped.
    Reject,
}

/// Reads the key of a message, as a hash.
#[derive(Clone)]
pub(crate) struct Key(Arc<dyn Fn(&Message) -> u64 + Send + Sync>);

impl Key {
    pub(crate) fn new(read: impl Fn(&Message) -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn hash_of<K: Hash>(key: impl Fn(&Message) -> K + Send + Sync + 'static) -> Self {
        Self::new(move |message| {
            let mut hasher = StableHasher::default();
            key(message).hash(&mut hasher);
            hasher.finish()
        })
    }

    pub(crate) fn read(&self, message: &Message) -> u64 {
        (self.0)(message)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Queue {
    /// Returns a durable queue of the broker's default type, without bindings, whose messages are handled one at a
    /// time.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: None,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
            bindings: Vec::new(),
            existing: Existing::default(),
            dead_letter: DeadLetter::default(),
            delivery_limit: 10,
            body_limit: crate::codec::BODY_LIMIT,
            retry: Backoff::never(),
            retry_class: Vec::new(),
            broker_retry: None,
            prefetch: None,
            concurrency: 1,
            key: None,
            consumer_arguments: FieldTable::new(),
            consumer_tag: None,
            batch: None,
            rate: None,
            breaker: None,
            partitions: None,
            part_of: None,
            anonymous: false,
            #[cfg(feature = "asyncapi")]
            payloads: Default::default(),
        }
    }

    /// Makes this a replicated quorum queue. Its retry and dead-letter queues are quorum queues too.
    pub fn quorum(mut self) -> Self {
        self.kind = Some("quorum");
        self
    }

    /// Makes this a classic queue.
    pub fn classic(mut self) -> Self {
        self.kind = Some("classic");
        self
    }

    /// Reserves the queue for this connection; it goes with the connection, and so do messages that fail.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self.durable = false;
        self.dead_letter = DeadLetter::Reject;
        self
    }

    /// Deletes the queue when its last consumer is gone.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Adds any argument, such as `x-message-ttl`.
    pub fn argument(mut self, key: &str, value: impl IntoValue) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Delivers to one consumer only, of all programs; another one takes over when it is gone.
    pub fn single_active_consumer(self) -> Self {
        self.argument("x-single-active-consumer", true)
    }

    /// Binds the queue to an exchange, which must exist or be declared with [`App::exchange`](crate::App::exchange).
    pub fn bind(self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        self.bind_with(exchange, routing_key, FieldTable::new())
    }

    /// Binds the queue with arguments, as a headers exchange needs.
    pub fn bind_with(
        mut self,
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
        arguments: FieldTable,
    ) -> Self {
        self.bindings.push(Binding { exchange: exchange.into(), routing_key: routing_key.into(), arguments });
        self
    }

    /// Sets what happens if the queue exists with other settings.
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Sets the attempts for messages that fail. The default is [`Backoff::never`].
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.retry = backoff;
        self
    }

    /// Sets the attempts for errors of one class: see [`Classify::name`](crate::Classify::name).
    pub fn retry_class(mut self, class: impl Into<String>, backoff: Backoff) -> Self {
        self.retry_class.push((class.into(), backoff));
        self
    }

    /// Lets the broker delay failed messages, where it can: quorum queues of RabbitMQ 4.3 and later deliver a message
    /// again after `first`, then after twice that time, three times, …, at most `longest` ([Quorum
    /// Queues](https://www.rabbitmq.com/docs/quorum-queues)). The number of attempts is that of [`retry`](Self::retry),
    /// whose delays only count on other brokers, where messages wait in queues.
    ///
    /// No message is published again for a retry, so a failed one has no header that says why until its last attempt.
    /// The delays are arguments of the queue: changing them later meets a queue with other arguments, as
    /// [`existing`](Self::existing) decides. Not for queues in order.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hopmq_app::{Backoff, Queue};
    /// let backoff = Backoff::exponential(Duration::from_secs(1), 5).attempts(6);
    /// let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
    /// let orders = Queue::new("orders").quorum().retry(backoff).broker_retry(first, longest);
    /// ```
    pub fn broker_retry(mut self, first: Duration, longest: Duration) -> Self {
        self.broker_retry = Some((first, longest));
        self
    }

    /// Sets where messages go that can't be handled.
    pub fn dead_letter(mut self, to: DeadLetter) -> Self {
        self.dead_letter = to;
        self
    }

    /// Sets after how many deliveries without an outcome a message is parked, because it may be what ends the program;
    /// 0 means never. The default is 10. Only quorum queues count deliveries.
    pub fn delivery_limit(mut self, deliveries: u32) -> Self {
        self.delivery_limit = deliveries;
        self
    }

    /// Sets how long a body may be for the handler's extractors, in bytes, as it arrived and after it was decompressed.
    /// A longer one goes to the dead letters, and takes no more memory than that. The default is 16 MiB, as much as
    /// RabbitMQ 4 takes of a publisher.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Sets how many messages are handled at once, at least 1. The default is 1.
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.concurrency = messages.max(1);
        self
    }

    /// Sets the limits of the batches for [`App::route_batch`](crate::App::route_batch).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hopmq_app::{BatchLimits, Queue};
    /// let limits = BatchLimits::of(500).bytes(1 << 20).within(Duration::from_millis(50));
    /// let orders = Queue::new("orders").batch(limits);
    /// ```
    pub fn batch(mut self, limits: BatchLimits) -> Self {
        self.batch = Some(limits);
        self
    }

    /// Limits how many messages this app takes over time. Each app that consumes from the queue has a limit of its own.
    pub fn rate_limit(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Stops taking messages for a time while the handler fails, then takes one to see whether it succeeds.
    /// [`Observer::breaker`](crate::Observer::breaker) sees each change.
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Sets how many messages the broker sends ahead. The default is twice the concurrency, and at least 16; twice the
    /// messages that the batches in work can have; and with a [rate limit](Self::rate_limit), not more than two seconds
    /// can take.
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = Some(messages);
        self
    }

    /// Handles messages with the same key one after the other, in the order of the queue. A failed message waits for
    /// its next attempt in its place, so all delays together may have at most 15 minutes. Only a message that its
    /// handler [releases](crate::flow::Verdict::Release) gives up its place.
    ///
    /// After a lost link, a lost consumer or a restart, the broker delivers again what was not settled. So a message
    /// may be handled twice, the second time after later ones; no message is handled for the first time after a later
    /// one with the same key.
    ///
    /// Order over several programs needs [`single_active_consumer`](Self::single_active_consumer) as well. So does
    /// order over a link whose loss the broker notices after the program, as when a cable is pulled, or when a program
    /// is started in place of one whose machine is gone: without it, the broker delivers later messages to the new
    /// consumer while it still keeps earlier ones for the old one.
    ///
    /// ```
    /// # use hopmq_app::Queue;
    /// let orders = Queue::new("orders").concurrency(16).ordered_by(|message| {
    ///     message.header("customer").and_then(|value| value.as_i64())
    /// });
    /// ```
    pub fn ordered_by<K: Hash>(mut self, key: impl Fn(&Message) -> K + Send + Sync + 'static) -> Self {
        self.key = Some(Key::hash_of(key));
        self
    }

    /// Sets the priority of the consumer.
    pub fn priority(self, priority: i32) -> Self {
        self.consumer_argument("x-priority", priority)
    }

    /// Adds any argument of the consumer, such as `x-stream-offset`.
    pub fn consumer_argument(mut self, key: &str, value: impl IntoValue) -> Self {
        self.consumer_arguments.insert(key, value);
        self
    }

    /// Sets the tag of the consumer, which the broker shows in its tools.
    pub fn consumer_tag(mut self, tag: impl Into<String>) -> Self {
        self.consumer_tag = Some(tag.into());
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the bindings.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Returns what [`decide`](crate::flow::decide) needs to know about the queue.
    pub fn policy(&self) -> Policy {
        let (dead_letter, parked) = match &self.dead_letter {
            DeadLetter::Queues => {
                let name = self.part_of.as_ref().unwrap_or(&self.name);
                (Some(format!("{name}.dlq")), Some(format!("{name}.parked")))
            }
            DeadLetter::To(queue) => (Some(queue.clone()), Some(queue.clone())),
            DeadLetter::Reject => (None, None),
        };
        Policy {
            queue: self.name.clone(),
            retry: self.retry.clone(),
            retry_class: self.retry_class.clone(),
            dead_letter,
            parked,
            // The retry queue of an exclusive queue would outlive it.
            in_slot: self.key.is_some() || self.exclusive || self.partitions.is_some() || self.part_of.is_some(),
            by_broker: self.broker_retry.is_some(),
            delivery_limit: self.delivery_limit,
        }
    }

    /// Returns all queues that are declared for this one: itself, the queues in which messages wait for their next
    /// attempt, and those for messages that failed. No argument of the queue itself depends on the others, so that a
    /// change of the policy never meets a queue with other arguments.
    pub fn all(&self) -> Vec<Queue> {
        let policy = self.policy();
        let mut all = vec![self.clone()];
        all.extend(self.parts());
        for step in policy.steps() {
            all.push(self.waiting(&crate::flow::headers::retry_queue(&self.name, step), step));
        }
        let mut ends: Vec<_> = policy.dead_letter.into_iter().chain(policy.parked).collect();
        ends.dedup();
        all.extend(ends.into_iter().map(|name| Queue {
            kind: self.kind,
            existing: Existing::Adopt,
            ..Queue::new(name)
        }));
        all
    }

    /// Returns the queue from which messages come back after `delay`.
    fn waiting(&self, name: &str, delay: Duration) -> Queue {
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let queue = Queue { kind: self.kind, ..Queue::new(name) }
            .argument("x-message-ttl", millis)
            .argument("x-dead-letter-exchange", "")
            .argument("x-dead-letter-routing-key", self.name.as_str());
        if self.kind == Some("quorum") {
            queue.argument("x-dead-letter-strategy", "at-least-once").argument("x-overflow", "reject-publish")
        } else {
            queue
        }
    }

    /// Returns how many messages the broker sends ahead.
    pub(crate) fn prefetch_or_default(&self) -> u16 {
        if let Some(prefetch) = self.prefetch {
            return prefetch;
        }
        let at_once = self.concurrency * self.batch.map_or(1, |batch| batch.messages);
        let ahead = (at_once * 2).max(16);
        let ahead = self.rate.as_ref().map_or(ahead, |rate| ahead.min(rate.soon().max(at_once)));
        u16::try_from(ahead).unwrap_or(u16::MAX)
    }

    pub(crate) fn is_single_active(&self) -> bool {
        self.arguments.get("x-single-active-consumer").and_then(|value| value.as_bool()) == Some(true)
    }

    /// Returns whether the order of messages matters, at least of those with the same key.
    pub(crate) fn keeps_order(&self) -> bool {
        self.key.is_some() || self.is_single_active()
    }

    /// Returns the queue as it is declared on a broker: with the arguments of the broker's own retries, or without
    /// these if it has none.
    pub(crate) fn on(&self, connection: &Connection) -> Self {
        let Some((first, longest)) = self.broker_retry else { return self.clone() };
        if !has_delayed_retries(connection) {
            return Self { broker_retry: None, ..self.clone() };
        }
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let mut queue = self.clone();
        // Each attempt counts towards the delivery limit, and so does each return when a program ends.
        let limit = i64::from(queue.policy().most_attempts()) + i64::from(queue.delivery_limit.max(10));
        if !queue.arguments.contains_key("x-delivery-limit") {
            queue = queue.argument("x-delivery-limit", limit);
        }
        queue
            .argument("x-delayed-retry-type", "failed")
            .argument("x-delayed-retry-min", millis(first))
            .argument("x-delayed-retry-max", millis(longest))
    }
}

/// Whether the broker is a RabbitMQ of release 4.3 or later, or follows its rules as HopMQ's broker says.
fn has_delayed_retries(connection: &Connection) -> bool {
    let properties = connection.server_properties();
    let text = |name| properties.get(name).and_then(|value| value.as_str().map(str::to_owned));
    let is_rabbitmq = text("product").is_some_and(|product| product == "RabbitMQ");
    let release = text(if is_rabbitmq { "version" } else { "rabbitmq" }).unwrap_or_default();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (4, 3)
}
