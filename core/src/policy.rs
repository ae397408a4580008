//! The settings of [`Recovery`], and what is told of a replay.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a connection does when the link to the broker is lost: see
/// [`Builder::recovery`](crate::Builder::recovery). It comes back by default.
///
/// ```no_run
/// # #[cfg(feature = "net")]
/// # async fn example() -> hopmq::Result<()> {
/// use std::time::Duration;
/// use hopmq::Recovery;
///
/// let patient = Recovery::new().delays(Duration::from_millis(50), Duration::from_secs(30)).attempts(100);
/// let connection = hopmq::Connection::builder().uri("amqp://a,b,c").recovery(patient).open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "it does nothing before it is given to a builder"]
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

/// Something that was declared, and is to be declared again on a new link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entity<'a> {
    /// An exchange.
    Exchange {
        /// Its name.
        name: &'a str,
    },
    /// A queue.
    Queue {
        /// Its name; the one it had on the lost link, if the broker named it.
        name: &'a str,
    },
    /// A binding of a queue or an exchange to an exchange.
    Binding {
        /// The exchange that messages come from.
        source: &'a str,
        /// The queue or exchange that they go to.
        destination: &'a str,
        /// The routing key or pattern.
        routing_key: &'a str,
    },
    /// A consumer.
    Consumer {
        /// Its tag.
        tag: &'a str,
        /// The queue that it consumes from.
        queue: &'a str,
    },
}

impl fmt::Display for Entity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange { name } => write!(f, "exchange {name:?}"),
            Self::Queue { name } => write!(f, "queue {name:?}"),
            Self::Binding { source, destination, routing_key } => {
                write!(f, "binding of {destination:?} to {source:?} with {routing_key:?}")
            }
            Self::Consumer { tag, queue } => write!(f, "consumer {tag:?} of queue {queue:?}"),
        }
    }
}

/// What to do with something that can't be declared again: see [`Recovery::on_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// Goes on without it, after an event. A consumer ends with the broker's reason.
    Skip,
    /// Tries again, so many times and each time after this long, then goes on without it. The default is 30 times
    /// after one second: queues and consumers that are exclusive are refused (405, 403) until the broker has noticed
    /// that the link of before is gone.
    Retry {
        /// How often.
        attempts: u32,
        /// Time between.
        delay: Duration,
    },
    /// Gives the connection up.
    Fail,
}

/// What a publish does while there is no link: see [`Recovery::publishing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhileLost {
    /// It waits for the link to come back, up to its deadline. The default.
    Wait,
    /// It fails at once with [`Recovering`](crate::ErrorKind::Recovering).
    Fail,
}

/// What becomes of publishes that were not confirmed when the link was lost: see [`Recovery::unconfirmed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unconfirmed {
    /// They are published again, in their order and before all others of their channel, and their confirms go on
    /// waiting. The broker may have had some of them: those come twice. The default.
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
    /// The default: comes back, for ever, with all that was declared.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection ends when its link is lost.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// How long to wait between attempts: a random time between nothing and half of what has been waited so far, that
    /// being at least `first` and at most `longest` (exponential backoff with full jitter). The defaults are 100
    /// milliseconds and 5 seconds: an outage of 2 seconds lasts 0.2 seconds longer, and 1 at the most; the longest
    /// delays begin after 10 seconds.
    ///
    /// A link that worked for longer than `longest` is replaced at once: the first attempt comes after a random time up
    /// to a tenth of `first`. So is one that worked for a second, up to ten times in a row. Only a link that was lost
    /// sooner, or an attempt in vain, is followed by the delays above. A link works when all is on it that was on the
    /// one before.
    ///
    /// That spreads many clients of one broker by their second attempts. To spread their first ones too, because they
    /// are thousands and the broker comes back quickly, ask for a longer `first`.
    pub fn delays(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first.max(LEAST_DELAY);
        self.longest = longest.max(self.first);
        self
    }

    /// After how many rounds of attempts, each of all hosts, the connection is given up. The default is never. The
    /// first ones follow each other closely: with the default [delays](Recovery::delays) ten are over in about a
    /// second, twenty in some seven. Where a time is meant, say [`Recovery::total_time`].
    pub fn attempts(mut self, count: u32) -> Self {
        self.attempts = Some(count);
        self
    }

    /// After how long without a link the connection is given up. The default is never.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.total = Some(time);
        self
    }

    /// How many times in a row the broker may refuse who we are or what we ask for (403, 530 on the virtual host, …)
    /// before the connection is given up. The default is 3: a broker that is starting may not know its users yet.
    pub fn refusals(mut self, count: u32) -> Self {
        self.refusals = count;
        self
    }

    /// Makes the random delays the same each time. On `wasm32-unknown-unknown`, where the standard library has no
    /// randomness, they are that anyway: give each connection a random seed there, or all of them try at once.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whether exchanges, queues and bindings are declared again. By default they are.
    pub fn topology(mut self, replay: bool) -> Self {
        self.topology = replay;
        self
    }

    /// Leaves alone what `filter` is false for: it is not declared, and a consumer ends, with
    /// [`ConsumerCancelled`](crate::ErrorKind::ConsumerCancelled).
    pub fn filter(mut self, filter: impl Fn(&Entity<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// What to do with something that can't be declared again.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// What a publish does while there is no link.
    pub fn publishing(mut self, policy: WhileLost) -> Self {
        self.publishing = policy;
        self
    }

    /// What becomes of publishes that were not confirmed when the link was lost. This is about channels on which a
    /// confirm was asked for; what is sent without is lost with the link, like all that had not left this program.
    pub fn unconfirmed(mut self, policy: Unconfirmed) -> Self {
        self.unconfirmed = policy;
        self
    }

    /// Adds a header of this name, with the value `true`, to what is published again, for consumers that look for
    /// duplicates there alone. With a [`message_id`](Self::message_ids) they can tell for sure.
    pub fn mark_republished(mut self, header: &str) -> Self {
        self.mark = Some(header.to_owned());
        self
    }

    /// Gives each message that has no `message_id` one that no other message has, and that it keeps when it is
    /// published again: a consumer that has seen it before has seen the message before. A random name of the connection
    /// and a number, about 40 bytes. Each such publish then allocates; others don't.
    ///
    /// It does not mark what *you* publish twice, because an error left its fate open: give such messages an id of
    /// your own.
    ///
    /// Not for `wasm32-unknown-unknown`, where the standard library has no randomness: see
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

    /// The same with 128 random bits of yours for the connection's name, on platforms where the standard library has
    /// none. Draw them anew for each connection: two with the same ones give the same names, and a consumer that drops
    /// what it has seen loses messages.
    pub fn message_ids_by(mut self, random: u128) -> Self {
        self.ids = Some(Some(random));
        self
    }

    /// Publishing waits while more bytes than this are published and not confirmed, because they are kept to publish
    /// them again. The default is 16 MiB.
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

/// The least time between attempts: an attempt in vain is never followed by another at once.
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

/// What was done to be where we were before: see [`Event::Recovered`](crate::Event::Recovered).
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
    /// What could not be declared; each was an event of its own.
    pub failures: usize,
}
