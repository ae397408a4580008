//! The way from a URI to a byte stream: the order of the hosts, and the layers on top of the socket.
//!
//! Owns the order in which hosts are tried and the layers (TLS, WebSocket) that a scheme needs. The sockets belong to a
//! runtime: see `net` and `tokio`.

use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use crate::auth::sasl::{self, Credentials};
use crate::io::Transport;
#[cfg(feature = "tls")]
use crate::io::tls::Tls;
use crate::uri::{Address, Scheme, Uri};
use crate::{Builder, Error, ErrorKind, Result};

/// The hosts and the way to connect to them.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) hosts: Vec<Address>,
    pub(crate) path: String,
    /// How long sent bytes may stay unacknowledged by the peer's TCP.
    user_timeout: Option<Duration>,
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

impl Builder {
    /// Takes the settings of an AMQP URI, replacing those set before (RabbitMQ's [URI
    /// specification](https://www.rabbitmq.com/docs/uri-spec) and [query
    /// parameters](https://www.rabbitmq.com/docs/uri-query-parameters)).
    ///
    /// | | |
    /// | --- | --- |
    /// | `amqp://user:password@host:port/vhost` | over TCP |
    /// | `amqps://…` | over TLS (feature `tls`) |
    /// | `amqp://a,b:5673,c/vhost` | several hosts, tried in turn |
    /// | `ws://host/path?vhost=…`, `wss://…` | over a WebSocket (feature `websocket`) |
    /// | `amqp+unix:///path/to/socket?vhost=…` | over a Unix socket (feature `unix`) |
    ///
    /// Parameters: `heartbeat` (seconds), `connection_timeout` (milliseconds), `channel_max`, `frame_max`,
    /// `auth_mechanism`, and for TLS `cacertfile`, `certfile`, `keyfile`, `verify`, `server_name_indication`.
    ///
    /// An invalid URI is reported when connecting, without its password.
    pub fn uri(mut self, uri: &str) -> Self {
        match uri.parse::<Uri>() {
            Ok(uri) => self.apply(uri),
            Err(error) => self.flaw(error),
        }
        self
    }

    fn apply(&mut self, uri: Uri) {
        self.target.scheme = uri.scheme;
        self.target.hosts.clone_from(&uri.hosts);
        if uri.scheme.is_unix() {
            self.target.hosts = vec![Address { host: uri.path.clone(), port: 0 }];
        }
        self.target.path.clone_from(&uri.path);
        #[cfg(feature = "tls")]
        {
            self.target.tls = self.target.tls.clone().with_query(&uri.tls);
        }
        self.config.vhost.clone_from(&uri.vhost);
        if uri.username.is_some() || uri.password.is_some() {
            let username = uri.username.as_deref().unwrap_or("guest");
            let password = uri.password.as_deref().unwrap_or("guest");
            self.credentials = std::sync::Arc::new(Credentials::new(username, password));
        }
        self.config.heartbeat = uri.heartbeat.or(self.config.heartbeat);
        self.connect_timeout = uri.connection_timeout.unwrap_or(self.connect_timeout);
        self.config.channel_max = uri.channel_max.unwrap_or(self.config.channel_max);
        self.config.frame_max = uri.frame_max.unwrap_or(self.config.frame_max);
        let named = uri.auth_mechanisms.iter().filter_map(|name| sasl::built_in(name));
        let named: Vec<_> = named.map(|(_, mechanism)| mechanism).collect();
        if !named.is_empty() {
            self.mechanisms = named;
        }
    }

    /// Sets the host to connect to, with or without a port: `rabbit:5673`.
    pub fn host(self, host: &str) -> Self {
        self.hosts([host])
    }

