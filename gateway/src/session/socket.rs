//! The WebSocket of a browser, with a limit on the bytes that may be read before the login.
//!
//! The WebSocket library collects a whole message before it returns any of it. The limit below the library keeps
//! clients that are not logged in from filling memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;

/// A browser's WebSocket.
pub(crate) type Socket = WebSocketStream<Allowed<TokioIo<hyper::upgrade::Upgraded>>>;

/// The kind of the error when the allowance is exceeded.
pub(crate) const OVER_LIMIT: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// The number of bytes that may be read before the login.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: AtomicUsize,
    lifted: AtomicBool,
}

impl Allowance {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes), lifted: AtomicBool::new(false) })
    }

    /// Lifts the limit.
    pub(crate) fn lift(&self) {
        self.lifted.store(true, Ordering::Relaxed);
    }

    fn spend(&self, count: usize) -> io::Result<()> {
        if self.lifted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let left = self.left.load(Ordering::Relaxed);
        let left = left
            .checked_sub(count)
            .ok_or_else(|| io::Error::new(OVER_LIMIT, "received more bytes than a login may take"))?;
        self.left.store(left, Ordering::Relaxed);
        Ok(())
    }
}

/// A socket with an allowance for reading.
pub(crate) struct Allowed<S> {
    io: S,
    allowance: Arc<Allowance>,
}

impl<S> Allowed<S> {
    pub(crate) fn new(io: S, allowance: Arc<Allowance>) -> Self {
        Self { io, allowance }
    }
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
