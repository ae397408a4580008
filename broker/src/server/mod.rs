//! The broker as a server: the engine, its connections and its listeners.

mod connection;
#[cfg(feature = "definitions")]
mod definitions;
mod ending;
mod logins;
mod passwords;
mod pipe;
mod proxied;
mod shared;
mod shutdown;
#[cfg(feature = "tls")]
mod tls;
mod users;
mod wire_log;

use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use async_executor::{Executor, Task};
use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};
use hopmq_proto::{FieldTable, code};
use hopmq_socket::Socket;

use crate::clock::Clock;
use crate::engine::{self, Engine, Journal, Profile};
use crate::limits::Limits;
use crate::store::{self, Checkpointer, Storage, Store, Threads, Writer};
#[cfg(feature = "testing")]
use crate::testing::{Tapped, TestKit};
use connection::{Peer, Serving};
#[cfg(feature = "definitions")]
pub use definitions::DefinitionsError;
pub use logins::LoginCounts;
use logins::{Admission, Logins};
pub use pipe::Pipe;
use shared::Timekeeper;
pub(crate) use shared::{Shared, State};
pub use users::{Permissions, UserError};

/// A broker. A clone is the same broker. When the last clone is dropped, its connections are closed and its state is
/// gone.
///
/// ```
/// # futures_lite::future::block_on(async {
/// let broker = hopmq_broker::Broker::in_memory();
/// let (connection, driver) = hopmq::Connection::builder().handshake(broker.connect(), hopmq::IoTimer::new()).await?;
/// let work = async {
///     let queue = connection.channel().await?.queue("orders").declare().await?;
///     queue.publish("hello").confirm().await?;
///     connection.close().await
/// };
/// let ((), result) = futures_lite::future::zip(driver, work).await;
/// # result
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Broker(pub(crate) Arc<Handle>);

/// The shared part of all clones, which closes the broker when it is dropped.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) executor: Spawner,
    tasks: Mutex<Vec<Task<()>>>,
    /// The tasks that accept clients.
    listeners: Mutex<Vec<Task<()>>>,
    #[cfg(feature = "testing")]
    pub(crate) testing: TestKit,
    /// How the store is driven.
    store_driver: Mutex<StoreDriver>,
    store: store::Settings,
}

/// RabbitMQ's default.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How the store is driven.
pub(crate) enum StoreDriver {
    None,
    Threads(#[allow(dead_code, reason = "dropping it ends the threads")] Threads),
    Hand(Box<(Writer, Checkpointer)>),
}

/// How tasks are run.
#[derive(Clone)]
pub(crate) enum Spawner {
    /// By threads that all brokers of the process share.
    Threads(&'static Executor<'static>),
    /// By the caller, with [`Broker::tick`].
    Hand(Arc<Executor<'static>>),
}

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
    shared_addresses: Vec<IpAddr>,
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
    /// // Whoever publishes now waits until there is room again.
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

impl Broker {
    /// Returns a broker that keeps everything in memory, ready at once.
    pub fn in_memory() -> Self {
        Self::builder().start()
    }

    /// Returns a broker that stores durable data in a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// The errors of [`Builder::open`], and an error if another broker has the folder open.
    #[cfg(feature = "disk")]
    pub fn open(folder: impl AsRef<std::path::Path>) -> Result<Self, store::Error> {
        Self::builder().open(store::DiskStorage::open(folder)?)
    }

    /// Returns the settings of a broker.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Connects within the process. Returns a transport for a client.
    pub fn connect(&self) -> Pipe {
        let (client, server) = pipe::pipe();
        self.serve(server);
        client
    }

    /// Connects within the process, as a client at that address: see [`serve_from`](Self::serve_from).
    pub fn connect_from(&self, address: IpAddr) -> Pipe {
        let (client, server) = pipe::pipe();
        self.serve_from(server, address);
        client
    }

    /// Serves a client on this machine over any transport: a socket, a TLS stream, a WebSocket. The connection lasts
    /// until the client or the broker closes it.
    pub fn serve<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, transport: T) {
        self.serve_peer(transport, Peer { local: true, name: "in process".into(), admission: None });
    }

