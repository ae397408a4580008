//! One connection to one host: TCP, and TLS over it.

use std::future::Future;
use std::io;
use std::pin::Pin;

use axum::http::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::config::{self, ConfigError};

/// A connection to a broker.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What is being connected.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send + 'a>>;

/// Connects to a broker, wherever it is: another host, or this process.
pub trait Dial: Send + Sync {
    /// What logs and metrics call it. Must hold no secret.
    fn name(&self) -> &str;

    /// Connects. Dropping the future gives up.
    fn dial(&self) -> Dialing<'_>;
}

struct Tcp {
    name: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What connects to `amqp://host:port` or `amqps://host:port`.
pub(super) fn dialer(text: &str, config: &config::Upstream) -> Result<Box<dyn Dial>, ConfigError> {
    let wrong = |why: &str| ConfigError(format!("upstream.hosts: {why}; write amqp://HOST:PORT or amqps://HOST:PORT"));
    let uri: Uri = text.parse().map_err(|_| wrong(&format!("`{text}` is no URI")))?;
    let tls = match uri.scheme_str() {
        Some("amqp") => false,
        Some("amqps") => true,
        _ => return Err(wrong("the scheme is neither amqp nor amqps")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("there is no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("user and password come from the browser or from [[auth.policy]]"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("there is something behind the port"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 5671 } else { 5672 });
    let tls = if tls {
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong("the host can't be in a certificate"))?;
        Some((tls::connector(config.ca_file.as_deref())?, name))
    } else {
        None
    };
    let scheme = if tls.is_some() { "amqps" } else { "amqp" };
    Ok(Box::new(Tcp { name: format!("{scheme}://{}:{port}", authority.host()), host, port, tls }))
}

impl Dial for Tcp {
    fn name(&self) -> &str {
        &self.name
    }

    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
            socket.set_nodelay(true)?;
            let io: Box<dyn Io> = match &self.tls {
                Some((connector, name)) => Box::new(connector.connect(name.clone(), socket).await?),
                None => Box::new(socket),
            };
            Ok(io)
        })
    }
}
