//! Subscriptions and consumer groups, as queues.

use std::hash::Hasher;

use super::Queue;

/// A subscription to an exchange: created by [`Queue::subscribe`]. With a [`group`](Self::group), each message goes to
/// one member of the group; without, each app gets each message while it runs.
///
/// ```
/// use hopmq_app::{App, Exchange, Queue};
///
/// let app = App::new(())
///     .exchange(Exchange::topic("shop"))
///     .route(Queue::subscribe("shop", "order.*").group("billing").concurrency(8), async || println!("an invoice"))
///     .route(Queue::subscribe("shop", "price.*"), async || println!("a new price, for every program"));
/// assert_eq!(app.queues().next().unwrap().name(), "shop.billing");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Subscription {
    exchange: String,
    keys: Vec<String>,
}

impl Queue {
    /// Begins a subscription to an exchange, which must exist or be declared with
    /// [`App::exchange`](crate::App::exchange).
    pub fn subscribe(exchange: impl Into<String>, routing_key: impl Into<String>) -> Subscription {
        Subscription { exchange: exchange.into(), keys: vec![routing_key.into()] }
    }

    /// Splits a queue into `count` partitions, at least 1, whose messages are handled in order, each by one member of
    /// the group at a time, so that the group keeps order over programs. Messages with the same
    /// [key](Self::ordered_by), the routing key unless set, go to the same partition.
    ///
    /// The partitions are the queues `<queue>.0` to `<queue>.<count - 1>`, with single active consumers. The messages
    /// arrive in the queue itself; one member at a time moves each to its partition, confirmed before it is
    /// acknowledged. That needs no plugin, takes any function as the key, and costs each message one more hop. What is
    /// delivered twice is delivered in order again, from the first repeated message of a key on.
    ///
    /// Members that come and go share the partitions: while all run, the numbers of partitions that two members work on
    /// differ by at most one. When a member ends, the broker gives its partitions to others at once; a member that
    /// joins gets its share after the handlers at work there have ended.
    ///
    /// All members must use the same count. To change it, stop them when the partitions are empty.
    ///
    /// ```
    /// # use hopmq_app::Queue;
    /// let billing = Queue::subscribe("shop", "order.*")
    ///     .group("billing")
    ///     .partitions(8)
    ///     .ordered_by(|message| message.header("customer").and_then(|value| value.as_i64()));
    /// let names: Vec<_> = billing.all().iter().map(|queue| queue.name().to_owned()).collect();
    /// assert_eq!(names[..3], ["shop.billing", "shop.billing.0", "shop.billing.1"]);
    /// ```
    pub fn partitions(mut self, count: u16) -> Self {
        self.partitions = Some(count.max(1));
        self
    }

    /// Returns the queues of the partitions.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Queue> + '_ {
        (0..self.partitions.unwrap_or(0)).map(|index| {
            let name = format!("{}.{index}", self.name);
            let bindings = Vec::new();
            let part_of = Some(self.name.clone());
            Queue { name, bindings, part_of, partitions: None, ..self.clone() }.single_active_consumer()
        })
    }

    /// Returns the name that stands for the queue in headers and logs.
    pub(crate) fn title(&self) -> &str {
        self.part_of.as_deref().unwrap_or(&self.name)
    }
}

impl Subscription {
    /// Adds a routing key, or a pattern for a topic exchange.
    pub fn and(mut self, routing_key: impl Into<String>) -> Self {
        self.keys.push(routing_key.into());
        self
    }

    /// Returns the queue of a group: durable, replicated, named `<exchange>.<group>`. It collects messages while no
    /// member runs.
    pub fn group(self, name: &str) -> Queue {
        let queue = Queue::new(format!("{}.{name}", self.exchange)).quorum();
        self.bound(queue)
    }

    /// Returns a queue of this app alone, which is there while the app runs. Its name is `<exchange>.each` for
    /// [`Control`](crate::Control), and ends with more that makes it unique on the broker.
    pub fn each(self) -> Queue {
        let queue = Queue::new(format!("{}.each", self.exchange)).classic().exclusive();
        self.bound(Queue { anonymous: true, ..queue })
    }

    fn bound(self, queue: Queue) -> Queue {
        self.keys.iter().fold(queue, |queue, key| queue.bind(self.exchange.as_str(), key.as_str()))
    }
}

impl From<Subscription> for Queue {
    fn from(subscription: Subscription) -> Self {
        subscription.each()
    }
}

/// FNV-1a with a finish that mixes. All members of a group must find the same partition for a key, whatever built them,
/// and the hasher of the standard library may change.
pub(crate) struct StableHasher(u64);

impl Default for StableHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hash;

    use super::*;

    #[test]
    fn keys_spread_over_partitions_and_always_the_same_way() {
        let part = |key: &str| {
            let mut hasher = StableHasher::default();
            key.hash(&mut hasher);
            hasher.finish() % 8
        };
        let mut parts = [0; 8];
        (0..8000).for_each(|key| parts[part(&format!("customer {key}")) as usize] += 1);
        assert!(parts.iter().all(|count| (800..1200).contains(count)), "{parts:?}");
        // Members that another compiler built must agree: these numbers never change.
        assert_eq!(["a", "b", "c", "d"].map(part), [5, 0, 6, 5]);
    }

    #[test]
    fn a_group_has_one_queue_and_one_place_for_failures() {
        let queue = Queue::subscribe("shop", "order.*").and("refund.*").group("billing").partitions(2);
        let names: Vec<_> = queue.all().iter().map(|queue| queue.name.clone()).collect();
        assert_eq!(
            names,
            ["shop.billing", "shop.billing.0", "shop.billing.1", "shop.billing.dlq", "shop.billing.parked"]
        );
        assert_eq!(queue.bindings.len(), 2);
    }
}
