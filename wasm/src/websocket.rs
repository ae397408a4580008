//! AMQP through the browser's WebSocket, as a stream of bytes.
//!
//! The bytes travel in binary messages, whose borders mean nothing: a peer may split an AMQP frame over several
//! messages or put several into one. What is written is gathered until a flush, up to 64 KiB a message, so the first
//! flush after the protocol header sends the header alone, as some relays expect.
//!
//! A message stays where the browser put it until the driver reads it, and is copied once, into the receive buffer. A
//! browser can't be told to stop receiving: what the driver does not read is kept up to a limit, and then the
//! connection ends.

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

/// What one outgoing message holds at most, in bytes.
const MESSAGE: usize = 64 << 10;
/// A write of at least this many bytes is not gathered with others, in bytes.
const LARGE: usize = 16 << 10;
/// How much the browser may hold that is not yet on its way, in bytes, before writing waits.
const SENDING: u32 = 256 << 10;
/// How long writing waits before it looks again, in milliseconds: no event tells when the browser has sent.
const PAUSE: f64 = 4.0;
/// What may have come and not been read, in bytes.
const UNREAD: usize = 128 << 20;

/// A WebSocket as a stream of bytes, for [`Builder::handshake`](hopmq::Builder::handshake).
///
/// Dropping it closes it.
pub struct WebSocket {
    socket: web_sys::WebSocket,
    shared: Rc<Shared>,
    /// What the next message gathers.
    out: Vec<u8>,
    /// How much of the first message is read.
    read: u32,
    look_again: Closure<dyn FnMut()>,
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
    /// The timer after which writing looks again.
    pause: Option<JsValue>,
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
    /// Opens a WebSocket: `ws://…` or `wss://…`. `protocols` are the subprotocols to offer, best first; offer none to a
    /// server that does not ask for one, for the browser gives up when a server chooses none.
    ///
    /// Dropping the future closes it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the browser refuses the URL, [`ErrorKind::WebSocket`] if it can't be opened: the
    /// browser doesn't tell programs why, but its console does.
    pub async fn connect(url: &str, protocols: &[String]) -> Result<Self> {
        let socket = if protocols.is_empty() {
            web_sys::WebSocket::new(url)
        } else {
            let protocols: Array = protocols.iter().map(JsValue::from).collect();
            web_sys::WebSocket::new_with_str_sequence(url, &protocols)
        };
        let place = without_password(url);
        let socket = socket.map_err(|_| {
            let what = "the browser takes ws:// and wss:// without a fragment, wss:// alone from a page of https, and \
                        names of subprotocols that are tokens and differ";
            Error::new(ErrorKind::Config, format!("{place:?} can't be opened as a WebSocket: {what}"))
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
                        "{place} can't be opened as a WebSocket: nothing listens there, it is no gateway, or it \
                         refuses this page's origin (the browser's console may say more)"
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
        let (opened, received, closed) = (Rc::clone(&shared), Rc::clone(&shared), Rc::clone(&shared));
        let failed = Rc::clone(&shared);
        let open = Closure::<dyn FnMut()>::new(move || opened.update(|state| state.open = true));
        // Node 20 tells of a failed attempt by this event alone. Later, a close says more.
        let error = Closure::<dyn FnMut()>::new(move || {
            failed.update(|state| {
                if !state.open {
                    state.end.get_or_insert(End::Closed);
                }
            });
        });
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            received.update(|state| state.receive(event.data()));
        });
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            closed.update(|state| {
                state.end.get_or_insert_with(|| explain(&event));
            });
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onerror(Some(error.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        let writer = Rc::clone(&shared);
        let look_again = Closure::new(move || writer.update(|state| state.pause = None));
        let handlers = Handlers { _open: open, _error: error, _message: message, _close: close };
        Self { socket, shared, out: Vec::new(), read: 0, look_again, _handlers: handlers }
    }

    /// The browser's own, to watch it: what it has not sent yet, say.
    pub fn browser(&self) -> &web_sys::WebSocket {
        &self.socket
    }

    /// Whether another message may be given to the browser now.
    fn poll_sendable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.0.borrow_mut();
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.as_error(io::ErrorKind::BrokenPipe)));
        }
        if self.socket.buffered_amount() < SENDING {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(context.waker().clone());
        let look_again = || set_timeout(self.look_again.as_ref().unchecked_ref(), PAUSE);
        state.pause.get_or_insert_with(look_again);
        Poll::Pending
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // A copy, because Node counts what it has sent by the size of what it was given, and a view of our memory has
        // none any more once the memory has grown: then it would seem to hold those bytes for ever.
        self.socket
            .send_with_array_buffer(&Uint8Array::from(bytes).buffer())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the WebSocket is closed"))
    }

    /// Hands the gathered bytes to the browser as one message.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match self.poll_sendable(context) {
            Poll::Ready(Ok(())) => {
                let sent = self.send(&self.out);
                self.out.clear();
                Poll::Ready(sent)
            }
            other => other,
        }
    }
}

/// The URL, to be shown.
fn without_password(url: &str) -> String {
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
            self.fail("the peer sent text through the WebSocket, and AMQP is binary".to_owned());
            return;
        };
        self.unread += message.byte_length() as usize;
        if self.unread > UNREAD {
            let limit = UNREAD >> 20;
            self.fail(format!("more than {limit} MiB came that nobody takes: give the consumer a prefetch and acks"));
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
    fn as_error(&self, kind: io::ErrorKind) -> io::Error {
        match self {
            Self::Closed => io::Error::new(kind, "the peer closed the WebSocket"),
            Self::Failed(reason) => io::Error::new(kind, reason.clone()),
        }
    }
}

/// What a close says, by its code (RFC 6455 section 7.4.1).
fn explain(event: &CloseEvent) -> End {
    let reason = event.reason();
    match (event.code(), &*reason) {
        (1000 | 1001 | 1005, "") => End::Closed,
        (1006, _) => End::Failed("the WebSocket broke: the network or the gateway is gone".to_owned()),
        (code, "") => End::Failed(format!("the peer closed the WebSocket with code {code}")),
        (code, reason) => End::Failed(format!("the peer closed the WebSocket: {reason} (code {code})")),
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
        let left = message.byte_length() - this.read;
        let length = left.min(u32::try_from(buf.len()).unwrap_or(u32::MAX));
        let part = Uint8Array::new_with_byte_offset_and_length(message, this.read, length);
        part.copy_to(&mut buf[..length as usize]);
        this.read += length;
        if length == left {
            this.read = 0;
            state.messages.pop_front();
        }
        state.unread -= length as usize;
        Poll::Ready(Ok(length as usize))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let full = self.out.len() >= MESSAGE || (buf.len() >= LARGE && !self.out.is_empty());
        if full && !self.poll_send(context)?.is_ready() {
            return Poll::Pending;
        }
        if buf.len() >= LARGE {
            if !self.poll_sendable(context)?.is_ready() {
                return Poll::Pending;
            }
            let length = buf.len().min(MESSAGE);
            self.send(&buf[..length])?;
            return Poll::Ready(Ok(length));
        }
        let length = buf.len().min(MESSAGE - self.out.len());
        self.out.extend_from_slice(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    /// Sends the rest, closes, and waits for the peer to have closed too.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What can't be sent any more was not waited for.
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
        // Closing twice is closing once.
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
        if let Some(pause) = self.shared.0.borrow_mut().pause.take() {
            clear_timeout(&pause);
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("gathered", &self.out.len()).finish_non_exhaustive()
    }
}
