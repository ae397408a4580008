//! Conversations under a policy: what reaches RabbitMQ, and what the browser is told.

use std::sync::Arc;

use hopmq_proto::method::{Encode, Method, MethodId, basic, channel, connection, exchange, queue};
use hopmq_proto::{Error, FieldArray, FieldTable, Frame, Properties, ReceiveLimits, code, put_method};
use serde_json::json;

use crate::amqp::proxy::Login;
use crate::auth::clock;
use crate::testing::conversation::Conversation;
use crate::testing::logs::{self, HOSTILE};
use crate::testing::tokens;

const CHAT: &str = r#"
    publish = [{ exchange = "chat", routing_key = "room.*.{sub}" }, "own"]
    consume = ["inbox-{sub}"]
    queues = ["inbox-{sub}"]
    exchanges = ["own"]
    bind = [{ exchange = "chat", routing_key = "user.{sub}" }]
    temporary_queues = true
"#;

/// The limits of a reader that takes everything.
const ANY: ReceiveLimits = ReceiveLimits { frame_max: 1 << 20, channel_max: u16::MAX, message_max: u64::MAX };

pub(crate) fn frame<M: Encode>(channel: u16, method: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_method(&mut bytes, usize::MAX, channel, method).expect("the method can be encoded");
    bytes
}

fn start_ok(token: &str) -> Vec<u8> {
    let response = format!("\0alice\0{token}");
    let start = connection::StartOk {
        mechanism: "PLAIN",
        response: response.as_bytes(),
        locale: "en_US",
        ..Default::default()
    };
    frame(0, &start)
}

fn tune_ok(frame_max: u32, channel_max: u16) -> Vec<u8> {
    frame(0, &connection::TuneOk { channel_max, frame_max, heartbeat: 0 })
}

fn open() -> Vec<u8> {
    frame(0, &connection::Open { virtual_host: "/" })
}

fn tune(frame_max: u32, channel_max: u16) -> Vec<u8> {
    frame(0, &connection::Tune { channel_max, frame_max, heartbeat: 60 })
}

/// Returns the names of the methods in these bytes.
fn names(bytes: &[u8]) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut rest = bytes;
    while let Some(frame) = Frame::parse(rest, &ANY).expect("the gateway sends AMQP") {
        names.extend(frame.method().ok().filter(|_| frame.kind() == hopmq_proto::Kind::Method).map(MethodId::name));
        rest = &rest[frame.size()..];
    }
    assert!(rest.is_empty(), "the gateway sends whole frames");
    names
}

/// Returns the text of the last `channel.close` or `connection.close` in these bytes.
fn close_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(frame) = Frame::parse(rest, &ANY).expect("the gateway sends AMQP") {
        match Method::decode(frame.payload()) {
            Ok(Method::ChannelClose(close)) => text = close.reply_text.to_owned(),
            Ok(Method::ConnectionClose(close)) => text = close.reply_text.to_owned(),
            _ => {}
        }
        rest = &rest[frame.size()..];
    }
    text
}

/// Returns a conversation that is open, by a token for this subject.
fn talk_of(policy: &str, subject: &str) -> Result<Conversation, Error> {
    let mut talk = Conversation::new(&tokens::config(policy), Login::Token(tokens::auth(policy)));
    opened(&mut talk, &tokens::sign(&tokens::claims(subject)))?;
    Ok(talk)
}

fn talk() -> Conversation {
    talk_of(CHAT, "alice").expect("the token is valid")
}

/// Logs in, and opens the connection and channel 1.
fn opened(talk: &mut Conversation, token: &str) -> Result<(), Error> {
    talk.browser(&start_ok(token))?;
    talk.upstream(&tune(131_072, 2047))?;
    talk.browser(&[tune_ok(131_072, 256), open()].concat())?;
    talk.upstream(&frame(0, &connection::OpenOk {}))?;
    talk.browser(&frame(1, &channel::Open {}))?;
    talk.upstream(&frame(1, &channel::OpenOk {}))?;
    talk.to_upstream.clear();
    talk.to_browser.clear();
    Ok(())
}

