//! The way from a URI to a byte stream: the order of the hosts, and the layers on top of the socket.
//!
//! Owns the order in which hosts are tried and the layers (TLS, WebSocket) that a scheme needs. The sockets belong to a
//! runtime: see `net` and `tokio`.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use crate::error::{Error, ErrorKind, Result};
use crate::io::Transport;
use crate::io::addresses::{Addresses, Resolver};
use crate::io::connector::Connector;
use crate::io::race::{self, Network};
#[cfg(feature = "tls")]
use crate::io::tls::Tls;
use crate::uri::{Address, Scheme};

/// The hosts and the way to connect to them.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) hosts: Vec<Address>,
    pub(crate) path: String,
    /// Returns the addresses of the hosts.
    pub(crate) resolver: Resolver,
    /// How long an attempt at one host may take.
    pub(crate) connect_timeout: Duration,
    /// How long sent bytes may stay unacknowledged by the peer's TCP.
    pub(crate) user_timeout: Option<Duration>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Tls,
    #[cfg(feature = "websocket")]
    pub(crate) protocols: Vec<String>,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            scheme: Scheme::Amqp,
            hosts: vec![Address { host: "localhost".to_owned(), port: Scheme::Amqp.default_port() }],
            path: String::new(),
            resolver: Resolver::default(),
            connect_timeout: Duration::from_secs(10),
            user_timeout: None,
            #[cfg(feature = "tls")]
            tls: Tls::new(),
            #[cfg(feature = "websocket")]
            protocols: Vec::new(),
        }
    }
}

/// A byte stream to a broker, of any kind.
pub type AnyTransport = Box<dyn SendTransport>;

/// A [`Transport`] that may move between threads.
pub trait SendTransport: Transport + Send {}

impl<T: Transport + Send + ?Sized> SendTransport for T {}

impl Target {
    /// Connects a socket to one of the addresses of `host`.
    pub(crate) async fn socket<N: Network>(&self, network: &N, host: &Host) -> Result<N::Socket> {
        race::connect(network, &host.address, &host.addresses, &self.resolver, self.connect_timeout).await
    }

    /// Configures a connected TCP socket.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn tune<S: std::os::fd::AsFd>(&self, socket: &S) -> std::io::Result<()> {
        match self.user_timeout {
            Some(timeout) => socket2::SockRef::from(socket).set_tcp_user_timeout(Some(timeout)),
            None => Ok(()),
        }
    }

    /// Does nothing: this system has no such setting.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn tune<S>(&self, _: &S) -> std::io::Result<()> {
        let _ = self.user_timeout;
        Ok(())
    }

    /// Adds the layers that the scheme needs on top of a socket.
    pub(crate) async fn layer<S>(&self, address: &Address, socket: S) -> Result<AnyTransport>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let scheme = self.scheme;
        let transport: AnyTransport =
            if scheme.is_tls() { self.over_tls(&address.host, socket).await? } else { Box::new(socket) };
        if scheme.is_websocket() { self.over_websocket(address, transport).await } else { Ok(transport) }
    }

    #[cfg(feature = "tls")]
    async fn over_tls<S>(&self, host: &str, socket: S) -> Result<AnyTransport>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Ok(Box::new(crate::io::tls::connect(&self.tls, host, socket).await?))
    }

    #[cfg(not(feature = "tls"))]
    async fn over_tls<S>(&self, _host: &str, _socket: S) -> Result<AnyTransport> {
        Err(Error::new(ErrorKind::Config, "TLS is not compiled in: enable the feature `tls` of hopmq"))
    }

    #[cfg(feature = "websocket")]
    async fn over_websocket(&self, address: &Address, transport: AnyTransport) -> Result<AnyTransport> {
        let Target { scheme, path, protocols, .. } = self;
        let (host, port) = (&address.host, address.port);
        let stream = crate::io::websocket::connect(host, port, path, protocols, scheme.is_tls(), transport).await?;
        Ok(Box::new(stream))
    }

    #[cfg(not(feature = "websocket"))]
    async fn over_websocket(&self, _address: &Address, _transport: AnyTransport) -> Result<AnyTransport> {
        Err(Error::new(ErrorKind::Config, "WebSockets are not compiled in: enable the feature `websocket` of hopmq"))
    }
}

