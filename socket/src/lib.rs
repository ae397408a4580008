//! A TCP socket on async-io's reactor that asks the reactor before the kernel once a read has drained the socket.
//!
//! Owns the socket and one bit: whether the last read returned less than it had room for. This saves one failing system
//! call per reply that a connection waits for.
//!
//! An internal crate of HopMQ: the crates `hopmq` and `hopmq-broker` share it, and it may change in any release.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};

/// A TCP socket. See the [crate's documentation](self).
#[derive(Debug)]
pub struct Socket {
    inner: Async<TcpStream>,
    drained: bool,
}

impl Socket {
    /// Wraps a socket that is registered with the reactor.
    pub fn new(inner: Async<TcpStream>) -> Self {
        Self { inner, drained: false }
    }

    /// Returns the socket itself, for its addresses and options.
    pub fn get_ref(&self) -> &TcpStream {
        self.inner.get_ref()
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.drained {
                ready!(self.inner.poll_readable(context))?;
                self.drained = false;
            }
            match self.inner.get_ref().read(buffer) {
                Ok(count) => {
                    self.drained = count < buffer.len();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.drained = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    /// Shuts down the write side, which `Async` does not do: the peer reads the end of the stream, and may still write.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        Poll::Ready(self.get_ref().shutdown(Shutdown::Write))
    }
}
