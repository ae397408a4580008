//! The sections of the settings, and their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::units::{Secret, Size, Time};

/// All settings. By default, a gateway listens on 127.0.0.1:15670 and connects to the RabbitMQ on the same machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address that pages connect to.
    pub listen: SocketAddr,
    /// The address of `/healthz`, `/readyz` and `/metrics`, if other than `listen`.
    pub admin: Option<SocketAddr>,
    /// A folder whose files are served, for development.
    #[serde(rename = "static")]
    pub static_folder: Option<PathBuf>,
    /// What is logged, and in which format.
    pub log: Log,
    /// The RabbitMQs behind the gateway.
    pub upstream: Upstream,
    /// Which pages may connect.
    pub origin: Origin,
    /// Which reverse proxies are trusted.
    pub proxy: Proxy,
    /// Timeouts and sizes of the WebSockets.
    pub websocket: WebSocket,
    /// Limits for one address, one user and all clients together.
    pub limits: Limits,
    /// How the gateway shuts down.
    pub drain: Drain,
    /// How clients authenticate, and what they may do.
    pub auth: Auth,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 15670)),
            admin: None,
            static_folder: None,
            log: Log::default(),
            upstream: Upstream::default(),
            origin: Origin::default(),
            proxy: Proxy::default(),
            websocket: WebSocket::default(),
            limits: Limits::default(),
            drain: Drain::default(),
            auth: Auth::default(),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,hopmq_gateway=debug`.
    pub level: String,
    /// The format of a line.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// `[upstream]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// The hosts: `amqp://host:port` or `amqps://host:port`, without user or path.
    pub hosts: Vec<String>,
    /// The timeout of connecting to one host, TLS included.
    pub connect_timeout: Time,
    /// The interval at which each host is checked.
    pub check_interval: Time,
    /// A PEM file with the authority of the hosts' certificates; by default, the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// Whether each connection begins with a header of the PROXY protocol, version 2, that has the page's address.
    pub proxy_protocol: bool,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            hosts: vec!["amqp://localhost:5672".to_owned()],
            connect_timeout: Time::seconds(5),
            check_interval: Time::seconds(5),
            ca_file: None,
            proxy_protocol: false,
        }
    }
}

/// `[origin]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// The allowed origins: `same-origin`, `*`, `null`, or origins such as `https://example.com`.
    pub allow: Vec<String>,
    /// Whether clients without an `Origin` header are refused. Browsers always send one.
    pub require: bool,
    /// The host names of this gateway. Unless empty, other `Host` headers are refused.
    pub hosts: Vec<String>,
}

impl Default for Origin {
    fn default() -> Self {
        Self { allow: vec!["same-origin".to_owned()], require: false, hosts: Vec::new() }
    }
}

/// `[proxy]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// The networks whose forwarded headers are trusted.
    pub trusted: Vec<IpNet>,
    /// The header that the proxies write.
    pub header: ProxyHeader,
}

/// The header in which a proxy names the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Host`.
    XForwardedFor,
    /// `Forwarded` of RFC 7239.
    Forwarded,
}

impl Default for Proxy {
    fn default() -> Self {
        Self { trusted: Vec::new(), header: ProxyHeader::XForwardedFor }
    }
}

/// `[websocket]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// The known subprotocols. The first of them that a client offers is echoed.
    pub subprotocols: Vec<String>,
    /// The silence after which a client is pinged.
    pub ping_interval: Time,
    /// The silence after which a client is disconnected.
    pub ping_timeout: Time,
    /// How long a client may take to read what it was sent.
    pub stall_timeout: Time,
    /// The largest WebSocket message that a client may send.
    pub message_max: Size,
    /// How long a client may take to answer a close.
    pub close_timeout: Time,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            subprotocols: vec!["amqp".to_owned(), "amqp091".to_owned()],
            ping_interval: Time::seconds(30),
            ping_timeout: Time::seconds(75),
            stall_timeout: Time::seconds(30),
            message_max: Size(4 << 20),
            close_timeout: Time::seconds(5),
        }
    }
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The timeout from the upgrade to `connection.open-ok`.
    pub login_timeout: Time,
    /// The largest frame before the login.
    pub login_frame_max: Size,
    /// The largest frame after the login; RabbitMQ's proposal is lowered to it.
    pub frame_max: Size,
    /// The highest channel number; RabbitMQ's proposal is lowered to it.
    pub channels: u16,
    /// Open WebSockets of all clients.
    pub connections: usize,
    /// Open WebSockets of one address.
    pub connections_per_address: usize,
    /// Open connections of one user.
    pub connections_per_user: usize,
    /// Connections of all clients that have not logged in, as WebSockets and before they are.
    pub pending_logins: usize,
    /// Connections of one address that have not logged in, as WebSockets and before they are.
    pub pending_logins_per_address: usize,
    /// Upgrades of one address per minute.
    pub upgrades_per_minute: u32,
    /// Refused logins of one address per minute; 0 is no limit.
    pub refused_logins_per_minute: u32,
    /// Messages per second that one user may publish, over all connections; 0 is no limit.
    pub messages_per_second: u32,
    /// Bytes per second that one user may send, over all connections; 0 is no limit.
    pub bytes_per_second: Size,
    /// Temporary queues that one connection may have, where a policy applies: exclusive ones, those that RabbitMQ
    /// deletes after their last consumer, and those that it names.
    pub temporary_queues: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_timeout: Time::seconds(10),
            login_frame_max: Size(16 << 10),
            frame_max: Size(128 << 10),
            channels: 256,
            connections: 10_000,
            connections_per_address: 200,
            connections_per_user: 200,
            pending_logins: 1000,
            pending_logins_per_address: 100,
            upgrades_per_minute: 300,
            refused_logins_per_minute: 30,
            messages_per_second: 0,
            bytes_per_second: Size(0),
            temporary_queues: 256,
        }
    }
}

