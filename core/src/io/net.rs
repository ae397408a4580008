//! Connections that are independent of the caller's runtime: on async-io's reactor, on a [`Reactor`], and the thread
//! that drives them by default.

use std::future::{Future, pending};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Instant;

use async_executor::Executor;
use async_io::Async;
use hopmq_proto::Time;

use crate::io::connector::Connector;
use crate::io::dial::{AnyTransport, Rotation, unreachable};
use crate::io::reactor::{Reactor, ReactorHandle, ReactorTimer};
use crate::io::socket::Socket;
use crate::io::timer::{Clock, Timer};
use crate::uri::Address;
use crate::{Builder, Connection, Driver, Error, ErrorKind, Result};

impl Builder {
    /// Connects. A thread that all such connections of the program share drives the connection.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is invalid, [`ErrorKind::Io`] or [`ErrorKind::Tls`] if no host could be
    /// reached, [`ErrorKind::Timeout`] after `connect_timeout`, and those of [`Builder::handshake`].
    pub async fn open(&self) -> Result<Connection> {
        let (executor, reactor) = driver_thread()?;
        let builder = self.clone();
        let (connection, driver) = executor.spawn(async move { builder.connect_on(reactor).await }).await?;
        executor.spawn(driver.assisted()).detach();
        Ok(connection)
    }

