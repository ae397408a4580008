//! The connection: one state machine for both ends.
//!
//! Owns the handshake, the agreed limits, the table of channels, the heartbeats, and what waits to be written. What
//! comes in is an [`Incoming`] of the [`Receiver`](crate::Receiver), a call of the user, or the time; what goes out is
//! at most one [`Event`] each, and bytes. It must never know sockets, clocks, wakers or users' types.
//!
//! ```text
//! client: ExpectStart ─► AwaitStartOk ─► ExpectTune ◄─► AwaitSecureOk
//!                                            │
//!                                            ▼
//!                                       ExpectOpenOk ─► Open ─► Closing ─► Closed
//!
//! server: ExpectHeader ─► ExpectStartOk ─► AwaitTune ◄─► ExpectSecureOk
//!                                              │
//!                                              ▼
//!                                         ExpectTuneOk ─► ExpectOpen ─► AwaitOpenOk ─► Open ─► Closing ─► Closed
//! ```

mod channel;
mod client;
mod event;
mod handshake;
mod server;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::frame::{self, HEAD, Kind, OVERHEAD};
use crate::heartbeat::Heartbeat;
use crate::method::{self, Encode, Method, MethodId};
use crate::output::{Output, Position, Transmit, UNCOPIED};
use crate::receive::{Incoming, ReceiveLimits};
use crate::{Content, Error, Properties, Time, code};

use channel::{Channel, Pending, Phase};
pub use client::Route;
pub use event::{CloseReason, Event, Purpose};
use handshake::Handshake;
pub use handshake::{Config, HandshakeStage, Tuning};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that connects.
    Client,
    /// The end that accepts, with the feature `server`.
    #[cfg(feature = "server")]
    Server,
}

impl Role {
    /// Never without the feature `server`, which the compiler sees: what is only the server's is left out then.
    fn is_server(self) -> bool {
        self != Self::Client
    }
}

/// One end of a connection. See the [crate's documentation](crate) for the order of calls.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    state: State,
    config: Config,
    tuning: Tuning,
    heartbeat: Heartbeat,
    output: Output,
    /// Indexed by number; the first is never used, for channel 0 is the connection.
    channels: Vec<Option<Box<Channel>>>,
    /// Requests on channel 0.
    pending: VecDeque<Pending>,
    blocked: bool,
    /// Deliveries for consumers that don't exist, which were requeued.
    unknown_deliveries: u64,
    /// The latest ack, if all before it were settled.
    last_ack: Option<LastAck>,
}

/// An ack that may be replaced by a later one as long as nothing follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastAck {
    channel: u16,
    /// Behind it.
    end: Position,
}

/// The frame of a `basic.ack`: class and method, tag, bits.
const ACK_SIZE: usize = OVERHEAD + 4 + 8 + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake(Handshake),
    Open,
    /// `connection.close` is sent: everything but the answer is dropped.
    Closing,
    Closed,
}

/// A body to send: borrowed and copied, or given away and, if it is large, written from where it lies.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// Copied into the output.
    Borrowed(&'a [u8]),
    /// Copied if it is small, else written from where it lies.
    Shared(Bytes),
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Body<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a str> for Body<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl<'a> From<&'a Vec<u8>> for Body<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a String> for Body<'a> {
    fn from(text: &'a String) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl From<Vec<u8>> for Body<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared(bytes.into())
    }
}

impl From<String> for Body<'_> {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

impl From<Bytes> for Body<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl<'a> From<&'a Bytes> for Body<'a> {
    /// Shared, not copied.
    fn from(bytes: &'a Bytes) -> Self {
        Self::Shared(bytes.clone())
    }
}

impl Body<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Connection {
    /// Starts one end of a connection. The client's first bytes wait to be written at once.
    pub fn new(role: Role, config: Config) -> Self {
        let mut output = Output::default();
        let handshake = if role.is_server() {
            Handshake::ExpectHeader
        } else {
            output.frames().extend_from_slice(&frame::PROTOCOL_HEADER);
            Handshake::ExpectStart
        };
        Self {
            role,
            state: State::Handshake(handshake),
            tuning: Tuning::before(&config),
            config,
            heartbeat: Heartbeat::off(),
            output,
            channels: Vec::new(),
            pending: VecDeque::new(),
            blocked: false,
            unknown_deliveries: 0,
            last_ack: None,
        }
    }