/// Sends bytes on channel 1 that must be refused: nothing but `channel.close` may reach RabbitMQ. Returns the reason.
fn refused(talk: &mut Conversation, bytes: &[u8]) -> String {
    talk.browser(bytes).expect("the browser keeps to the protocol");
    assert_eq!(names(&talk.to_upstream), ["channel.close"]);
    talk.upstream(&frame(1, &channel::CloseOk {})).expect("RabbitMQ keeps to the protocol");
    let text = close_text(&talk.to_browser);
    talk.browser(&frame(1, &channel::CloseOk {})).expect("the browser keeps to the protocol");
    talk.browser(&frame(1, &channel::Open {})).expect("the browser keeps to the protocol");
    talk.to_upstream.clear();
    talk.to_browser.clear();
    text
}

/// Returns the frames of a message of one byte on channel 1.
fn message(exchange: &str, key: &str, properties: &Properties) -> Vec<u8> {
    let mut bytes = frame(1, &basic::Publish { exchange, routing_key: key, ..Default::default() });
    let mut header = [&[0, 60, 0, 0][..], &1_u64.to_be_bytes()].concat();
    properties.encode(&mut header).expect("the properties can be encoded");
    for (kind, payload) in [(2, &header[..]), (3, b"x")] {
        bytes.extend_from_slice(&[kind, 0, 1]);
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes.push(0xce);
    }
    bytes
}

fn passes(talk: &mut Conversation, bytes: &[u8]) {
    talk.browser(bytes).expect("the browser keeps to the protocol");
    assert_eq!(talk.to_upstream, bytes, "{:?}", names(&talk.to_upstream));
    talk.to_upstream.clear();
}

#[test]
fn a_claim_is_never_a_wildcard_of_a_binding_key() {
    for subject in ["#", "*", "a.b", "a.#", ".", "*.*"] {
        let refused = talk_of(CHAT, subject).err().map(|error| (error.code(), error.message().to_owned()));
        let (code, text) = refused.unwrap_or_else(|| panic!("the subject {subject:?} was accepted"));
        assert_eq!(code, code::ACCESS_REFUSED, "{text}");
        assert!(text.contains("the claim sub") && text.contains("one word of a routing key"), "{text}");
    }
    let mut talk = talk();
    let bind =
        |key| frame(1, &queue::Bind { queue: "inbox-alice", exchange: "chat", routing_key: key, ..Default::default() });
    passes(&mut talk, &bind("user.alice"));
    for key in ["user.#", "user.*", "#", "user.alice.#", "*.alice", "user.bob"] {
        assert!(refused(&mut talk, &bind(key)).contains("may not bind"), "{key}");
    }
}

#[test]
fn a_claim_cannot_end_a_field_of_the_login_or_be_too_long_for_a_name() {
    let long = "x".repeat(300);
    for (policy, subject) in [
        ("vhost = \"{sub}\"", long.as_str()),
        ("publish = [\"{sub}\"]", &long),
        ("consume = [\"{sub}\"]", "a\0b"),
        ("consume = [\"{sub}\"]", "a\nb"),
        ("consume = [\"#\"]", "a\u{1b}[2Jb"),
        ("vhost = \"{sub}\"", "a\u{7f}b"),
    ] {
        let error = talk_of(policy, subject).err().unwrap_or_else(|| panic!("{policy}: {subject:?} was accepted"));
        assert!(error.code() == code::ACCESS_REFUSED && error.message().contains("claim sub"), "{error}");
    }
    // Percent signs, wildcards and any letters are plain characters of names.
    for subject in ["a%00b", "ä€", "*", "#", "a.b"] {
        let mut talk = talk_of("consume = [\"q-{sub}\"]", subject).expect("the claim fits into a name");
        let name = format!("q-{subject}");
        let get = |queue| frame(1, &basic::Get { queue, no_ack: true });
        passes(&mut talk, &get(&name));
        assert!(refused(&mut talk, &get("q-other")).contains("may not get from"));
    }
}

