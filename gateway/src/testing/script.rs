//! Scripts of conversations: bytes of a fuzzer that say what a browser and RabbitMQ send each other.
//!
//! In goes a script; a conversation that breaks a rule is a panic. Each script is played twice, in the pieces of its
//! steps and byte by byte, and must have the same outcome. It must not know what may pass: that is the oracle's.

use std::sync::{Arc, LazyLock};

use hopmq_proto::method::{Encode, basic, channel, confirm, connection, exchange, queue, tx};
use hopmq_proto::{Error, FieldArray, FieldTable, Frame, Properties, ReceiveLimits, put_method};
use serde_json::json;

use super::conversation::Conversation;
use super::oracle::Oracle;
use super::tokens;
use crate::amqp::proxy::Login;
use crate::auth::{Auth, clock};
use crate::config::Config;

pub(super) const USER: &str = "web";
pub(super) const PASSWORD: &str = "upstream password";
pub(super) const VHOST: &str = "/";
/// `limits.frame_max`, and the policy's `message_max`, in bytes.
pub(super) const FRAME_MAX: u32 = 8192;
pub(super) const MESSAGE_MAX: u64 = 100;

const POLICY: &str = r#"
    publish = [
        { exchange = "chat", routing_key = "room.*.{sub}" }, "own", { exchange = "", routing_key = "inbox-{sub}" },
    ]
    consume = ["inbox-{sub}", "feed.#"]
    queues = ["inbox-{sub}"]
    exchanges = ["own"]
    bind = [{ exchange = "chat", routing_key = "user.{sub}" }, { exchange = "chat", routing_key = "room.#" }]
    temporary_queues = true
    message_max = "100"
    [limits]
    frame_max = "8KiB"
    channels = 3
"#;

const QUEUES: [&str; 9] =
    ["", "inbox-alice", "inbox-bob", "feed.a", "amq.gen-1", "amq.gen-2", "orders", "amq.rabbitmq.reply-to", "#"];
const EXCHANGES: [&str; 5] = ["", "chat", "own", "orders", "chat\n"];
const KEYS: [&str; 13] = [
    "",
    "#",
    "*",
    "room.1.alice",
    "room.1.bob",
    "room.#.alice",
    "user.alice",
    "user.#",
    "room.#",
    "#.alice",
    "inbox-alice",
    "room.*",
    "room",
];

/// The settings, and the secrets of the two bearers.
struct World {
    config: Config,
    auth: Arc<Auth>,
    secrets: [String; 5],
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let until = |subject: &str| tokens::sign(&tokens::claims_of(subject, &json!({"exp": clock::now() + 1_000_000})));
    let expired = tokens::sign(&tokens::claims_of("alice", &json!({"exp": 1})));
    World {
        config: tokens::config(POLICY),
        auth: tokens::auth(POLICY),
        secrets: [until("alice"), until("bob"), tokens::ticket(), expired, "guest".to_owned()],
    }
});

/// Who sends the bytes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Browser,
    Upstream,
}

/// Plays a script.
///
/// # Panics
/// If the conversation breaks a rule.
pub fn converse(script: &[u8]) {
    let (&first, rest) = script.split_first().unwrap_or((&0, &[]));
    let mut steps = Vec::new();
    if first & 1 == 1 {
        steps.extend(handshake());
    }
    let mut reader = Reader(rest);
    while let Some(step) = reader.step() {
        steps.push(step);
    }
    let by_ticket = first & 2 == 2;
    let whole = play(&steps, by_ticket, usize::MAX);
    let by_byte = play(&steps, by_ticket, 1);
    assert!(whole == by_byte, "the outcome depends on how the bytes are split:\n{whole:?}\n{by_byte:?}");
}