    /// Handles one thing that came in.
    ///
    /// # Errors
    /// If the peer broke the protocol. The error's code is on its way to the peer as `connection.close`; the
    /// connection is over.
    pub fn handle(&mut self, now: Time, incoming: Incoming) -> Result<Option<Event>, Error> {
        let result = match (incoming, self.state) {
            (_, State::Closed) | (Incoming::Heartbeat, _) => Ok(None),
            (Incoming::Content { channel, content }, State::Open) if self.role.is_server() => {
                self.content_from_client(channel, content)
            }
            (Incoming::Content { channel, content }, _) => {
                self.purpose(channel, &content).map(|purpose| purpose.map(|purpose| purpose.event(channel, content)))
            }
            (Incoming::Method { channel, payload }, _) => self.handle_method(now, channel, payload),
            (Incoming::ProtocolHeader(header), _) => self.handle_protocol_header(header),
        };
        result.inspect_err(|error| self.fail(error))
    }

    /// Client: handles a message that came, and leaves it where it is: [`Connection::handle`] does the same, and moves
    /// it into an event.
    ///
    /// # Errors
    /// As for [`Connection::handle`].
    #[inline]
    pub fn handle_content(&mut self, channel: u16, content: &Content) -> Result<Option<Purpose>, Error> {
        self.purpose(channel, content).inspect_err(|error| self.fail(error))
    }

    #[inline]
    fn purpose(&mut self, channel: u16, content: &Content) -> Result<Option<Purpose>, Error> {
        match self.state {
            State::Open => self.content_from_server(channel, content),
            State::Closing | State::Closed => Ok(None),
            State::Handshake(_) => Err(self.too_early(content.kind().method())),
        }
    }

    /// Notes that something came, or that the user knows the peer to be alive by other means (bytes that it leaves
    /// unread in the socket for lack of room).
    pub fn received(&mut self, now: Time) {
        self.heartbeat.received(now);
    }

    /// Moves all that waits to be written into `transmit`. Returns whether `transmit` holds anything.
    pub fn poll_transmit(&mut self, now: Time, transmit: &mut Transmit) -> bool {
        if self.output.len() > 0 {
            self.heartbeat.sent(now);
        }
        self.output.take(transmit)
    }

    /// Bytes that wait for [`Connection::poll_transmit`].
    #[inline]
    pub fn queued(&self) -> usize {
        self.output.len()
    }

