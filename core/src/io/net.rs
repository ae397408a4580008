//! Sockets that are independent of the caller's runtime: on async-io's reactor, or on a [`Reactor`](crate::Reactor).

use std::future::Future;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::Async;
use hopmq_proto::Time;
use hopmq_socket::Socket;

use crate::error::{Error, ErrorKind, Result};
use crate::io::connector::Connector;
use crate::io::dial::{AnyTransport, Rotation, Target, unreachable};
use crate::io::reactor::ReactorHandle;
use crate::io::timer::{Clock, Timer};
use crate::uri::Address;

impl Target {
    async fn connect_to(&self, address: Address) -> Result<AnyTransport> {
        if self.scheme.is_unix() {
            return self.unix_socket().await;
        }
        let socket = first_of(&address, tcp).await?;
        self.tune(socket.get_ref()).map_err(|error| unreachable(&address, error))?;
        self.layer(&address, socket).await
    }

    #[cfg(all(feature = "unix", unix))]
    async fn unix_socket(&self) -> Result<AnyTransport> {
        let path = &self.path;
        let socket = Async::<std::os::unix::net::UnixStream>::connect(path).await;
        Ok(Box::new(socket.map_err(|error| no_such_socket(path, error))?))
    }

    #[cfg(not(all(feature = "unix", unix)))]
    async fn unix_socket(&self) -> Result<AnyTransport> {
        Err(no_unix())
    }

    async fn connect_on_to(&self, reactor: &ReactorHandle, address: Address) -> Result<AnyTransport> {
        if self.scheme.is_unix() {
            return self.unix_socket_on(reactor);
        }
        let socket = first_of(&address, |socket_address| reactor.connect(socket_address)).await?;
        self.tune(socket.get_ref()).map_err(|error| unreachable(&address, error))?;
        self.layer(&address, socket).await
    }

    #[cfg(all(feature = "unix", unix))]
    fn unix_socket_on(&self, reactor: &ReactorHandle) -> Result<AnyTransport> {
        let path = &self.path;
        let socket = mio::net::UnixStream::connect(path).and_then(|socket| reactor.register(socket));
        Ok(Box::new(socket.map_err(|error| no_such_socket(path, error))?))
    }

    #[cfg(not(all(feature = "unix", unix)))]
    fn unix_socket_on(&self, _: &ReactorHandle) -> Result<AnyTransport> {
        Err(no_unix())
    }
}

/// Connects to the hosts of a [`Builder`](crate::Builder) in turn, with sockets on async-io's reactor: see
/// [`Builder::connect`](crate::Builder::connect).
#[derive(Debug)]
pub struct IoConnector {
    target: Target,
    rotation: Rotation,
}

impl IoConnector {
    pub(crate) fn new(target: &Target) -> Self {
        Self { target: target.clone(), rotation: Rotation::new(target) }
    }
}

impl Connector for IoConnector {
    type Transport = AnyTransport;
    type Connecting = Pin<Box<dyn Future<Output = Result<AnyTransport>> + Send>>;

    fn connect(&mut self) -> Self::Connecting {
        let target = self.target.clone();
        let address = self.rotation.advance();
        Box::pin(async move { target.connect_to(address?).await })
    }

    fn hosts(&self) -> usize {
        self.rotation.len()
    }

    fn host(&self) -> String {
        self.rotation.current()
    }
}

/// Connects to the hosts of a [`Builder`](crate::Builder) in turn, with sockets on a [`Reactor`](crate::Reactor): see
/// [`Builder::connect_on`](crate::Builder::connect_on).
#[derive(Debug)]
pub struct ReactorConnector {
    target: Target,
    rotation: Rotation,
    reactor: ReactorHandle,
}

impl ReactorConnector {
    pub(crate) fn new(target: &Target, reactor: &ReactorHandle) -> Self {
        Self { target: target.clone(), rotation: Rotation::new(target), reactor: reactor.clone() }
    }
}

impl Connector for ReactorConnector {
    type Transport = AnyTransport;
    type Connecting = Pin<Box<dyn Future<Output = Result<AnyTransport>> + Send>>;

    fn connect(&mut self) -> Self::Connecting {
        let target = self.target.clone();
        let address = self.rotation.advance();
        let reactor = self.reactor.clone();
        Box::pin(async move { target.connect_on_to(&reactor, address?).await })
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
