//! What may reach RabbitMQ under the policy of the scripts, decided without the code of the gateway.
//!
//! Owns a reading of everything that was sent to RabbitMQ. In go its bytes and those that RabbitMQ sent; a frame that
//! the policy forbids is a panic. It is written from gateway/README.md, for one policy and one bearer, with plain
//! comparisons in place of patterns, and must not use `auth` or `amqp`. Where RabbitMQ's own state decides, it allows
//! more than the gateway does.

use std::collections::{HashMap, HashSet};

use hopmq_proto::method::{Method, basic, queue};
use hopmq_proto::{FieldTable, Frame, Kind, Properties, ReceiveLimits};

use super::script::{FRAME_MAX, MESSAGE_MAX, PASSWORD, USER, VHOST};

/// Reads what RabbitMQ is sent; see the [module](self).
#[derive(Default)]
pub(super) struct Oracle {
    /// How much of what RabbitMQ was sent has been read.
    read: usize,
    /// What RabbitMQ has sent of a frame that is not complete.
    upstream: Vec<u8>,
    /// The steps of the handshake.
    steps: usize,
    /// The limits that both sides have seen.
    frame_max: Option<u32>,
    channel_max: Option<u16>,
    channels: HashMap<u16, Channel>,
    /// All names that RabbitMQ gave to queues.
    named: HashSet<String>,
}

#[derive(Default)]
struct Channel {
    /// The queue that the empty name stands for; empty if RabbitMQ names it.
    last_queue: Option<String>,
    content: Content,
    /// RabbitMQ was told to close the channel.
    is_closing: bool,
}

#[derive(Default)]
enum Content {
    #[default]
    None,
    Header {
        exchange: String,
    },
    Body(u64),
}

const ANY: ReceiveLimits = ReceiveLimits { frame_max: u32::MAX, channel_max: u16::MAX, message_max: u64::MAX };

impl Oracle {
    /// Reads the new bytes of all that RabbitMQ was sent.
    pub(super) fn check(&mut self, to_upstream: &[u8]) {
        while let Some(frame) = Frame::parse(&to_upstream[self.read..], &ANY).expect("RabbitMQ is sent AMQP frames") {
            self.read += frame.size();
            self.frame(&frame);
        }
        assert_eq!(self.read, to_upstream.len(), "RabbitMQ is sent whole frames");
    }

