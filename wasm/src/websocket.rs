//! The browser's WebSocket as a byte stream.
//!
//! The bytes travel in binary messages. Message boundaries carry no meaning: a peer may split an AMQP frame over
//! several messages or put several frames into one. Writes are buffered until a flush, up to 64 KiB per message. The
//! first flush after the protocol header therefore sends the header alone, as some relays expect.
//!
//! A received message stays in the browser's buffer until the driver reads it, and is copied once, into the receive
//! buffer. A program can't stop a browser from receiving, so the connection ends when the unread messages exceed a
//! limit.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};
use hopmq::{Error, ErrorKind, Result};
use js_sys::{Array, ArrayBuffer, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, CloseEvent, MessageEvent};

use crate::timer::{clear_timeout, set_timeout};

/// Largest outgoing WebSocket message, in bytes.
const MESSAGE_MAX: usize = 64 << 10;
/// Writes of at least this many bytes bypass the write buffer.
const UNBUFFERED_MIN: usize = 16 << 10;
/// Writing waits while the browser holds at least this many unsent bytes.
const UNSENT_MAX: u32 = 256 << 10;
/// Milliseconds between two checks of the browser's unsent bytes: no event reports that they were sent.
const RECHECK_DELAY: f64 = 4.0;
/// Largest number of received bytes that the driver has not read yet.
const UNREAD_MAX: usize = 128 << 20;

/// A WebSocket as a byte stream, for [`Builder::handshake`](hopmq::Builder::handshake).
///
/// Dropping the value closes the WebSocket.
pub struct WebSocket {
    socket: web_sys::WebSocket,
    shared: Rc<Shared>,
    /// Buffered writes: the next outgoing message.
    write_buffer: Vec<u8>,
    /// Bytes that were already read from the first received message.
    read_offset: u32,
    recheck: Closure<dyn FnMut()>,
    _handlers: Handlers,
}

struct Handlers {
    _open: Closure<dyn FnMut()>,
    _error: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

#[derive(Default)]
struct Shared(RefCell<State>);

#[derive(Default)]
struct State {
    open: bool,
    messages: VecDeque<ArrayBuffer>,
    unread: usize,
    end: Option<End>,
    waker: Option<Waker>,
    /// The timer that wakes a write waiting for the browser to send.
    recheck_timer: Option<JsValue>,
}

#[derive(Clone)]
enum End {
    Closed,
    Failed(String),
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.borrow_mut();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl WebSocket {
    /// Opens a WebSocket to `url`, which starts with `ws://` or `wss://`.
    ///
    /// `protocols` are the subprotocols to offer, best first. Offer none to a server that requires none: the browser
    /// fails the connection when the server selects none of those offered.
    ///
    /// Dropping the future closes the WebSocket.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the browser rejects the URL or a subprotocol, [`ErrorKind::WebSocket`] if the WebSocket
    /// can't be opened. The browser hides the reason from programs and shows it in its console.
    pub async fn connect(url: &str, protocols: &[String]) -> Result<Self> {
        let socket = if protocols.is_empty() {
            web_sys::WebSocket::new(url)
        } else {
            let protocols: Array = protocols.iter().map(JsValue::from).collect();
            web_sys::WebSocket::new_with_str_sequence(url, &protocols)
        };
        let shown_url = without_credentials(url);
        let socket = socket.map_err(|_| {
            let rules = "use ws:// or wss:// without a fragment, only wss:// from an https page, and subprotocols that \
                         are distinct tokens";
            Error::new(ErrorKind::Config, format!("the browser rejected \"{shown_url}\" as a WebSocket URL: {rules}"))
        })?;
        let this = Self::new(socket);
        poll_fn(|context| {
            let mut state = this.shared.0.borrow_mut();
            if state.open {
                return Poll::Ready(Ok(()));
            }
            match &state.end {
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Some(_) => Poll::Ready(Err(Error::new(
                    ErrorKind::WebSocket,
                    format!(
                        "could not open a WebSocket to {shown_url}: nothing listens there, it is not a gateway, or it \
                         refuses this page's origin; see the browser's console"
                    ),
                ))),
            }
        })
        .await?;
        Ok(this)
    }

    fn new(socket: web_sys::WebSocket) -> Self {
        socket.set_binary_type(BinaryType::Arraybuffer);
        let shared = Rc::<Shared>::default();
        let on_open = Rc::clone(&shared);
        let open = Closure::<dyn FnMut()>::new(move || on_open.update(|state| state.open = true));
        let on_error = Rc::clone(&shared);
        // A failed attempt raises only this event in Node 20. After the open, the close event says more.
        let error = Closure::<dyn FnMut()>::new(move || {
            on_error.update(|state| {
                if !state.open {
                    state.end.get_or_insert(End::Closed);
                }
            });
        });
        let on_message = Rc::clone(&shared);
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            on_message.update(|state| state.receive(event.data()));
        });
        let on_close = Rc::clone(&shared);
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            on_close.update(|state| {
                state.end.get_or_insert_with(|| End::from_event(&event));
            });
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onerror(Some(error.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        let on_timer = Rc::clone(&shared);
        let recheck = Closure::new(move || on_timer.update(|state| state.recheck_timer = None));
        let handlers = Handlers { _open: open, _error: error, _message: message, _close: close };
        Self { socket, shared, write_buffer: Vec::new(), read_offset: 0, recheck, _handlers: handlers }
    }

    /// Returns the browser's WebSocket, for example to read its unsent bytes.
    pub fn browser(&self) -> &web_sys::WebSocket {
        &self.socket
    }

    /// Ready when the browser accepts another message.
    fn poll_sendable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.0.borrow_mut();
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.as_error(io::ErrorKind::BrokenPipe)));
        }
        if self.socket.buffered_amount() < UNSENT_MAX {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(context.waker().clone());
        let start_timer = || set_timeout(self.recheck.as_ref().unchecked_ref(), RECHECK_DELAY);
        state.recheck_timer.get_or_insert_with(start_timer);
        Poll::Pending
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // Send a copy: Node subtracts the size of the sent view from its unsent bytes, and a view of WebAssembly memory
        // has size zero after that memory has grown. The bytes would then count as unsent for ever.
        self.socket
            .send_with_array_buffer(&Uint8Array::from(bytes).buffer())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the WebSocket is closed"))
    }

    /// Sends the write buffer as one message.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match self.poll_sendable(context) {
            Poll::Ready(Ok(())) => {
                let sent = self.send(&self.write_buffer);
                self.write_buffer.clear();
                Poll::Ready(sent)
            }
            other => other,
        }
    }
}

