//! One end of a connection with its driver.

use std::io::IoSlice;

use hopmq_proto::method::MethodId;
use hopmq_proto::{Config, Connection, Content, Error, Event, Receiver, Role, Time, Transmit};

/// A connection with its receiver, and the events and error that they caused.
#[derive(Debug)]
pub struct Peer {
    pub connection: Connection,
    pub receiver: Receiver,
    pub events: Vec<Event>,
    /// The error that closed the connection.
    pub error: Option<Error>,
    transmit: Transmit,
}

impl Peer {
    pub fn new(role: Role, config: Config) -> Self {
        let connection = Connection::new(role, config);
        let limits = connection.receive_limits();
        let receiver = match role {
            Role::Client => Receiver::client(limits),
            Role::Server => Receiver::server(limits),
        };
        Self { connection, receiver, events: Vec::new(), error: None, transmit: Transmit::new() }
    }

    /// Receives bytes, as from a transport.
    pub fn feed(&mut self, now: Time, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.error.is_none() {
            let space = self.receiver.space();
            let count = space.len().min(bytes.len());
            assert!(count > 0, "the receiver always has space");
            space[..count].copy_from_slice(&bytes[..count]);
            self.receiver.filled(count);
            bytes = &bytes[count..];
            self.connection.received(now);
            if let Err(error) = self.handle_all(now) {
                self.error = Some(error);
            }
        }
    }

    fn handle_all(&mut self, now: Time) -> Result<(), Error> {
        loop {
            let incoming = match self.receiver.poll() {
                Ok(Some(incoming)) => incoming,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.connection.receive_failed(&error);
                    return Err(error);
                }
            };
            let was_open = self.connection.is_open();
            self.events.extend(self.connection.handle(now, incoming)?);
            if !was_open {
                self.receiver.set_limits(self.connection.receive_limits());
            }
        }
    }

    /// Returns all output.
    pub fn drain(&mut self, now: Time) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.connection.poll_transmit(now, &mut self.transmit) {
            while !self.transmit.is_empty() {
                let mut slices = [IoSlice::new(&[]); 4];
                let before = bytes.len();
                for slice in self.transmit.slices(&mut slices) {
                    bytes.extend_from_slice(slice);
                }
                self.transmit.advance(bytes.len() - before);
            }
        }
        bytes
    }

    /// Removes all events, and returns their short forms.
    pub fn take(&mut self) -> Vec<String> {
        self.events.drain(..).map(|event| brief(&event)).collect()
    }

    /// The code of the error that closed the connection.
    pub fn code(&self) -> Option<u16> {
        self.error.as_ref().map(Error::code)
    }
}

/// The short form of an event, for comparisons.
pub fn brief(event: &Event) -> String {
    let name = |payload: &[u8]| MethodId::peek(payload).map_or("?", MethodId::name);
    match event {
        Event::Start { mechanisms, .. } => format!("start {mechanisms}"),
        Event::Secure { challenge } => format!("secure {}", text(challenge)),
        Event::StartOk { mechanism, response, .. } => format!("start-ok {mechanism} {}", text(response)),
        Event::SecureOk { response } => format!("secure-ok {}", text(response)),
        Event::Open { vhost } => format!("open {vhost}"),
        Event::Opened => "opened".to_owned(),
        Event::Reply { channel, request, payload } => format!("{channel}: reply {request} {}", name(payload)),
        Event::Got { channel, request, content } => format!("{channel}: got {request} {}", message(content)),
        Event::Delivery { channel, consumer, delivery_tag, content } => {
            format!("{channel}: delivery {consumer} {delivery_tag} {}", message(content))
        }
        Event::Returned { channel, tag, content } => format!("{channel}: returned {tag:?} {}", message(content)),
        Event::Confirmed { channel, first, last, ack } => {
            format!("{channel}: {} {first}..={last}", if *ack { "confirmed" } else { "refused" })
        }
        Event::ConsumerCancelled { channel, consumer } => format!("{channel}: cancelled {consumer}"),
        Event::Flow { channel, active } => format!("{channel}: flow {active}"),
        Event::ChannelClosed { channel, reason } => format!("{channel}: closed {} {}", reason.code, reason.text),
        Event::ChannelOpened { channel } => format!("{channel}: opened"),
        Event::Method { channel, payload } => format!("{channel}: {}", name(payload)),
        Event::Published { channel, content } => format!("{channel}: published {}", message(content)),
        Event::Oversized { channel, size } => format!("{channel}: oversized {size}"),
        Event::Blocked { reason } => format!("blocked {reason}"),
        Event::Unblocked => "unblocked".to_owned(),
        Event::Closed { reason: Some(reason) } => format!("closed {} {}", reason.code, reason.text),
        Event::Closed { reason: None } => "closed".to_owned(),
        other => panic!("the tests do not know this event: {other:?}"),
    }
}

fn message(content: &Content) -> String {
    let arguments = content.arguments();
    let route = format!("{}/{}", text(arguments.exchange), text(arguments.routing_key));
    format!("{route} {}", text(content.body()))
}

fn text(bytes: &[u8]) -> String {
    if bytes.len() <= 32 {
        return bytes.escape_ascii().to_string();
    }
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    format!("[{} bytes, {sum:08x}]", bytes.len())
}
