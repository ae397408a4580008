//! Tokens, tickets and policies: who somebody is, and what they may do.

use std::net::SocketAddr;

use futures_lite::StreamExt;
use hopmq::Connection;
use hopmq_proto::method::{Encode, Method, basic, channel, confirm, connection, exchange, queue};
use hopmq_proto::{FieldTable, Kind, PROTOCOL_HEADER, Properties, put_method};
use hopmq_tests::broker;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::common::tokens::{SECRET, claims, claims_with, now, settings, sign, sign_by, ticket};
use crate::common::{Came, Page, Served, soon};

const CHAT: &str = r#"
    publish = [{ exchange = "amq.topic", routing_key = "chat.{sub}.*" }, { exchange = "", routing_key = "inbox-{sub}" }]
    consume = ["inbox-{sub}"]
    queues = ["inbox-{sub}"]
    bind = [{ exchange = "amq.topic", routing_key = "chat.*.*" }]
    temporary_queues = true
    message_max = "1KiB"
"#;

/// Sends a login with this password, up to the answer.
async fn present(served: &Served, token: &str) -> Page {
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(<connection::Start<'_> as Encode>::ID).await;
    page.start_ok("anybody", token).await;
    page
}

/// A page that alice's token has let in, with channel 1.
async fn alice(served: &Served) -> Page {
    let mut page = Page::log_in(&served.url(), "alice", &sign(&claims())).await;
    page.open_channel(1).await;
    page
}

/// The bytes of a message.
fn message(exchange: &str, key: &str, body: &[u8], headers: &FieldTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    let publish = basic::Publish { exchange, routing_key: key, ..Default::default() };
    put_method(&mut bytes, 1 << 20, 1, &publish).unwrap();
    let properties = Properties::new().with_headers(headers);
    let (flags, list) = (properties.flags(), properties.as_bytes().to_vec());
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

/// Awaits that channel 1 is closed with 403, and agrees.
async fn refused(page: &mut Page) -> String {
    let payload = page.expect(<channel::Close<'_> as Encode>::ID).await;
    let Ok(Method::ChannelClose(close)) = Method::decode(&payload) else { panic!("it is a close") };
    assert_eq!(close.reply_code, 403, "{}", close.reply_text);
    page.method(1, &channel::CloseOk {}).await;
    close.reply_text.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_the_password_and_its_policy_holds() {
    let served = Served::start(&settings(CHAT)).await;
    let url = served.amqp("alice", &sign(&claims()));
    let connection = soon(Connection::builder().uri(&url).open_tokio()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.queue("").exclusive().declare().await.unwrap();
    channel.queue_bind(queue.name(), "amq.topic", "chat.alice.*", FieldTable::new()).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    channel.publish("amq.topic", "chat.alice.room", b"hello").confirm().await.unwrap();
    assert_eq!(soon(consumer.try_next()).await.unwrap().unwrap().body(), b"hello");
    // What is not allowed closes the channel and says why, and the connection goes on.
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
async fn tokens_that_are_not_good_are_refused_with_the_reason() {
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
        (sign(&claims_with("aud", "somebody-else")), "is not for this service"),
        (sign(&claims_with("iss", "https://evil.example")), "another issuer"),
        (sign(&claims_with("exp", Value::Null)), "lacks the claim exp"),
        (sign(&claims_with("aud", Value::Null)), "lacks the claim aud"),
        (sign(&claims_with("sub", Value::Null)), "lacks the claim sub"),
        (sign(&claims_with("role", "guest")), "no policy"),
        (sign_by(Algorithm::HS256, "another secret of at least 32 bytes", &claims()), "signature"),
        (sign_by(Algorithm::HS512, SECRET, &claims()), "HS512"),
        (unsigned, "not signed"),
        (without_signature, "signature"),
        ("guest".to_owned(), "no JSON Web Token"),
        (String::new(), "no JSON Web Token"),
    ];
    for (token, why) in cases {
        let mut page = present(&served, &token).await;
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == 403 && text.contains(why), "{code} {text} does not say: {why}");
        assert!(token.is_empty() || !text.contains(&token), "{text}");
        let (code, reason) = page.closed().await;
        assert!(code == 1008 && reason.contains(why), "{code} {reason}");
    }
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_keeps_its_order_and_rabbitmqs_password_its_secret() {
    let served = Served::start(&settings(CHAT)).await;
    // Another login behind the good one would be somebody else's.
    let mut page = present(&served, &sign(&claims())).await;
    page.expect(connection::Tune::ID).await;
    page.start_ok("guest", "guest").await;
    assert_eq!(page.closed_by_amqp().await.0, 503);
    // The virtual host is the policy's, whatever the page asks for.
    let mut page = present(&served, &sign(&claims())).await;
    page.opening("hopmq-other").await;
    page.expect(connection::OpenOk::ID).await;
    // RabbitMQ's own users are nobody here.
    let mut nobody = present(&served, "guest").await;
    assert_eq!(nobody.closed_by_amqp().await.0, 403);
    drop(nobody);
    served.is_empty_after(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_once_and_for_a_minute() {
    let served = Served::start(&settings(CHAT)).await;
    let url = |ticket: &str| format!("{}?ticket={ticket}", served.url());
    let mut page = Page::log_in(&url(&ticket(30)), "whatever", "nothing").await;
    page.open_channel(1).await;
    page.bytes(&message("orders", "", b"x", &FieldTable::new())).await;
    assert!(refused(&mut page).await.contains("alice may not publish"));
    let expired = json!({"sub": "alice", "aud": "hopmq-gateway", "iat": now() - 60, "exp": now() - 30});
    for (ticket, why) in [
        (ticket(61), "more than 60 s"),
        (sign(&expired), "has expired"),
        (sign(&claims()), "not for this service"),
        ("x".to_owned(), "no JSON Web Token"),
    ] {
        let (status, body) = Page::open(&url(&ticket), &[]).await.err().unwrap();
        assert!(status == 401 && body.contains(why), "{status} {body} does not say: {why}");
    }
    served.is_empty_after(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = present(&served, &sign(&claims_with("exp", now() + 10))).await;
    page.opening("/").await;
    page.expect(connection::OpenOk::ID).await;
    // A newer token lets it live on.
    let newer = sign(&claims());
    let update = |secret| connection::UpdateSecret { new_secret: secret, reason: "newer" };
    page.method(0, &update(newer.as_bytes())).await;
    page.expect(connection::UpdateSecretOk::ID).await;
    // Of the whole seconds that tokens count in, the first may be as good as over; and to log in takes its time too.
    let mut short = present(&served, &sign(&claims_with("exp", now() + 4))).await;
    short.opening("/").await;
    short.expect(connection::OpenOk::ID).await;
    let (code, text) = short.closed_by_amqp().await;
    assert!(code == 320 && text.contains("expired"), "{code} {text}");
    // And somebody else's ends it.
    let others = sign(&claims_with("sub", "bob"));
    page.method(0, &update(others.as_bytes())).await;
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 403 && text.contains("somebody else"), "{code} {text}");
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_has_its_permission() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = alice(&served).await;
    let table = |name: &str, value: &str| FieldTable::new().with(name, value);
    let dead = table("x-dead-letter-exchange", "orders");
    let alternate = table("alternate-exchange", "orders");
    let mut methods: Vec<(Vec<u8>, &str)> = Vec::new();
    let mut add = |put: &dyn Fn(&mut Vec<u8>), why: &'static str| {
        let mut bytes = Vec::new();
        put(&mut bytes);
        methods.push((bytes, why));
    };
    macro_rules! add {
        ($method:expr, $why:literal) => {
            add(&|bytes| put_method(bytes, 1 << 20, 1, &$method).unwrap(), $why)
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
        "pass on messages to exchange 'orders'"
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
    methods.push((message("amq.topic", "chat.alice.a", &[0; 1025], &plain), "1024 is the limit"));
    let count = methods.len() as u64;
    for (bytes, why) in methods {
        page.bytes(&bytes).await;
        let text = refused(&mut page).await;
        assert!(text.contains("alice may not") && text.contains(why), "{text} does not say: {why}");
        page.open_channel(1).await;
    }
    assert_eq!(served.metric("hopmq_gateway_operations_refused_total").await, count);
    assert_eq!(served.metric("hopmq_gateway_messages_published_total").await, 0);
    drop(page);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_queue_is_known_by_no_name_and_by_its_name() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = alice(&served).await;
    // All at once, before RabbitMQ has named it.
    page.method(1, &queue::Declare { queue: "", exclusive: true, ..Default::default() }).await;
    let bind = queue::Bind { queue: "", exchange: "amq.topic", routing_key: "chat.bob.*", ..Default::default() };
    page.method(1, &bind).await;
    page.method(1, &basic::Consume { queue: "", no_ack: true, ..Default::default() }).await;
    let payload = page.expect(<queue::DeclareOk<'_> as Encode>::ID).await;
    page.expect(queue::BindOk::ID).await;
    page.expect(<basic::ConsumeOk<'_> as Encode>::ID).await;
    let Ok(Method::QueueDeclareOk(declared)) = Method::decode(&payload) else { panic!("it is one") };
    page.method(1, &queue::Purge { queue: declared.queue, nowait: false }).await;
    page.expect(queue::PurgeOk::ID).await;
    // Another connection's is not.
    let mut other = alice(&served).await;
    other.method(1, &basic::Consume { queue: declared.queue, ..Default::default() }).await;
    assert!(refused(&mut other).await.contains("may not consume from"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_refusal_counts_and_what_follows_does_not() {
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
    // The refusal may overtake the confirm, as RabbitMQ's own does.
    let mut seen = Vec::new();
    while seen.last() != Some(&channel::CloseOk::ID) {
        match page.next().await {
            Came::Frame { kind: Kind::Method, payload, .. } => {
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
async fn a_message_that_lies_about_itself_ends_the_connection() {
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
async fn rabbitmqs_own_fault_comes_first() {
    let served = Served::start(&settings(CHAT)).await;
    let mut page = alice(&served).await;
    for round in 0..20 {
        // There is no such queue, which RabbitMQ says while the gateway refuses the second.
        page.method(1, &basic::Consume { queue: "inbox-alice", ..Default::default() }).await;
        page.method(1, &basic::Consume { queue: "inbox-bob", ..Default::default() }).await;
        let payload = page.expect(<channel::Close<'_> as Encode>::ID).await;
        let Ok(Method::ChannelClose(close)) = Method::decode(&payload) else { panic!("it is a close") };
        assert!(matches!(close.reply_code, 403 | 404), "{round}: {}", close.reply_text);
        page.method(1, &channel::CloseOk {}).await;
        page.open_channel(1).await;
    }
    served.is_empty_after(page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_is_slowed_down() {
    let policy = "publish = [\"amq.fanout\"]\nmessages_per_second = 20";
    let served = Served::start(&settings(policy)).await;
    let url = served.amqp("alice", &sign(&claims()));
    let connection = soon(Connection::builder().uri(&url).open_tokio()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let begun = std::time::Instant::now();
    for _ in 0..40 {
        channel.publish("amq.fanout", "", b"x").confirm().await.unwrap();
    }
    // A second's worth may come at once.
    assert!(begun.elapsed().as_millis() > 900, "{:?}", begun.elapsed());
    soon(connection.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_a_file_or_a_url() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = base64url(key.public_key_raw());
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "one", "x": x}]}).to_string();
    let sign = |kid: Option<&str>| {
        let mut header = jsonwebtoken::Header::new(Algorithm::EdDSA);
        header.kid = kid.map(str::to_owned);
        let key = jsonwebtoken::EncodingKey::from_ed_der(&key.serialize_der());
        jsonwebtoken::encode(&header, &claims(), &key).unwrap()
    };
    let file = std::env::temp_dir().join(format!("hopmq-jwks-{}.json", std::process::id()));
    std::fs::write(&file, &jwks).unwrap();
    let issuer = issuer(jwks).await;
    for source in [format!("jwks_file = {file:?}"), format!("jwks_url = \"http://{issuer}/keys\"")] {
        let settings = settings(CHAT).replace(&format!("secret = \"{SECRET}\"\n        issuer"), "issuer");
        let settings = settings.replace("[auth.jwt]", &format!("[auth.jwt]\n{source}\nalgorithms = [\"EdDSA\"]"));
        let settings = format!("limits = {{ upgrades_per_minute = 1000000 }}\n{settings}");
        let served = Served::start(&settings).await;
        soon(async {
            // Until the keys have been fetched, nobody's is known.
            loop {
                let mut page = present(&served, &sign(Some("one"))).await;
                let Came::Frame { payload, .. } = page.next().await else { panic!("it answers") };
                match Method::decode(&payload).unwrap() {
                    Method::ConnectionTune(_) => return,
                    Method::ConnectionClose(close) => assert!(close.reply_text.contains("(kid)"), "{close:?}"),
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
        for (token, why) in [
            (sign(Some("two")), "key that is not known"),
            (sign_by(Algorithm::HS256, &base64url(key.public_key_raw()), &claims()), "HS256"),
        ] {
            let mut page = present(&served, &token).await;
            let (code, text) = page.closed_by_amqp().await;
            assert!(code == 403 && text.contains(why), "{code} {text}");
        }
        served.is_empty().await;
    }
    std::fs::remove_file(&file).unwrap();
}

/// Answers every request with this text.
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

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().enumerate().fold(0_u32, |all, (at, byte)| all | u32::from(*byte) << (16 - 8 * at));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(number >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_itself_still_refuses_what_its_user_may_not() {
    let policy = "publish = [\"#\"]\nqueues = [\"#\"]";
    let settings = settings(policy)
        .replace("\"guest\"\n        password = \"guest\"", "\"hopmq-limited\"\n        password = \"limited\"");
    let served = Served::start(&settings).await;
    let mut page = alice(&served).await;
    page.method(1, &queue::Declare { queue: "orders", ..Default::default() }).await;
    assert!(refused(&mut page).await.contains("hopmq-limited"));
    assert!(broker().ctl(&["list_queues", "name"]).is_ok_and(|queues| !queues.contains("orders")));
}