/// Returns what each side was sent, and the reason of the end if there is one.
fn play(steps: &[(Sender, Vec<u8>)], by_ticket: bool, piece: usize) -> (Vec<u8>, Vec<u8>, Option<u16>) {
    let world = &*WORLD;
    let auth = Arc::clone(&world.auth);
    let grant = auth.ticket(&format!("ticket={}", world.secrets[2])).ok().flatten().filter(|_| by_ticket);
    let login = match grant {
        Some(grant) => Login::Granted { grant: Some(Box::new(grant)), auth },
        None => Login::Token(auth),
    };
    let mut talk = Conversation::new(&world.config, login);
    let mut oracle = Oracle::default();
    let mut end = None;
    for (sender, bytes) in steps {
        for piece in bytes.chunks(piece.min(bytes.len()).max(1)) {
            let result = match sender {
                Sender::Browser => talk.browser(piece),
                Sender::Upstream => talk.upstream(piece),
            };
            if *sender == Sender::Upstream {
                oracle.note(piece);
            }
            oracle.check(&talk.to_upstream);
            if let Err(error) = result {
                end = Some(end_of(&error));
                break;
            }
        }
        if end.is_some() {
            break;
        }
    }
    check_browser(&talk.to_browser);
    for secret in &world.secrets[..3] {
        assert!(!holds(&talk.to_upstream, secret.as_bytes()), "RabbitMQ is sent a token");
    }
    (talk.to_upstream, talk.to_browser, end)
}

/// An error has a text without the secrets of the login.
fn end_of(error: &Error) -> u16 {
    let text = error.message();
    assert!(!text.contains(PASSWORD) && WORLD.secrets[..3].iter().all(|secret| !text.contains(secret)), "{text}");
    error.code()
}

/// The browser gets whole frames, and never RabbitMQ's password.
fn check_browser(bytes: &[u8]) {
    let limits = ReceiveLimits { frame_max: FRAME_MAX, channel_max: u16::MAX, message_max: u64::MAX };
    let mut rest = bytes;
    while let Some(frame) = Frame::parse(rest, &limits).expect("the browser is sent AMQP frames") {
        rest = &rest[frame.size()..];
    }
    assert!(rest.is_empty(), "the browser is sent whole frames");
    assert!(!holds(bytes, PASSWORD.as_bytes()), "the browser is sent the password");
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn frame<M: Encode>(channel: u16, method: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_method(&mut bytes, usize::MAX, channel, method).expect("the methods of a script can be encoded");
    bytes
}

fn payload(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(0xce);
    bytes
}

fn start_ok(secret: &str) -> Vec<u8> {
    let response = format!("\0alice\0{secret}");
    let start = connection::StartOk { mechanism: "PLAIN", response: response.as_bytes(), ..Default::default() };
    frame(0, &start)
}

/// A handshake that succeeds, and channel 1.
fn handshake() -> Vec<(Sender, Vec<u8>)> {
    vec![
        (Sender::Upstream, frame(0, &connection::Start { mechanisms: b"PLAIN AMQPLAIN", ..Default::default() })),
        (Sender::Browser, start_ok(&WORLD.secrets[0])),
        (Sender::Upstream, frame(0, &connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 0 })),
        (Sender::Browser, frame(0, &connection::TuneOk { channel_max: 3, frame_max: 8192, heartbeat: 0 })),
        (Sender::Browser, frame(0, &connection::Open { virtual_host: "other" })),
        (Sender::Upstream, frame(0, &connection::OpenOk {})),
        (Sender::Browser, frame(1, &channel::Open {})),
        (Sender::Upstream, frame(1, &channel::OpenOk {})),
    ]
}

