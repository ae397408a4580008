//! Limits: what one client cannot take from the others.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use hopmq::Connection;
use hopmq_proto::method::{Encode, Method, basic, channel, connection, queue};
use hopmq_proto::{FieldTable, PROTOCOL_HEADER, put_method};
use hopmq_tests::broker;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::common::program::Program;
use crate::common::tokens::{claims, settings, sign};
use crate::common::{Page, Received, Served, get, soon};

/// Returns the bytes of `count` equal methods on channel 1.
fn repeated<M: Encode>(method: &M, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_method(&mut bytes, 1 << 20, 1, method).unwrap();
    bytes.repeat(count)
}

/// Returns the bytes of `count` messages without a body to this queue.
fn publishes(queue: &str, count: usize) -> Vec<u8> {
    let mut bytes = repeated(&basic::Publish { exchange: "", routing_key: queue, ..Default::default() }, 1);
    bytes.extend_from_slice(&[2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xce]);
    bytes.repeat(count)
}

fn close() -> channel::Close<'static> {
    channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_does_not_read_the_gateways_answers_is_not_buffered_for() {
    let direct = Connection::builder().uri(&broker().amqp).open_tokio().await.unwrap();
    let channel = direct.channel().await.unwrap();
    let name = format!("unread-{}-own", std::process::id());
    let queue = channel.queue(&name).expires(Duration::from_secs(300)).declare().await.unwrap();
    for _ in 0..24 {
        queue.publish(vec![7_u8; 1 << 20]).confirm().await.unwrap();
    }
    let stall = "websocket = { stall_timeout = \"8s\" }";
    let program = Program::start(&format!("{stall}\n{}", settings("consume = [\"unread-*\"]"))).await;
    let mut page = Page::log_in(&program.url(), "alice", &sign(&claims())).await;
    page.open_channel(1).await;
    page.bytes(&publishes("not allowed", 1)).await;
    page.expect(<channel::Close<'_> as Encode>::ID).await;
    page.open_channel(2).await;
    // The messages of the queue fill the buffers between the gateway and the browser, which reads no more.
    page.method(2, &basic::Consume { queue: &name, ..Default::default() }).await;
    let sent = "hopmq_gateway_sent_bytes_total";
    let mut latest = String::new();
    soon(async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let metrics = get(program.address, "/metrics", "").await.1;
            let line = metrics.lines().find(|line| line.starts_with(sent)).unwrap().to_owned();
            if std::mem::replace(&mut latest, line.clone()) == line {
                return;
            }
        }
    })
    .await;
    let before = program.memory();
    // The gateway itself answers each close of the channel that it has closed.
    let closes = repeated(&close(), 6000);
    let mut sent = 0_u64;
    soon(async {
        while page.socket.send(Message::binary(closes.clone())).await.is_ok() {
            sent += closes.len() as u64;
        }
    })
    .await;
    program.is_empty().await;
    // The system counts a thread's last pages late, in the peak as well.
    let grown = program.memory_peak().saturating_sub(before);
    let metrics = get(program.address, "/metrics", "").await.1;
    assert!(metrics.contains("connections_ended_total{reason=\"stalled\"} 1\n"), "{metrics}");
    assert!(grown < 4 << 20, "{grown} bytes more for {sent} bytes of closes");
    queue.delete().await.unwrap();
    direct.close().await.unwrap();
}

/// Sends the messages on a new channel 1, behind the frames that open it.
async fn flood(page: &mut Page, queue: &str, count: usize) {
    let opening = repeated(&channel::Open {}, 1);
    page.bytes(&[opening, publishes(queue, count)].concat()).await;
}

