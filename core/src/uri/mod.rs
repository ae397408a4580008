//! The AMQP URI, which names the broker's hosts, the login and the settings of a connection.
//!
//! ```text
//! amqp[s]://user:password@host:port,host2,[::1]:5673/vhost?heartbeat=30
//! ws[s]://user:password@host:port/http/path?vhost=orders
//! amqp+unix://user:password@/path/to/socket?vhost=orders
//! ```
//!
//! The rules are those of [RabbitMQ's URI specification](https://www.rabbitmq.com/docs/uri-spec) and of its
//! [query parameters](https://www.rabbitmq.com/docs/uri-query-parameters), with these decisions:
//!
//! - no path means the vhost `/`, while `amqp://host/` means the vhost with the *empty* name; `/` in a name is `%2f`;
//! - where the path has another meaning (`ws`, `wss`, `amqp+unix`), the vhost is the parameter `vhost`;
//! - all hosts share one user name and password, which precede the first host;
//! - an unknown parameter, a repeated one (except `auth_mechanism`), and a TLS parameter without TLS are errors;
//! - `depth` and `fail_if_no_peer_cert` are Erlang's: they are checked and then ignored, because rustls limits the
//!   chain itself, and only a server can demand a certificate of its peer.
//!
//! No error and no `Debug` output shows the password, nor anything that a badly encoded password could have turned
//! into. So a raw `@` is allowed once, in front of the hosts, and errors do not repeat a bad port.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hopmq_proto::Quoted;

use crate::auth::sasl;
use crate::error::{Error, ErrorKind, Result};

mod query;
#[cfg(test)]
mod tests;

/// The longest virtual host in bytes, which is the limit of an AMQP short string.
const MAX_VHOST: usize = 255;

/// The transport of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Amqp,
    Amqps,
    Ws,
    Wss,
    Unix,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Amqps => "amqps",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "amqp+unix",
        }
    }

    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Amqp => 5672,
            Self::Amqps => 5671,
            Self::Ws => 80,
            Self::Wss => 443,
            Self::Unix => 0,
        }
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Amqps | Self::Wss)
    }

    pub(crate) fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    pub(crate) fn is_unix(self) -> bool {
        self == Self::Unix
    }
}

/// A host name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// Parses `host`, `host:port`, `[v6]` or `[v6]:port`. An empty host is `localhost`.
    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| config("an IPv6 address has no closing ']'"))?;
                let host = decode(host, "host")?;
                let address = host.split_once('%').map_or(&*host, |(address, _zone)| address);
                Ipv6Addr::from_str(address).map_err(|_| config("the text in brackets is not an IPv6 address"))?;
                let port = match port.strip_prefix(':') {
                    None if !port.is_empty() => {
                        return Err(config("after an IPv6 address in brackets, only ':' or '/' may follow"));
                    }
                    port => port,
                };
                (host, port)
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                if port.is_some_and(|port| port.contains(':')) {
                    return Err(config("a host has more than one ':'; write an IPv6 address in brackets"));
                }
                (decode(host, "host")?, port)
            }
        };
        let port = match port {
            None => default_port,
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
                config(
                    "a port is not a number from 1 to 65535. \
                     If the password contains / ? # @ or %, percent-encode it",
                )
            })?,
        };
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        Ok(Self { host, port })
    }
}

/// A parsed AMQP URI.
#[derive(Clone)]
pub(crate) struct Uri {
    pub(crate) scheme: Scheme,
    /// In the order of attempts; never empty, except for a Unix socket.
    pub(crate) hosts: Vec<Address>,
    /// The HTTP path of a WebSocket endpoint, still encoded, or the decoded path of a Unix socket; otherwise empty.
    pub(crate) path: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) vhost: String,
    /// Zero turns heartbeats off.
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) connection_timeout: Option<Duration>,
    pub(crate) spin: Option<Duration>,
    pub(crate) channel_max: Option<u16>,
    pub(crate) frame_max: Option<u32>,
    /// Names of built-in mechanisms in capitals, in order of preference: see [`sasl::built_in`]. Empty means the
    /// default.
    pub(crate) auth_mechanisms: Vec<&'static str>,
    pub(crate) tls: TlsQuery,
}

/// The TLS parameters of a URI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsQuery {
    pub(crate) cacertfile: Option<PathBuf>,
    pub(crate) certfile: Option<PathBuf>,
    pub(crate) keyfile: Option<PathBuf>,
    /// `Some(false)` is `verify_none`.
    pub(crate) verify: Option<bool>,
    pub(crate) server_name: Option<ServerName>,
}

/// The parameter `server_name_indication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerName {
    /// Send this name, and expect it in the certificate.
    Name(String),
    /// Send none; the certificate is still checked against the host.
    Disabled,
}

