//! From a request of HTTP to a WebSocket (RFC 6455, section 4.2), whose bytes are counted until the user is known.
//!
//! The library behind it puts messages together before anybody sees them. So that strangers can't fill memory that way,
//! the socket below it gives them an allowance of bytes in all, which is lifted when RabbitMQ has let them in.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::session::socket::{Allowance, Allowed, Socket};

/// A request that may become a WebSocket.
pub(crate) struct Upgrade {
    on_upgrade: OnUpgrade,
    accept: String,
}

impl Upgrade {
    /// Reads the request; the error says what is wrong with it.
    pub(crate) fn of(parts: &mut Parts) -> Result<Self, &'static str> {
        let has = |name: header::HeaderName, word: &str| {
            let lines = parts.headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
            lines.flat_map(|line| line.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
        };
        if parts.method != Method::GET || !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
            return Err("a WebSocket begins with GET, Connection: upgrade and Upgrade: websocket");
        }
        if !has(header::SEC_WEBSOCKET_VERSION, "13") {
            return Err("the version of WebSocket must be 13");
        }
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).ok_or("Sec-WebSocket-Key is missing")?;
        let accept = derive_accept_key(key.as_bytes());
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or("this connection can't become a WebSocket")?;
        Ok(Self { on_upgrade, accept })
    }

    /// The answer that makes it one.
    pub(crate) fn response(&self, protocol: Option<&str>) -> Response<axum::body::Body> {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&self.accept);
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.expect("base64 fits into a header"));
        if let Some(protocol) = protocol.and_then(|name| HeaderValue::from_str(name).ok()) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }

    /// The WebSocket, once the answer is sent.
    ///
    /// # Errors
    /// If the client is gone by then.
    pub(crate) async fn socket(
        self,
        config: WebSocketConfig,
        allowance: Arc<Allowance>,
    ) -> Result<Socket, hyper::Error> {
        let io = Allowed { io: TokioIo::new(self.on_upgrade.await?), allowance };
        Ok(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
    }
}
