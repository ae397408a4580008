//! The settings of a broker, and its start.
//!
//! Owns the settings until a broker is started with them. Settings come in, a running [`Broker`] goes out. It must
//! never know a connection.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_executor::Executor;
use hopmq_proto::FieldTable;

use super::logins::Logins;
use super::shared::{Shared, Timekeeper};
use super::{Broker, Handle, Spawner, StoreDriver, passwords, threads};
use crate::clock::Clock;
use crate::engine::{self, Engine, Profile};
use crate::limits::Limits;
use crate::store::{self, Storage};
#[cfg(feature = "testing")]
use crate::testing::TestKit;

/// RabbitMQ's default.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Settings of a broker.
#[derive(Clone, Debug)]
pub struct Builder {
    clock: Clock,
    seed: u64,
    #[cfg(feature = "testing")]
    watched: bool,
    #[cfg(feature = "testing")]
    turn_steps: Option<u32>,
    connection_max: usize,
    memory_limit: u64,
    limits: Limits,
    protocol: hopmq_proto::Config,
    store: store::Settings,
    profile: Profile,
    consumer_timeout: Option<Duration>,
    pub(super) shared_addresses: Vec<IpAddr>,
}

impl Default for Builder {
    fn default() -> Self {
        let capabilities = [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ];
        let capabilities: FieldTable = capabilities.iter().map(|name| (*name, true)).collect();
        let properties = FieldTable::new()
            .with("capabilities", &capabilities)
            .with("product", "HopMQ")
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("platform", "Rust")
            .with("information", env!("CARGO_PKG_HOMEPAGE"));
        let profile = Profile::default();
        let mut protocol = hopmq_proto::Config { properties, ..hopmq_proto::Config::default() };
        profile.configure(&mut protocol);
        Self {
            clock: Clock::system(),
            seed: 0,
            #[cfg(feature = "testing")]
            watched: true,
            #[cfg(feature = "testing")]
            turn_steps: None,
            connection_max: usize::MAX,
            memory_limit: u64::MAX,
            limits: Limits::default(),
            protocol,
            store: store::Settings::default(),
            profile,
            consumer_timeout: Some(CONSUMER_TIMEOUT),
            shared_addresses: Vec::new(),
        }
    }
}

impl Builder {
    /// Sets the clock. The default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Sets the seed of server-named queues and consumer tags: the same seed gives the same names.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Limits the connections at once: one more is refused with 530 when it opens its virtual host. The default is no
    /// limit.
    #[must_use]
    pub fn connection_max(mut self, connections: usize) -> Self {
        self.connection_max = connections;
        self
    }