    /// Serves a client at that address over any transport. A client that is not on this machine may not log in as
    /// `guest`.
    pub fn serve_from<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, transport: T, address: IpAddr) {
        if let Some(admission) = self.admit(address) {
            let (local, name) = (address.to_canonical().is_loopback(), address.to_string().into());
            self.serve_peer(transport, Peer { local, name, admission: Some(admission) });
        }
    }

    fn serve_peer<T>(&self, transport: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::clone(&self.0.shared);
        #[cfg(feature = "testing")]
        if let Some(taps) = &self.0.testing.taps {
            let tap = taps.tap();
            let serving = Serving::new(shared, Tapped::new(transport, Arc::clone(&tap), self.clock()), peer);
            taps.keep(serving.id(), tap);
            return self.spawn(serving).detach();
        }
        self.spawn(Serving::new(shared, transport, peer)).detach();
    }

    /// Listens for clients on TCP. Returns the address: for port 0, with the port that the system chose.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub fn listen(&self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        self.listen_with(address, |broker, stream| {
            let client = peer_address(&stream);
            broker.serve_tcp(stream, client);
        })
    }

    /// Listens for clients, and passes each accepted one to `serve`.
    fn listen_with(
        &self,
        address: impl ToSocketAddrs,
        serve: impl Fn(&Self, Async<TcpStream>) + Send + 'static,
    ) -> io::Result<SocketAddr> {
        let listener = Async::new(TcpListener::bind(address)?)?;
        let address = listener.get_ref().local_addr()?;
        let broker = Arc::downgrade(&self.0);
        let task = self.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let Some(handle) = broker.upgrade() else { return };
                        serve(&Self(handle), stream);
                    }
                    // The client is gone already, or the process has no file descriptors left.
                    Err(error) => {
                        tracing::warn!(%error, "accepting a client failed; trying again");
                        async_io::Timer::after(std::time::Duration::from_millis(50)).await;
                    }
                }
            }
        });
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        Ok(address)
    }

    fn serve_tcp(&self, stream: Async<TcpStream>, client: SocketAddr) {
        let Some(admission) = self.admit(client.ip()) else { return };
        // Otherwise answers would wait for the client's next packet.
        let _ = stream.get_ref().set_nodelay(true);
        self.serve_socket(Socket::new(stream), client, admission);
    }

    fn serve_socket<T>(&self, transport: T, address: SocketAddr, admission: Admission)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let local = address.ip().to_canonical().is_loopback();
        self.serve_peer(transport, Peer { local, name: address.to_string().into(), admission: Some(admission) });
    }

    /// Runs one step of a ready connection of a broker that is driven [by hand](Builder::by_hand), or of its store.
    /// Returns whether anything was ready.
    pub fn tick(&self) -> bool {
        match &self.0.executor {
            Spawner::Threads(_) => false,
            Spawner::Hand(executor) => executor.try_tick() || self.turn_store(),
        }
    }

    /// Drives the store of a broker that is driven by hand. Returns whether it had work.
    fn turn_store(&self) -> bool {
        let mut store_driver = self.store_driver();
        let StoreDriver::Hand(driver) = &mut *store_driver else { return false };
        let (writer, checkpointer) = &mut **driver;
        // The error stays in the status, which [`State::note_store`] reads.
        let worked = writer.turn().unwrap_or(false) | checkpointer.turn().unwrap_or(false);
        drop(store_driver);
        if worked {
            self.0.shared.change(State::note_store);
        }
        worked
    }

    /// Restores the state from a storage, and stores durable changes there from now on.
    pub(crate) fn recover(&self, storage: impl Storage) -> Result<(Writer, Checkpointer), store::Error> {
        let (store, mut writer, checkpointer, recovered) = Store::open(storage, self.0.store.clone())?;
        for damage in &recovered.damages {
            let store::Damage { file, offset, what } = damage;
            tracing::warn!(file, offset, what, "dropped a damaged part of the store, as Settings::salvage allows");
        }
        if let Some(store::Torn { file, offset, bytes }) = &recovered.torn {
            let what =
                "dropped the end of the log, which the last run had not finished: none of it is known to be synced";
            tracing::warn!(file, offset, bytes, "{what}");
        }
        let messages: usize = recovered.queues.iter().map(|queue| queue.messages.len()).sum();
        tracing::info!(queues = recovered.queues.len(), messages, "store opened");
        let journal = Journal::new(Box::new(store.clone()), recovered.next_queue);
        self.0.shared.change(|state, now| {
            let orphans = state.engine.recover(now, recovered);
            state.engine.set_journal(journal, &orphans);
            state.store = Some(store);
            state.engine.drop_over_delivery_limits();
        });
        // The mark that a broker is running must be synced before the first client is served.
        writer.turn()?;
        self.0.shared.change(State::note_store);
        Ok((writer, checkpointer))
    }

    /// Starts what drives the store.
    pub(crate) fn drive_store(&self, writer: Writer, checkpointer: Checkpointer) -> Result<(), store::Error> {
        let store_driver = match &self.0.executor {
            Spawner::Hand(_) => StoreDriver::Hand(Box::new((writer, checkpointer))),
            Spawner::Threads(_) => {
                let shared = Arc::downgrade(&self.0.shared);
                let notify = move || {
                    if let Some(shared) = shared.upgrade() {
                        shared.change(State::note_store);
                    }
                };
                StoreDriver::Threads(writer.spawn(checkpointer, notify).map_err(no_threads)?)
            }
        };
        *self.store_driver() = store_driver;
        Ok(())
    }

    pub(crate) fn store_driver(&self) -> MutexGuard<'_, StoreDriver> {
        self.0.store_driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a virtual host, if it does not exist.
    pub fn add_vhost(&self, name: &str) {
        self.0.shared.change(|state, _| state.engine.declare_vhost(name));
    }

    /// Raises or clears the memory alarm: clients that publish under it are blocked (`connection.blocked`, RabbitMQ's
    /// page "Blocked Connections").
    pub fn set_memory_alarm(&self, on: bool) {
        self.0.shared.change(|state, now| state.set_alarm(now, engine::MEMORY, on));
    }

    /// Changes the engine, and wakes the tasks that are affected.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Engine, hopmq_proto::Time) -> T) -> T {
        self.0.shared.change(|state, now| change(&mut state.engine, now))
    }

    /// Returns the clock of the broker.
    pub fn clock(&self) -> &Clock {
        &self.0.shared.clock
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task<()> {
        #[cfg(feature = "testing")]
        let future = self.0.testing.activity.track(Box::pin(future));
        match &self.0.executor {
            Spawner::Threads(executor) => executor.spawn(future),
            Spawner::Hand(executor) => executor.spawn(future),
        }
    }

    /// Runs a task for as long as the broker exists.
    fn run_for_life(&self, future: impl Future<Output = ()> + Send + 'static) {
        let task = self.spawn(future);
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

/// Returns the client's address. A client that is gone already has none, and counts as one of another machine.
fn peer_address(stream: &Async<TcpStream>) -> SocketAddr {
    stream.get_ref().peer_addr().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Handle {
    /// Closes all connections, at the end of the broker.
    fn close_all(&self) {
        let ending = self.shared.change(|state, now| {
            for id in state.engine.session_ids() {
                let text = "broker forced connection closure with reason 'shutdown'";
                state.engine.end_with(now, id, code::CONNECTION_FORCED, text);
            }
            state.stop()
        });
        ending.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close_all();
        self.shared.change(|state, now| {
            state.engine.finish_work(now);
            state.engine.note_good_end();
            state.persist();
            // Connections may outlive this to write their last bytes, but the storage must be free for the next broker
            // at once.
            state.engine.drop_journal();
            state.store = None;
        });
    }
}

/// Returns the executor of the threads that run the connections of all brokers. They start with the first broker, and
/// never end.
fn threads() -> &'static Executor<'static> {
    static EXECUTOR: Executor<'static> = Executor::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        for number in 0..count {
            let run = || async_io::block_on(EXECUTOR.run(pending::<()>()));
            let thread = thread::Builder::new().name(format!("hopmq-broker-{number}"));
            // One thread is enough, and others may exist.
            let _ = thread.spawn(run);
        }
    });
    &EXECUTOR
}

/// More threads would mostly wait for the engine's lock.
const MOST_THREADS: usize = 4;

fn no_threads(error: io::Error) -> store::Error {
    store::Error::with_source(store::ErrorKind::Io, "starting the store's threads", error)
}
