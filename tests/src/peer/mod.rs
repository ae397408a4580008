//! A peer that writes and reads frames, for scenarios that say what a broker does.
//!
//! Owns a TCP connection to the [broker under test](crate::broker), and nothing of what a client does: it sends what it
//! is told, right or wrong, and shows each frame that comes as a line of text, in its order and with all that the
//! broker said. The codec is `hopmq-proto`'s. It must never know which broker it talks to.
//!
//! What goes wrong is a panic at the scenario's line: there is nobody else to tell.

mod channel;
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

/// How long a frame may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the scenarios' connections agree on, where a scenario says nothing else.
const FRAME_MAX: u32 = 131_072;

/// What the broker sent.
#[derive(Clone, Debug)]
pub enum Frame {
    /// A method without content: its payload.
    Method(Vec<u8>),
    /// A method with its content.
    Message(Message),
    /// A sign of life.
    Heartbeat,
    /// The broker closed the connection of TCP.
    End,
}

/// A connection, with nobody between the scenario and the broker.
#[derive(Debug)]
pub struct Peer {
    wire: RefCell<Wire>,
    suffix: String,
}

#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    /// What came on channels that nobody asked for yet.
    inbox: VecDeque<(u16, Frame)>,
    frame_max: usize,
    /// Body frames of each message that came, the newest last.
    sizes: Vec<usize>,
}

impl Peer {
    /// A connection of TCP, on which nothing was said.
    #[track_caller]
    pub fn silent(stage: &Stage) -> Self {
        let socket = TcpStream::connect(crate::broker().address()).expect("the broker listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        socket.set_nodelay(true).expect("an option can be set");
        let wire = Wire { socket, inbox: VecDeque::new(), frame_max: FRAME_MAX as usize, sizes: Vec::new() };
        Self { wire: RefCell::new(wire), suffix: stage.suffix().to_owned() }
    }

    /// An open connection.
    #[track_caller]
    pub fn open(stage: &Stage) -> Self {
        Self::open_as(stage, "guest", "guest")
    }

    /// An open connection of another user's.
    #[track_caller]
    pub fn open_as(stage: &Stage, user: &str, password: &str) -> Self {
        let peer = Self::login(stage, &capabilities(), "PLAIN", format!("\0{user}\0{password}").as_bytes());
        peer.tuned(connection::TuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 });
        assert_eq!(peer.ask(&connection::Open { virtual_host: "/" }), "connection.open-ok");
        peer
    }

    /// Logged in, with these client properties: `connection.tune` is next.
    #[track_caller]
    pub fn started(stage: &Stage, properties: &FieldTable) -> Self {
        Self::login(stage, properties, "PLAIN", b"\0guest\0guest")
    }

    /// Says who it is by some mechanism, with these client properties: what the broker says to that is next.
    #[track_caller]
    pub fn login(stage: &Stage, properties: &FieldTable, mechanism: &str, response: &[u8]) -> Self {
        let peer = Self::silent(stage);
        peer.bytes(&PROTOCOL_HEADER);
        assert!(peer.next().starts_with("connection.start 0.9 "));
        let client_properties = properties.as_ref_table();
        peer.send(&connection::StartOk { client_properties, mechanism, response, locale: "en_US" });
        peer
    }

    /// Takes `connection.tune`, and answers it.
    #[track_caller]
    pub fn tuned(&self, answer: connection::TuneOk) {
        let tune = self.next();
        assert!(tune.starts_with("connection.tune "), "{tune}");
        if answer.frame_max > 0 {
            self.wire.borrow_mut().frame_max = answer.frame_max as usize;
        }
        self.send(&answer);
    }

    /// Another connection of the same scenario's.
    #[track_caller]
    pub(crate) fn another(&self) -> Self {
        Self::open(&Stage::of(&self.suffix))
    }

