//! Connects to one host by TCP or TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use axum::http::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{proxy_protocol, tls};
use crate::config::{self, ConfigError};

/// A byte stream to a broker.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The future that [`Dial::dial`] returns.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send + 'a>>;

/// Connects to a broker: on another host, or in the same process.
pub trait Dial: Send + Sync {
    /// Returns the name for logs and metrics, which must not contain a secret.
    fn name(&self) -> &str;

    /// Connects. Dropping the future cancels the attempt.
    ///
    /// # Errors
    /// [`io::Error`] if the broker cannot be reached. The gateway then tries the next host.
    fn dial(&self) -> Dialing<'_>;

    /// Connects for a page at that address, which a broker may need to know; behind a proxy, the port is 0. By default,
    /// this is [`Dial::dial`].
    ///
    /// # Errors
    /// The errors of [`Dial::dial`].
    fn dial_for(&self, client: SocketAddr) -> Dialing<'_> {
        let _ = client;
        self.dial()
    }
}

struct Tcp {
    name: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    proxy_protocol: bool,
}

/// Parses entry `index` of `upstream.hosts`: `amqp://host:port` or `amqps://host:port`. Errors do not show the entry,
/// which may hold a password.
pub(super) fn dialer(index: usize, text: &str, config: &config::Upstream) -> Result<Box<dyn Dial>, ConfigError> {
    let wrong = |reason: &str| {
        let setting = format!("upstream.hosts[{index}]");
        ConfigError::invalid(setting, format!("{reason}; write amqp://HOST:PORT or amqps://HOST:PORT"))
    };
    let uri: Uri = text.parse().map_err(|_| wrong("this is not a URI"))?;
    let tls = match uri.scheme_str() {
        Some("amqp") => false,
        Some("amqps") => true,
        _ => return Err(wrong("the scheme is neither amqp nor amqps")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("the URI has no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("user and password must come from the browser or from [[auth.policy]]"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("the URI must end after the port"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 5671 } else { 5672 });
    let tls = if tls {
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong("no certificate can be for this host"))?;
        Some((tls::connector(config.ca_file.as_deref())?, name))
    } else {
        None
    };
    let scheme = if tls.is_some() { "amqps" } else { "amqp" };
    Ok(Box::new(Tcp {
        name: format!("{scheme}://{}:{port}", authority.host()),
        host,
        port,
        tls,
        proxy_protocol: config.proxy_protocol,
    }))
}

impl Dial for Tcp {
    fn name(&self) -> &str {
        &self.name
    }

    fn dial(&self) -> Dialing<'_> {
        Box::pin(self.connect(None))
    }

    fn dial_for(&self, client: SocketAddr) -> Dialing<'_> {
        Box::pin(self.connect(Some(client)))
    }
}

impl Tcp {
    async fn connect(&self, client: Option<SocketAddr>) -> io::Result<Box<dyn Io>> {
        let mut socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        if self.proxy_protocol {
            let header = proxy_protocol::header(client.unwrap_or(socket.local_addr()?), socket.peer_addr()?);
            socket.write_all(&header).await?;
        }
        Ok(match &self.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), socket).await?),
            None => Box::new(socket),
        })
    }
}
