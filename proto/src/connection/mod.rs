//! The connection: one state machine for clients and servers.
//!
//! Owns the handshake, the agreed limits, the channels, the heartbeats and the output. Inputs are an [`Incoming`] from
//! the [`Receiver`](crate::Receiver), a call of the user, or the time; each input causes at most one [`Event`], and
//! bytes to write. This module must never know sockets, clocks, wakers or types of the user.
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
mod consumers;
mod event;
mod handshake;
mod message;
mod prepared;
mod server;
mod settling;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::content::Content;
use crate::error::{Error, code};
use crate::frame::{self, HEAD, Kind, OVERHEAD};
use crate::heartbeat::Heartbeat;
use crate::limits::ReceiveLimits;
use crate::method::{self, Encode, Method};
use crate::method_id::MethodId;
use crate::output::{Output, Position, Transmit, UNCOPIED};
use crate::properties::Properties;
use crate::receive::Incoming;
use crate::shown::Elapsed;
use crate::time::Time;
use crate::violation::Violation;

use channel::{Channel, Pending, Phase, unexpected};
pub use event::{CloseReason, Event, Purpose};
use handshake::Handshake;
pub use handshake::{Config, HandshakeStage, Tuning};
pub use message::{Body, Route};
pub use prepared::Prepared;

/// The role of this end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer that connects.
    Client,
    /// The peer that accepts connections, with the feature `server`.
    #[cfg(feature = "server")]
    Server,
}

impl Role {
    /// Always `false` without the feature `server`, so that the compiler removes the server's code.
    fn is_server(self) -> bool {
        self != Self::Client
    }
}

/// One end of a connection. The [crate documentation](crate) shows the order of calls.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    state: State,
    config: Config,
    tuning: Tuning,
    heartbeat: Heartbeat,
    output: Output,
    /// Indexed by channel number. Index 0 is never used: channel 0 is the connection itself.
    channels: Vec<Option<Box<Channel>>>,
    /// Requests on channel 0.
    pending: VecDeque<Pending>,
    blocked: bool,
    /// How many deliveries named an unknown consumer.
    unknown_deliveries: u64,
    /// The latest ack, if it left no earlier delivery unsettled.
    last_ack: Option<LastAck>,
}

/// An ack that a later ack may replace as long as it is the last frame of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastAck {
    channel: u16,
    /// The end of its frame.
    end: Position,
}

/// The size of the arguments of a `basic.ack`, which end its frame but for the end octet: tag and bits.
const ACK_ARGUMENTS: usize = 8 + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake(Handshake),
    Open,
    /// `connection.close` is sent; everything but its reply is dropped.
    Closing,
    Closed,
}

impl Connection {
    /// Creates one end of a connection. A client has bytes to write immediately: the protocol header.
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

    /// Handles one item from the receiver.
    ///
    /// # Errors
    /// The peer's fault, if the peer broke the protocol. The connection is then closed, and the output holds a
    /// `connection.close` with the code of the error.
    pub fn handle(&mut self, now: Time, incoming: Incoming) -> Result<Option<Event>, Error> {
        let result = match (incoming, self.state) {
            (_, State::Closed) | (Incoming::Heartbeat, _) => Ok(None),
            (Incoming::Content { channel, content }, State::Open) if self.role.is_server() => {
                self.content_from_client(channel, content)
            }
            (Incoming::Content { channel, content }, _) => {
                self.purpose(channel, &content).map(|purpose| purpose.map(|purpose| purpose.event(channel, content)))
            }
            (Incoming::Oversized { channel, size }, State::Open) => self.oversized_from_client(channel, size),
            (Incoming::Oversized { .. }, State::Closing) => Ok(None),
            (Incoming::Oversized { .. }, State::Handshake(_)) => Err(self.too_early(MethodId::BASIC_PUBLISH)),
            (Incoming::Method { channel, payload }, _) => self.handle_method(now, channel, payload),
            (Incoming::ProtocolHeader(header), _) => self.handle_protocol_header(header),
        };
        result.inspect_err(|error| self.fail(error))
    }

    /// Client: handles a received message by reference. [`Connection::handle`] moves the message into an event instead.
    ///
    /// # Errors
    /// The errors of [`Connection::handle`].
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

    /// Records that the peer is alive: bytes arrived, or wait unread in the socket because the user has no room.
    pub fn received(&mut self, now: Time) {
        self.heartbeat.received(now);
    }