/// `[drain]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// The time over which closes are spread, so that clients do not all reconnect at once.
    pub spread: Time,
    /// The time after which the remaining connections are dropped.
    pub deadline: Time,
}

impl Default for Drain {
    fn default() -> Self {
        Self { spread: Time::seconds(10), deadline: Time::seconds(30) }
    }
}

/// `[auth]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Users that RabbitMQ would let in, and who may only log in from a page whose address is loopback. RabbitMQ has
    /// the same setting, and sees the gateway's address.
    pub loopback_users: Vec<String>,
    /// JSON Web Tokens as the password of PLAIN.
    pub jwt: Option<Jwt>,
    /// Signed tickets in the URL.
    pub ticket: Option<Ticket>,
    /// The policies. The first whose `when` matches the token applies.
    pub policy: Vec<Policy>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { loopback_users: vec!["guest".to_owned()], jwt: None, ticket: None, policy: Vec::new() }
    }
}

/// `[auth.jwt]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// The shared secret of HS256, HS384 and HS512.
    pub secret: Option<Secret>,
    /// A file that holds the shared secret.
    pub secret_file: Option<PathBuf>,
    /// A JWKS file with the issuer's public keys.
    pub jwks_file: Option<PathBuf>,
    /// A URL of a JWKS, which is fetched every five minutes.
    pub jwks_url: Option<String>,
    /// The accepted algorithms.
    pub algorithms: Vec<String>,
    /// The required issuer (`iss`).
    pub issuer: String,
    /// The required audience (`aud`).
    pub audience: String,
    /// The allowed clock skew.
    pub leeway: Option<Time>,
}

/// `[auth.ticket]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ticket {
    /// The shared secret (HS256).
    pub secret: Option<Secret>,
    /// A file that holds the shared secret.
    pub secret_file: Option<PathBuf>,
    /// The longest lifetime of a ticket, at most 60 s.
    pub max_age: Option<Time>,
    /// The URL parameter that holds the ticket.
    pub parameter: Option<String>,
}

/// `[[auth.policy]]`: what the bearers of matching tokens may do, and as which RabbitMQ user.
///
/// In `username`, `vhost` and all patterns, `{claim}` is replaced by that claim of the token. In patterns, `*` matches
/// any characters except dots, and `#` any characters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Claims that the token must have. A value matches an equal claim, an entry of a list, or a word of a text.
    pub when: BTreeMap<String, String>,
    /// The RabbitMQ user.
    pub username: String,
    /// The password of the RabbitMQ user.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The virtual host.
    pub vhost: Option<String>,
    /// Exchanges that may be published to.
    pub publish: Vec<Route>,
    /// Queues that may be consumed from, got from and purged.
    pub consume: Vec<String>,
    /// Queues that may be declared, bound and deleted.
    pub queues: Vec<String>,
    /// Exchanges that may be declared, bound to others and deleted.
    pub exchanges: Vec<String>,
    /// Exchanges that may be bound to.
    pub bind: Vec<Route>,
    /// Whether exclusive queues with names from RabbitMQ may be declared and used.
    pub temporary_queues: bool,
    /// The largest message that may be published; 0 is no limit.
    pub message_max: Option<Size>,
    /// Messages per second; overrides `limits.messages_per_second`.
    pub messages_per_second: Option<u32>,
    /// Bytes per second; overrides `limits.bytes_per_second`.
    pub bytes_per_second: Option<Size>,
}

/// An exchange, with any or some routing keys.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "write the name of an exchange, or { exchange = \"…\", routing_key = \"…\" }")]
pub enum Route {
    /// A pattern for the exchange, with any routing key.
    Exchange(String),
    /// Patterns for the exchange and the routing key.
    Keys(RouteKeys),
}

/// Patterns for an exchange and its routing keys.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RouteKeys {
    /// A pattern for the exchange. The default exchange is `""`.
    pub exchange: String,
    /// A pattern for the routing key.
    pub routing_key: String,
}