/// Returns the URL without user name and password, for error texts.
fn without_credentials(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.find('/').and_then(|end| before.get(..end + 2)).unwrap_or_default();
    format!("{scheme}…@{after}")
}

impl State {
    fn receive(&mut self, data: JsValue) {
        if self.end.is_some() {
            return;
        }
        let Ok(message) = data.dyn_into::<ArrayBuffer>() else {
            self.fail(
                "received a text message through the WebSocket, and AMQP is binary: is this an AMQP gateway?"
                    .to_owned(),
            );
            return;
        };
        self.unread += message.byte_length() as usize;
        if self.unread > UNREAD_MAX {
            let limit = UNREAD_MAX >> 20;
            self.fail(format!("more than {limit} MiB received and not read: consume with acks and a smaller prefetch"));
        } else if message.byte_length() > 0 {
            self.messages.push_back(message);
        }
    }

    fn fail(&mut self, reason: String) {
        self.messages.clear();
        self.end = Some(End::Failed(reason));
    }
}

impl End {
    /// Interprets a close event by its code (RFC 6455 section 7.4.1).
    fn from_event(event: &CloseEvent) -> Self {
        let reason = event.reason();
        match (event.code(), &*reason) {
            (1000 | 1001 | 1005, "") => Self::Closed,
            (1006, _) => Self::Failed("the WebSocket was lost: the network or the gateway is down".to_owned()),
            (code, "") => Self::Failed(format!("the peer closed the WebSocket with code {code}")),
            (code, reason) => Self::Failed(format!("the peer closed the WebSocket: {reason} (code {code})")),
        }
    }

    fn as_error(&self, kind: io::ErrorKind) -> io::Error {
        match self {
            Self::Closed => io::Error::new(kind, "the peer closed the WebSocket"),
            Self::Failed(reason) => io::Error::new(kind, reason.clone()),
        }
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut state = this.shared.0.borrow_mut();
        let Some(message) = state.messages.front() else {
            return match &state.end {
                Some(End::Closed) => Poll::Ready(Ok(0)),
                Some(failed) => Poll::Ready(Err(failed.as_error(io::ErrorKind::ConnectionAborted))),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        };
        let left = message.byte_length() - this.read_offset;
        let length = left.min(u32::try_from(buf.len()).unwrap_or(u32::MAX));
        let part = Uint8Array::new_with_byte_offset_and_length(message, this.read_offset, length);
        part.copy_to(&mut buf[..length as usize]);
        this.read_offset += length;
        if length == left {
            this.read_offset = 0;
            state.messages.pop_front();
        }
        state.unread -= length as usize;
        Poll::Ready(Ok(length as usize))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let unbuffered = buf.len() >= UNBUFFERED_MIN;
        let full = self.write_buffer.len() >= MESSAGE_MAX || (unbuffered && !self.write_buffer.is_empty());
        if full && !self.poll_send(context)?.is_ready() {
            return Poll::Pending;
        }
        if unbuffered {
            if !self.poll_sendable(context)?.is_ready() {
                return Poll::Pending;
            }
            let length = buf.len().min(MESSAGE_MAX);
            self.send(&buf[..length])?;
            return Poll::Ready(Ok(length));
        }
        let length = buf.len().min(MESSAGE_MAX - self.write_buffer.len());
        self.write_buffer.extend_from_slice(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    /// Sends the write buffer, closes, and waits for the peer's close.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A failed send does not matter: closing does not wait for the peer to receive it.
        let sent = self.poll_send(context);
        let mut state = self.shared.0.borrow_mut();
        if state.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        if sent.is_pending() {
            return Poll::Pending;
        }
        state.waker = Some(context.waker().clone());
        state.messages.clear();
        // `close` fails only for an invalid code or reason, and none is given.
        let _ = self.socket.close();
        Poll::Pending
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onerror(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        let _ = self.socket.close();
        if let Some(timer) = self.shared.0.borrow_mut().recheck_timer.take() {
            clear_timeout(&timer);
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("write_buffer", &self.write_buffer.len()).finish_non_exhaustive()
    }
}