    /// The moment to call [`Connection::handle_timeout`], unless something else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Open | State::Closing => self.heartbeat.deadline(),
            State::Handshake(_) | State::Closed => None,
        }
    }

    /// Sends a heartbeat if one is due.
    ///
    /// # Errors
    /// If the peer was silent for two intervals: code 320. The connection is over.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), Error> {
        if self.poll_timeout().is_none() {
            return Ok(());
        }
        if self.heartbeat.is_dead(now) {
            self.state = State::Closed;
            let interval = self.tuning.heartbeat;
            return Err(Error::peer(
                code::CONNECTION_FORCED,
                format!("nothing came from the peer for two heartbeat intervals of {interval:?}"),
            ));
        }
        if self.heartbeat.is_due(now) {
            // What waits to be written already is as good a sign of life.
            if self.output.len() == 0 {
                frame::put_head(self.output.frames(), Kind::Heartbeat, 0, 0);
                self.output.frames().push(frame::END);
            }
            self.heartbeat.sent(now);
        }
        Ok(())
    }

    /// Asks the peer to close the connection. Nothing but its answer counts from now on.
    pub fn close(&mut self, code: u16, text: &str) {
        if matches!(self.state, State::Open | State::Handshake(_)) {
            self.send_close(code, text);
            self.state = State::Closing;
        }
    }

    /// Whether requests can be made.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// What both ends agreed on.
    pub fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// The limits for the [`Receiver`](crate::Receiver): those of before the tuning, or those agreed on.
    pub fn receive_limits(&self) -> ReceiveLimits {
        self.tuning.receive_limits(&self.config)
    }

    /// Gives memory back that a burst had needed.
    pub fn shrink(&mut self) {
        self.output.shrink();
    }

    fn handle_method(&mut self, now: Time, channel: u16, payload: Bytes) -> Result<Option<Event>, Error> {
        let id = MethodId::peek(&payload)?;
        let is_server = self.role.is_server();
        let allowed = if is_server { id.from_client() } else { id.from_server() };
        if !allowed {
            let code = if id.is_known() { code::COMMAND_INVALID } else { code::NOT_IMPLEMENTED };
            return Err(Error::peer(code, format!("{id} is not for this end to get")));
        }
        if (id.class == CLASS_CONNECTION) != (channel == 0) {
            return Err(Error::peer(code::COMMAND_INVALID, format!("{} on channel {channel}", id.name())));
        }
        match End::decode(id, &payload)? {
            Some(End::Close(reason)) => return Ok(Some(self.closed_by_peer(reason))),
            Some(End::CloseOk) if self.state == State::Closing => {
                self.state = State::Closed;
                return Ok(Some(Event::Closed { reason: None }));
            }
            Some(End::CloseOk) => return Err(unasked(id)),
            None => {}
        }
        match self.state {
            State::Handshake(handshake) if is_server => self.handshake_from_client(now, handshake, id, payload),
            State::Handshake(handshake) => self.handshake_from_server(now, handshake, id, payload),
            State::Open if is_server => self.method_from_client(channel, id, payload),
            State::Open => self.method_from_server(channel, id, payload),
            State::Closing | State::Closed => Ok(None),
        }
    }

    fn closed_by_peer(&mut self, reason: CloseReason) -> Event {
        // An encoded method without arguments can't fail.
        let _ = self.send(0, &method::connection::CloseOk {});
        self.state = State::Closed;
        Event::Closed { reason: Some(reason) }
    }

    /// Ends the connection for a fault of the peer's, and tells it.
    fn fail(&mut self, error: &Error) {
        let is_amqp = !matches!(self.state, State::Handshake(Handshake::ExpectStart | Handshake::ExpectHeader));
        if is_amqp && !matches!(self.state, State::Closed | State::Closing) {
            if self.role.is_server() {
                // As RabbitMQ tells it.
                let text = format!("{} - {}", code::name(error.code()), error.message());
                self.send_close(error.code(), &text);
            } else {
                self.send_close(error.code(), error.message());
            }
        }
        self.state = State::Closed;
    }

    /// Ends the connection for a fault that the [`Receiver`](crate::Receiver) found, and tells the peer.
    pub fn receive_failed(&mut self, error: &Error) {
        self.fail(error);
    }

    fn send_close(&mut self, code: u16, text: &str) {
        let close = method::connection::Close { reply_code: code, reply_text: text, class_id: 0, method_id: 0 };
        // Its text is cut to what fits.
        let _ = self.send(0, &close);
    }

    fn too_early(&self, id: MethodId) -> Error {
        Error::peer(code::COMMAND_INVALID, format!("{} before the connection is open", id.name()))
    }

    /// Appends a method frame, by code of its own for that method.
    #[inline]
    fn send_often<M: Encode>(&mut self, channel: u16, method: &M) -> Result<(), Error> {
        let frame_max = self.tuning.frame_max as usize;
        put_method(self.output.frames(), frame_max, channel, method)
    }

    /// Appends a method frame.
    #[inline]
    fn send<M: Encode>(&mut self, channel: u16, method: &M) -> Result<(), Error> {
        self.send_any(channel, M::ID, &|out| method.encode(out))
    }

    /// The same for a method that is known by its number.
    fn send_any(
        &mut self,
        channel: u16,
        id: MethodId,
        encode: &dyn Fn(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let frame_max = self.tuning.frame_max as usize;
        put_payload(self.output.frames(), frame_max, channel, id, encode)
    }

    /// Appends a message: method, header and body frames.
    #[inline]
    fn send_content<M: Encode>(
        &mut self,
        channel: u16,
        method: &M,
        properties: Properties<&[u8]>,
        body: Body<'_>,
    ) -> Result<(), Error> {
        self.send_message(channel, M::ID, |out| method.encode(out), properties, body)
    }

    /// Appends a message whose method `encode` writes.
    #[inline]
    fn send_message(
        &mut self,
        channel: u16,
        id: MethodId,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
        properties: Properties<&[u8]>,
        body: Body<'_>,
    ) -> Result<(), Error> {
        properties.validity()?;
        let frame_max = self.tuning.frame_max as usize;
        let (size, list) = (body.bytes().len(), properties.as_bytes());
        if 14 + list.len() + OVERHEAD > frame_max {
            return Err(Error::caller(format!(
                "the message's properties take {} bytes, and must fit into one frame of {frame_max}",
                list.len()
            )));
        }
        let out = self.output.frames();
        put_payload(out, frame_max, channel, id, encode)?;
        frame::put_head(out, Kind::Header, channel, (14 + list.len()) as u32);
        let [s0, s1, s2, s3, s4, s5, s6, s7] = (size as u64).to_be_bytes();
        let [f0, f1] = properties.flags().to_be_bytes();
        out.extend_from_slice(&[0, 60, 0, 0, s0, s1, s2, s3, s4, s5, s6, s7, f0, f1]);
        out.extend_from_slice(list);
        out.push(frame::END);
        let chunk = frame_max - OVERHEAD;
        match body {
            Body::Shared(body) if size >= UNCOPIED => self.send_large_body(channel, body, chunk),
            body => {
                for part in body.bytes().chunks(chunk) {
                    frame::put_head(out, Kind::Body, channel, part.len() as u32);
                    out.extend_from_slice(part);
                    out.push(frame::END);
                }
            }
        }
        Ok(())
    }

    fn send_large_body(&mut self, channel: u16, mut body: Bytes, chunk: usize) {
        while !body.is_empty() {
            let part = body.split_to(chunk.min(body.len()));
            frame::put_head(self.output.frames(), Kind::Body, channel, part.len() as u32);
            self.output.push_body(part);
            self.output.frames().push(frame::END);
        }
    }

    fn channel_mut(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))?.as_deref_mut()
    }

    fn insert_channel(&mut self, number: u16, phase: Phase) {
        let index = usize::from(number);
        if index >= self.channels.len() {
            self.channels.resize_with(index + 1, || None);
        }
        self.channels[index] = Some(Box::new(Channel::new(phase)));
    }

    fn remove_channel(&mut self, number: u16) {
        if let Some(channel) = self.channels.get_mut(usize::from(number)) {
            *channel = None;
        }
    }
}

