//! A server that follows the protocol by `hopmq_proto`'s server role, and violates it with raw bytes on request.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};

use hopmq::{Body, FieldTable, Properties, Time};
use hopmq_proto::method::{Encode, Method, MethodId, connection};
use hopmq_proto::{CloseReason, Config, Connection, Event, Incoming, Receiver, Role, Transmit};

use super::broker::Broker;
use super::{VirtualTime, Wire};

/// A stage of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// The client's header was received; `connection.start` is due.
    Start,
    /// `connection.start-ok` was received; `connection.tune` is due.
    Tune,
    /// `connection.open` was received; `connection.open-ok` is due.
    OpenOk,
}

pub(crate) const STAGES: [Stage; 3] = [Stage::Start, Stage::Tune, Stage::OpenOk];

/// What the server does at a stage, in place of continuing.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    Stall,
    Cut,
    Reset,
    Close(u16, &'static str),
    Raw(Vec<u8>),
    /// Sends these challenges first.
    Challenge(Vec<&'static [u8]>),
}

pub(crate) struct Server {
    pub(crate) wire: Wire,
    pub(crate) broker: Broker,
    /// What to do at a stage of the handshake.
    pub(crate) reactions: HashMap<Stage, Reaction>,
    /// The server reads, but sends nothing any more.
    pub(crate) silent: bool,
    /// The server reads nothing.
    pub(crate) deaf: bool,
    /// Names of the methods that are not answered until [`Server::release`].
    pub(crate) holds: Vec<&'static str>,
    /// The link is cut once, after this many more methods or messages were received.
    pub(crate) cut_after: Option<usize>,
    /// The SASL responses that were received.
    pub(crate) responses: Vec<Vec<u8>>,
    /// How the client violated the protocol, if it did.
    pub(crate) violation: Option<String>,
    pub(super) proto: Connection,
    config: Config,
    held: VecDeque<Incoming>,
    challenges: VecDeque<&'static [u8]>,
    receiver: Receiver,
    transmit: Transmit,
    out: VecDeque<u8>,
    seen: Vec<(Time, String)>,
    heartbeats: Vec<Time>,
    time: VirtualTime,
}

impl Server {
    pub(crate) fn new(wire: Wire, time: VirtualTime) -> Self {
        let capabilities = FieldTable::new().with("basic.nack", true).with("connection.blocked", true);
        let properties = FieldTable::new().with("product", "Testing").with("capabilities", &capabilities);
        Self::with_config(wire, time, Config { properties, ..Config::default() })
    }

    pub(crate) fn with_config(wire: Wire, time: VirtualTime, config: Config) -> Self {
        let proto = Connection::new(Role::Server, config.clone());
        Self {
            wire,
            config,
            broker: Broker::default(),
            reactions: HashMap::new(),
            silent: false,
            deaf: false,
            holds: Vec::new(),
            cut_after: None,
            responses: Vec::new(),
            violation: None,
            receiver: Receiver::server(proto.receive_limits()),
            proto,
            held: VecDeque::new(),
            challenges: VecDeque::new(),
            transmit: Transmit::new(),
            out: VecDeque::new(),
            seen: Vec::new(),
            heartbeats: Vec::new(),
            time,
        }
    }

    /// Changes the server's settings, before a client connects.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::default();
        change(&mut config);
        *self = Self::with_config(self.wire.clone(), self.time.clone(), config);
    }

    /// Accepts another link. Unsettled deliveries of the old one go back to their queues.
    pub(super) fn accept(&mut self, wire: Wire) {
        let old = std::mem::replace(&mut self.wire, wire);
        old.cut();
        self.broker.link_lost();
        self.proto = Connection::new(Role::Server, self.config.clone());
        self.receiver = Receiver::server(self.proto.receive_limits());
        self.transmit = Transmit::new();
        self.out.clear();
        self.held.clear();
        self.silent = false;
        self.deaf = false;
    }

    /// Returns what was received: `1 queue.declare orders`.
    pub(crate) fn seen(&self) -> Vec<&str> {
        self.seen.iter().map(|(_, what)| what.as_str()).collect()
    }

    /// Returns how many received items begin with `what`.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.seen.iter().filter(|(_, seen)| seen.starts_with(what)).count()
    }

    /// Returns when an item that begins with `what` was first received.
    pub(crate) fn when(&self, what: &str) -> Option<Time> {
        self.seen.iter().find(|(_, seen)| seen.starts_with(what)).map(|(time, _)| *time)
    }

    /// Returns when heartbeats were received.
    pub(crate) fn heartbeats(&self) -> &[Time] {
        &self.heartbeats
    }

    /// Clears the record of what was received.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }

    /// Sends a method that the protocol allows.
    #[track_caller]
    pub(crate) fn answer<M: Encode>(&mut self, channel: u16, method: &M) {
        self.proto.answer(channel, method).expect("the protocol allows it");
    }

    /// Sends a message that the protocol allows.
    #[track_caller]
    pub(crate) fn message<M: Encode>(&mut self, channel: u16, method: &M, body: &[u8]) {
        let properties = Properties::<&[u8]>::EMPTY;
        let sent = self.proto.answer_content(channel, method, properties, Body::Borrowed(body));
        sent.expect("the protocol allows it");
    }

    /// Closes the connection for a method that the client sent.
    pub(crate) fn refuse_for(&mut self, code: u16, text: &str, (class_id, method_id): (u16, u16)) {
        let close = connection::Close { reply_code: code, reply_text: text, class_id, method_id };
        let bytes = frame(1, 0, &payload(&close));
        self.raw(&bytes);
        self.wire.write(&mut self.out);
        self.silent = true;
    }

    /// Closes the connection with an error.
    pub(crate) fn refuse(&mut self, code: u16, text: &str) {
        self.proto.refuse(&CloseReason { code, text: text.to_owned(), method: MethodId::default() });
    }

    /// Closes a channel with an error.
    #[track_caller]
    pub(crate) fn refuse_channel(&mut self, channel: u16, code: u16, text: &str) {
        let reason = CloseReason { code, text: text.to_owned(), method: MethodId::QUEUE_DECLARE };
        self.proto.refuse_channel(channel, &reason).expect("the channel is open");
    }

    /// Stops or resumes publishing on a channel.
    pub(crate) fn flow(&mut self, channel: u16, active: bool) {
        self.answer(channel, &hopmq_proto::method::channel::Flow { active });
    }

    /// Cancels a consumer, as if its queue had been deleted.
    pub(crate) fn cancel(&mut self, channel: u16, consumer_tag: &str) {
        self.broker.remove_consumer(channel, consumer_tag);
        self.answer(channel, &hopmq_proto::method::basic::Cancel { consumer_tag, nowait: true });
    }

    /// Writes the server's pending output, before any client task is polled.
    pub(crate) fn write(&mut self) {
        self.pump();
    }

    /// Sends raw bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.flush();
        self.out.extend(bytes);
    }

    /// Sends a method, whatever the state of the connection.
    pub(crate) fn raw_method<M: Encode>(&mut self, channel: u16, method: &M) {
        self.raw(&frame(1, channel, &payload(method)));
    }

    /// Answers the [held](Server::holds) methods, and holds no more.
    pub(crate) fn release(&mut self) {
        self.holds.clear();
        let now = self.time.now();
        for incoming in std::mem::take(&mut self.held) {
            self.handle(now, incoming);
        }
    }

    /// Reads, answers and writes as a task, until the client closes its end.
    pub(crate) fn poll_serve(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.wire.register(context.waker());
        while self.pump() {}
        if self.wire.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(super) fn next_alarm(&self) -> Option<Time> {
        if self.silent { None } else { self.proto.poll_timeout() }
    }

    /// Reads, answers and writes. Returns whether anything moved.
    pub(super) fn pump(&mut self) -> bool {
        let mut bytes = Vec::new();
        let mut moved = !self.deaf && self.wire.read(&mut bytes) > 0;
        if self.silent {
            return moved;
        }
        let now = self.time.now();
        if !bytes.is_empty() {
            self.proto.received(now);
        }
        for chunk in bytes.chunks(1024) {
            self.receiver.space()[..chunk.len()].copy_from_slice(chunk);
            self.receiver.filled(chunk.len());
            self.digest(now);
        }
        if !self.proto.is_closed() && self.proto.handle_timeout(now).is_err() {
            self.violation = Some("the client is silent".to_owned());
        }
        self.broker.deliver(&mut self.proto);
        self.flush();
        moved |= self.wire.write(&mut self.out) > 0;
        moved
    }

    fn flush(&mut self) {
        self.proto.poll_transmit(self.time.now(), &mut self.transmit);
        while !self.transmit.is_empty() {
            let chunk = self.transmit.chunk();
            let size = chunk.len();
            self.out.extend(chunk);
            self.transmit.advance(size);
        }
    }

    fn digest(&mut self, now: Time) {
        loop {
            let incoming = match self.receiver.poll() {
                Ok(Some(incoming)) => incoming,
                Ok(None) => return,
                Err(error) => {
                    self.violation.get_or_insert(error.to_string());
                    self.proto.receive_failed(&error);
                    return;
                }
            };
            self.note(now, &incoming);
            match &mut self.cut_after {
                Some(0) => {
                    self.cut_after = None;
                    self.silent = true;
                    self.wire.cut();
                    return;
                }
                Some(more) => *more -= 1,
                None => {}
            }
            if matches!(incoming, Incoming::ProtocolHeader(_)) && self.react(Stage::Start) {
                return;
            }
            if self.is_held(&incoming) {
                self.held.push_back(incoming);
            } else {
                self.handle(now, incoming);
            }
            self.receiver.set_limits(self.proto.receive_limits());
        }
    }

    /// Returns whether this item is held, or an earlier one on its channel.
    fn is_held(&self, incoming: &Incoming) -> bool {
        let (Incoming::Method { channel, .. } | Incoming::Content { channel, .. }) = incoming else { return false };
        let named = match incoming {
            Incoming::Method { payload, .. } => MethodId::peek(payload).is_ok_and(|id| self.holds.contains(&id.name())),
            _ => self.holds.contains(&"basic.publish"),
        };
        named
            || self.held.iter().any(|held| match held {
                Incoming::Method { channel: other, .. } | Incoming::Content { channel: other, .. } => other == channel,
                _ => false,
            })
    }

    fn handle(&mut self, now: Time, incoming: Incoming) {
        match self.proto.handle(now, incoming) {
            Ok(event) => event.into_iter().for_each(|event| self.on_event(event)),
            Err(error) => {
                self.violation.get_or_insert(error.to_string());
            }
        }
    }

    fn note(&mut self, now: Time, incoming: &Incoming) {
        let what = match incoming {
            Incoming::ProtocolHeader(_) => "header".to_owned(),
            Incoming::Heartbeat => {
                self.heartbeats.push(now);
                return;
            }
            Incoming::Method { channel, payload } => describe(*channel, payload),
            Incoming::Oversized { channel, size } => format!("{channel} basic.publish of {size} bytes"),
            Incoming::Content { channel, content } => {
                let key = String::from_utf8_lossy(content.arguments().routing_key).into_owned();
                format!("{channel} basic.publish {key} {} bytes", content.body().len())
            }
        };
        self.seen.push((now, what));
    }

    /// Does what the test asked for at this stage. Returns whether it asked for anything.
    fn react(&mut self, stage: Stage) -> bool {
        let Some(reaction) = self.reactions.remove(&stage) else { return false };
        match reaction {
            Reaction::Stall => self.silent = true,
            Reaction::Cut => self.wire.cut(),
            Reaction::Reset => self.wire.reset(),
            Reaction::Close(code, text) => self.refuse(code, text),
            Reaction::Raw(bytes) => {
                self.raw(&bytes);
                self.wire.write(&mut self.out);
                self.silent = true;
            }
            Reaction::Challenge(challenges) => {
                self.challenges = challenges.into();
                return false;
            }
        }
        true
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::StartOk { response, .. } | Event::SecureOk { response } => {
                self.responses.push(response.to_vec());
                if self.react(Stage::Tune) {
                    return;
                }
                match self.challenges.pop_front() {
                    Some(challenge) => self.proto.secure(challenge).expect("this is the next step of the handshake"),
                    None => self.proto.tune().expect("this is the next step of the handshake"),
                }
            }
            Event::Open { .. } => {
                if !self.react(Stage::OpenOk) {
                    self.proto.open_ok().expect("this is the next step of the handshake");
                }
            }
            Event::Closed { .. } => {
                self.flush();
                self.wire.write(&mut self.out);
                self.wire.cut();
            }
            event => self.broker.handle(&mut self.proto, event),
        }
    }
}