    /// A channel's shorthands, whether it is open or not.
    pub fn lane(&self, id: u16) -> Channel<'_> {
        Channel::new(self, id)
    }

    /// Opens a channel.
    #[track_caller]
    pub fn channel(&self, id: u16) -> Channel<'_> {
        let channel = self.lane(id);
        channel.sends(&methods::Open {});
        channel.expect("channel.open-ok");
        channel
    }

    /// Writes bytes.
    #[track_caller]
    pub fn bytes(&self, bytes: &[u8]) {
        self.try_bytes(bytes).expect("the broker takes what is written");
    }

    /// Writes bytes to a broker that may have gone.
    ///
    /// # Errors
    /// That of the socket.
    pub fn try_bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.borrow_mut().socket.write_all(bytes)
    }

    /// Writes one frame.
    #[track_caller]
    pub fn frame(&self, kind: u8, channel: u16, payload: &[u8]) {
        self.bytes(&frame(kind, channel, payload));
    }

    /// Sends a method of the connection.
    #[track_caller]
    pub fn send(&self, method: &impl Encode) {
        self.frame(1, 0, &encoded(method));
    }

    /// Sends a method of the connection, and returns what comes next for the connection.
    #[track_caller]
    pub fn ask(&self, method: &impl Encode) -> String {
        self.send(method);
        self.next()
    }

    /// What comes next for the connection: channel 0, or its end.
    #[track_caller]
    pub fn next(&self) -> String {
        self.line(&self.frame_of(0))
    }

    /// Whatever comes next, with the number of its channel.
    #[track_caller]
    pub fn next_of_any(&self) -> (u16, String) {
        let mut wire = self.wire.borrow_mut();
        let (channel, frame) = wire.inbox.pop_front().unwrap_or_else(|| wire.read());
        (channel, self.line(&frame))
    }

    /// The next frame of a channel. That the connection closes is told on every channel, and that it has ended as well.
    #[track_caller]
    pub(crate) fn frame_of(&self, channel: u16) -> Frame {
        let mut wire = self.wire.borrow_mut();
        loop {
            let found = wire.inbox.iter().position(|(number, frame)| *number == channel || is_closing(frame));
            if let Some(at) = found {
                let stays = matches!(wire.inbox[at].1, Frame::End) || wire.inbox[at].0 != channel;
                let frame = if stays { wire.inbox.get(at).cloned() } else { wire.inbox.remove(at) };
                return frame.expect("it was found there").1;
            }
            let came = wire.read();
            wire.inbox.push_back(came);
        }
    }

    /// The line that shows a frame: names as the scenario calls them.
    pub(crate) fn line(&self, frame: &Frame) -> String {
        transcript::line(frame).replace(&self.suffix, "")
    }

    /// A text with names as the scenario calls them.
    pub fn plain(&self, text: &str) -> String {
        text.replace(&self.suffix, "")
    }

    /// The name of a queue or exchange, as the broker knows it.
    pub(crate) fn name(&self, stem: &str) -> String {
        if stem.is_empty() || stem.starts_with("amq.") { stem.to_owned() } else { format!("{stem}{}", self.suffix) }
    }

    /// Sends a method on `channel` that ends the connection, and checks how.
    #[track_caller]
    pub fn dies(&self, channel: u16, method: &impl Encode, reason: &str) {
        self.frame(1, channel, &encoded(method));
        self.ends(reason);
    }

    /// Checks that the broker closes the connection for that reason, and says goodbye.
    #[track_caller]
    pub fn ends(&self, reason: &str) {
        assert_eq!(self.next(), format!("connection.close {reason}"));
        self.send(&connection::CloseOk {});
        assert_eq!(self.next(), "end");
    }

    /// Checks that the broker closes the connection with that code for a breach of the protocol, told in its own words.
    #[track_caller]
    pub fn faults(&self, code: &str) {
        let line = self.next();
        assert!(line.starts_with(&format!("connection.close {code} - ")), "{line}");
        self.send(&connection::CloseOk {});
    }

    /// Closes the connection as it should be.
    #[track_caller]
    pub fn close(self) {
        let close = connection::Close { reply_code: 200, reply_text: "goodbye", ..Default::default() };
        assert_eq!(self.ask(&close), "connection.close-ok");
    }

    /// Says that nothing more will be written.
    #[track_caller]
    pub fn hangs_up(&self) {
        self.wire.borrow_mut().socket.shutdown(Shutdown::Write).expect("the connection of TCP is open");
    }

    /// Cuts the connection of TCP.
    pub fn cut(self) {
        // A broker that has gone is cut off already.
        let _ = self.wire.borrow_mut().socket.shutdown(Shutdown::Both);
    }

    /// The largest frame that the two ends agreed on.
    pub(crate) fn frame_max(&self) -> usize {
        self.wire.borrow().frame_max
    }

    /// The payloads of the body frames of the last message that came, in bytes.
    pub fn body_frames(&self) -> Vec<usize> {
        self.wire.borrow().sizes.clone()
    }
}

/// What a client that takes everything says of itself.
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

/// A method's payload.
#[track_caller]
pub fn encoded(method: &impl Encode) -> Vec<u8> {
    let mut payload = Vec::new();
    method.encode(&mut payload).expect("the scenario's method can be encoded");
    payload
}

/// A frame's bytes.
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
            other => panic!("a frame of type {other} where a method was due"),
        }
    }

    #[track_caller]
    fn content(&mut self, channel: u16, method: Vec<u8>) -> Message {
        let mut due = |wanted| match self.frame() {
            Some((kind, number, payload)) if (kind, number) == (wanted, channel) => payload,
            other => panic!("a frame of type {wanted} on channel {channel} was due, but it was {other:?}"),
        };
        let header = due(2);
        let size = u64::from_be_bytes(header[4..12].try_into().expect("eight bytes"));
        let (mut body, mut sizes) = (Vec::new(), Vec::new());
        while (body.len() as u64) < size {
            let part = due(3);
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
            panic!("the broker answered with its own protocol header: read it with `header`");
        }
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        assert!(size + 8 <= self.frame_max.max(FRAME_MAX as usize), "a frame of {size} bytes is too large");
        let mut payload = vec![0; size + 1];
        self.fill(&mut payload)?;
        assert_eq!(payload.pop(), Some(0xCE), "the end octet");
        Some((head[0], channel, payload))
    }

    /// Fills the buffer, or says that there is no more.
    #[track_caller]
    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.socket.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came within {PATIENCE:?} ({error})"),
        }
    }
}

impl Peer {
    /// The eight bytes with which a broker answers a header that it does not take, then the end.
    #[track_caller]
    pub fn header(&self) -> [u8; 8] {
        let mut header = [0; 8];
        let mut wire = self.wire.borrow_mut();
        wire.fill(&mut header).expect("a header comes before the end");
        assert!(wire.fill(&mut [0; 1]).is_none(), "the end comes after the header");
        header
    }
}
