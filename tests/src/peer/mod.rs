//! A peer that writes and reads frames, for scenarios of a broker's behaviour on the wire.
//!
//! It owns a TCP connection to the [broker under test](crate::broker), but no logic of a client: it sends any frame,
//! valid or not, and shows each frame that it receives as a line of text with all its content, in order. The codec is
//! `hopmq-proto`'s. A peer must not behave differently for different brokers.
//!
//! Every failure is a panic at the scenario's line.

mod channel;
mod limits;
mod message;
mod stage;
mod transcript;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use hopmq_proto::method::{Encode, Method, MethodId, channel as methods, connection};
use hopmq_proto::{FieldTable, PROTOCOL_HEADER};

pub use self::channel::{Arguments, Channel, table};
pub use self::message::Message;
pub use self::stage::Stage;
pub use self::transcript::{shown, shown_table};

/// Time to wait for a frame, at most.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The negotiated frame size, unless a scenario chooses another.
const FRAME_MAX: u32 = 131_072;

/// A frame, or a method with its content, that the broker sent.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The payload of a method without content.
    Method(Vec<u8>),
    /// A method with its content.
    Message(Message),
    /// A heartbeat.
    Heartbeat,
    /// The broker closed the TCP connection.
    End,
}

/// An AMQP connection without a client: the scenario reads and writes the frames.
#[derive(Debug)]
pub struct Peer {
    wire: RefCell<Wire>,
    suffix: String,
}

#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    /// Received frames that the scenario has not read yet, with their channels.
    inbox: VecDeque<(u16, Frame)>,
    frame_max: usize,
    /// The sizes of the last message's body frames.
    sizes: Vec<usize>,
}

impl Peer {
    /// Opens a TCP connection and sends nothing.
    #[track_caller]
    pub fn silent(stage: &Stage) -> Self {
        let socket = TcpStream::connect(crate::broker().address()).expect("the broker listens");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        socket.set_nodelay(true).expect("nodelay can be set");
        let wire = Wire { socket, inbox: VecDeque::new(), frame_max: FRAME_MAX as usize, sizes: Vec::new() };
        Self { wire: RefCell::new(wire), suffix: stage.suffix().to_owned() }
    }

    /// Opens an AMQP connection.
    #[track_caller]
    pub fn open(stage: &Stage) -> Self {
        Self::open_as(stage, "guest", "guest")
    }