/// A host, and what is known of its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) address: Address,
    addresses: Arc<Mutex<Addresses>>,
}

/// The hosts of a connection, tried in turn.
#[derive(Debug)]
pub(crate) struct Rotation {
    hosts: Vec<Host>,
    next: usize,
    current: Option<Host>,
}

impl Rotation {
    pub(crate) fn new(target: &Target) -> Self {
        let hosts = target.hosts.iter().cloned();
        let hosts = hosts.map(|address| Host { address, addresses: Arc::default() }).collect();
        Self { hosts, next: 0, current: None }
    }

    /// Returns the next host.
    pub(crate) fn advance(&mut self) -> Result<Host> {
        let host = self.hosts.get(self.next % self.hosts.len().max(1)).cloned();
        self.next = (self.next + 1) % self.hosts.len().max(1);
        self.current.clone_from(&host);
        let host = host.ok_or_else(no_host)?;
        race::lock(&host.addresses).restart();
        Ok(host)
    }

    /// Returns the host of the latest attempt again.
    pub(crate) fn again(&self) -> Result<Host> {
        self.current.clone().ok_or_else(no_host)
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Returns how many addresses of the present host remain if the attempt fails.
    pub(crate) fn addresses_left(&self) -> usize {
        self.current.as_ref().map_or(0, |host| race::lock(&host.addresses).left())
    }

    pub(crate) fn current(&self) -> String {
        let Some(Host { address, addresses }) = &self.current else { return "the broker".to_owned() };
        match race::lock(addresses).current() {
            Some(socket_address) => format!("{address} ({})", socket_address.ip()),
            None => address.to_string(),
        }
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<AnyTransport>> + Send>>;

/// Connects to the hosts of a [`Builder`](crate::Builder) in turn, with the sockets of the runtime that the builder was
/// asked for: the connector of [`Builder::connect`](crate::Builder::connect) and its siblings.
pub struct HostConnector {
    rotation: Rotation,
    dial: Box<dyn Fn(Host) -> Connecting + Send + Sync>,
}

impl HostConnector {
    /// Returns a connector that connects to each host with `dial`.
    pub(crate) fn new<F>(target: Target, dial: impl Fn(Target, Host) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<AnyTransport>> + Send + 'static,
    {
        let rotation = Rotation::new(&target);
        Self { rotation, dial: Box::new(move |host| Box::pin(dial(target.clone(), host))) }
    }

    fn connect_to(&self, host: Result<Host>) -> Connecting {
        host.map_or_else(|error| Box::pin(ready(Err(error))) as Connecting, &self.dial)
    }
}

impl Connector for HostConnector {
    type Transport = AnyTransport;
    type Connecting = Connecting;

    fn connect(&mut self) -> Connecting {
        let host = self.rotation.advance();
        self.connect_to(host)
    }

    fn addresses_left(&self) -> usize {
        self.rotation.addresses_left()
    }

    fn connect_again(&mut self) -> Connecting {
        let host = self.rotation.again();
        self.connect_to(host)
    }

    fn hosts(&self) -> usize {
        self.rotation.len()
    }

    fn host(&self) -> String {
        self.rotation.current()
    }
}

impl fmt::Debug for HostConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConnector").field("rotation", &self.rotation).finish_non_exhaustive()
    }
}

/// Returns the error of a Unix socket that could not be reached.
#[cfg(all(feature = "unix", unix))]
pub(crate) fn no_such_socket(path: &str, error: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Io, format!("{path} can't be reached"), error)
}

/// Returns the error of a build without Unix sockets.
#[cfg(not(all(feature = "unix", unix)))]
pub(crate) fn no_unix() -> Error {
    Error::new(ErrorKind::Config, "amqp+unix:// is not compiled in: enable the feature `unix` of hopmq")
}

fn no_host() -> Error {
    Error::new(ErrorKind::Config, "no host is set: call uri(), host() or hosts()")
}

/// Returns the error of a host that could not be reached.
pub(crate) fn unreachable(address: &Address, error: std::io::Error) -> Error {
    let guess = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => " (is a broker running there, and on this port?)",
        _ => "",
    };
    Error::with_source(ErrorKind::Io, format!("{address} can't be reached{guess}"), error)
}