    /// Moves the output into `transmit`. Returns whether `transmit` holds anything.
    pub fn poll_transmit(&mut self, now: Time, transmit: &mut Transmit) -> bool {
        if self.output.len() > 0 {
            self.heartbeat.sent(now);
        }
        self.output.take(transmit)
    }

    /// Returns how many bytes wait for [`Connection::poll_transmit`].
    #[inline]
    pub fn queued(&self) -> usize {
        self.output.len()
    }

    /// Returns when to call [`Connection::handle_timeout`]; any other call may change this time.
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
    /// 320, the peer's fault, if nothing arrived for two intervals. The connection is then closed.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), Error> {
        if self.poll_timeout().is_none() {
            return Ok(());
        }
        if self.heartbeat.is_dead(now) {
            self.state = State::Closed;
            let interval = Elapsed(self.tuning.heartbeat);
            let text =
                format!("received nothing for two heartbeat intervals of {interval}; the peer or network is down");
            return Err(Violation::HeartbeatTimeout.by_peer(code::CONNECTION_FORCED, text));
        }
        if self.heartbeat.is_due(now) {
            // Other output proves as well that this end is alive.
            if self.output.len() == 0 {
                frame::put_head(self.output.frames(), Kind::Heartbeat, 0, 0);
                self.output.frames().push(frame::END);
            }
            self.heartbeat.sent(now);
        }
        Ok(())
    }

    /// Asks the peer to close the connection. From now on, everything but the reply of the peer is dropped.
    pub fn close(&mut self, code: u16, text: &str) {
        if matches!(self.state, State::Open | State::Handshake(_)) {
            self.send_close(code, text);
            self.state = State::Closing;
        }
    }

    /// Returns whether the connection is open for requests.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Returns whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Returns the limits that both peers agreed on.
    pub fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Returns the limits for the [`Receiver`](crate::Receiver), which change when the handshake agrees on them.
    ///
    /// A server accepts frames whose payload alone has the agreed size, as RabbitMQ does: some clients, such as
    /// amqpstorm, do not count the 8 bytes around it.
    pub fn receive_limits(&self) -> ReceiveLimits {
        let mut limits = self.tuning.receive_limits(&self.config);
        if self.role.is_server() {
            limits.frame_max = limits.frame_max.saturating_add(OVERHEAD as u32);
        }
        limits
    }

    /// Frees the memory that a burst needed.
    pub fn shrink(&mut self) {
        self.output.shrink();
    }

    fn handle_method(&mut self, now: Time, channel: u16, payload: Bytes) -> Result<Option<Event>, Error> {
        let id = MethodId::peek(&payload)?;
        let is_server = self.role.is_server();
        let allowed = if is_server { id.from_client() } else { id.from_server() };
        if !allowed {
            return Err(forbidden(id));
        }
        if (id.class == CLASS_CONNECTION) != (channel == 0) {
            let text = format!("received {id} on channel {channel}, where it is not allowed");
            return Err(Violation::WrongChannel { method: id, channel }.by_peer(code::COMMAND_INVALID, text));
        }
        match End::decode(id, &payload)? {
            Some(End::Close(reason)) => return Ok(Some(self.closed_by_peer(reason))),
            Some(End::CloseOk) if self.state == State::Closing => {
                self.state = State::Closed;
                return Ok(Some(Event::Closed { reason: None }));
            }
            Some(End::CloseOk) => return Err(unexpected(id)),
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
        // Encoding a method without arguments cannot fail.
        let _ = self.send(0, &method::connection::CloseOk {});
        self.state = State::Closed;
        Event::Closed { reason: Some(reason) }
    }

    /// Closes the connection for a fault of the peer, and tells the peer.
    fn fail(&mut self, error: &Error) {
        let is_amqp = !matches!(self.state, State::Handshake(Handshake::ExpectStart | Handshake::ExpectHeader));
        if is_amqp && !matches!(self.state, State::Closed | State::Closing) {
            if self.role.is_server() {
                // RabbitMQ sends the same form.
                let text = format!("{} - {}", code::name(error.code()), error.message());
                self.send_close(error.code(), &text);
            } else {
                self.send_close(error.code(), error.message());
            }
        }
        self.state = State::Closed;
    }

    /// Closes the connection for an error of the [`Receiver`](crate::Receiver), and tells the peer.
    pub fn receive_failed(&mut self, error: &Error) {
        self.fail(error);
    }

    fn send_close(&mut self, code: u16, text: &str) {
        let close = method::connection::Close { reply_code: code, reply_text: text, class_id: 0, method_id: 0 };
        // Encoding truncates the text, so it cannot fail.
        let _ = self.send(0, &close);
    }

    fn too_early(&self, method: MethodId) -> Error {
        let text = format!("received {method} before the connection was open");
        Violation::UnexpectedMethod { method }.by_peer(code::COMMAND_INVALID, text)
    }

    /// Appends the frame of a frequent method, with code specialized for the method.
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

    /// Appends a method frame whose payload `encode` writes, with code that all methods share.
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
        let size = body.bytes().len();
        let list = properties.as_bytes();
        // A consumer may have agreed on smaller frames than the publisher. A server has no better answer than the frame
        // that is too large, which is what RabbitMQ sends.
        if 14 + list.len() + OVERHEAD > frame_max && !self.role.is_server() {
            return Err(too_large("message properties", 14 + list.len() + OVERHEAD, frame_max));
        }
        let out = self.output.frames();
        put_payload(out, frame_max, channel, id, encode)?;
        frame::put_head(out, Kind::Header, channel, (14 + list.len()) as u32);
        let [s0, s1, s2, s3, s4, s5, s6, s7] = (size as u64).to_be_bytes();
        let [f0, f1] = properties.flags().to_be_bytes();
        out.extend_from_slice(&[0, 60, 0, 0, s0, s1, s2, s3, s4, s5, s6, s7, f0, f1]);
        out.extend_from_slice(list);
        out.push(frame::END);
        self.put_body(channel, body);
        Ok(())
    }

    /// Appends the frames of a body.
    #[inline]
    fn put_body(&mut self, channel: u16, body: Body<'_>) {
        let chunk = self.tuning.frame_max as usize - OVERHEAD;
        match body {
            Body::Shared(body) if body.len() >= UNCOPIED => self.send_large_body(channel, body, chunk),
            body => {
                let out = self.output.frames();
                for part in body.bytes().chunks(chunk) {
                    frame::put_head(out, Kind::Body, channel, part.len() as u32);
                    out.extend_from_slice(part);
                    out.push(frame::END);
                }
            }
        }
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

/// Appends a method frame to `out`. For proxies that insert frames into a forwarded stream; a [`Connection`] writes its
/// own frames.
///
/// # Errors
/// The caller's fault, if an argument cannot be encoded or the frame would be larger than `frame_max` bytes. `out` is
/// unchanged then.
#[inline]
pub fn put_method<M: Encode>(out: &mut Vec<u8>, frame_max: usize, channel: u16, method: &M) -> Result<(), Error> {
    put_payload(out, frame_max, channel, M::ID, |out| method.encode(out))
}

/// Appends a method frame whose payload `encode` writes. An error leaves `out` unchanged.
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
        return Err(error.while_sending(id));
    }
    let size = out.len() - start - HEAD;
    if size + OVERHEAD > frame_max {
        out.truncate(start);
        return Err(too_large(id.name(), size + OVERHEAD, frame_max));
    }
    out[start + 3..start + HEAD].copy_from_slice(&(size as u32).to_be_bytes());
    out.push(frame::END);
    Ok(())
}

/// The two methods that may end a connection at any time.
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

#[cold]
fn too_large(what: &str, size: usize, limit: usize) -> Error {
    let text = format!("{what}: the frame would be {size} bytes; the limit is {limit}");
    Violation::FrameTooLarge { size, limit }.by_caller(text)
}

#[cold]
fn forbidden(method: MethodId) -> Error {
    let text = format!("received {method}, which this peer must not send");
    if method.is_known() {
        Violation::ForbiddenMethod { method }.by_peer(code::COMMAND_INVALID, text)
    } else {
        Violation::NotImplemented { method }.by_peer(code::NOT_IMPLEMENTED, text)
    }
}

/// Returns the error of a peer that uses a channel that is not open.
#[cold]
fn not_open(channel: u16) -> Error {
    let text = format!("frame received on channel {channel}, which is not open");
    Violation::ChannelNotOpen { channel }.by_peer(code::CHANNEL_ERROR, text)
}

/// Returns the error of a caller that uses a channel that is not open.
#[cold]
fn cannot_use(channel: u16) -> Error {
    Violation::ChannelNotOpen { channel }.by_caller(format!("channel {channel} is not open"))
}