    /// Opens an AMQP connection as another user.
    #[track_caller]
    pub fn open_as(stage: &Stage, user: &str, password: &str) -> Self {
        let peer = Self::login(stage, &capabilities(), "PLAIN", format!("\0{user}\0{password}").as_bytes());
        peer.tuned(connection::TuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 });
        assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
        peer
    }

    /// Logs in with these client properties. The next frame is `connection.tune`.
    #[track_caller]
    pub fn started(stage: &Stage, properties: &FieldTable) -> Self {
        Self::login(stage, properties, "PLAIN", b"\0guest\0guest")
    }

    /// Sends `connection.start-ok` with this mechanism and these client properties. The next frame is the broker's
    /// reply.
    #[track_caller]
    pub fn login(stage: &Stage, properties: &FieldTable, mechanism: &str, response: &[u8]) -> Self {
        let peer = Self::silent(stage);
        peer.bytes(&PROTOCOL_HEADER);
        assert!(peer.next().starts_with("connection.start 0.9 "));
        let client_properties = properties.as_ref_table();
        peer.send(&connection::StartOk { client_properties, mechanism, response, locale: "en_US" });
        peer
    }

    /// Reads `connection.tune`, and sends `connection.tune-ok`.
    #[track_caller]
    pub fn tuned(&self, tune_ok: connection::TuneOk) {
        let tune = self.next();
        assert!(tune.starts_with("connection.tune "), "{tune}");
        if tune_ok.frame_max > 0 {
            self.wire.borrow_mut().frame_max = tune_ok.frame_max as usize;
        }
        self.send(&tune_ok);
    }

    /// Opens another connection for the same scenario.
    #[track_caller]
    pub(crate) fn another(&self) -> Self {
        Self::open(&Stage::of(&self.suffix))
    }

    /// Returns the shorthands for a channel without opening it.
    pub fn unopened_channel(&self, id: u16) -> Channel<'_> {
        Channel::new(self, id)
    }

    /// Opens a channel.
    #[track_caller]
    pub fn channel(&self, id: u16) -> Channel<'_> {
        let channel = self.unopened_channel(id);
        channel.send(&methods::Open {});
        channel.expect("channel.open-ok");
        channel
    }

    /// Writes bytes.
    #[track_caller]
    pub fn bytes(&self, bytes: &[u8]) {
        self.try_bytes(bytes).expect("the broker reads");
    }

    /// Writes bytes to a broker that may have closed the connection.
    ///
    /// # Errors
    /// If the socket can't be written.
    pub fn try_bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.borrow_mut().socket.write_all(bytes)
    }

    /// Writes one frame.
    #[track_caller]
    pub fn frame(&self, kind: u8, channel: u16, payload: &[u8]) {
        self.bytes(&frame(kind, channel, payload));
    }

    /// Sends a method on channel 0.
    #[track_caller]
    pub fn send(&self, method: &impl Encode) {
        self.frame(1, 0, &encoded(method));
    }

    /// Sends a method on channel 0, and returns the line of the next frame there.
    #[track_caller]
    pub fn ask(&self, method: &impl Encode) -> String {
        self.send(method);
        self.next()
    }

    /// Returns the line of the next frame on channel 0, or "end".
    #[track_caller]
    pub fn next(&self) -> String {
        self.line(&self.frame_of(0))
    }

    /// Returns the next frame of any channel: the channel and the line.
    #[track_caller]
    pub fn next_of_any(&self) -> (u16, String) {
        let mut wire = self.wire.borrow_mut();
        let (channel, frame) = wire.inbox.pop_front().unwrap_or_else(|| wire.read());
        (channel, self.line(&frame))
    }

    /// Returns the next frame of a channel. `connection.close` and the end of the connection appear on every channel.
    #[track_caller]
    pub(crate) fn frame_of(&self, channel: u16) -> Frame {
        let mut wire = self.wire.borrow_mut();
        loop {
            let found = wire.inbox.iter().position(|(number, frame)| *number == channel || is_closing(frame));
            if let Some(at) = found {
                let stays = matches!(wire.inbox[at].1, Frame::End) || wire.inbox[at].0 != channel;
                let frame = if stays { wire.inbox.get(at).cloned() } else { wire.inbox.remove(at) };
                return frame.expect("the index is valid").1;
            }
            let received = wire.read();
            wire.inbox.push_back(received);
        }
    }

    /// Returns the line of a frame, with the scenario's own names.
    pub(crate) fn line(&self, frame: &Frame) -> String {
        transcript::line(frame).replace(&self.suffix, "")
    }

    /// Returns a text with the scenario's own names: without the suffix.
    pub fn plain(&self, text: &str) -> String {
        text.replace(&self.suffix, "")
    }

    /// Returns the name of a queue or exchange, as the broker knows it.
    pub(crate) fn name(&self, stem: &str) -> String {
        if stem.is_empty() || stem.starts_with("amq.") { stem.to_owned() } else { format!("{stem}{}", self.suffix) }
    }

    /// Sends a method on `channel`, and checks that the broker closes the connection with `reason`.
    #[track_caller]
    pub fn expect_connection_error(&self, channel: u16, method: &impl Encode, reason: &str) {
        self.frame(1, channel, &encoded(method));
        self.expect_connection_close(reason);
    }

    /// Checks that the broker closes the connection with `reason`, and sends `connection.close-ok`.
    #[track_caller]
    pub fn expect_connection_close(&self, reason: &str) {
        assert_eq!(self.next(), format!("connection.close {reason}"));
        self.send(&connection::CloseOk {});
        assert_eq!(self.next(), "end");
    }

    /// Checks that the broker closes the connection with `code`, whatever its text, and sends `connection.close-ok`.
    #[track_caller]
    pub fn expect_violation(&self, code: &str) {
        let line = self.next();
        assert!(line.starts_with(&format!("connection.close {code} - ")), "{line}");
        self.send(&connection::CloseOk {});
    }

    /// Closes the connection.
    #[track_caller]
    pub fn close(self) {
        let close = connection::Close { reply_code: 200, reply_text: "closed by the test", ..Default::default() };
        assert_eq!(self.ask(&close), "connection.close-ok");
    }

    /// Shuts down the socket for writing.
    #[track_caller]
    pub fn shut_down_write(&self) {
        self.wire.borrow_mut().socket.shutdown(Shutdown::Write).expect("the TCP connection is open");
    }

    /// Cuts the TCP connection.
    pub fn cut(self) {
        // The broker may have closed the socket already.
        let _ = self.wire.borrow_mut().socket.shutdown(Shutdown::Both);
    }

    /// Returns the negotiated frame size.
    pub(crate) fn frame_max(&self) -> usize {
        self.wire.borrow().frame_max
    }

    /// Returns the sizes of the last message's body frames, in bytes of payload.
    pub fn body_frames(&self) -> Vec<usize> {
        self.wire.borrow().sizes.clone()
    }
}

