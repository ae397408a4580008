//! Fetches a small text by HTTP or HTTPS.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::ConfigError;
use crate::upstream::{Io, tls};

/// The largest text, in bytes.
const SIZE_MAX: usize = 1 << 20;
/// The timeout of the whole request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP or HTTPS URL.
pub(super) struct Url {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The reason that a text could not be fetched.
#[derive(Debug)]
pub(super) enum FetchError {
    Connect {
        host: String,
        port: u16,
        error: io::Error,
    },
    Http(hyper::Error),
    Request(axum::http::Error),
    Status(StatusCode),
    /// The connection broke in the body, or the body is too large.
    Body(Box<dyn Error + Send + Sync>),
    NotText,
    Timeout,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { host, port, error } => write!(f, "cannot connect to {host}:{port}: {error}"),
            Self::Http(error) => write!(f, "the HTTP connection failed: {error}"),
            Self::Request(error) => write!(f, "cannot write the request: {error}"),
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::Body(error) => write!(f, "cannot read the answer: {error}"),
            Self::NotText => f.write_str("the answer is not UTF-8 text"),
            Self::Timeout => write!(f, "no answer within {TIMEOUT:?}"),
        }
    }
}

impl Error for FetchError {}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.uri.scheme_str().unwrap_or_default(), self.host, self.uri.path())
    }
}

impl Url {
    /// Parses the URL of `auth.jwt.jwks_url`.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |reason: &str| {
            let reason = format!("{reason}; write https://HOST/PATH, or http://HOST/PATH within one machine");
            ConfigError::invalid("auth.jwt.jwks_url", reason)
        };
        let uri: Uri = text.parse().map_err(|_| wrong("this is not a URL"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("the scheme is neither https nor http")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("the URL must not have a user or a password"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let tls = if is_https {
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong("no certificate can be for this host"))?;
            Some((tls::connector(None)?, name))
        } else {
            None
        };
        Ok(Self { uri, host, port, tls })
    }

    /// Fetches the text.
    ///
    /// # Errors
    /// [`FetchError`] if the text does not arrive within ten seconds. Dropping the future closes the connection.
    pub(super) async fn fetch(&self) -> Result<String, FetchError> {
        timeout(TIMEOUT, self.get()).await.unwrap_or(Err(FetchError::Timeout))
    }

    async fn get(&self) -> Result<String, FetchError> {
        let io = self.connect().await.map_err(|error| FetchError::Connect {
            host: self.host.clone(),
            port: self.port,
            error,
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(FetchError::Http)?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(FetchError::Request)?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(FetchError::Http)?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), SIZE_MAX).collect().await.map_err(FetchError::Body)?;
            String::from_utf8(body.to_bytes().to_vec()).map_err(|_| FetchError::NotText)
        };
        // The connection ends when its sender is dropped; an error of the connection is also an error of the exchange.
        let (text, _ended) = tokio::join!(exchange, connection);
        text
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        Ok(match &self.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), socket).await?),
            None => Box::new(socket),
        })
    }
}