const CLASS_CONNECTION: u16 = 10;
const CLASS_CHANNEL: u16 = 20;

/// Appends a method frame to `out`, or leaves `out` as it was. For those who write frames of their own between frames
/// that they pass on; a [`Connection`] writes its own.
///
/// # Errors
/// If an argument can't be encoded, or if the frame would be larger than `frame_max` bytes: the caller's fault.
#[inline]
pub fn put_method<M: Encode>(out: &mut Vec<u8>, frame_max: usize, channel: u16, method: &M) -> Result<(), Error> {
    put_payload(out, frame_max, channel, M::ID, |out| method.encode(out))
}

/// Appends a method frame whose payload `encode` writes, or leaves `out` as it was.
#[inline]
fn put_payload(
    out: &mut Vec<u8>,
    frame_max: usize,
    channel: u16,
    id: MethodId,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = out.len();
    frame::put_head(out, Kind::Method, channel, 0);
    if let Err(error) = encode(out) {
        out.truncate(start);
        return Err(Error::caller(format!("{}: {}", id.name(), error.message())));
    }
    let size = out.len() - start - HEAD;
    if size + OVERHEAD > frame_max {
        out.truncate(start);
        return Err(Error::caller(format!(
            "{} takes {size} bytes, and must fit into one frame of {frame_max}",
            id.name()
        )));
    }
    out[start + 3..start + HEAD].copy_from_slice(&(size as u32).to_be_bytes());
    out.push(frame::END);
    Ok(())
}

/// The two methods that end a connection at any time.
enum End {
    Close(CloseReason),
    CloseOk,
}

impl End {
    fn decode(id: MethodId, payload: &[u8]) -> Result<Option<Self>, Error> {
        if id != method::connection::Close::ID && id != method::connection::CloseOk::ID {
            return Ok(None);
        }
        Ok(match Method::decode(payload)? {
            Method::ConnectionClose(close) => Some(Self::Close(CloseReason {
                code: close.reply_code,
                text: close.reply_text.to_owned(),
                method: MethodId { class: close.class_id, method: close.method_id },
            })),
            _ => Some(Self::CloseOk),
        })
    }
}

fn unasked(id: MethodId) -> Error {
    Error::peer(code::UNEXPECTED_FRAME, format!("{} that nobody asked for", id.name()))
}

fn interval(seconds: u16) -> Duration {
    Duration::from_secs(u64::from(seconds))
}