/// Returns the number of messages in a queue.
async fn depth(direct: &hopmq::Channel, queue: &str) -> u64 {
    soon(direct.queue(queue).declare_passive()).await.unwrap().message_count().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_of_a_user_pass_on_no_more_than_the_rate() {
    const RATE: u64 = 10;
    let served = Served::start(&format!("limits = {{ messages_per_second = {RATE} }}")).await;
    let direct = Connection::builder().uri(&broker().amqp).open_tokio().await.unwrap();
    let channel = direct.channel().await.unwrap();
    let name = format!("flooded-{}", std::process::id());
    let queue = channel.queue(&name).expires(Duration::from_secs(300)).declare().await.unwrap();
    let started = Instant::now();
    for round in 0..3 {
        // The limit survives that all connections are closed and opened again.
        let mut pages = Vec::new();
        for _ in 0..12 {
            let mut page = Page::log_in(&served.url(), "guest", "guest").await;
            flood(&mut page, &name, 1000).await;
            pages.push(page);
        }
        let until = Instant::now() + Duration::from_secs(1);
        let (passed, allowed) = loop {
            let passed = depth(&channel, &name).await;
            let allowed = RATE + (RATE as f64 * started.elapsed().as_secs_f64()) as u64;
            if passed > allowed || Instant::now() > until && passed > RATE {
                break (passed, allowed);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let seconds = started.elapsed().as_secs_f64();
        assert!(passed <= allowed, "{passed} messages in {seconds} s of round {round}, where {allowed} are allowed");
        drop(pages);
        served.is_empty().await;
    }
    assert!(served.metric("hopmq_gateway_rate_pauses_total").await > 0);
    queue.delete().await.unwrap();
    direct.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_user_is_not_known_pass_on_no_more_than_the_rate_of_their_address() {
    const RATE: u64 = 10;
    let served = Served::start(&format!("limits = {{ messages_per_second = {RATE} }}")).await;
    let direct = Connection::builder().uri(&broker().amqp).open_tokio().await.unwrap();
    let channel = direct.channel().await.unwrap();
    let name = format!("flooded-by-address-{}", std::process::id());
    let queue = channel.queue(&name).expires(Duration::from_secs(300)).declare().await.unwrap();
    let started = Instant::now();
    let mut pages = Vec::new();
    for _ in 0..6 {
        let mut page = Page::open(&served.url(), &[]).await.unwrap();
        page.bytes(&PROTOCOL_HEADER).await;
        page.expect(<connection::Start<'_> as Encode>::ID).await;
        // The gateway does not read which user this mechanism names.
        let response = FieldTable::new().with("LOGIN", "guest").with("PASSWORD", "guest");
        let start = connection::StartOk { mechanism: "AMQPLAIN", response: response.as_bytes(), ..Default::default() };
        page.method(0, &start).await;
        page.opening("/").await;
        page.expect(connection::OpenOk::ID).await;
        flood(&mut page, &name, 1000).await;
        pages.push(page);
    }
    let passed = loop {
        let passed = depth(&channel, &name).await;
        if passed > RATE || started.elapsed() > Duration::from_secs(20) {
            break passed;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let allowed = RATE + (RATE as f64 * started.elapsed().as_secs_f64()) as u64;
    assert!(passed <= allowed, "{passed} messages, where {allowed} are allowed");
    drop(pages);
    queue.delete().await.unwrap();
    direct.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_far_ahead_of_its_rate_is_closed_and_told_why() {
    // The smallest rate: a frame waits for almost a minute, so one behind it would have to wait longer.
    let served = Served::start("limits = { bytes_per_second = 2185 }").await;
    let mut pages = Vec::new();
    for _ in 0..2 {
        let mut page = Page::log_in(&served.url(), "guest", "guest").await;
        page.open_channel(1).await;
        pages.push(page);
    }
    let size: u32 = (128 << 10) - 8;
    let mut message = publishes("nowhere", 1);
    let size_at = message.len() - 11;
    message[size_at..size_at + 8].copy_from_slice(&u64::from(size).to_be_bytes());
    message.extend_from_slice(&[3, 0, 1]);
    message.extend_from_slice(&size.to_be_bytes());
    message.resize(message.len() + size as usize, 7);
    message.push(0xce);
    pages[0].bytes(&message).await;
    soon(async { while served.metric("hopmq_gateway_rate_pauses_total").await < 1 {} }).await;
    let mut page = pages.pop().unwrap();
    page.bytes(&message).await;
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 506 && text.contains("ahead of their rate limit; send slower"), "{code} {text}");
    assert_eq!(page.closed().await.0, 1008);
    assert!(served.metric("hopmq_gateway_connections_ended_total{reason=\"too_fast\"}").await == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_queues_are_limited_although_they_are_declared_in_one_go_or_by_nowait() {
    for nowait in [false, true] {
        let policy = "temporary_queues = true";
        let limits = "limits = { temporary_queues = 20 }";
        let served = Served::start(&format!("{limits}\n{}", settings(policy))).await;
        let mut page = Page::log_in(&served.url(), "alice", &sign(&claims())).await;
        page.open_channel(1).await;
        let declare = queue::Declare { exclusive: true, nowait, ..Default::default() };
        page.bytes(&repeated(&declare, 100)).await;
        let mut declared = 0;
        let text = loop {
            let Received::Frame { payload, .. } = page.next().await else { panic!("the WebSocket was closed") };
            match Method::decode(&payload).unwrap() {
                Method::QueueDeclareOk(_) => declared += 1,
                Method::ChannelClose(close) => break close.reply_text.to_owned(),
                other => panic!("{other:?}"),
            }
        };
        assert!(text.contains("more than 20 temporary queues"), "{text}");
        assert_eq!(declared, if nowait { 0 } else { 20 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_queues_that_are_gone_make_place_for_others() {
    let policy = "temporary_queues = true\nqueues = [\"room-{sub}-*\"]\nconsume = [\"room-{sub}-*\"]";
    let served = Served::start(&format!("limits = {{ temporary_queues = 2 }}\n{}", settings(policy))).await;
    let connection =
        soon(Connection::builder().uri(&served.amqp("alice", &sign(&claims()))).open_tokio()).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    for round in 0..5 {
        let kept = soon(channel.queue("").exclusive().declare()).await.unwrap();
        let name = format!("room-alice-{round}-{}", std::process::id());
        let room = soon(channel.queue(&name).auto_delete().declare()).await.unwrap();
        let consumer = soon(room.consume().start()).await.unwrap();
        soon(consumer.cancel()).await.unwrap();
        soon(kept.delete().into_future()).await.unwrap();
    }
    soon(connection.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_have_not_logged_in_are_limited_by_address() {
    let served =
        Served::start("limits = { pending_logins_per_address = 3 }\nproxy = { trusted = [\"127.0.0.0/8\"] }").await;
    let from = |address| vec![("x-forwarded-for", address)];
    let mut pending = Vec::new();
    for _ in 0..3 {
        pending.push(Page::open(&served.url(), &from("192.0.2.1")).await.unwrap());
    }
    let (status, body) = Page::open(&served.url(), &from("192.0.2.1")).await.err().unwrap();
    assert!(status == 429 && body.contains("have not logged in"), "{status} {body}");
    // Others connect, and one that logs in makes place.
    Page::open(&served.url(), &from("192.0.2.2")).await.unwrap();
    let mut page = pending.pop().unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(<connection::Start<'_> as Encode>::ID).await;
    page.bytes(b"nonsense").await;
    page.closed().await;
    let name = "hopmq_gateway_pending_logins";
    soon(async { while served.metric(name).await > 2 {} }).await;
    Page::open(&served.url(), &from("192.0.2.1")).await.unwrap();
}

/// Opens sockets that send nothing.
async fn silent(program: &Program, count: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(soon(TcpStream::connect(program.address)).await.unwrap());
    }
    sockets
}

#[tokio::test(flavor = "multi_thread")]
async fn healthz_answers_while_silent_sockets_take_all_files() {
    // A silent socket may stay for as long as a login, so that waiting does not help.
    let program = Program::start_with_files("limits = { login_timeout = \"10m\" }", 64).await;
    let sockets = silent(&program, 300).await;
    for _ in 0..5 {
        assert_eq!(get(program.address, "/healthz", "").await, (200, "ok\n".to_owned()));
    }
    let mut page = Page::log_in(&program.url(), "guest", "guest").await;
    page.open_channel(1).await;
    let metrics = get(program.address, "/metrics", "").await.1;
    assert!(metrics.contains("hopmq_gateway_upgrades_refused_total{reason=\"sockets\"}"), "{metrics}");
    drop(sockets);
}

#[tokio::test(flavor = "multi_thread")]
async fn healthz_answers_while_websockets_take_all_files() {
    let program = Program::start_with_files("", 64).await;
    let mut pages = Vec::new();
    let refused = loop {
        match Page::open(&program.url(), &[]).await {
            Ok(mut page) => {
                page.bytes(&PROTOCOL_HEADER).await;
                page.expect(<connection::Start<'_> as Encode>::ID).await;
                pages.push(page);
            }
            Err(refused) => break refused,
        }
    };
    assert!(refused.0 == 503 && refused.1.contains("too many connections"), "{refused:?}");
    assert!(pages.len() >= 4, "{} connections", pages.len());
    assert_eq!(get(program.address, "/healthz", "").await, (200, "ok\n".to_owned()));
    assert_eq!(get(program.address, "/readyz", "").await.0, 200);
}
