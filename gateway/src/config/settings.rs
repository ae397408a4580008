//! The sections of the settings and their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::units::{Secret, Size, Time};

/// All settings. `Config::default()` is a gateway on port 15670 of this machine for the RabbitMQ on it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where pages connect to.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are instead of at `listen`.
    pub admin: Option<SocketAddr>,
    /// A folder of files to serve, for development.
    #[serde(rename = "static")]
    pub static_folder: Option<PathBuf>,
    /// What is logged and how.
    pub log: Log,
    /// The RabbitMQs behind the gateway.
    pub upstream: Upstream,
    /// Which pages may connect.
    pub origin: Origin,
    /// Which proxies stand in front.
    pub proxy: Proxy,
    /// The WebSocket's own rules.
    pub websocket: WebSocket,
    /// What one address, one user and all may take.
    pub limits: Limits,
    /// How the gateway goes away.
    pub drain: Drain,
    /// Who people are, and what they may do.
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
    /// For people or for machines.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
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
    /// `amqp://host:port` or `amqps://host:port`, without user or path.
    pub hosts: Vec<String>,
    /// What connecting to one host may take, with TLS.
    pub connect_timeout: Time,
    /// How often a host is asked whether it is there.
    pub check_interval: Time,
    /// The authority that signed the hosts' certificates; the system's otherwise.
    pub ca_file: Option<PathBuf>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            hosts: vec!["amqp://localhost:5672".to_owned()],
            connect_timeout: Time::seconds(5),
            check_interval: Time::seconds(5),
            ca_file: None,
        }
    }
}

/// `[origin]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// `same-origin`, `*`, `null`, or origins such as `https://example.com`.
    pub allow: Vec<String>,
    /// Whether clients that send no `Origin`, which no browser does, are refused too.
    pub require: bool,
    /// The names that this gateway is reached by. If any are given, other `Host` headers are refused.
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
    /// The networks whose word is taken for who connects.
    pub trusted: Vec<IpNet>,
    /// The header that they write.
    pub header: ProxyHeader,
}

/// Which header a proxy writes.
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
    /// The subprotocols that are echoed if a client offers them.
    pub subprotocols: Vec<String>,
    /// After how much silence a client is pinged.
    pub ping_interval: Time,
    /// After how much silence it is given up.
    pub ping_timeout: Time,
    /// How long a client may take to read what was sent.
    pub stall_timeout: Time,
    /// The largest message that a client may send.
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
    /// From the upgrade to `connection.open-ok`.
    pub login_timeout: Time,
    /// The largest frame before the user is known.
    pub login_frame_max: Size,
    /// The largest frame afterwards; what RabbitMQ proposes is lowered to it.
    pub frame_max: Size,
    /// The highest channel number; what RabbitMQ proposes is lowered to it.
    pub channels: u16,
    /// WebSockets at a time.
    pub connections: usize,
    /// The same for one address.
    pub connections_per_address: usize,
    /// The same for one user.
    pub connections_per_user: usize,
    /// Upgrades a minute for one address.
    pub upgrades_per_minute: u32,
    /// Messages a second that one user may publish, over all connections; 0 is no limit.
    pub messages_per_second: u32,
    /// Bytes a second that one user may send, over all connections; 0 is no limit.
    pub bytes_per_second: Size,
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
            upgrades_per_minute: 300,
            messages_per_second: 0,
            bytes_per_second: Size(0),
        }
    }
}

/// `[drain]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Over how long the goodbyes are spread, so that not all come back at once.
    pub spread: Time,
    /// After how long the rest is dropped.
    pub deadline: Time,
}

impl Default for Drain {
    fn default() -> Self {
        Self { spread: Time::seconds(10), deadline: Time::seconds(30) }
    }
}

/// `[auth]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// JSON Web Tokens as the password of PLAIN.
    pub jwt: Option<Jwt>,
    /// Signed tickets in the URL.
    pub ticket: Option<Ticket>,
    /// Who may do what. The first whose `when` holds counts.
    pub policy: Vec<Policy>,
}

/// `[auth.jwt]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// The shared secret of HS256, HS384 and HS512.
    pub secret: Option<Secret>,
    /// A file that holds it.
    pub secret_file: Option<PathBuf>,
    /// A JWKS file with the issuer's public keys.
    pub jwks_file: Option<PathBuf>,
    /// Where to fetch one.
    pub jwks_url: Option<String>,
    /// The algorithms that are taken.
    pub algorithms: Vec<String>,
    /// Who must have issued the token.
    pub issuer: String,
    /// For whom it must be.
    pub audience: String,
    /// How far clocks may differ.
    pub leeway: Option<Time>,
}

/// `[auth.ticket]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ticket {
    /// The shared secret (HS256).
    pub secret: Option<Secret>,
    /// A file that holds it.
    pub secret_file: Option<PathBuf>,
    /// How long a ticket may live, at most 60 s.
    pub max_age: Option<Time>,
    /// The parameter in the URL.
    pub parameter: Option<String>,
}

/// `[[auth.policy]]`: what those may do whose claims fit, and who they are to RabbitMQ.
///
/// In `username`, `vhost` and all patterns, `{claim}` stands for a claim of the token. In patterns `*` stands for any
/// characters but dots, and `#` for any characters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Claims that the token must have: equal, or one of a list or of words.
    pub when: BTreeMap<String, String>,
    /// RabbitMQ's user.
    pub username: String,
    /// Its password.
    pub password: Option<Secret>,
    /// A file that holds it.
    pub password_file: Option<PathBuf>,
    /// The virtual host.
    pub vhost: Option<String>,
    /// What they may publish to.
    pub publish: Vec<Route>,
    /// Queues that they may consume from, get from and purge.
    pub consume: Vec<String>,
    /// Queues that they may declare and delete.
    pub queues: Vec<String>,
    /// Exchanges that they may declare and delete.
    pub exchanges: Vec<String>,
    /// Exchanges that they may bind queues to.
    pub bind: Vec<Route>,
    /// Whether they may declare exclusive queues that RabbitMQ names, and use those.
    pub temporary_queues: bool,
    /// The largest message that they may publish; 0 is no limit.
    pub message_max: Option<Size>,
    /// Messages a second, in the place of `limits.messages_per_second`.
    pub messages_per_second: Option<u32>,
    /// Bytes a second, in the place of `limits.bytes_per_second`.
    pub bytes_per_second: Option<Size>,
}

/// An exchange, and the routing keys on it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Route {
    /// The exchange, with any key.
    Exchange(String),
    /// The exchange, and the keys.
    Keys(RouteKeys),
}

/// An exchange, and the routing keys on it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RouteKeys {
    /// A pattern for the exchange. The default exchange is `""`.
    pub exchange: String,
    /// A pattern for the routing key.
    pub routing_key: String,
}
