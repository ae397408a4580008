//! A connection on the level of frames: it writes any frame, and reads what comes back.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use hopmq_proto::method::{Encode, Method, MethodId, basic, channel, connection};
use hopmq_proto::{FieldTable, Frame, Kind, PROTOCOL_HEADER, Properties, ReceiveLimits, put_method};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Result;
use crate::websocket::WebSocket;

/// How long a read or a write may take before it fails.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The size at which collected output is written.
const CHUNK: usize = 256 << 10;
/// The frame size that every connection agrees to.
pub(crate) const FRAME_MAX: u32 = 131_072;
const LIMITS: ReceiveLimits = ReceiveLimits { frame_max: FRAME_MAX, channel_max: u16::MAX, message_max: u64::MAX };

/// Where a client connects, and as which user.
#[derive(Clone, Debug)]
pub struct Door {
    /// The address of the broker or the gateway.
    pub address: SocketAddr,
    /// The address to connect from, if it is not the system's choice.
    pub from: Option<IpAddr>,
    /// Whether the address is a gateway's.
    pub websocket: bool,
    /// The user of the login.
    pub user: String,
    /// The password, or the token for a gateway.
    pub password: String,
}

impl Door {
    /// Returns the door to a broker for `guest`.
    pub fn broker(address: SocketAddr) -> Self {
        Self { address, from: None, websocket: false, user: "guest".into(), password: "guest".into() }
    }

    /// Opens a TCP connection, and sends nothing.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn tcp(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect(&self.address.into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        Ok(socket.into())
    }
}

/// The peer closed the channel or the connection.
#[derive(Debug)]
pub struct Refused {
    /// AMQP's reply code.
    pub code: u16,
    /// The peer's reason.
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with {}: {}", self.code, self.text)
    }
}

impl std::error::Error for Refused {}

trait Transport: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Transport for WebSocket {
    fn socket(&self) -> &TcpStream {
        self.tcp()
    }
}

/// A received frame.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

/// An AMQP connection without a client.
pub struct Wire {
    transport: Box<dyn Transport>,
    output: Vec<u8>,
    input: Vec<u8>,
    /// How much of the input is read.
    taken: usize,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.transport.socket().peer_addr()).finish_non_exhaustive()
    }
}

impl Wire {
    /// Opens a connection without a login. Sends nothing of AMQP.
    ///
    /// # Errors
    /// If the system or the gateway refuses.
    pub fn silent(door: &Door) -> Result<Self> {
        let tcp = door.tcp()?;
        let transport: Box<dyn Transport> =
            if door.websocket { Box::new(WebSocket::open(tcp)?) } else { Box::new(tcp) };
        Ok(Self { transport, output: Vec::new(), input: Vec::new(), taken: 0 })
    }

    /// Opens a connection, logs in and opens the virtual host `/`.
    ///
    /// # Errors
    /// If it is refused, with [`Refused`] if the peer says why.
    pub fn open(door: &Door) -> Result<Self> {
        let mut wire = Self::silent(door)?;
        wire.log_in(door)?;
        Ok(wire)
    }