#[test]
fn replies_may_be_asked_for_only_where_the_client_may_read() {
    let mut talk = talk();
    let to = |queue: &str| message("chat", "room.1.alice", &Properties::new().with_reply_to(queue));
    for queue in ["amq.rabbitmq.reply-to", "inbox-alice", ""] {
        passes(&mut talk, &to(queue));
    }
    for queue in ["orders", "inbox-bob", "amq.rabbitmq.reply-to.g1h2", "amq.gen-1", "amq.rabbitmq.reply-to\n"] {
        let text = refused(&mut talk, &to(queue));
        assert!(text.contains("alice may not ask for replies"), "{queue}: {text}");
    }
    talk.browser(&frame(1, &queue::Declare { queue: "", exclusive: true, ..Default::default() })).expect("it may");
    let declared = queue::DeclareOk { queue: "amq.gen-1", message_count: 0, consumer_count: 0 };
    talk.upstream(&frame(1, &declared)).expect("RabbitMQ keeps to the protocol");
    talk.to_upstream.clear();
    passes(&mut talk, &to("amq.gen-1"));
}

#[test]
fn a_user_id_is_that_of_the_login() {
    let mut talk = talk();
    let by = |user: &str| message("chat", "room.1.alice", &Properties::new().with_user_id(user));
    passes(&mut talk, &by("web"));
    // A RabbitMQ user with the tag impersonator may send any.
    for user in ["admin", "alice"] {
        assert!(refused(&mut talk, &by(user)).contains("may not publish with the user-id"), "{user}");
    }
}

#[test]
fn every_way_to_another_exchange_or_routing_key_is_under_the_policy() {
    let mut talk = talk();
    let keys = FieldArray::new().with("room.1.alice").with("room.1.bob");
    for header in ["CC", "BCC"] {
        let headers = FieldTable::new().with(header, &keys);
        let text = refused(&mut talk, &message("chat", "room.1.alice", &Properties::new().with_headers(&headers)));
        assert!(text.contains("'room.1.bob'"), "{header}: {text}");
    }
    let declare = |arguments: &FieldTable| {
        let arguments = arguments.as_ref_table();
        frame(1, &queue::Declare { queue: "inbox-alice", arguments, ..Default::default() })
    };
    let dead = |exchange: &str, key: &str| {
        declare(&FieldTable::new().with("x-dead-letter-exchange", exchange).with("x-dead-letter-routing-key", key))
    };
    passes(&mut talk, &dead("chat", "room.dead.alice"));
    assert!(refused(&mut talk, &dead("chat", "room.dead.bob")).contains("'room.dead.bob'"));
    assert!(refused(&mut talk, &dead("orders", "room.dead.alice")).contains("'orders'"));
    assert!(
        refused(&mut talk, &declare(&FieldTable::new().with("x-dead-letter-exchange", "chat"))).contains("forward")
    );
    let numbered = FieldTable::new().with("x-dead-letter-exchange", 7);
    assert!(refused(&mut talk, &declare(&numbered)).contains("not a text"));
    let exchange = |other: &str| {
        let arguments = FieldTable::new().with("alternate-exchange", other);
        let arguments = arguments.as_ref_table();
        frame(1, &exchange::Declare { exchange: "own", kind: "fanout", arguments, ..Default::default() })
    };
    passes(&mut talk, &exchange("own"));
    assert!(refused(&mut talk, &exchange("chat")).contains("forward"));
    let bind = |destination, source, routing_key| {
        frame(1, &exchange::Bind { destination, source, routing_key, ..Default::default() })
    };
    passes(&mut talk, &bind("own", "chat", "user.alice"));
    assert!(refused(&mut talk, &bind("own", "chat", "user.*")).contains("bind"));
    assert!(refused(&mut talk, &bind("chat", "own", "")).contains("bind"));
}

#[test]
fn a_name_that_is_not_utf_8_reaches_no_broker() {
    let policy = "bind = [{ exchange = \"chat\", routing_key = \"*\" }]\nqueues = [\"*\"]\npublish = [\"*\"]";
    let bind = frame(1, &queue::Bind { queue: "q", exchange: "chat", routing_key: "#.~", ..Default::default() });
    let publish = message("a.b~", "key", &Properties::new());
    for mut bytes in [bind, publish] {
        let tilde = bytes.iter().position(|byte| *byte == b'~').expect("the name has a tilde");
        bytes[tilde] = 0xff;
        let mut talk = talk_of(policy, "alice").expect("the token is valid");
        assert!(talk.browser(&bytes).is_err());
        assert_eq!(talk.to_upstream, b"");
    }
}