    /// Notes what RabbitMQ sends: the names of queues, the limits, and channels that are closed.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.upstream);
        all.extend_from_slice(bytes);
        let mut read = 0;
        while let Ok(Some(frame)) = Frame::parse(&all[read..], &ANY) {
            read += frame.size();
            match Method::decode(frame.payload()) {
                Ok(Method::QueueDeclareOk(declared)) => {
                    self.named.insert(declared.queue.to_owned());
                }
                Ok(Method::ChannelCloseOk(_)) if self.is_closing(frame.channel()) => {
                    self.channels.remove(&frame.channel());
                }
                Ok(Method::ConnectionTune(tune)) => self.agree(tune.frame_max, tune.channel_max),
                _ => {}
            }
        }
        all.drain(..read);
        self.upstream = all;
    }

    fn is_closing(&self, number: u16) -> bool {
        self.channels.get(&number).is_some_and(|channel| channel.is_closing)
    }

    fn agree(&mut self, frame_max: u32, channel_max: u16) {
        if frame_max > 0 {
            self.frame_max = Some(self.frame_max.map_or(frame_max, |agreed| agreed.min(frame_max)));
        }
        if channel_max > 0 {
            self.channel_max = Some(self.channel_max.map_or(channel_max, |agreed| agreed.min(channel_max)));
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let number = frame.channel();
        // No limit is below 4096, by the specification.
        let limit = self.frame_max.unwrap_or(FRAME_MAX).clamp(4096, FRAME_MAX) as usize;
        // The gateway's own login and a publish that was held back may be sent together, each within the limit.
        assert!(frame.size() <= limit, "{} bytes, above {limit}", frame.size());
        if number == 0 {
            return self.connection(frame);
        }
        assert!(self.steps == 3, "channel {number} is used after {} steps of the handshake", self.steps);
        assert!(number <= self.channel_max.unwrap_or(u16::MAX), "channel {number}");
        match frame.kind() {
            Kind::Method => {
                let method = Method::decode(frame.payload()).expect("RabbitMQ is sent whole methods");
                self.method(number, &method);
            }
            Kind::Header => {
                let (size, properties) = frame.header().expect("RabbitMQ is sent whole headers");
                self.header(number, size, &properties);
            }
            Kind::Body => {
                let Some(Channel { content: Content::Body(left), .. }) = self.channels.get_mut(&number) else {
                    panic!("a body without a header");
                };
                assert!(*left > 0, "a body that its header does not announce");
                *left = left.checked_sub(frame.payload().len() as u64).expect("a body is as long as its header says");
            }
            Kind::Heartbeat => panic!("a heartbeat on channel {number}"),
        }
    }

    /// The steps of the handshake come once and in order, with the user of the policy and its virtual host.
    fn connection(&mut self, frame: &Frame<'_>) {
        match frame.kind() {
            Kind::Heartbeat => return,
            Kind::Method => {}
            kind => panic!("{kind:?} on channel 0"),
        }
        let step = match Method::decode(frame.payload()).expect("RabbitMQ is sent whole methods") {
            Method::ConnectionStartOk(start) => {
                assert_eq!(start.mechanism, "PLAIN");
                assert_eq!(start.response, format!("\0{USER}\0{PASSWORD}").as_bytes());
                0
            }
            Method::ConnectionTuneOk(tune) => {
                self.agree(tune.frame_max, tune.channel_max);
                1
            }
            Method::ConnectionOpen(open) => {
                assert_eq!(open.virtual_host, VHOST);
                2
            }
            Method::ConnectionClose(_) | Method::ConnectionCloseOk(_) => return,
            other => panic!("RabbitMQ is sent {other:?}"),
        };
        assert_eq!(step, self.steps, "a step of the handshake comes out of order");
        self.steps += 1;
    }

    fn method(&mut self, number: u16, method: &Method<'_>) {
        if let Method::ChannelOpen(_) = method {
            let channel = self.channels.entry(number).or_default();
            let is_between = matches!(channel.content, Content::None | Content::Body(0));
            assert!(is_between && !channel.is_closing, "a channel is opened within a message or a close");
            return;
        }
        if let Method::ChannelCloseOk(_) = method {
            self.channels.remove(&number);
            return;
        }
        let channel = self.channels.get_mut(&number).unwrap_or_else(|| panic!("channel {number} is not open"));
        if let Method::ChannelClose(_) = method {
            channel.is_closing = true;
            channel.content = Content::None;
            return;
        }
        assert!(!channel.is_closing, "{method:?} follows channel.close");
        assert!(matches!(channel.content, Content::None | Content::Body(0)), "{method:?} within a message");
        channel.content = Content::None;
        let last = channel.last_queue.clone();
        let name =
            |queue: &str| if queue.is_empty() { last.clone().expect("a queue was declared") } else { queue.into() };
        match method {
            Method::BasicPublish(basic::Publish { exchange, routing_key, .. }) => {
                may(may_publish(exchange, routing_key), method);
                channel.content = Content::Header { exchange: (*exchange).to_owned() };
            }
            Method::BasicConsume(consume) => may(self.reads(&name(consume.queue)), method),
            Method::BasicGet(get) => may(self.reads(&name(get.queue)), method),
            Method::QueuePurge(purge) => may(self.reads(&name(purge.queue)), method),
            Method::QueueDeclare(declare) => self.declare(number, declare, name),
            Method::QueueDelete(delete) => may(self.owns(&name(delete.queue)), method),
            Method::QueueBind(bind) => {
                may(self.owns(&name(bind.queue)) && may_bind(bind.exchange, bind.routing_key), method);
            }
            Method::QueueUnbind(unbind) => {
                may(self.owns(&name(unbind.queue)) && may_bind(unbind.exchange, unbind.routing_key), method);
            }
            Method::ExchangeDeclare(declare) if declare.passive => {
                may(matches!(declare.exchange, "" | "chat" | "own"), method);
            }
            Method::ExchangeDeclare(declare) => {
                let others = texts(&declare.arguments, "alternate-exchange");
                may(declare.exchange == "own" && others.iter().all(|other| other == "own"), method);
            }
            Method::ExchangeDelete(delete) => may(delete.exchange == "own", method),
            Method::ExchangeBind(bind) => {
                may(bind.destination == "own" && may_bind(bind.source, bind.routing_key), method);
            }
            Method::ExchangeUnbind(unbind) => {
                may(unbind.destination == "own" && may_bind(unbind.source, unbind.routing_key), method);
            }
            other => {
                let (class, method) = other.id().name().split_once('.').expect("a name has a class");
                let known = match class {
                    "basic" => {
                        ["qos", "cancel", "cancel-ok", "ack", "reject", "nack", "recover", "recover-async"].as_slice()
                    }
                    "channel" => &["flow", "flow-ok"],
                    "tx" => &["select", "commit", "rollback"],
                    "confirm" => &["select"],
                    "access" => &["request"],
                    _ => &[],
                };
                assert!(known.contains(&method), "RabbitMQ is sent {other:?}");
            }
        }
    }

    fn declare(&mut self, number: u16, declare: &queue::Declare<'_>, name: impl Fn(&str) -> String) {
        let is_allowed = match (declare.passive, declare.queue) {
            (true, queue) => self.reads(&name(queue)) || self.owns(&name(queue)),
            (false, "") => declare.exclusive,
            (false, queue) => self.owns(queue),
        };
        assert!(is_allowed, "{declare:?}");
        if !declare.passive {
            for exchange in texts(&declare.arguments, "x-dead-letter-exchange") {
                let keys = texts(&declare.arguments, "x-dead-letter-routing-key");
                let all = keys.is_empty() && exchange == "own";
                assert!(all || !keys.is_empty() && keys.iter().all(|key| may_publish(&exchange, key)), "{declare:?}");
            }
        }
        if !(declare.passive && declare.queue.is_empty())
            && let Some(channel) = self.channels.get_mut(&number)
        {
            channel.last_queue = Some(declare.queue.to_owned());
        }
    }

    fn header(&mut self, number: u16, size: u64, properties: &Properties<&[u8]>) {
        let channel = self.channels.get_mut(&number).expect("the channel is open");
        let Content::Header { exchange } = std::mem::replace(&mut channel.content, Content::Body(size)) else {
            panic!("a header without a basic.publish");
        };
        properties.check().expect("RabbitMQ is sent whole lists of properties");
        assert!(size <= MESSAGE_MAX, "a message of {size} bytes");
        let reply_to = properties.reply_to().unwrap_or_default();
        let asks_itself = matches!(reply_to, "" | "amq.rabbitmq.reply-to");
        assert!(asks_itself || self.reads(reply_to) || self.owns(reply_to), "replies to {reply_to}");
        assert!(properties.user_id().is_none_or(|user| user == USER), "{properties:?}");
        let headers: FieldTable<&[u8]> = properties.headers().expect("RabbitMQ is sent whole headers");
        for (name, value) in headers.iter().filter(|(name, _)| *name == "CC" || *name == "BCC") {
            for key in value.as_array().unwrap_or_else(|| panic!("{name} is a list")).iter() {
                assert!(may_publish(&exchange, key.as_str().expect("a key is a text")), "{name}: {key:?}");
            }
        }
    }

    fn reads(&self, queue: &str) -> bool {
        queue == "inbox-alice" || queue.starts_with("feed.") || self.is_temporary(queue)
    }

    fn owns(&self, queue: &str) -> bool {
        queue == "inbox-alice" || self.is_temporary(queue)
    }

    /// Whether RabbitMQ has named the queue, or will: then the name is empty here.
    fn is_temporary(&self, queue: &str) -> bool {
        queue.is_empty() || self.named.contains(queue)
    }
}

#[track_caller]
fn may(is_allowed: bool, method: &Method<'_>) {
    assert!(is_allowed, "RabbitMQ is sent {method:?}");
}

fn may_publish(exchange: &str, key: &str) -> bool {
    let words: Vec<&str> = key.split('.').collect();
    match exchange {
        "chat" => words.len() == 3 && words[0] == "room" && words[2] == "alice",
        "own" => true,
        "" => key == "inbox-alice",
        _ => false,
    }
}

fn may_bind(exchange: &str, key: &str) -> bool {
    exchange == "chat" && (key == "user.alice" || key.starts_with("room."))
}

/// Returns all arguments of a name, which must be texts.
fn texts(arguments: &FieldTable<&[u8]>, name: &str) -> Vec<String> {
    let values = arguments.iter().filter(|(other, _)| *other == name);
    values.map(|(_, value)| value.as_str().expect("an argument is a text").to_owned()).collect()
}
