//! Sockets that are independent of the caller's runtime: on async-io's reactor, or on a [`Reactor`](crate::Reactor).

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::Async;
use hopmq_proto::Time;
use hopmq_socket::Socket;

use crate::error::Result;
#[cfg(all(feature = "unix", unix))]
use crate::io::dial::no_such_socket;
#[cfg(not(all(feature = "unix", unix)))]
use crate::io::dial::no_unix;
use crate::io::dial::{AnyTransport, Host, Target, unreachable};
use crate::io::race::Network;
use crate::io::reactor::{ReactorHandle, Socket as ReactorSocket};
use crate::io::timer::{Clock, Timer};
use crate::io::unblock::unblock;
use crate::process::Process;

impl Target {
    /// Connects to `host` with a socket on async-io's reactor.
    pub(crate) async fn connect_to(&self, host: &Host) -> Result<AnyTransport> {
        // The reactor of async-io is a thread and an event queue of the process that used it first.
        static FIRST: OnceLock<Process> = OnceLock::new();
        let first = *FIRST.get_or_init(Process::current);
        if first.is_other() {
            return Err(first.error("the reactor of `connect`", "use `open`, `connect_on` or hopmq-blocking"));
        }
        if self.scheme.is_unix() {
            return self.unix_socket().await;
        }
        let socket = self.socket(&IoNetwork, host).await?;
        self.tune(socket.get_ref()).map_err(|error| unreachable(&host.address, error))?;
        self.layer(&host.address, socket).await
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

    /// Connects to `host` with a socket on `reactor`.
    pub(crate) async fn connect_on_to(&self, reactor: &ReactorHandle, host: &Host) -> Result<AnyTransport> {
        reactor.check_process()?;
        if self.scheme.is_unix() {
            return self.unix_socket_on(reactor);
        }
        let socket = self.socket(reactor, host).await?;
        self.tune(socket.get_ref()).map_err(|error| unreachable(&host.address, error))?;
        self.layer(&host.address, socket).await
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

/// Sockets and timers on async-io's reactor.
struct IoNetwork;

impl Network for IoNetwork {
    type Socket = Socket;

    async fn unblock<T: Send + 'static>(
        &self,
        function: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        unblock(function).await?
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Async::<TcpStream>::connect(address).await?;
        socket.get_ref().set_nodelay(true)?;
        Ok(Socket::new(socket))
    }

    async fn sleep(&self, time: Duration) {
        async_io::Timer::after(time).await;
    }
}

impl Network for ReactorHandle {
    type Socket = ReactorSocket<mio::net::TcpStream>;

    async fn unblock<T: Send + 'static>(
        &self,
        function: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        unblock(function).await?
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Socket> {
        self.connect_tcp(address).await
    }

    async fn sleep(&self, time: Duration) {
        self.wait(time).await;
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
