//! Tokens, tickets and policies: authentication by the gateway, and permissions.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_lite::StreamExt;
use hopmq::Connection;
use hopmq_proto::method::{Encode, Method, basic, channel, confirm, connection, exchange, queue};
use hopmq_proto::{FieldTable, Kind, PROTOCOL_HEADER, Properties, put_method};
use hopmq_tests::broker;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::common::tokens::{SECRET, claims, claims_with, now, settings, sign, sign_by, ticket};
use crate::common::{Page, Received, Scratch, Served, soon};

const CHAT: &str = r#"
    publish = [{ exchange = "amq.topic", routing_key = "chat.{sub}.*" }, { exchange = "", routing_key = "inbox-{sub}" }]
    consume = ["inbox-{sub}"]
    queues = ["inbox-{sub}"]
    bind = [{ exchange = "amq.topic", routing_key = "chat.*.*" }]
    temporary_queues = true
    message_max = "1KiB"
"#;

/// Sends a login with this token as the password.
async fn log_in_with(served: &Served, token: &str) -> Page {
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(<connection::Start<'_> as Encode>::ID).await;
    page.start_ok("any user name", token).await;
    page
}

/// Returns a page that is logged in by alice's token, with channel 1 open.
async fn alice(served: &Served) -> Page {
    let mut page = Page::log_in(&served.url(), "alice", &sign(&claims())).await;
    page.open_channel(1).await;
    page
}

/// Returns the frames of a message on channel 1.
fn message(exchange: &str, key: &str, body: &[u8], headers: &FieldTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    let publish = basic::Publish { exchange, routing_key: key, ..Default::default() };
    put_method(&mut bytes, 1 << 20, 1, &publish).unwrap();
    let properties = Properties::new().with_headers(headers);
    let flags = properties.flags();
    let list = properties.as_bytes().to_vec();
    let mut header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &flags.to_be_bytes()].concat();
    header.extend_from_slice(&list);
    for (kind, payload) in [(2, &header[..]), (3, body)].into_iter().filter(|(_, payload)| !payload.is_empty()) {
        bytes.extend_from_slice(&[kind, 0, 1]);
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes.push(0xce);
    }
    bytes
}