/// Returns client properties with all capabilities.
pub fn capabilities() -> FieldTable {
    let mut capabilities = FieldTable::new();
    for name in [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "exchange_exchange_bindings",
        "publisher_confirms",
    ] {
        capabilities.insert(name, true);
    }
    FieldTable::new().with("product", "scenarios").with("capabilities", &capabilities)
}

/// Returns the payload of a method.
#[track_caller]
pub fn encoded(method: &impl Encode) -> Vec<u8> {
    let mut payload = Vec::new();
    method.encode(&mut payload).expect("the scenario's method can be encoded");
    payload
}

/// Returns the bytes of a frame.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xCE);
    bytes
}

fn is_closing(frame: &Frame) -> bool {
    matches!(frame, Frame::End)
        || matches!(frame, Frame::Method(payload)
            if MethodId::peek(payload).is_ok_and(|id| id == MethodId::CONNECTION_CLOSE))
}

impl Wire {
    /// Reads a method, with its content if it has one.
    #[track_caller]
    fn read(&mut self) -> (u16, Frame) {
        let Some((kind, channel, payload)) = self.frame() else { return (0, Frame::End) };
        match kind {
            1 if MethodId::peek(&payload).is_ok_and(MethodId::has_content) => {
                let message = self.content(channel, payload);
                (channel, Frame::Message(message))
            }
            1 => {
                Method::decode(&payload).expect("the broker's methods can be decoded");
                (channel, Frame::Method(payload))
            }
            8 => (channel, Frame::Heartbeat),
            other => panic!("expected a method frame, got a frame of type {other}"),
        }
    }

    #[track_caller]
    fn content(&mut self, channel: u16, method: Vec<u8>) -> Message {
        let mut expect = |wanted| match self.frame() {
            Some((kind, number, payload)) if (kind, number) == (wanted, channel) => payload,
            other => panic!("expected a frame of type {wanted} on channel {channel}, got {other:?}"),
        };
        let header = expect(2);
        let size = u64::from_be_bytes(header[4..12].try_into().expect("eight bytes"));
        let mut body = Vec::new();
        let mut sizes = Vec::new();
        while (body.len() as u64) < size {
            let part = expect(3);
            sizes.push(part.len());
            body.extend(part);
        }
        self.sizes = sizes;
        Message::new(method, &header, body)
    }

    /// Reads a frame, or `None` where the stream ends.
    #[track_caller]
    fn frame(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        let mut head = [0; 7];
        self.fill(&mut head)?;
        if head.starts_with(b"AMQP") {
            let mut last = [0; 1];
            self.fill(&mut last)?;
            panic!("the broker answered with a protocol header; read that with header()");
        }
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        assert!(size + 8 <= self.frame_max.max(FRAME_MAX as usize), "a frame of {size} bytes exceeds frame_max");
        let mut payload = vec![0; size + 1];
        self.fill(&mut payload)?;
        assert_eq!(payload.pop(), Some(0xCE), "the end octet");
        Some((head[0], channel, payload))
    }

    /// Fills the buffer. Returns `None` if the stream ends.
    #[track_caller]
    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.socket.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no frame within {TIMEOUT:?}: {error}"),
        }
    }
}

impl Peer {
    /// Reads the protocol header with which a broker answers a wrong one, and checks that the stream ends after it.
    #[track_caller]
    pub fn header(&self) -> [u8; 8] {
        let mut header = [0; 8];
        let mut wire = self.wire.borrow_mut();
        wire.fill(&mut header).expect("the broker answers with a header");
        assert!(wire.fill(&mut [0; 1]).is_none(), "bytes after the header");
        header
    }
}