#[test]
fn a_refused_operation_is_one_line_of_the_log_whatever_its_names_are() {
    let mut talk = talk();
    let log = logs::of(|| {
        for queue in [HOSTILE.to_owned(), HOSTILE.repeat(3), "x".repeat(255)] {
            refused(&mut talk, &frame(1, &basic::Get { queue: &queue, no_ack: true }));
            refused(&mut talk, &message("chat", "room.1.alice", &Properties::new().with_reply_to(&queue)));
        }
    });
    logs::check(&log, 6);
    assert!(log.contains("alice") && log.contains("basic.get"), "{log}");
}

#[test]
fn a_message_with_a_malformed_list_of_properties_reaches_no_broker() {
    let plain = message("chat", "room.1.alice", &Properties::new().with_reply_to("inbox-alice"));
    let flags = plain.len() - 9 - 1 - 12 - 2;
    // One more word of flags, which brokers could read differently; a text that is cut off; a text that is not UTF-8.
    for (at, byte) in [(flags + 1, plain[flags + 1] | 1), (flags + 2, 200), (flags + 3, 0xff)] {
        let mut talk = talk();
        let mut bytes = plain.clone();
        bytes[at] = byte;
        let result = talk.browser(&bytes);
        assert!(result.is_err() || names(&talk.to_upstream) == ["channel.close"], "{at}: {:?}", talk.to_upstream);
    }
}

#[test]
fn only_the_methods_of_a_client_pass() {
    let deliver = basic::Deliver { consumer_tag: "c", exchange: "chat", routing_key: "k", ..Default::default() };
    let update = connection::UpdateSecret { new_secret: b"x", reason: "" };
    let opened = queue::DeclareOk { queue: "amq.gen-2", message_count: 0, consumer_count: 0 };
    for bytes in [frame(1, &deliver), frame(1, &update), frame(1, &open_method()), frame(1, &opened)] {
        let mut talk = talk();
        let error = talk.browser(&bytes).expect_err("a client must not send it");
        assert_eq!(error.code(), code::COMMAND_INVALID, "{error}");
        assert_eq!(names(&talk.to_upstream), [""; 0]);
    }
    // Contents belong to channels.
    let mut talk = talk();
    assert!(talk.browser(b"\x03\0\0\0\0\0\x01x\xce").is_err());
    assert_eq!(talk.to_upstream, b"");
}

fn open_method() -> connection::Open<'static> {
    connection::Open { virtual_host: "/" }
}

#[test]
fn nothing_on_a_channel_passes_before_the_connection_is_opened() {
    let auth = tokens::auth(CHAT);
    let token = tokens::sign(&tokens::claims("alice"));
    let channel = frame(1, &channel::Open {});
    for before in [vec![], start_ok(&token), [start_ok(&token), tune_ok(131_072, 256)].concat()] {
        let mut talk = Conversation::new(&tokens::config(CHAT), Login::Token(Arc::clone(&auth)));
        talk.browser(&before).expect("the token is valid");
        talk.to_upstream.clear();
        assert!(talk.browser(&channel).is_err(), "after {} bytes", before.len());
        assert_eq!(talk.to_upstream, b"");
    }
}

