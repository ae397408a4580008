//! The broker as a server: the engine, its connections and its listeners.

mod builder;
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

use async_executor::{Executor, Task};
use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};
use hopmq_proto::code;
use hopmq_socket::Socket;

use crate::clock::Clock;
use crate::engine::{self, Engine, Journal};
use crate::store::{self, Checkpointer, Storage, Store, Threads, Writer};
#[cfg(feature = "testing")]
use crate::testing::{Tapped, TestKit};
pub use builder::Builder;
use connection::{Peer, Serving};
#[cfg(feature = "definitions")]
pub use definitions::DefinitionsError;
use logins::Admission;
pub use logins::LoginCounts;
pub use pipe::Pipe;
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