/// Awaits a close of channel 1 with 403, answers it, and returns its text.
async fn refused(page: &mut Page) -> String {
    let payload = page.expect(<channel::Close<'_> as Encode>::ID).await;
    let Ok(Method::ChannelClose(close)) = Method::decode(&payload) else { panic!("channel.close cannot be decoded") };
    assert_eq!(close.reply_code, 403, "{}", close.reply_text);
    page.method(1, &channel::CloseOk {}).await;
    close.reply_text.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_as_the_password_selects_its_policy() {
    let served = Served::start(&settings(CHAT)).await;
    let url = served.amqp("alice", &sign(&claims()));
    let connection = soon(Connection::builder().uri(&url).open_tokio()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.queue("").exclusive().declare().await.unwrap();
    channel.queue_bind(queue.name(), "amq.topic", "chat.alice.*", FieldTable::new()).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    channel.publish("amq.topic", "chat.alice.room", b"hello").confirm().await.unwrap();
    assert_eq!(soon(consumer.try_next()).await.unwrap().unwrap().body(), b"hello");
    // A denied operation closes the channel with the reason; the connection stays open.
    let error = channel.publish("amq.topic", "chat.bob.room", b"hello").confirm().await.unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
    assert!(error.to_string().contains("alice may not publish to exchange 'amq.topic'"), "{error}");
    let channel = connection.channel().await.unwrap();
    let error = channel.queue("orders").declare().await.unwrap_err();
    assert!(error.to_string().contains("alice may not declare queue 'orders'"), "{error}");
    soon(connection.close()).await.unwrap();
    served.is_empty().await;
    assert_eq!(served.metric("hopmq_gateway_operations_refused_total").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_tokens_are_refused_with_the_reason() {
    let served = Served::start(&settings(CHAT)).await;
    let unsigned = {
        let text = sign(&claims());
        let (_, rest) = text.split_once('.').unwrap();
        // {"typ":"JWT","alg":"none"}
        format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{}.", rest.split_once('.').unwrap().0)
    };
    let good = sign(&claims());
    let without_signature = format!("{}.", good.rsplit_once('.').unwrap().0);
    let cases = [
        (sign(&claims_with("exp", now() - 1)), "has expired"),
        (sign(&claims_with("nbf", now() + 600)), "not valid yet"),
        (sign(&claims_with("aud", "another-service")), "is not for this service"),
        (sign(&claims_with("iss", "https://evil.example")), "another issuer"),
        (sign(&claims_with("exp", Value::Null)), "lacks the claim exp"),
        (sign(&claims_with("aud", Value::Null)), "lacks the claim aud"),
        (sign(&claims_with("sub", Value::Null)), "lacks the claim sub"),
        (sign(&claims_with("role", "guest")), "no policy"),
        (sign_by(Algorithm::HS256, "another secret of at least 32 bytes", &claims()), "signature"),
        (sign_by(Algorithm::HS512, SECRET, &claims()), "HS512"),
        (unsigned, "not signed"),
        (without_signature, "signature"),
        ("guest".to_owned(), "not a readable JSON Web Token"),
        (String::new(), "not a readable JSON Web Token"),
    ];
    for (token, reason) in cases {
        let mut page = log_in_with(&served, &token).await;
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == 403 && text.contains(reason), "{code} {text} does not contain: {reason}");
        assert!(token.is_empty() || !text.contains(&token), "{text}");
        let (code, text) = page.closed().await;
        assert!(code == 1008 && text.contains(reason), "{code} {text}");
    }
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_cannot_bypass_the_policy() {
    let served = Served::start(&settings(CHAT)).await;
    // A second start-ok after the valid token would log in as another user.
    let mut page = log_in_with(&served, &sign(&claims())).await;
    page.expect(connection::Tune::ID).await;
    page.start_ok("guest", "guest").await;
    assert_eq!(page.closed_by_amqp().await.0, 503);
    // The virtual host is that of the policy, not the one that the page names.
    let mut page = log_in_with(&served, &sign(&claims())).await;
    page.opening("hopmq-other").await;
    page.expect(connection::OpenOk::ID).await;
    // A RabbitMQ password is not a token.
    let mut with_password = log_in_with(&served, "guest").await;
    assert_eq!(with_password.closed_by_amqp().await.0, 403);
    drop(with_password);
    served.is_empty_after(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_a_connection_for_at_most_a_minute() {
    let served = Served::start(&settings(CHAT)).await;
    let url = |ticket: &str| format!("{}?ticket={ticket}", served.url());
    let mut page = Page::log_in(&url(&ticket(30)), "whatever", "nothing").await;
    page.open_channel(1).await;
    page.bytes(&message("orders", "", b"x", &FieldTable::new())).await;
    assert!(refused(&mut page).await.contains("alice may not publish"));
    let expired = json!({"sub": "alice", "aud": "hopmq-gateway", "iat": now() - 60, "exp": now() - 30});
    for (ticket, reason) in [
        (ticket(61), "more than 60 s"),
        (sign(&expired), "has expired"),
        (sign(&claims()), "not for this service"),
        ("x".to_owned(), "not a readable JSON Web Token"),
    ] {
        let (status, body) = Page::open(&url(&ticket), &[]).await.err().unwrap();
        assert!(status == 401 && body.contains(reason), "{status} {body} does not contain: {reason}");
    }
    served.is_empty_after(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_when_its_token_expires_or_changes_its_bearer() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = log_in_with(&served, &sign(&claims_with("exp", now() + 10))).await;
    page.opening("/").await;
    page.expect(connection::OpenOk::ID).await;
    // A newer token extends the connection.
    let newer = sign(&claims());
    let update = |secret| connection::UpdateSecret { new_secret: secret, reason: "newer" };
    page.method(0, &update(newer.as_bytes())).await;
    page.expect(connection::UpdateSecretOk::ID).await;
    // Tokens count in whole seconds, so up to one of the four is lost, and the login needs time too.
    let mut short = log_in_with(&served, &sign(&claims_with("exp", now() + 4))).await;
    short.opening("/").await;
    short.expect(connection::OpenOk::ID).await;
    let (code, text) = short.closed_by_amqp().await;
    assert!(code == 320 && text.contains("expired"), "{code} {text}");
    // A token of another bearer closes the connection.
    let others = sign(&claims_with("sub", "bob"));
    page.method(0, &update(others.as_bytes())).await;
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 403 && text.contains("for another subject"), "{code} {text}");
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_needs_its_permission() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = alice(&served).await;
    let table = |name: &str, value: &str| FieldTable::new().with(name, value);
    let dead = table("x-dead-letter-exchange", "orders");
    let alternate = table("alternate-exchange", "orders");
    let mut methods: Vec<(Vec<u8>, &str)> = Vec::new();
    let mut add = |put: &dyn Fn(&mut Vec<u8>), reason: &'static str| {
        let mut bytes = Vec::new();
        put(&mut bytes);
        methods.push((bytes, reason));
    };
    macro_rules! add {
        ($method:expr, $reason:literal) => {
            add(&|bytes| put_method(bytes, 1 << 20, 1, &$method).unwrap(), $reason)
        };
    }
    add!(basic::Consume { queue: "inbox-bob", ..Default::default() }, "consume from queue 'inbox-bob'");
    add!(basic::Consume { queue: "", ..Default::default() }, "before one is declared");
    add!(basic::Get { queue: "inbox-bob", ..Default::default() }, "get from queue 'inbox-bob'");
    add!(queue::Purge { queue: "orders", nowait: false }, "purge queue 'orders'");
    add!(queue::Delete { queue: "orders", ..Default::default() }, "delete queue 'orders'");
    add!(queue::Declare { queue: "orders", passive: true, ..Default::default() }, "declare queue 'orders'");
    add!(queue::Declare { queue: "", ..Default::default() }, "unless it is exclusive");
    add!(
        queue::Declare { queue: "amq.gen-other", passive: true, ..Default::default() },
        "declare queue 'amq.gen-other'"
    );
    add!(
        queue::Declare { queue: "inbox-alice", arguments: dead.as_ref_table(), ..Default::default() },
        "forward messages to exchange 'orders'"
    );
    add!(
        queue::Bind { queue: "inbox-alice", exchange: "amq.topic", routing_key: "#", ..Default::default() },
        "bind to exchange 'amq.topic' with the key '#'"
    );
    add!(
        queue::Bind { queue: "inbox-bob", exchange: "amq.topic", routing_key: "chat.a.b", ..Default::default() },
        "bind queue 'inbox-bob'"
    );
    add!(queue::Unbind { queue: "inbox-alice", exchange: "orders", ..Default::default() }, "bind to exchange 'orders'");
    add!(exchange::Declare { exchange: "mine", kind: "fanout", ..Default::default() }, "declare exchange 'mine'");
    add!(
        exchange::Declare { exchange: "x", kind: "fanout", arguments: alternate.as_ref_table(), ..Default::default() },
        "declare exchange 'x'"
    );
    add!(exchange::Delete { exchange: "amq.topic", ..Default::default() }, "delete exchange 'amq.topic'");
    add!(exchange::Bind { destination: "x", source: "amq.topic", ..Default::default() }, "bind exchange 'x'");
    let mut copied = FieldTable::new();
    let mut keys = hopmq_proto::FieldArray::new();
    keys.push("chat.bob.room");
    copied.insert("BCC", &keys);
    let plain = FieldTable::new();
    methods.push((message("amq.topic", "chat.alice.a.b", b"x", &plain), "with the routing key 'chat.alice.a.b'"));
    methods.push((message("", "orders", b"x", &plain), "publish to the default exchange"));
    methods.push((message("amq.topic", "chat.alice.a", b"x", &copied), "routing key 'chat.bob.room'"));
    methods.push((message("amq.topic", "chat.alice.a", &[0; 1025], &plain), "the limit is 1024"));
    let count = methods.len() as u64;
    for (bytes, reason) in methods {
        page.bytes(&bytes).await;
        let text = refused(&mut page).await;
        assert!(text.contains("alice may not") && text.contains(reason), "{text} does not contain: {reason}");
        page.open_channel(1).await;
    }
    assert_eq!(served.metric("hopmq_gateway_operations_refused_total").await, count);
    assert_eq!(served.metric("hopmq_gateway_messages_published_total").await, 0);
    drop(page);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_queue_can_be_used_before_and_after_it_is_named() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = alice(&served).await;
    // All three methods are sent before RabbitMQ has named the queue.
    page.method(1, &queue::Declare { queue: "", exclusive: true, ..Default::default() }).await;
    let bind = queue::Bind { queue: "", exchange: "amq.topic", routing_key: "chat.bob.*", ..Default::default() };
    page.method(1, &bind).await;
    page.method(1, &basic::Consume { queue: "", no_ack: true, ..Default::default() }).await;
    let payload = page.expect(<queue::DeclareOk<'_> as Encode>::ID).await;
    page.expect(queue::BindOk::ID).await;
    page.expect(<basic::ConsumeOk<'_> as Encode>::ID).await;
    let Ok(Method::QueueDeclareOk(declared)) = Method::decode(&payload) else {
        panic!("queue.declare-ok cannot be decoded")
    };
    page.method(1, &queue::Purge { queue: declared.queue, nowait: false }).await;
    page.expect(queue::PurgeOk::ID).await;
    // Another connection may not use the queue.
    let mut other = alice(&served).await;
    other.method(1, &basic::Consume { queue: declared.queue, ..Default::default() }).await;
    assert!(refused(&mut other).await.contains("may not consume from"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_before_a_refusal_take_effect_and_later_ones_do_not() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = alice(&served).await;
    let plain = FieldTable::new();
    let mut bytes = Vec::new();
    put_method(&mut bytes, 4096, 1, &queue::Declare { queue: "", exclusive: true, ..Default::default() }).unwrap();
    put_method(
        &mut bytes,
        4096,
        1,
        &queue::Bind { exchange: "amq.topic", routing_key: "chat.alice.*", ..Default::default() },
    )
    .unwrap();
    put_method(&mut bytes, 4096, 1, &confirm::Select { nowait: true }).unwrap();
    bytes.extend(message("amq.topic", "chat.alice.a", b"one", &plain));
    bytes.extend(message("amq.topic", "chat.bob.a", b"two", &plain));
    bytes.extend(message("amq.topic", "chat.alice.a", b"three", &plain));
    put_method(&mut bytes, 4096, 1, &channel::Close::default()).unwrap();
    page.bytes(&bytes).await;
    page.expect(<queue::DeclareOk<'_> as Encode>::ID).await;
    page.expect(queue::BindOk::ID).await;
    // The refusal may overtake the confirm, as a refusal by RabbitMQ may.
    let mut seen = Vec::new();
    while seen.last() != Some(&channel::CloseOk::ID) {
        match page.next().await {
            Received::Frame { kind: Kind::Method, payload, .. } => {
                seen.push(hopmq_proto::method::MethodId::peek(&payload).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    seen.retain(|id| *id != basic::Ack::ID);
    assert_eq!(seen, [<channel::Close<'_> as Encode>::ID, channel::CloseOk::ID]);
    page.method(1, &channel::CloseOk {}).await;
    page.open_channel(1).await;
    assert_eq!(served.metric("hopmq_gateway_messages_published_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_a_wrong_size_closes_the_connection() {
    let served = Served::start(&settings(CHAT)).await;
    let good = message("amq.topic", "chat.alice.a", b"1234", &FieldTable::new());
    let more = [&good[..], b"\x03\0\x01\0\0\0\x01x\xce"].concat();
    let twice = [&good[..good.len() - 12], &good[..]].concat();
    for bytes in [more, twice, b"\x03\0\x01\0\0\0\x01x\xce".to_vec()] {
        let mut page = alice(&served).await;
        page.bytes(&bytes).await;
        assert_eq!(page.closed_by_amqp().await.0, 505);
        assert_eq!(page.closed().await.0, 1002);
    }
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_stays_usable_when_rabbitmq_closes_it_during_a_refusal() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = alice(&served).await;
    for round in 0..20 {
        // RabbitMQ closes the channel for the missing queue while the gateway refuses the second consume.
        page.method(1, &basic::Consume { queue: "inbox-alice", ..Default::default() }).await;
        page.method(1, &basic::Consume { queue: "inbox-bob", ..Default::default() }).await;
        let payload = page.expect(<channel::Close<'_> as Encode>::ID).await;
        let Ok(Method::ChannelClose(close)) = Method::decode(&payload) else {
            panic!("channel.close cannot be decoded")
        };
        assert!(matches!(close.reply_code, 403 | 404), "{round}: {}", close.reply_text);
        page.method(1, &channel::CloseOk {}).await;
        page.open_channel(1).await;
    }
    served.is_empty_after(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_above_the_rate_is_slowed_down() {
    let policy = "publish = [\"amq.fanout\"]\nmessages_per_second = 20";
    let served = Served::start(&settings(policy)).await;
    let url = served.amqp("alice", &sign(&claims()));
    let connection = soon(Connection::builder().uri(&url).open_tokio()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let started = std::time::Instant::now();
    for _ in 0..40 {
        channel.publish("amq.fanout", "", b"x").confirm().await.unwrap();
    }
    // The first second allows a burst of 20.
    assert!(started.elapsed().as_millis() > 900, "{:?}", started.elapsed());
    soon(connection.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_from_a_file_or_fetched_from_a_url() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.public_key_raw());
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "one", "x": x}]}).to_string();
    let sign = |kid: Option<&str>| {
        let mut header = jsonwebtoken::Header::new(Algorithm::EdDSA);
        header.kid = kid.map(str::to_owned);
        let key = jsonwebtoken::EncodingKey::from_ed_der(&key.serialize_der());
        jsonwebtoken::encode(&header, &claims(), &key).unwrap()
    };
    let scratch = Scratch::new();
    let file = scratch.path().join("jwks.json");
    std::fs::write(&file, &jwks).unwrap();
    let issuer = issuer(jwks).await;
    for source in [format!("jwks_file = {file:?}"), format!("jwks_url = \"http://{issuer}/keys\"")] {
        let settings = settings(CHAT).replace(&format!("secret = \"{SECRET}\"\n        issuer"), "issuer");
        let settings = settings.replace("[auth.jwt]", &format!("[auth.jwt]\n{source}\nalgorithms = [\"EdDSA\"]"));
        let settings = format!("limits = {{ upgrades_per_minute = 1000000 }}\n{settings}");
        let served = Served::start(&settings).await;
        soon(async {
            // Until the keys are fetched, the key is unknown.
            loop {
                let mut page = log_in_with(&served, &sign(Some("one"))).await;
                let Received::Frame { payload, .. } = page.next().await else { panic!("the gateway does not answer") };
                match Method::decode(&payload).unwrap() {
                    Method::ConnectionTune(_) => return,
                    Method::ConnectionClose(close) => assert!(close.reply_text.contains("(kid)"), "{close:?}"),
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
        for (token, reason) in [
            (sign(Some("two")), "unknown key"),
            (sign_by(Algorithm::HS256, &URL_SAFE_NO_PAD.encode(key.public_key_raw()), &claims()), "HS256"),
        ] {
            let mut page = log_in_with(&served, &token).await;
            let (code, text) = page.closed_by_amqp().await;
            assert!(code == 403 && text.contains(reason), "{code} {text}");
        }
        served.is_empty().await;
    }
}

/// Starts a server that answers every request with this text.
async fn issuer(text: String) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
            let _ = socket.write_all((head + &text).as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_still_enforces_the_permissions_of_its_user() {
    let policy = "publish = [\"#\"]\nqueues = [\"#\"]";
    let settings = settings(policy)
        .replace("\"guest\"\n        password = \"guest\"", "\"hopmq-limited\"\n        password = \"limited\"");
    let served = Served::start(&settings).await;
    let mut page = alice(&served).await;
    page.method(1, &queue::Declare { queue: "orders", ..Default::default() }).await;
    assert!(refused(&mut page).await.contains("hopmq-limited"));
    assert!(broker().ctl(&["list_queues", "name"]).is_ok_and(|queues| !queues.contains("orders")));
}