/// Describes a method: `1 queue.declare orders`.
fn describe(channel: u16, payload: &[u8]) -> String {
    let name = MethodId::peek(payload).map_or("nothing", MethodId::name);
    let more = match Method::decode(payload) {
        Ok(Method::QueueDeclare(declare)) => declare.queue.to_owned(),
        Ok(Method::QueueBind(bind)) => format!("{} {} {}", bind.queue, bind.exchange, bind.routing_key),
        Ok(Method::ExchangeBind(bind)) => format!("{} {} {}", bind.destination, bind.source, bind.routing_key),
        Ok(Method::ExchangeDeclare(declare)) => declare.exchange.to_owned(),
        Ok(Method::BasicQos(qos)) => qos.prefetch_count.to_string(),
        Ok(Method::BasicConsume(consume)) => consume.consumer_tag.to_owned(),
        Ok(Method::BasicCancel(cancel)) => cancel.consumer_tag.to_owned(),
        Ok(Method::BasicAck(ack)) => format!("{}{}", ack.delivery_tag, if ack.multiple { " and before" } else { "" }),
        Ok(Method::BasicNack(nack)) => format!("{} {}", nack.delivery_tag, requeue(nack.requeue)),
        Ok(Method::BasicReject(reject)) => format!("{} {}", reject.delivery_tag, requeue(reject.requeue)),
        Ok(Method::ConnectionClose(close)) => close.reply_code.to_string(),
        _ => String::new(),
    };
    format!("{channel} {name} {more}").trim_end().to_owned()
}

fn requeue(requeue: bool) -> &'static str {
    if requeue { "requeue" } else { "drop" }
}

/// Encodes a frame.
pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xce);
    bytes
}

/// Encodes the payload of a method frame.
pub(crate) fn payload<M: Encode>(method: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    method.encode(&mut bytes).expect("a test's methods can be encoded");
    bytes
}

/// Encodes the payload of a content header without properties.
pub(crate) fn header(size: u64) -> Vec<u8> {
    let mut bytes = vec![0, 60, 0, 0];
    bytes.extend(size.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}
