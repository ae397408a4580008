//! The settings of [`Recovery`], and the report of a replay.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hopmq_proto::Quoted;

/// The settings for a lost link: see [`Builder::recovery`](crate::Builder::recovery). By default, a connection
/// reconnects.
///
/// ```no_run
/// # #[cfg(feature = "net")]
/// # async fn example() -> hopmq::Result<()> {
/// use std::time::Duration;
/// use hopmq::Recovery;
///
/// let recovery = Recovery::new().delays(Duration::from_millis(50), Duration::from_secs(30)).attempts(100);
/// let connection = hopmq::Connection::builder().uri("amqp://a,b,c").recovery(recovery).open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "the settings have no effect unless they are passed to a builder"]
pub struct Recovery {
    pub(crate) enabled: bool,
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    pub(crate) attempts: Option<u32>,
    pub(crate) total: Option<Duration>,
    pub(crate) refusals: u32,
    pub(crate) broker: Option<Duration>,
    pub(crate) seed: Option<u64>,
    pub(crate) topology: bool,
    pub(crate) filter: Option<Filter>,
    pub(crate) on_failure: OnFailure,
    pub(crate) publishing: WhileLost,
    pub(crate) unconfirmed: Unconfirmed,
    pub(crate) mark: Option<String>,
    pub(crate) ids: Option<Option<u128>>,
    pub(crate) limit: usize,
}

type Filter = Arc<dyn Fn(&Entity<'_>) -> bool + Send + Sync>;

/// Something that was declared, and is declared again on a new link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entity<'a> {
    /// An exchange.
    Exchange {
        /// The name.
        name: &'a str,
    },
    /// A queue.
    Queue {
        /// The name; if the broker named the queue, its name on the lost link.
        name: &'a str,
    },
    /// A binding of a queue or an exchange to an exchange.
    Binding {
        /// The exchange that routes the messages.
        source: &'a str,
        /// The queue or exchange that receives the messages.
        destination: &'a str,
        /// The routing key or pattern.
        routing_key: &'a str,
    },
    /// A consumer.
    Consumer {
        /// The consumer tag.
        tag: &'a str,
        /// The queue that the consumer consumes from.
        queue: &'a str,
    },
}

impl fmt::Display for Entity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange { name } => write!(f, "exchange {}", Quoted(name)),
            Self::Queue { name } => write!(f, "queue {}", Quoted(name)),
            Self::Binding { source, destination, routing_key } => {
                let (source, destination, routing_key) = (Quoted(source), Quoted(destination), Quoted(routing_key));
                write!(f, "binding of {destination} to {source} with {routing_key}")
            }
            Self::Consumer { tag, queue } => write!(f, "consumer {} of queue {}", Quoted(tag), Quoted(queue)),
        }
    }
}

/// What happens if an entity can't be declared again: see [`Recovery::on_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The connection continues without the entity, after an event. A consumer ends with the broker's reason.
    Skip,
    /// The declaration is retried, then the connection continues without the entity. The default is 30 retries, one
    /// second apart: exclusive queues and consumers are refused (405, 403) until the broker notices that the old link
    /// is gone.
    Retry {
        /// The number of retries.
        attempts: u32,
        /// The time between them.
        delay: Duration,
    },
    /// The connection ends.
    Fail,
}

/// What a publish does while there is no link: see [`Recovery::publishing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhileLost {
    /// The publish waits for a new link, up to its deadline. The default.
    Wait,
    /// The publish fails at once with [`Recovering`](crate::ErrorKind::Recovering).
    Fail,
}

/// What happens to publishes that were not confirmed when the link was lost: see [`Recovery::unconfirmed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unconfirmed {
    /// They are published again, in their order and before all other publishes of their channel; their confirms keep
    /// waiting. Messages that the broker had already stored are delivered twice. The default.
    Republish,
    /// Their confirms end with [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown).
    Fail,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            enabled: true,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            attempts: None,
            total: None,
            refusals: 3,
            broker: None,
            seed: None,
            topology: true,
            filter: None,
            on_failure: OnFailure::Retry { attempts: 30, delay: Duration::from_secs(1) },
            publishing: WhileLost::Wait,
            unconfirmed: Unconfirmed::Republish,
            mark: None,
            ids: None,
            limit: 16 * 1024 * 1024,
        }
    }
}

impl Recovery {
    /// Returns the default settings: the connection reconnects without limit and declares everything again.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the settings of a connection that ends when its link is lost.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// Sets the delays between attempts. Each delay is random, between zero and half of the time waited so far; that
    /// upper bound is at least `first` and at most `longest` (exponential backoff with full jitter). The defaults are
    /// 100 milliseconds and 5 seconds: they extend an outage of 2 seconds by 0.2 seconds on average, and by 1 second at
    /// most; the longest delays begin after 10 seconds.
    ///
    /// A link that worked for longer than `longest` is replaced at once: the first attempt follows after a random time
    /// of up to a tenth of `first`. So is a link that worked for a second, up to ten times in a row. The delays above
    /// follow a link that was lost sooner, or a failed attempt. A link works when everything is restored on it.
    ///
    /// These delays spread the second attempts of many clients of one broker. To spread the first attempts too, because
    /// there are thousands of clients and the broker restarts quickly, set a longer `first`.
    pub fn delays(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first.max(LEAST_DELAY);
        self.longest = longest.max(self.first);
        self
    }

