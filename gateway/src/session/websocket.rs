//! From a request of HTTP to a WebSocket (RFC 6455, section 4.2), whose bytes are counted until the user is known.
//!
//! The library behind it puts messages together before anybody sees them. So that strangers can't fill memory that way,
//! the socket below it gives them an allowance of bytes in all, which is lifted when RabbitMQ has let them in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// A browser's WebSocket.
pub(crate) type Socket = WebSocketStream<Allowed<TokioIo<hyper::upgrade::Upgraded>>>;

/// What was read beyond the allowance.
pub(crate) const BEYOND: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// How much may be read of somebody who is not known.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: AtomicUsize,
    lifted: AtomicBool,
}

impl Allowance {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes), lifted: AtomicBool::new(false) })
    }

    /// From now on as much as they like.
    pub(crate) fn lift(&self) {
        self.lifted.store(true, Ordering::Relaxed);
    }

    fn spend(&self, count: usize) -> io::Result<()> {
        if self.lifted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let left = self.left.load(Ordering::Relaxed);
        let rest = left.checked_sub(count).ok_or_else(|| io::Error::new(BEYOND, "more bytes than a login takes"))?;
        self.left.store(rest, Ordering::Relaxed);
        Ok(())
    }
}

/// A socket with an allowance for what is read of it.
pub(crate) struct Allowed<S> {
    io: S,
    allowance: Arc<Allowance>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Allowed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(self.allowance.spend(buf.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Allowed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

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
