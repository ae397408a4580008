//! Fetches a small text by HTTP: the keys of whoever issues tokens.

use std::fmt;
use std::time::Duration;

use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::ConfigError;
use crate::upstream::{Io, tls};

/// What the text may take, in bytes, and the fetching, in time.
const LIMIT: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// An address of HTTP or HTTPS.
pub(super) struct Url {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.uri.scheme_str().unwrap_or_default(), self.host, self.uri.path())
    }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError("auth.jwt.jwks_url: write https://HOST/PATH, or http:// inside of a machine".into());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self { host, port, tls: if https { Some(tls::connector(None)?) } else { None }, uri })
    }

    /// The text.
    ///
    /// # Errors
    /// If it does not come: why.
    pub(super) async fn fetch(&self) -> Result<String, String> {
        match timeout(PATIENCE, self.get()).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }

    async fn get(&self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let io: Box<dyn Io> = match &self.tls {
            Some(tls) => Box::new(tls.connect(self.host.clone().try_into()?, socket).await?),
            None => Box::new(socket),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())?;
        let talk = async move {
            let response = sender.send_request(request).await?;
            if response.status() != StatusCode::OK {
                return Err(format!("the answer is {}", response.status()).into());
            }
            let body = Limited::new(response.into_body(), LIMIT).collect().await?.to_bytes();
            Ok(String::from_utf8(body.to_vec())?)
        };
        // The connection ends with its sender; what goes wrong with it is the answer's error.
        let (text, _ended) = tokio::join!(talk, connection);
        text
    }
}
