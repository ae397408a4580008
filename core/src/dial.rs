//! From a URI to a stream of bytes: which hosts, and which layers on top of the socket.
//!
//! Owns the order in which hosts are tried and the layers (TLS, WebSocket) that a scheme asks for. The sockets
//! themselves are a runtime's: see `net` and `tokio_net`.

use std::future::Future;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future;
use tracing::debug;

use crate::driver::Transport;
use crate::sasl::{self, Credentials};
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::uri::{Address, Scheme, Uri};
use crate::{Builder, Error, ErrorKind, Result};

/// Where to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) hosts: Vec<Address>,
    pub(crate) path: String,
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
            #[cfg(feature = "tls")]
            tls: Tls::new(),
            #[cfg(feature = "websocket")]
            protocols: Vec::new(),
        }
    }
}

/// A stream of bytes to a broker, whatever it is made of.
pub type AnyTransport = Box<dyn SendTransport>;

/// A [`Transport`] that may move between threads.
pub trait SendTransport: Transport + Send {}

impl<T: Transport + Send + ?Sized> SendTransport for T {}

impl Builder {
    /// Takes everything that an AMQP URI says, in place of what was set before (RabbitMQ's
    /// [URI specification](https://www.rabbitmq.com/docs/uri-spec) and
    /// [query parameters](https://www.rabbitmq.com/docs/uri-query-parameters)).
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
    /// A URI that makes no sense is told when connecting, without its password.
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

    /// The host to connect to, with a port or without: `rabbit:5673`.
    pub fn host(self, host: &str) -> Self {
        self.hosts([host])
    }

    /// Hosts to be tried in turn until one lets us in.
    pub fn hosts<'h>(mut self, hosts: impl IntoIterator<Item = &'h str>) -> Self {
        let port = self.target.scheme.default_port();
        match hosts.into_iter().map(|host| Address::parse(host, port)).collect::<Result<Vec<_>>>() {
            Ok(hosts) if hosts.is_empty() => self.flaw(Error::new(ErrorKind::Config, "no host to connect to")),
            Ok(hosts) => self.target.hosts = hosts,
            Err(error) => self.flaw(error),
        }
        self
    }

    /// Connects by TLS, with these settings. A URI that begins with `amqps` or `wss` turns TLS on with the platform's
    /// trust.
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

    /// The subprotocols to offer over a WebSocket. The default is none; LavinMQ likes `amqp091`.
    #[cfg(feature = "websocket")]
    pub fn websocket_protocols<'p>(mut self, protocols: impl IntoIterator<Item = &'p str>) -> Self {
        self.target.protocols = protocols.into_iter().map(str::to_owned).collect();
        self
    }

    /// Tries the hosts in turn, each within `connect_timeout`.
    pub(crate) async fn try_hosts<C, F: Future<Output = Result<C>>, S: Future<Output = ()>>(
        &self,
        attempt: impl Fn(Address) -> F,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<C> {
        if let Some(flaw) = &self.flaw {
            return Err(flaw.clone());
        }
        let mut failures: Vec<String> = Vec::new();
        for address in &self.target.hosts {
            debug!(%address, "connecting");
            let late = async {
                sleep(self.connect_timeout).await;
                let time = self.connect_timeout;
                Err(Error::new(ErrorKind::Timeout, format!("{address} did not let us in within {time:?}")))
            };
            let error = match future::or(attempt(address.clone()), late).await {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            debug!(%address, %error, "could not connect");
            // What is wrong with who we are or what we ask for is wrong at every host.
            let final_kinds = [ErrorKind::Authentication, ErrorKind::Config, ErrorKind::Usage];
            if self.target.hosts.len() == 1 || final_kinds.contains(&error.kind()) {
                return Err(error);
            }
            failures.push(format!("{address}: {error}"));
            if failures.len() == self.target.hosts.len() {
                return Err(Error::new(error.kind(), format!("no host let us in: {}", failures.join("; "))));
            }
        }
        Err(Error::new(ErrorKind::Config, "no host to connect to"))
    }

    /// Puts the layers on a socket that the scheme asks for.
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
        Ok(Box::new(crate::tls::connect(&self.target.tls, host, socket).await?))
    }

    #[cfg(not(feature = "tls"))]
    async fn over_tls<S>(&self, _host: &str, _socket: S) -> Result<AnyTransport> {
        Err(Error::new(ErrorKind::Config, "TLS needs the feature `tls` of hopmq"))
    }

    #[cfg(feature = "websocket")]
    async fn over_websocket(&self, address: &Address, transport: AnyTransport) -> Result<AnyTransport> {
        let Target { scheme, path, protocols, .. } = &self.target;
        let (host, port) = (&address.host, address.port);
        let stream = crate::websocket::connect(host, port, path, protocols, scheme.is_tls(), transport).await?;
        Ok(Box::new(stream))
    }

    #[cfg(not(feature = "websocket"))]
    async fn over_websocket(&self, _address: &Address, _transport: AnyTransport) -> Result<AnyTransport> {
        Err(Error::new(ErrorKind::Config, "ws:// and wss:// need the feature `websocket` of hopmq"))
    }
}

/// Names which host could not be reached.
pub(crate) fn unreachable(address: &Address, error: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Io, format!("{address} can't be reached"), error)
}