    /// Connects, and returns the connection with its driver, which the caller spawns or polls: on smol, on any other
    /// executor, or on the caller's own thread, beside its work:
    ///
    /// ```no_run
    /// # async fn example() -> hopmq::Result<()> {
    /// let (connection, driver) = hopmq::Connection::builder().uri("amqp://localhost").connect().await?;
    /// let work = async {
    ///     connection.channel().await?;
    ///     connection.close().await
    /// };
    /// let (_, result) = futures_lite::future::zip(driver, work).await;
    /// # result
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Builder::open`].
    pub async fn connect(&self) -> Result<(Connection, Driver<AnyTransport, IoTimer, IoConnector>)> {
        let connector = IoConnector { rotation: Rotation::new(&self.target), builder: self.clone() };
        self.connect_with(connector, IoTimer::new()).await
    }

    async fn connect_to(&self, address: Address) -> Result<AnyTransport> {
        if self.target.scheme.is_unix() {
            return self.unix_socket().await;
        }
        let socket = first_of(&address, tcp).await?;
        self.tune(socket.get_ref()).map_err(|error| unreachable(&address, error))?;
        self.layer(&address, socket).await
    }

    #[cfg(all(feature = "unix", unix))]
    async fn unix_socket(&self) -> Result<AnyTransport> {
        let path = &self.target.path;
        let socket = Async::<std::os::unix::net::UnixStream>::connect(path).await;
        Ok(Box::new(socket.map_err(|error| no_such_socket(path, error))?))
    }

    #[cfg(not(all(feature = "unix", unix)))]
    async fn unix_socket(&self) -> Result<AnyTransport> {
        Err(no_unix())
    }

    /// Connects on a [`Reactor`], and returns the connection with its driver, which must be polled in the future that
    /// the reactor runs.
    ///
    /// # Errors
    /// Those of [`Builder::open`].
    pub async fn connect_on(
        &self,
        reactor: &ReactorHandle,
    ) -> Result<(Connection, Driver<AnyTransport, ReactorTimer, ReactorConnector>)> {
        let rotation = Rotation::new(&self.target);
        let connector = ReactorConnector { rotation, builder: self.clone(), reactor: reactor.clone() };
        self.connect_with(connector, ReactorTimer::new(reactor)).await
    }

    async fn connect_on_to(&self, reactor: &ReactorHandle, address: Address) -> Result<AnyTransport> {
        if self.target.scheme.is_unix() {
            return self.unix_socket_on(reactor);
        }
        let socket = first_of(&address, |socket_address| reactor.connect(socket_address)).await?;
        self.tune(socket.get_ref()).map_err(|error| unreachable(&address, error))?;
        self.layer(&address, socket).await
    }

    #[cfg(all(feature = "unix", unix))]
    fn unix_socket_on(&self, reactor: &ReactorHandle) -> Result<AnyTransport> {
        let path = &self.target.path;
        let socket = mio::net::UnixStream::connect(path).and_then(|socket| reactor.register(socket));
        Ok(Box::new(socket.map_err(|error| no_such_socket(path, error))?))
    }

    #[cfg(not(all(feature = "unix", unix)))]
    fn unix_socket_on(&self, _: &ReactorHandle) -> Result<AnyTransport> {
        Err(no_unix())
    }
}

/// Connects to the hosts of a [`Builder`] in turn, with sockets on async-io's reactor: see [`Builder::connect`].
#[derive(Debug)]
pub struct IoConnector {
    builder: Builder,
    rotation: Rotation,
}

impl Connector for IoConnector {
    type Transport = AnyTransport;
    type Connecting = Pin<Box<dyn Future<Output = Result<AnyTransport>> + Send>>;

    fn connect(&mut self) -> Self::Connecting {
        let (builder, address) = (self.builder.clone(), self.rotation.advance());
        Box::pin(async move { builder.connect_to(address?).await })
    }

    fn hosts(&self) -> usize {
        self.rotation.len()
    }

    fn host(&self) -> String {
        self.rotation.current()
    }
}

/// Connects to the hosts of a [`Builder`] in turn, with sockets on a [`Reactor`]: see [`Builder::connect_on`].
#[derive(Debug)]
pub struct ReactorConnector {
    builder: Builder,
    rotation: Rotation,
    reactor: ReactorHandle,
}

impl Connector for ReactorConnector {
    type Transport = AnyTransport;
    type Connecting = Pin<Box<dyn Future<Output = Result<AnyTransport>> + Send>>;

    fn connect(&mut self) -> Self::Connecting {
        let (builder, address) = (self.builder.clone(), self.rotation.advance());
        let reactor = self.reactor.clone();
        Box::pin(async move { builder.connect_on_to(&reactor, address?).await })
    }

    fn hosts(&self) -> usize {
        self.rotation.len()
    }

    fn host(&self) -> String {
        self.rotation.current()
    }
}

#[cfg(all(feature = "unix", unix))]
fn no_such_socket(path: &str, error: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Io, format!("{path} can't be reached"), error)
}

#[cfg(not(all(feature = "unix", unix)))]
fn no_unix() -> Error {
    Error::new(ErrorKind::Config, "amqp+unix:// is not compiled in: enable the feature `unix` of hopmq")
}

/// Connects to the addresses of a host in turn, and returns the first socket that connects.
async fn first_of<S, F: Future<Output = std::io::Result<S>>>(
    address: &Address,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<S> {
    let name = (address.host.clone(), address.port);
    let resolved = blocking::unblock(move || name.to_socket_addrs()).await;
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the host name has no address");
    for socket_address in resolved.map_err(|error| unreachable(address, error))? {
        match connect(socket_address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(unreachable(address, last))
}

async fn tcp(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Async::<TcpStream>::connect(address).await?;
    socket.get_ref().set_nodelay(true)?;
    Ok(Socket::new(socket))
}

/// Returns the executor and the reactor of the driver thread. The first connection starts the thread, and it never
/// ends.
fn driver_thread() -> Result<(&'static Executor<'static>, &'static ReactorHandle)> {
    static EXECUTOR: Executor<'static> = Executor::new();
    static STARTED: OnceLock<Option<ReactorHandle>> = OnceLock::new();
    let start = || {
        let mut reactor = Reactor::new().ok()?;
        let handle = reactor.handle();
        let run = move || reactor.block_on(EXECUTOR.run(pending::<()>()));
        thread::Builder::new().name("hopmq-driver".to_owned()).spawn(run).ok().map(|_| handle)
    };
    match STARTED.get_or_init(start) {
        Some(reactor) => Ok((&EXECUTOR, reactor)),
        None => Err(Error::new(
            ErrorKind::Io,
            "could not start the driver thread: the system has no more threads or file descriptors",
        )),
    }
}

/// A timer on async-io's reactor.
#[derive(Debug)]
pub struct IoTimer {
    epoch: Instant,
    timer: async_io::Timer,
    /// The time that the timer is set to: the deadline, or earlier.
    armed: Option<Time>,
}

impl IoTimer {
    /// Creates a timer whose epoch is now.
    pub fn new() -> Self {
        Self { epoch: Instant::now(), timer: async_io::Timer::never(), armed: None }
    }
}

impl Default for IoTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for IoTimer {
    fn clock(&self) -> Clock {
        let epoch = self.epoch;
        Clock::new(move || Time::from_epoch(epoch.elapsed()))
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        // Each request brings its own deadline, and setting the timer costs a system call. So an earlier setting stays,
        // and the timer is set again when it has fired too early.
        loop {
            if self.armed.is_none_or(|armed| armed > deadline) {
                self.armed = Some(deadline);
                match self.epoch.checked_add(deadline.since_epoch()) {
                    Some(instant) => self.timer.set_at(instant),
                    None => self.timer.clear(),
                }
            }
            ready!(Pin::new(&mut self.timer).poll(context));
            if self.armed.take() >= Some(deadline) {
                return Poll::Ready(());
            }
        }
    }
}
