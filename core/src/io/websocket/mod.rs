//! AMQP over a WebSocket ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)), as a byte stream.
//!
//! The bytes travel in binary messages whose boundaries have no meaning: a peer may split an AMQP frame over several
//! messages or put several into one. Writes are buffered until a flush, up to 64 KiB per message, so the first flush
//! after the protocol header sends the header alone, as some relays expect.
//!
//! No subprotocol is offered by default, because a server that selects none would break the handshake.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_tungstenite::tungstenite::http::Uri;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use async_tungstenite::tungstenite::{ClientRequestBuilder, Error as WsError, Message};
use bytes::{Buf, Bytes, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::Stream;
use futures_sink::Sink;
use hopmq_proto::Quoted;

use crate::error::{Error, ErrorKind, Result};

mod explain;
mod flushing;
#[cfg(test)]
mod tests;

use flushing::Flushing;

/// The largest outgoing message in bytes.
const MESSAGE: usize = 64 << 10;
/// The largest incoming message in bytes. Relays send whole AMQP frames, so this limits frames too.
const MAX_MESSAGE: usize = 16 << 20;

/// A WebSocket as a byte stream, for one task, or for one that reads and one that writes.
///
/// Reading answers pings. A close by the peer without a reason ends the stream; any other end is an error.
pub(crate) struct WebSocketStream<S> {
    inner: async_tungstenite::WebSocketStream<Flushing<S>>,
    /// The unread rest of the last message.
    message: Bytes,
    /// The bytes of the next outgoing message.
    out: BytesMut,
    /// The reason why nothing more can be read.
    end: Option<End>,
    closing: Closing,
}

#[derive(Clone)]
enum End {
    Closed,
    Failed(String),
}

#[derive(Clone, Copy, PartialEq)]
enum Closing {
    No,
    /// The rest is being written, then the close frame.
    Sending,
    /// Waiting for the peer's close frame.
    Draining,
    /// The transport is being closed.
    Transport,
}

/// Performs the WebSocket handshake over `io`, which must have completed the TLS handshake if `tls` is set.
///
/// `path` is HTTP's, encoded, with its leading slash. `protocols` are the subprotocols to offer, in order of
/// preference.
///
/// # Errors
/// [`ErrorKind::Config`] for an invalid host, path or subprotocol, [`ErrorKind::WebSocket`] if the server refuses.
/// Dropping the future drops `io`.
pub(crate) async fn connect<S>(
    host: &str,
    port: u16,
    path: &str,
    protocols: &[String],
    tls: bool,
    io: S,
) -> Result<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (scheme, default_port) = if tls { ("wss", 443) } else { ("ws", 80) };
    let zoneless = host.split_once('%').map_or(host, |(address, _zone)| address);
    let host = if zoneless.contains(':') { format!("[{zoneless}]") } else { zoneless.to_owned() };
    let authority = if port == default_port { host } else { format!("{host}:{port}") };
    let place = format!("{scheme}://{authority}{path}");
    let uri = place.parse::<Uri>().map_err(|error| {
        Error::with_source(ErrorKind::Config, format!("{} is not a valid WebSocket address", Quoted(&place)), error)
    })?;
    let token =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if let Some(name) = protocols.iter().find(|name| !token(name)) {
        return Err(Error::new(ErrorKind::Config, format!("{} is not a valid WebSocket subprotocol", Quoted(name))));
    }
    let request = protocols.iter().fold(ClientRequestBuilder::new(uri), ClientRequestBuilder::with_sub_protocol);
    let config = WebSocketConfig::default()
        .read_buffer_size(MESSAGE)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    match async_tungstenite::client_async_with_config(request, Flushing::new(io), Some(config)).await {
        Ok((inner, _response)) => Ok(WebSocketStream::new(inner)),
        Err(error) => Err(explain::handshake(&place, error)),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketStream<S> {
    fn new(inner: async_tungstenite::WebSocketStream<Flushing<S>>) -> Self {
        Self { inner, message: Bytes::new(), out: BytesMut::new(), end: None, closing: Closing::No }
    }

    /// Waits for the next binary message, or the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.message.is_empty() && self.end.is_none() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.message = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let reason = "AMQP travels in binary messages";
                    let frame = CloseFrame { code: CloseCode::Unsupported, reason: reason.into() };
                    let _ = Pin::new(&mut self.inner).start_send(Message::Close(Some(frame)));
                    self.fail("the peer sent a text message, but AMQP needs binary messages".to_owned(), cx);
                }
                Some(Ok(Message::Close(frame))) => match explain::close(frame.as_ref()) {
                    None => self.end = Some(End::Closed),
                    Some(reason) => self.fail(reason, cx),
                },
                Some(Err(error)) => self.fail(explain::broken(&error), cx),
                None => self.end = Some(End::Closed),
            }
        }
        Poll::Ready(())
    }

    fn fail(&mut self, reason: String, cx: &mut Context<'_>) {
        self.end = Some(End::Failed(reason));
        // Tells the peer, if that is possible at once.
        let _ = Pin::new(&mut self.inner).poll_flush(cx);
    }

    /// Passes the buffered bytes to the WebSocket as one message.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(io_error)?;
            let message = Message::Binary(self.out.split().freeze());
            Pin::new(&mut self.inner).start_send(message).map_err(io_error)?;
        }
        Poll::Ready(Ok(()))
    }

    fn writable(&self) -> io::Result<()> {
        match &self.end {
            _ if self.closing != Closing::No => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "the WebSocket is closed"))
            }
            Some(End::Failed(reason)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, reason.clone())),
            Some(End::Closed) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the peer closed the WebSocket")),
            None => Ok(()),
        }
    }
}

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        error => io::Error::new(io::ErrorKind::BrokenPipe, explain::broken(&error)),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_message(cx));
        if self.message.is_empty() {
            return Poll::Ready(match &self.end {
                Some(End::Failed(reason)) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason.clone())),
                _ => Ok(0),
            });
        }
        let length = buf.len().min(self.message.len());
        self.message.copy_to_slice(&mut buf[..length]);
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writable()?;
        if self.out.len() >= MESSAGE {
            ready!(self.poll_send(cx))?;
        }
        let length = buf.len().min(MESSAGE - self.out.len());
        self.out.extend_from_slice(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match self.as_mut().poll_write(cx, buf) {
                Poll::Ready(Ok(length)) => {
                    written += length;
                    if length < buf.len() {
                        break;
                    }
                }
                // Report the bytes taken so far; the next call returns this result again.
                _ if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writable()?;
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx).map_err(io_error)
    }

    /// Sends the rest and a close frame, waits for the peer's close frame, discarding what still arrives, and closes
    /// the transport. This takes as long as the peer likes, so the caller must set a timeout.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing == Closing::No {
            self.closing = if self.end.is_some() { Closing::Transport } else { Closing::Sending };
        }
        if self.closing == Closing::Sending {
            ready!(self.poll_send(cx))?;
            match ready!(Pin::new(&mut self.inner).poll_close(cx)) {
                Ok(()) | Err(WsError::AlreadyClosed | WsError::ConnectionClosed) => self.closing = Closing::Draining,
                Err(error) => return Poll::Ready(Err(io_error(error))),
            }
        }
        if self.closing == Closing::Draining {
            while self.end.is_none() {
                ready!(self.poll_message(cx));
                self.message.clear();
            }
            self.closing = Closing::Transport;
        }
        // The reply to an earlier close frame may still be buffered. Everything that matters has been exchanged or has
        // failed by now, and a peer that is already gone is no failure of the close.
        let _ = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        let _ = ready!(Pin::new(self.inner.get_mut()).poll_close(cx));
        Poll::Ready(Ok(()))
    }
}

impl<S> fmt::Debug for WebSocketStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketStream").field("gathered", &self.out.len()).finish_non_exhaustive()
    }
}
