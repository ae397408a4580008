//! Where a connection goes: the URI, hosts, TLS and WebSockets.

use std::time::Duration;

use super::Builder;
use crate::auth::sasl::{self, Credentials};
use crate::io::addresses::Resolver;
use crate::io::dial::Target;
#[cfg(feature = "tls")]
use crate::io::tls::Tls;
#[cfg(feature = "tls")]
use crate::uri::Scheme;
use crate::uri::{Address, Uri};
use crate::{Error, ErrorKind, Result};

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
    /// `auth_mechanism`, `spin` (microseconds, see [`Builder::spin`]), and for TLS
    /// `cacertfile`, `certfile`, `keyfile`, `verify`, `server_name_indication`.
    ///
    /// An invalid URI is reported when connecting, without its password.
    pub fn uri(mut self, uri: &str) -> Self {
        match uri.parse::<Uri>() {
            Ok(uri) => self.apply(uri),
            Err(error) => self.flaw(error),
        }
        self
    }

    /// Sets the resolver of host names, in place of the operating system's: for the names of a service registry, or to
    /// choose among the addresses of a name. It is called with host and port, before each attempt at a host that is not
    /// given as an address. It may block, because it runs on a thread of its own; a call that takes longer than
    /// `connect_timeout` is abandoned.
    ///
    /// If a name has several addresses, the connection tries one after the other, IPv6 and IPv4 in turn. The next try
    /// begins when the previous one has failed or has taken 250 milliseconds (less with a short `connect_timeout`), and
    /// the first address that accepts is used ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)). If the handshake
    /// then fails or takes longer than its share of `connect_timeout`, the other addresses are tried in the remaining
    /// time. The next attempt to connect begins with another address.
    ///
    /// ```
    /// let builder = hopmq::Connection::builder().host("orders-broker").resolver(|_host, port| {
    ///     Ok(vec![([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], port).into()])
    /// });
    /// ```
    pub fn resolver(
        mut self,
        lookup: impl Fn(&str, u16) -> std::io::Result<Vec<std::net::SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.target.resolver = Resolver::new(lookup);
        self
    }

    /// Returns the target of a connection with the present settings.
    pub(super) fn target(&self) -> Target {
        Target { connect_timeout: self.connect_timeout, ..self.target.clone() }
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
        self.limits.spin = uri.spin.unwrap_or(self.limits.spin);
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
        // The system takes whole milliseconds in 31 bits, and zero means its default.
        let millis = timeout.as_nanos().div_ceil(1_000_000).clamp(1, i32::MAX as u128);
        self.target.user_timeout = Some(Duration::from_millis(millis as u64));
        self
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
}
