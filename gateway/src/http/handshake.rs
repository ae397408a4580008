//! The handshake from an HTTP request to a WebSocket (RFC 6455, section 4.2).

use std::fmt;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::session::socket::{Allowance, Allowed, Socket};

/// A valid request for a WebSocket.
pub(super) struct Handshake {
    on_upgrade: OnUpgrade,
    accept: String,
}

/// The reason that a request cannot become a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HandshakeError {
    NotUpgrade,
    Version,
    KeyMissing,
    /// The server around the router does not support upgrades.
    NotUpgradable,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUpgrade => "this is not a WebSocket request; send GET, Connection: upgrade and Upgrade: websocket",
            Self::Version => "Sec-WebSocket-Version must be 13",
            Self::KeyMissing => "the header Sec-WebSocket-Key is missing",
            Self::NotUpgradable => "this connection cannot become a WebSocket; connect by HTTP/1.1",
        })
    }
}

impl std::error::Error for HandshakeError {}

impl Handshake {
    /// Checks a request.
    pub(super) fn parse(parts: &mut Parts) -> Result<Self, HandshakeError> {
        let headers = &parts.headers;
        let is_upgrade = parts.method == Method::GET
            && has_token(headers, header::CONNECTION, "upgrade")
            && has_token(headers, header::UPGRADE, "websocket");
        if !is_upgrade {
            return Err(HandshakeError::NotUpgrade);
        }
        if !has_token(headers, header::SEC_WEBSOCKET_VERSION, "13") {
            return Err(HandshakeError::Version);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::KeyMissing)?;
        let accept = derive_accept_key(key.as_bytes());
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(HandshakeError::NotUpgradable)?;
        Ok(Self { on_upgrade, accept })
    }

    /// Returns the response that accepts the request.
    pub(super) fn response(&self, subprotocol: Option<&str>) -> Response<axum::body::Body> {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&self.accept);
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.expect("base64 is valid in a header"));
        if let Some(subprotocol) = subprotocol.and_then(|name| HeaderValue::from_str(name).ok()) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        response
    }

    /// Returns the WebSocket, once the response is sent.
    ///
    /// # Errors
    /// [`hyper::Error`] if the client is gone by then.
    pub(super) async fn socket(
        self,
        config: WebSocketConfig,
        allowance: Arc<Allowance>,
    ) -> Result<Socket, hyper::Error> {
        let io = Allowed::new(TokioIo::new(self.on_upgrade.await?), allowance);
        Ok(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
    }
}

/// Whether a list header has this token.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|entry| entry.trim().eq_ignore_ascii_case(token))
}