    /// Sets after how many rounds of attempts the connection ends; each round tries all hosts. The default is no limit.
    /// The first rounds follow each other closely: with the default [delays](Recovery::delays), ten rounds take about
    /// one second, twenty about seven. To limit the time, use [`Recovery::total_time`].
    pub fn attempts(mut self, count: u32) -> Self {
        self.attempts = Some(count);
        self
    }

    /// Sets after how long without a link the connection ends. The default is no limit.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.total = Some(time);
        self
    }

    /// Sets how many times in a row the broker may refuse the credentials or the virtual host (403, 530, …) before the
    /// connection ends. The default is 3: a broker that is starting may not know its users yet. A reached
    /// connection limit does not count.
    pub fn refusals(mut self, count: u32) -> Self {
        self.refusals = count;
        self
    }

    /// Makes the random delays the same in each run. On `wasm32-unknown-unknown`, where the standard library has no
    /// randomness, all connections have the same delays: pass each connection a random seed there, or all of them
    /// reconnect at the same moment.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets whether exchanges, queues and bindings are declared again. By default they are.
    pub fn topology(mut self, replay: bool) -> Self {
        self.topology = replay;
        self
    }

    /// Restores only the entities that `filter` returns true for. Others are not declared, and consumers end with
    /// [`ConsumerCancelled`](crate::ErrorKind::ConsumerCancelled).
    pub fn filter(mut self, filter: impl Fn(&Entity<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Sets what happens if an entity can't be declared again.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// Sets what a publish does while there is no link.
    pub fn publishing(mut self, policy: WhileLost) -> Self {
        self.publishing = policy;
        self
    }

    /// Sets what happens to publishes that were not confirmed when the link was lost. It applies to channels on which a
    /// confirm was requested; other messages that had not left this program are lost with the link.
    pub fn unconfirmed(mut self, policy: Unconfirmed) -> Self {
        self.unconfirmed = policy;
        self
    }

    /// Adds a header of this name, with the value `true`, to messages that are published again, so that consumers look
    /// for duplicates only among these. With a [`message_id`](Self::message_ids), consumers can identify duplicates.
    pub fn mark_republished(mut self, header: &str) -> Self {
        self.mark = Some(header.to_owned());
        self
    }

    /// Sets a unique `message_id` on each message that has none. The message keeps the id when it is published again,
    /// so a consumer that has seen the id has seen the message. The id is a random name of the connection and a number,
    /// about 40 bytes. Each such publish allocates.
    ///
    /// The id does not identify messages that *you* publish twice because an error left their outcome unknown: set an
    /// id of your own on such messages.
    ///
    /// Not available on `wasm32-unknown-unknown`, where the standard library has no randomness: see
    /// [`message_ids_by`](Self::message_ids_by).
    ///
    /// ```no_run
    /// # #[cfg(feature = "net")]
    /// # async fn example() -> hopmq::Result<()> {
    /// use hopmq::{Connection, Recovery};
    ///
    /// let recovery = Recovery::new().message_ids().mark_republished("x-possible-duplicate");
    /// let connection = Connection::builder().uri("amqp://localhost").recovery(recovery).open().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
    pub fn message_ids(mut self) -> Self {
        self.ids = Some(None);
        self
    }

    /// Sets a unique `message_id` on each message that has none, with `random` as the name of the connection, on
    /// platforms where the standard library has no randomness. Draw 128 random bits for each connection: two
    /// connections with the same bits produce the same ids, and a consumer that drops duplicates then loses messages.
    pub fn message_ids_by(mut self, random: u128) -> Self {
        self.ids = Some(Some(random));
        self
    }

    /// Sets how many bytes of unconfirmed publishes are kept to publish them again; publishing waits while there are
    /// more. The default is 16 MiB.
    pub fn republish_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes.max(1);
        self
    }

    pub(crate) fn republishes(&self) -> bool {
        self.enabled && self.unconfirmed == Unconfirmed::Republish
    }

    pub(crate) fn kept_limit(&self) -> usize {
        if self.republishes() { self.limit } else { usize::MAX }
    }

    pub(crate) fn wants(&self, entity: &Entity<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(entity))
    }
}

/// The least time between attempts: no attempt follows a failed one at once.
pub(crate) const LEAST_DELAY: Duration = Duration::from_millis(1);

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery")
            .field("enabled", &self.enabled)
            .field("delays", &(self.first, self.longest))
            .field("attempts", &self.attempts)
            .field("total_time", &self.total)
            .finish_non_exhaustive()
    }
}

/// What was restored on a new link: see [`Event::Recovered`](crate::Event::Recovered).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Exchanges that were declared.
    pub exchanges: usize,
    /// Queues that were declared.
    pub queues: usize,
    /// Bindings that were made.
    pub bindings: usize,
    /// Channels that were opened.
    pub channels: usize,
    /// Consumers that were started.
    pub consumers: usize,
    /// Unconfirmed messages that were published again.
    pub publishes: usize,
    /// Entities that could not be declared; each one was an event.
    pub failures: usize,
    /// Entities and consumers that could not be restored yet and are tried again: each one was an
    /// [`Event::Waiting`](crate::Event::Waiting).
    pub waiting: usize,
}
