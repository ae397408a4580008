//! A socket whose bytes are counted until the user is known.

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
    pub(crate) io: S,
    pub(crate) allowance: Arc<Allowance>,
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