#[test]
fn frames_behind_connection_open_are_under_the_limits_and_the_policy_that_were_agreed() {
    let (auth, config) = (tokens::auth(CHAT), tokens::config(CHAT));
    let token = tokens::sign(&tokens::claims("alice"));
    let start = frame(0, &connection::Start { version_minor: 9, mechanisms: b"PLAIN", ..Default::default() });
    let answers = [start, tune(131_072, 2047), frame(0, &connection::OpenOk {})].concat();
    let good = message("chat", "room.1.alice", &Properties::new());
    let wrong = message("chat", "room.1.bob", &Properties::new());
    let handshake = [start_ok(&token), tune_ok(4096, 3), open(), frame(1, &channel::Open {})].concat();
    let too_large = [&[8, 0, 0, 0, 0, 0x10, 0][..], &[0; 4096], &[0xce]].concat();
    let cases = [
        ("a message", good.clone(), None),
        ("a message for another", wrong, Some("channel.close")),
        ("a channel above channel-max", frame(4, &channel::Open {}), Some("504")),
        ("a frame above frame-max", too_large, Some("501")),
    ];
    for (what, last, expected) in cases {
        let bytes = [&handshake[..], &good, &last, &frame(2, &channel::Open {})].concat();
        // The answers of RabbitMQ come at any time.
        for answered_at in [0, handshake.len(), bytes.len()] {
            // At each byte, but for most of those within the large frame.
            for split in (1..bytes.len()).filter(|at| *at < handshake.len() + 200 || at % 997 == 0) {
                let mut talk = Conversation::new(&config, Login::Token(Arc::clone(&auth)));
                let mut code = None;
                let mut cuts = [0, split, answered_at, bytes.len()];
                cuts.sort_unstable();
                let mut answered = false;
                for pair in cuts.windows(2) {
                    if pair[0] >= answered_at && !answered {
                        answered = true;
                        talk.upstream(&answers).expect("RabbitMQ keeps to the protocol");
                    }
                    code = code.or(talk.browser(&bytes[pair[0]..pair[1]]).err().map(|error| error.code()));
                }
                let sent = names(&talk.to_upstream);
                let place = format!("{what}, split at {split}, answered at {answered_at}: {sent:?} {code:?}");
                let passed = ["connection.start-ok", "connection.tune-ok", "connection.open", "channel.open"];
                assert_eq!(sent[..4], passed, "{place}");
                match expected {
                    None => assert!(code.is_none() && sent[4..] == ["basic.publish", "basic.publish", "channel.open"]),
                    Some("channel.close") => {
                        assert!(sent[4..] == ["basic.publish", "channel.close", "channel.open"], "{place}");
                    }
                    Some(expected) => {
                        assert_eq!(code.map(|code| code.to_string()).as_deref(), Some(expected), "{place}");
                        assert!(sent[4..] == ["basic.publish"], "{place}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_limits_of_a_login_hold_until_rabbitmq_has_accepted_it() {
    let mut talk = Conversation::new(&tokens::config(CHAT), Login::Token(tokens::auth(CHAT)));
    talk.browser(&start_ok(&tokens::sign(&tokens::claims("alice")))).expect("the token is valid");
    talk.browser(&tune_ok(131_072, 256)).expect("the order is right");
    // A frame of 64 KiB, of which only the head has come.
    let head = [8, 0, 0, 0, 1, 0, 0];
    assert!(talk.browser(&head).is_err_and(|error| error.code() == code::FRAME_ERROR));
}

#[test]
fn a_newer_token_after_a_ticket_is_checked_here_and_not_passed_on() {
    let by_ticket = |auth: &Arc<crate::auth::Auth>| {
        let grant = auth.ticket(&format!("ticket={}", tokens::ticket())).expect("the ticket is valid");
        Login::Granted { grant: grant.map(Box::new), auth: Arc::clone(auth) }
    };
    let auth = tokens::auth(CHAT);
    let update = |secret: &str| frame(0, &connection::UpdateSecret { new_secret: secret.as_bytes(), reason: "newer" });
    let logged_in = || {
        let mut talk = Conversation::new(&tokens::config(CHAT), by_ticket(&auth));
        opened(&mut talk, "no token").expect("the ticket is valid");
        assert_eq!(talk.proxy.expires(), None);
        talk
    };
    // By a token, the connection gets its end.
    let exp = clock::now() + 100;
    let mut talk = logged_in();
    talk.browser(&update(&tokens::sign(&tokens::claims_with(&json!({"exp": exp}))))).expect("the token is valid");
    assert_eq!((names(&talk.to_upstream), names(&talk.to_browser)), (vec![], vec!["connection.update-secret-ok"]));
    assert_eq!(talk.proxy.expires(), Some(exp + 10));
    // Another ticket changes nothing.
    let mut talk = logged_in();
    talk.browser(&update(&tokens::ticket())).expect("the ticket is valid");
    assert_eq!((names(&talk.to_upstream), names(&talk.to_browser)), (vec![], vec!["connection.update-secret-ok"]));
    assert_eq!(talk.proxy.expires(), None);
    // Neither a password nor another's token is passed on.
    for secret in ["hunter2", &tokens::sign(&tokens::claims("bob")), ""] {
        let mut talk = logged_in();
        let error = talk.browser(&update(secret)).expect_err("the secret is not alice's");
        assert_eq!((error.code(), names(&talk.to_upstream)), (code::ACCESS_REFUSED, vec![]));
        assert!(!error.message().contains("hunter2"), "{error}");
    }
}