/// Reads the steps of a script.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// A choice, the first one after the end of the script.
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte().unwrap_or(0)) % choices.len()]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let size = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (bytes, rest) = self.0.split_at(size);
        self.0 = rest;
        bytes.to_vec()
    }

    fn flag(&mut self) -> bool {
        self.pick(&[false, true])
    }

    fn step(&mut self) -> Option<(Sender, Vec<u8>)> {
        let kind = self.byte()? % 18;
        let from_upstream = matches!(kind, 1 | 3 | 5 | 11);
        let bytes = match kind {
            0 | 1 => self.bytes(),
            2 => self.handshake_step(),
            3 => self.upstream_step(),
            4 | 5 => self.channel_step(from_upstream),
            6 => [self.publish(), self.header(), self.body()].concat(),
            7 => self.queue_step(),
            8 => self.declare(),
            9 => self.bind(),
            10 => self.exchange_step(),
            11 => self.named(),
            12 => self.publish(),
            13 => self.header(),
            14 => self.body(),
            15 => self.other(),
            // A frame of any kind, on any channel.
            16 => {
                let (kind, channel) = (self.pick(&[1, 2, 3, 8, 4]), self.channel());
                let bytes = self.bytes();
                payload(kind, channel, &bytes)
            }
            _ => payload(self.pick(&[3, 8]), self.channel(), &vec![0; self.pick(&[4088, 4089, 8184, 8185])]),
        };
        Some((if from_upstream { Sender::Upstream } else { Sender::Browser }, bytes))
    }

    fn channel(&mut self) -> u16 {
        self.pick(&[1, 2, 3, 4, 0])
    }

    fn secret(&mut self) -> &'static str {
        let index = self.pick(&[0, 1, 2, 3, 4]);
        WORLD.secrets.get(index).map_or("", String::as_str)
    }

    fn handshake_step(&mut self) -> Vec<u8> {
        match self.pick(&[0, 1, 2, 3, 4, 5]) {
            0 => start_ok(self.secret()),
            1 => {
                let (channel_max, frame_max) = (self.pick(&[0, 1, 3, 9]), self.pick(&[0, 4096, 8192, 131_072]));
                frame(0, &connection::TuneOk { channel_max, frame_max, heartbeat: 0 })
            }
            2 => frame(0, &connection::Open { virtual_host: self.pick(&["/", "other"]) }),
            3 => {
                let secret = self.secret();
                frame(0, &connection::UpdateSecret { new_secret: secret.as_bytes(), reason: "newer" })
            }
            4 => frame(0, &connection::Close { reply_code: 200, ..Default::default() }),
            _ => frame(0, &connection::CloseOk {}),
        }
    }

    fn upstream_step(&mut self) -> Vec<u8> {
        match self.pick(&[0, 1, 2, 3, 4]) {
            0 => frame(0, &connection::Start { mechanisms: b"PLAIN EXTERNAL", ..Default::default() }),
            1 => {
                let (channel_max, frame_max) = (self.pick(&[0, 2, 2047]), self.pick(&[0, 4096, 131_072]));
                frame(0, &connection::Tune { channel_max, frame_max, heartbeat: 0 })
            }
            2 => frame(0, &connection::OpenOk {}),
            3 => frame(0, &connection::Close { reply_code: 320, ..Default::default() }),
            _ => frame(0, &connection::CloseOk {}),
        }
    }

    fn channel_step(&mut self, from_upstream: bool) -> Vec<u8> {
        let number = self.channel();
        match self.pick(&[0, 1, 2]) {
            0 if from_upstream => frame(number, &channel::OpenOk {}),
            0 => frame(number, &channel::Open {}),
            1 => frame(number, &channel::Close { reply_code: 406, ..Default::default() }),
            _ => frame(number, &channel::CloseOk {}),
        }
    }

    fn publish(&mut self) -> Vec<u8> {
        let (number, exchange, routing_key) = (self.channel(), self.pick(&EXCHANGES), self.pick(&KEYS));
        frame(number, &basic::Publish { exchange, routing_key, ..Default::default() })
    }

    fn header(&mut self) -> Vec<u8> {
        let (number, size) = (self.channel(), self.pick(&[0_u64, 1, 3, 100, 101, u64::MAX]));
        let mut properties = Properties::new();
        match self.pick(&[0, 1, 2, 3]) {
            0 => {}
            1 => properties = properties.with_reply_to(self.pick(&QUEUES)),
            2 => properties = properties.with_user_id(self.pick(&["web", "alice", "admin"])),
            _ => {
                let keys = FieldArray::new().with(self.pick(&KEYS)).with(self.pick(&KEYS));
                let headers = FieldTable::new().with(self.pick(&["CC", "BCC", "cc"]), &keys);
                properties = properties.with_headers(&headers);
            }
        }
        let mut bytes = [&[0, 60, 0, 0][..], &size.to_be_bytes()].concat();
        properties.encode(&mut bytes).expect("the properties of a script can be encoded");
        if self.flag() {
            // A list that does not fit its flags.
            let at = bytes.len() - 1;
            bytes[at] ^= 1;
        }
        payload(2, number, &bytes)
    }

    fn body(&mut self) -> Vec<u8> {
        payload(3, self.channel(), &vec![b'x'; self.pick(&[0, 1, 3, 100, 101])])
    }

    fn queue_step(&mut self) -> Vec<u8> {
        let (number, queue) = (self.channel(), self.pick(&QUEUES));
        match self.pick(&[0, 1, 2, 3]) {
            0 => frame(number, &basic::Consume { queue, ..Default::default() }),
            1 => frame(number, &basic::Get { queue, no_ack: true }),
            2 => frame(number, &queue::Purge { queue, nowait: self.flag() }),
            _ => frame(number, &queue::Delete { queue, nowait: self.flag(), ..Default::default() }),
        }
    }

    fn declare(&mut self) -> Vec<u8> {
        let mut arguments = FieldTable::new();
        match self.pick(&[0, 1, 2, 3]) {
            0 => {}
            1 => drop(arguments.insert("x-dead-letter-exchange", self.pick(&EXCHANGES))),
            2 => {
                arguments.insert("x-dead-letter-exchange", self.pick(&EXCHANGES));
                arguments.insert("x-dead-letter-routing-key", self.pick(&KEYS));
            }
            _ => drop(arguments.insert("x-dead-letter-exchange", 7)),
        }
        let (number, queue) = (self.channel(), self.pick(&QUEUES));
        let (exclusive, passive, nowait) = (self.flag(), self.flag(), self.flag());
        let arguments = arguments.as_ref_table();
        frame(number, &queue::Declare { queue, exclusive, passive, nowait, arguments, ..Default::default() })
    }

    fn bind(&mut self) -> Vec<u8> {
        let (number, is_bind) = (self.channel(), self.flag());
        let (queue, exchange, routing_key) = (self.pick(&QUEUES), self.pick(&EXCHANGES), self.pick(&KEYS));
        match is_bind {
            true => frame(number, &queue::Bind { queue, exchange, routing_key, ..Default::default() }),
            false => frame(number, &queue::Unbind { queue, exchange, routing_key, ..Default::default() }),
        }
    }

    fn exchange_step(&mut self) -> Vec<u8> {
        let number = self.channel();
        let (exchange, source, routing_key) = (self.pick(&EXCHANGES), self.pick(&EXCHANGES), self.pick(&KEYS));
        match self.pick(&[0, 1, 2, 3, 4]) {
            0 => {
                let arguments = FieldTable::new().with("alternate-exchange", source);
                let (passive, arguments) = (self.flag(), arguments.as_ref_table());
                frame(number, &exchange::Declare { exchange, kind: "topic", passive, arguments, ..Default::default() })
            }
            1 => frame(number, &exchange::Declare { exchange, kind: "fanout", ..Default::default() }),
            2 => frame(number, &exchange::Delete { exchange, ..Default::default() }),
            3 => {
                let bind = exchange::Bind { destination: exchange, source, routing_key, ..Default::default() };
                frame(number, &bind)
            }
            _ => {
                let unbind = exchange::Unbind { destination: exchange, source, routing_key, ..Default::default() };
                frame(number, &unbind)
            }
        }
    }

    /// RabbitMQ names a queue.
    fn named(&mut self) -> Vec<u8> {
        let queue = self.pick(&["amq.gen-1", "amq.gen-2", "inbox-alice"]);
        frame(self.channel(), &queue::DeclareOk { queue, message_count: 0, consumer_count: 0 })
    }

    fn other(&mut self) -> Vec<u8> {
        let number = self.channel();
        match self.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) {
            0 => frame(number, &basic::Ack { delivery_tag: 1, multiple: false }),
            1 => frame(number, &basic::Qos { prefetch_count: 1, global: false }),
            2 => frame(number, &basic::Recover { requeue: true }),
            3 => frame(number, &confirm::Select { nowait: true }),
            4 => frame(number, &tx::Select {}),
            5 => frame(number, &basic::Deliver { consumer_tag: "c", ..Default::default() }),
            6 => frame(number, &connection::UpdateSecret { new_secret: b"x", reason: "" }),
            7 => frame(number, &connection::Open { virtual_host: "/" }),
            8 => frame(number, &queue::DeclareOk { queue: "orders", message_count: 0, consumer_count: 0 }),
            _ => frame(number, &channel::Flow { active: false }),
        }
    }
}