    /// Limits the memory in bytes: above the limit, clients that publish are blocked (`connection.blocked`, "low on
    /// memory"), until less than nine tenths of it are used. The default is no limit, because only the program knows
    /// how much of its memory the broker may take; `hopmq-broker` takes 40 % of the machine's.
    ///
    /// The broker counts what its state takes: messages, connections with their buffers, and what clients declare. It
    /// does not ask the system, so that a test on a [manual clock](Clock::manual) sees the same in each run.
    ///
    /// ```
    /// let broker = hopmq_broker::Broker::builder().memory_limit(10_000_000).start();
    /// let consumer = hopmq_blocking::Connection::open(&broker.uri())?;
    /// let orders = consumer.channel()?.queue("orders").declare()?;
    /// let publisher = hopmq_blocking::Connection::open(&broker.uri())?;
    /// let channel = publisher.channel()?;
    /// for _ in 0..10 {
    ///     channel.publish("", "orders", vec![0; 1_050_000]).send()?;
    /// }
    /// broker.wait_until(|inspector| inspector.memory().used > 10_000_000);
    /// // Publishers wait now, until there is room again.
    /// orders.purge()?;
    /// broker.wait_until(|inspector| inspector.memory().used < 9_000_000);
    /// # Ok::<_, hopmq_blocking::Error>(())
    /// ```
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Sets what clients may hold of queues, consumers and the like.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets which release of RabbitMQ the broker follows where they differ. The default is
    /// [4.0](Profile::RabbitMq4_0), whose deprecated features work, and are told in the log.
    ///
    /// ```
    /// use hopmq_broker::{Broker, Profile};
    ///
    /// let broker = Broker::builder().profile(Profile::RabbitMq4_3).start();
    /// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
    /// // RabbitMQ 4.3 refuses a queue that is neither durable nor exclusive.
    /// let refused = connection.channel()?.queue("orders").declare();
    /// assert_eq!(refused.unwrap_err().code(), Some(541));
    /// # Ok::<_, hopmq_blocking::Error>(())
    /// ```
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        profile.configure(&mut self.protocol);
        self
    }

    /// Sets the time limit for settling a delivery, after which its channel is closed with 406 (RabbitMQ's
    /// `consumer_timeout`). A queue may have its own limit, `x-consumer-timeout` in milliseconds. The default is 30
    /// minutes; `None` is no limit.
    ///
    /// ```
    /// use hopmq_broker::{Broker, Clock};
    ///
    /// let broker = Broker::builder().clock(&Clock::manual()).start();
    /// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
    /// let queue = connection.channel()?.queue("orders").declare()?;
    /// queue.publish("a pizza").confirm()?;
    /// let mut consumer = queue.consume().start()?;
    /// let held = consumer.next().unwrap()?;
    /// broker.advance("30m");
    /// broker.wait_until(|inspector| inspector.queue("orders").unwrap().ready == 1);
    /// assert_eq!(consumer.next().unwrap().unwrap_err().code(), Some(406));
    /// # drop(held);
    /// # connection.close()?;
    /// # Ok::<_, hopmq_blocking::Error>(())
    /// ```
    #[must_use]
    pub fn consumer_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.consumer_timeout = timeout.into();
        self
    }

    /// Limits the channels of a connection; the limit is negotiated at login. The default is 2,047, as in RabbitMQ.
    #[must_use]
    pub fn channel_max(mut self, channels: u16) -> Self {
        self.protocol.channel_max = channels;
        self
    }

    /// Sets whether connections are watched, which [`Broker::transcript`] and [`Broker::faults`] need. The default is
    /// true. Without it, each frame costs a little less.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn watched(mut self, watched: bool) -> Self {
        self.watched = watched;
        self
    }

    /// Sets the budget of a turn in steps: after about so many, the broker lets others go on before the rest of an
    /// operation. With a budget of one, a test sees operations cut everywhere. See [`Broker::most_steps`].
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn turn_steps(mut self, steps: u32) -> Self {
        self.turn_steps = Some(steps.max(1));
        self
    }

    /// Sets the sizes of the store's files, and whether damaged data is dropped.
    #[must_use]
    pub fn store(mut self, settings: store::Settings) -> Self {
        self.store = settings;
        self
    }

    /// Starts the broker. Threads that all brokers of the process share run its connections.
    pub fn start(self) -> Broker {
        self.start_on(Spawner::Threads(threads()))
    }

    /// Starts a broker that is driven by [`Broker::tick`], which runs its connections one step at a time, in the order
    /// in which they became ready. With a [manual clock](Clock::manual) and one thread, a test sees the same in each
    /// run.
    pub fn by_hand(self) -> Broker {
        self.start_on(Spawner::Hand(Arc::new(Executor::new())))
    }

    /// Starts the broker on a storage, with the durable queues, exchanges and bindings, and the persistent messages in
    /// it. Whatever was confirmed is in it.
    ///
    /// # Errors
    /// If the storage can't be read, or is damaged: see [`store::Settings::salvage`](crate::store::Settings::salvage).
    pub fn open(self, storage: impl Storage) -> Result<Broker, store::Error> {
        self.open_on(Spawner::Threads(threads()), storage)
    }

    /// Starts a broker on a storage that is driven by [`Broker::tick`], as for [`Builder::by_hand`]. A tick drives the
    /// store when no connection is ready.
    ///
    /// # Errors
    /// The errors of [`Builder::open`].
    pub fn open_by_hand(self, storage: impl Storage) -> Result<Broker, store::Error> {
        self.open_on(Spawner::Hand(Arc::new(Executor::new())), storage)
    }

    fn open_on(self, executor: Spawner, storage: impl Storage) -> Result<Broker, store::Error> {
        let broker = self.start_on(executor);
        let (writer, checkpointer) = broker.recover(storage)?;
        broker.drive_store(writer, checkpointer)?;
        Ok(broker)
    }

    fn start_on(self, executor: Spawner) -> Broker {
        let wall_epoch = self.clock.wall_epoch();
        let config = engine::Config {
            seed: self.seed,
            wall_epoch,
            connection_max: self.connection_max,
            memory_limit: self.memory_limit,
            limits: self.limits,
            profile: self.profile,
            consumer_timeout: self.consumer_timeout,
            protocol: self.protocol,
        };
        let logins = Logins::new(self.shared_addresses, passwords::thread_count());
        let by_hand = matches!(executor, Spawner::Hand(_));
        let shared = Arc::new(Shared::new(Engine::new(config), logins, self.clock, by_hand));
        let broker = Broker(Arc::new(Handle {
            shared,
            executor,
            tasks: Mutex::default(),
            listeners: Mutex::default(),
            store_driver: Mutex::new(StoreDriver::None),
            store: self.store,
            #[cfg(feature = "testing")]
            testing: TestKit::new(self.watched),
        }));
        #[cfg(feature = "testing")]
        if let Some(steps) = self.turn_steps {
            broker.change(|engine, _| engine.set_budget(steps));
        }
        broker.run_for_life(Timekeeper::new(Arc::clone(&broker.0.shared)));
        broker
    }
}
