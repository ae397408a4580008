//! A transport that flushes before it reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

/// Flushes earlier writes before reading. The WebSocket handshake writes its request and then reads the reply, and a
/// buffering transport such as TLS may hold back a part of the request until it is flushed.
pub(super) struct Flushing<S> {
    inner: S,
    dirty: bool,
}

impl<S> Flushing<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, dirty: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Flushing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.dirty && self.as_mut().poll_flush(cx).is_ready() {
            // Reading returns the error again, after any explanation that the peer sent.
            self.dirty = false;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.dirty = true;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.dirty &= !matches!(result, Poll::Ready(Ok(())));
        result
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