impl FromStr for Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(config("it contains a space or control character; percent-encode it, or trim the text"));
        }
        let (scheme, rest) = scheme(text)?;
        if rest.contains('#') {
            return Err(config("it contains a '#'; write it as %23"));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let (authority, path) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])));
        if path.is_some_and(|path| path.contains('@')) || query.contains('@') {
            return Err(config(
                "an '@' follows the hosts; in a vhost or parameter write it as %40, and \
                 if the password contains / ? or #, percent-encode it",
            ));
        }
        let (username, password, hosts) = authority_parts(authority)?;
        let mut uri = Self {
            scheme,
            hosts: Vec::new(),
            path: String::new(),
            username,
            password,
            vhost: "/".to_owned(),
            heartbeat: None,
            connection_timeout: None,
            spin: None,
            channel_max: None,
            frame_max: None,
            auth_mechanisms: Vec::new(),
            tls: TlsQuery::default(),
        };
        uri.read_hosts(hosts)?;
        uri.read_path(path)?;
        uri.read_query(query)?;
        match uri.vhost.len() {
            0..=MAX_VHOST => Ok(uri),
            length => Err(config(format!("the vhost has {length} bytes, but at most {MAX_VHOST} are allowed"))),
        }
    }
}

impl Uri {
    fn read_hosts(&mut self, hosts: &str) -> Result<()> {
        if self.scheme == Scheme::Unix {
            return match hosts {
                "" => Ok(()),
                _ => Err(config("a Unix socket has no host; write amqp+unix:///path/to/socket, with three slashes")),
            };
        }
        let port = self.scheme.default_port();
        let several = hosts.contains(',');
        self.hosts = hosts
            .split(',')
            .map(|host| match host {
                "" if several => Err(config("an empty host between commas; remove one comma")),
                host => Address::parse(host, port),
            })
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn read_path(&mut self, path: Option<&str>) -> Result<()> {
        match (self.scheme, path) {
            (Scheme::Amqp | Scheme::Amqps, None) => {}
            (Scheme::Amqp | Scheme::Amqps, Some(path)) => {
                let vhost = &path[1..];
                if vhost.contains('/') {
                    return Err(config("a '/' in the vhost; write it as %2f (the vhost named / is amqp://host/%2f)"));
                }
                self.vhost = decode(vhost, "vhost")?;
            }
            (Scheme::Ws | Scheme::Wss, path) => self.path = path.unwrap_or("/").to_owned(),
            (Scheme::Unix, None | Some("/")) => {
                return Err(config("a Unix socket needs a path, as in amqp+unix:///path/to/socket"));
            }
            (Scheme::Unix, Some(path)) => self.path = decode(path, "path")?,
        }
        Ok(())
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uri")
            .field("scheme", &self.scheme)
            .field("hosts", &self.hosts)
            .field("path", &self.path)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| format_args!("…")))
            .field("vhost", &self.vhost)
            .field("heartbeat", &self.heartbeat)
            .field("connection_timeout", &self.connection_timeout)
            .field("spin", &self.spin)
            .field("channel_max", &self.channel_max)
            .field("frame_max", &self.frame_max)
            .field("auth_mechanisms", &self.auth_mechanisms)
            .field("tls", &self.tls)
            .finish()
    }
}

/// Prints the URI for logs and errors, without password and parameters.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        if let Some(username) = &self.username {
            write!(f, "{username}@")?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{host}")?;
        }
        write!(f, "{}", self.path)?;
        write!(f, " (vhost {})", Quoted(&self.vhost))
    }
}

fn scheme(text: &str) -> Result<(Scheme, &str)> {
    let (name, rest) = text.split_once("://").ok_or_else(|| config("it has no scheme; begin it with amqp://"))?;
    let known = [Scheme::Amqp, Scheme::Amqps, Scheme::Ws, Scheme::Wss, Scheme::Unix];
    match known.into_iter().find(|scheme| scheme.name().eq_ignore_ascii_case(name)) {
        Some(scheme) => Ok((scheme, rest)),
        None if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
            Err(config(format!("unknown scheme {}; use amqp, amqps, ws, wss or amqp+unix", Quoted(name))))
        }
        None => Err(config("unknown scheme; use amqp, amqps, ws, wss or amqp+unix")),
    }
}

/// Splits `user:password@hosts`.
fn authority_parts(authority: &str) -> Result<(Option<String>, Option<String>, &str)> {
    let Some((userinfo, hosts)) = authority.split_once('@') else {
        return Ok((None, None, authority));
    };
    if hosts.contains('@') {
        return Err(config(
            "more than one '@' before the path; in a user name or password write it as %40, \
             and give them only once, before the first host",
        ));
    }
    let (username, password) = userinfo.split_once(':').map_or((userinfo, None), |(name, secret)| (name, Some(secret)));
    let username = decode(username, "user name")?;
    let password = password.map(|password| decode(password, "password")).transpose()?;
    Ok((Some(username), password, hosts))
}

/// Decodes percent-encoding. `part` names the text in errors, which never repeat it. A `+` stays a plus.
fn decode(text: &str, part: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        match (rest.next().and_then(hex), rest.next().and_then(hex)) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(config(format!("a '%' without two hex digits in the {part}; write a plain % as %25"))),
        }
    }
    String::from_utf8(bytes).map_err(|_| config(format!("the {part} is not UTF-8 when percent-decoded")))
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

fn config(message: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("invalid AMQP URI: {message}"))
}