    /// Sets several hosts, which are tried in turn until one accepts the connection.
    pub fn hosts<'h>(mut self, hosts: impl IntoIterator<Item = &'h str>) -> Self {
        let port = self.target.scheme.default_port();
        match hosts.into_iter().map(|host| Address::parse(host, port)).collect::<Result<Vec<_>>>() {
            Ok(hosts) if hosts.is_empty() => self.flaw(Error::new(ErrorKind::Config, "the list of hosts is empty")),
            Ok(hosts) => self.target.hosts = hosts,
            Err(error) => self.flaw(error),
        }
        self
    }

    /// Sets how long the peer's TCP may acknowledge none of the sent bytes before the link is considered lost (Linux's
    /// `TCP_USER_TIMEOUT`, in whole milliseconds).
    ///
    /// With it, a busy link that leads nowhere is noticed after this time, rather than after two heartbeat intervals,
    /// and so is a peer that accepts no bytes, rather than after [`write_timeout`](Builder::write_timeout). An idle
    /// link is still noticed only by heartbeats.
    ///
    /// The default is the system's, many minutes. The setting has no effect on other systems and over Unix sockets.
    /// Choose more than the longest network outage that the link should survive.
    pub fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.target.user_timeout = Some(timeout.max(Duration::from_millis(1)));
        self
    }

    /// Configures a connected TCP socket.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn tune<S: std::os::fd::AsFd>(&self, socket: &S) -> std::io::Result<()> {
        match self.target.user_timeout {
            Some(timeout) => socket2::SockRef::from(socket).set_tcp_user_timeout(Some(timeout)),
            None => Ok(()),
        }
    }

    /// Does nothing: this system has no such setting.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn tune<S>(&self, _: &S) -> std::io::Result<()> {
        let _ = self.target.user_timeout;
        Ok(())
    }

    /// Connects by TLS, with these settings. A URI with `amqps` or `wss` uses TLS with the platform's trusted roots by
    /// default.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        if self.target.scheme == Scheme::Amqp {
            self.target.scheme = Scheme::Amqps;
            for address in &mut self.target.hosts {
                if address.port == Scheme::Amqp.default_port() {
                    address.port = Scheme::Amqps.default_port();
                }
            }
        }
        self.target.tls = tls;
        self
    }

    /// Sets the subprotocols to offer over a WebSocket. The default is none; LavinMQ prefers `amqp091`.
    #[cfg(feature = "websocket")]
    pub fn websocket_protocols<'p>(mut self, protocols: impl IntoIterator<Item = &'p str>) -> Self {
        self.target.protocols = protocols.into_iter().map(str::to_owned).collect();
        self
    }

    /// Adds the layers that the scheme needs on top of a socket.
    pub(crate) async fn layer<S>(&self, address: &Address, socket: S) -> Result<AnyTransport>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let scheme = self.target.scheme;
        let transport: AnyTransport =
            if scheme.is_tls() { self.over_tls(&address.host, socket).await? } else { Box::new(socket) };
        if scheme.is_websocket() { self.over_websocket(address, transport).await } else { Ok(transport) }
    }

    #[cfg(feature = "tls")]
    async fn over_tls<S>(&self, host: &str, socket: S) -> Result<AnyTransport>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Ok(Box::new(crate::io::tls::connect(&self.target.tls, host, socket).await?))
    }

    #[cfg(not(feature = "tls"))]
    async fn over_tls<S>(&self, _host: &str, _socket: S) -> Result<AnyTransport> {
        Err(Error::new(ErrorKind::Config, "TLS is not compiled in: enable the feature `tls` of hopmq"))
    }

    #[cfg(feature = "websocket")]
    async fn over_websocket(&self, address: &Address, transport: AnyTransport) -> Result<AnyTransport> {
        let Target { scheme, path, protocols, .. } = &self.target;
        let (host, port) = (&address.host, address.port);
        let stream = crate::io::websocket::connect(host, port, path, protocols, scheme.is_tls(), transport).await?;
        Ok(Box::new(stream))
    }

    #[cfg(not(feature = "websocket"))]
    async fn over_websocket(&self, _address: &Address, _transport: AnyTransport) -> Result<AnyTransport> {
        Err(Error::new(ErrorKind::Config, "WebSockets are not compiled in: enable the feature `websocket` of hopmq"))
    }
}

/// The hosts of a connection, tried in turn.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    hosts: Vec<Address>,
    next: usize,
    current: Option<Address>,
}

impl Rotation {
    pub(crate) fn new(target: &Target) -> Self {
        Self { hosts: target.hosts.clone(), next: 0, current: None }
    }

    pub(crate) fn advance(&mut self) -> Result<Address> {
        let address = self.hosts.get(self.next % self.hosts.len().max(1)).cloned();
        self.next = (self.next + 1) % self.hosts.len().max(1);
        self.current.clone_from(&address);
        address.ok_or_else(|| Error::new(ErrorKind::Config, "no host is set: call uri(), host() or hosts()"))
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn current(&self) -> String {
        self.current.as_ref().map_or_else(|| "the broker".to_owned(), ToString::to_string)
    }
}

/// Returns the error of a host that could not be reached.
pub(crate) fn unreachable(address: &Address, error: std::io::Error) -> Error {
    let guess = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => " (is a broker running there, and on this port?)",
        _ => "",
    };
    Error::with_source(ErrorKind::Io, format!("{address} can't be reached{guess}"), error)
}