    /// Goes through the handshake.
    ///
    /// # Errors
    /// If it is refused, with [`Refused`] if the peer says why.
    pub fn log_in(&mut self, door: &Door) -> Result {
        self.bytes(&PROTOCOL_HEADER);
        self.expect(connection::Start::ID)?;
        let capabilities = ["authentication_failure_close", "connection.blocked", "basic.nack"];
        let capabilities: FieldTable = capabilities.iter().map(|name| (*name, true)).collect();
        let properties = FieldTable::new().with("capabilities", &capabilities);
        let response = format!("\0{}\0{}", door.user, door.password);
        self.method(
            0,
            &connection::StartOk {
                client_properties: properties.as_ref_table(),
                mechanism: "PLAIN",
                response: response.as_bytes(),
                locale: "en_US",
            },
        );
        let tune = self.expect(connection::Tune::ID)?;
        let Ok(Method::ConnectionTune(tune)) = Method::decode(&tune) else { return Err("a wrong tune".into()) };
        let frame_max = FRAME_MAX.min(tune.frame_max);
        self.method(0, &connection::TuneOk { channel_max: tune.channel_max, frame_max, heartbeat: 0 });
        self.method(0, &connection::Open { virtual_host: "/" });
        self.expect(connection::OpenOk::ID).map(drop)
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// If it is refused.
    pub fn channel(&mut self, number: u16) -> Result {
        self.ask(number, &channel::Open {}, channel::OpenOk::ID)
    }

    /// Appends bytes to the output.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Appends a method to the output.
    ///
    /// # Panics
    /// If the method cannot be encoded: the attack is wrong.
    #[track_caller]
    pub fn method(&mut self, channel: u16, method: &impl Encode) {
        put_method(&mut self.output, FRAME_MAX as usize, channel, method).expect("the method can be encoded");
    }

    /// Appends a message to the output, and writes the output if much is collected.
    ///
    /// # Errors
    /// If the output cannot be written.
    #[track_caller]
    pub fn publish(
        &mut self,
        channel: u16,
        (exchange, key): (&str, &str),
        properties: &Properties,
        body: &[u8],
    ) -> Result {
        self.method(channel, &basic::Publish { exchange, routing_key: key, ..Default::default() });
        let header = content_header(properties, body.len() as u64);
        self.frame(Kind::Header, channel, &header);
        for part in body.chunks(FRAME_MAX as usize - 8) {
            self.frame(Kind::Body, channel, part);
        }
        self.push()
    }

    /// Appends a frame to the output.
    pub fn frame(&mut self, kind: Kind, channel: u16, payload: &[u8]) {
        self.output.push(kind as u8);
        self.output.extend_from_slice(&channel.to_be_bytes());
        self.output.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        self.output.extend_from_slice(payload);
        self.output.push(0xCE);
    }

    /// Writes the output if much is collected.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn push(&mut self) -> Result {
        if self.output.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Writes the output.
    ///
    /// # Errors
    /// If the output cannot be written; with the peer's reason if it gave one.
    pub fn flush(&mut self) -> Result {
        for part in self.output.chunks(CHUNK) {
            if let Err(error) = self.transport.write_all(part) {
                return Err(self.reason().map_or_else(|| error.into(), Into::into));
            }
        }
        self.output.clear();
        self.output.shrink_to(4 * CHUNK);
        Ok(())
    }

    /// Looks for the reason of a close in the input that remains.
    fn reason(&mut self) -> Option<Refused> {
        let _ = self.transport.socket().set_read_timeout(Some(Duration::from_secs(1)));
        loop {
            let frame = self.next().ok()?;
            if let Some(refused) = refusal(&frame) {
                return Some(refused);
            }
        }
    }

    /// Sends a method, and awaits its reply.
    ///
    /// # Errors
    /// If the peer closes the channel or the connection, or does not answer.
    #[track_caller]
    pub fn ask(&mut self, channel: u16, method: &impl Encode, reply: MethodId) -> Result {
        self.method(channel, method);
        self.expect(reply).map(drop)
    }

    /// Writes the output, and reads up to a method. Returns its payload.
    ///
    /// # Errors
    /// If the peer closes the channel or the connection, or does not answer.
    pub fn expect(&mut self, id: MethodId) -> Result<Vec<u8>> {
        self.flush()?;
        loop {
            let frame = self.next()?;
            if let Some(refused) = refusal(&frame) {
                return Err(refused.into());
            }
            if frame.kind == Kind::Method && MethodId::peek(&frame.payload).is_ok_and(|found| found == id) {
                return Ok(frame.payload);
            }
        }
    }

    /// Reads a frame.
    pub(crate) fn next(&mut self) -> Result<Received> {
        loop {
            if let Some(frame) = Frame::parse(&self.input[self.taken..], &LIMITS)? {
                let received = Received { kind: frame.kind(), payload: frame.payload().to_vec() };
                self.taken += frame.size();
                return Ok(received);
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            let used = self.input.len();
            self.input.resize(used + (64 << 10), 0);
            let count = self.transport.read(&mut self.input[used..]);
            self.input.truncate(used + *count.as_ref().unwrap_or(&0));
            match count {
                Ok(0) => return Err("the peer ended the connection".into()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(format!("no frame within {TIMEOUT:?}").into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the socket below.
    pub fn socket(&self) -> &TcpStream {
        self.transport.socket()
    }
}

/// Returns the payload of a content header.
///
/// # Panics
/// If the properties cannot be encoded: the attack is wrong.
pub(crate) fn content_header(properties: &Properties, size: u64) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&size.to_be_bytes());
    properties.encode(&mut header).expect("the properties can be encoded");
    header
}

fn refusal(frame: &Received) -> Option<Refused> {
    if frame.kind != Kind::Method {
        return None;
    }
    let (code, text) = match Method::decode(&frame.payload) {
        Ok(Method::ChannelClose(close)) => (close.reply_code, close.reply_text),
        Ok(Method::ConnectionClose(close)) => (close.reply_code, close.reply_text),
        _ => return None,
    };
    Some(Refused { code, text: text.to_owned() })
}
