//! Memory: faulty clients and a RabbitMQ that fails leave nothing behind.
//!
//! Each test repeats a fault, checks the code and the reason each time, and compares the memory before and after. The
//! gateway runs as a program, because the system counts memory by process.

use futures_util::SinkExt;
use futures_util::future::join_all;
use hopmq::Connection;
use hopmq_proto::method::{Encode, basic, connection};
use hopmq_proto::{PROTOCOL_HEADER, code};
use hopmq_tests::broker;
use tokio_tungstenite::tungstenite::Message;

use crate::common::link::Link;
use crate::common::program::Program;
use crate::common::tokens::{claims, claims_with, now, settings, sign};
use crate::common::{Page, get};

const START: hopmq_proto::method::MethodId = <connection::Start<'_> as Encode>::ID;
/// How often a fault is repeated. An idle connection takes about 14 KiB, so 200 leaked ones exceed the limit.
const ROUNDS: usize = 200;
/// The number of bytes by which the memory may grow.
const GROWTH_MAX: u64 = 2 << 20;

/// Repeats a fault `rounds` times, and checks that the memory does not grow. A quarter of the rounds runs before, so
/// that buffers have grown.
async fn assert_no_growth(program: &Program, rounds: usize, fault: impl AsyncFn()) {
    for _ in 0..rounds.div_ceil(4) {
        fault().await;
    }
    program.is_empty().await;
    let before = program.memory();
    for _ in 0..rounds {
        fault().await;
    }
    program.is_empty().await;
    let after = program.memory();
    assert!(after < before + GROWTH_MAX, "{before} bytes grew to {after} bytes in {rounds} rounds");
}

/// Opens a page that has sent the protocol header and received `connection.start`.
async fn started(url: &str) -> Page {
    let mut page = Page::open(url, &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_origins_leave_no_memory_behind() {
    let program = Program::start("").await;
    assert_no_growth(&program, ROUNDS, async || {
        let refused = Page::open(&program.url(), &[("origin", "http://evil.example")]).await.err().unwrap();
        assert!(refused.0 == 403 && refused.1.contains("origin"), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_messages_leave_no_memory_behind() {
    let program = Program::start("").await;
    assert_no_growth(&program, ROUNDS, async || {
        let mut page = Page::open(&program.url(), &[]).await.unwrap();
        page.socket.send(Message::text("hunter2")).await.unwrap();
        let (code, reason) = page.closed().await;
        assert!(code == 1003 && reason.contains("binary"), "{code} {reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_headers_sent_byte_by_byte_leave_no_memory_behind() {
    let program = Program::start("").await;
    assert_no_growth(&program, ROUNDS, async || {
        let mut page = Page::open(&program.url(), &[]).await.unwrap();
        // A complete header works; one with a wrong last byte is refused.
        for byte in &PROTOCOL_HEADER {
            page.bytes(&[*byte]).await;
        }
        page.expect(START).await;
        let mut page = Page::open(&program.url(), &[]).await.unwrap();
        for byte in &PROTOCOL_HEADER[..7] {
            page.bytes(&[*byte]).await;
        }
        page.bytes(&[0]).await;
        let (code, reason) = page.closed().await;
        assert!(code == 1002 && reason.contains("AMQP 0-0-9-1"), "{code} {reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_before_the_protocol_header_leaves_no_memory_behind() {
    let program = Program::start("").await;
    assert_no_growth(&program, ROUNDS, async || {
        let mut page = Page::open(&program.url(), &[]).await.unwrap();
        page.bytes(b"garbage").await;
        let (code, reason) = page.closed().await;
        assert!(code == 1002 && reason.contains("AMQP 0-0-9-1"), "{code} {reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_frames_before_the_login_leave_no_memory_behind() {
    let program = Program::start("limits = { login_frame_max = \"8KiB\" }").await;
    assert_no_growth(&program, ROUNDS, async || {
        let mut page = started(&program.url()).await;
        page.bytes(b"\x01\0\0\xff\xff\xff\xff").await;
        let (code, reason) = page.closed().await;
        assert!(code == 1002 && reason.contains("8192"), "{code} {reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_frames_after_the_login_leave_no_memory_behind() {
    let program = Program::start("limits = { frame_max = \"8KiB\" }").await;
    assert_no_growth(&program, ROUNDS, async || {
        let mut page = Page::log_in(&program.url(), "guest", "guest").await;
        page.open_channel(1).await;
        page.bytes(&[&b"\x03\0\x01\0\0\xf0\0"[..], &vec![7; 60_000]].concat()).await;
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == code::FRAME_ERROR && text.contains("8192"), "{code} {text}");
        assert_eq!(page.closed().await.0, 1002);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_that_vanish_in_a_frame_leave_no_memory_behind() {
    let program = Program::start("").await;
    assert_no_growth(&program, ROUNDS, async || {
        let mut page = Page::log_in(&program.url(), "guest", "guest").await;
        page.open_channel(1).await;
        page.bytes(&[&b"\x03\0\x01\0\x01\0\0"[..], &vec![7; 60_000]].concat()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_tokens_leave_no_memory_behind() {
    let program = Program::start(&settings("publish = []")).await;
    let good = sign(&claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let payload = head.split_once('.').unwrap().1;
    let invalid = [
        (sign(&claims_with("exp", now() - 1)), "has expired"),
        (format!("{head}."), "signature"),
        // {"typ":"JWT","alg":"none"}
        (format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{payload}.{signature}"), "not signed"),
        (sign(&claims_with("aud", "another-service")), "is not for this service"),
    ];
    assert_no_growth(&program, ROUNDS / invalid.len(), async || {
        for (token, expected) in &invalid {
            let mut page = started(&program.url()).await;
            page.start_ok("any user name", token).await;
            let (code, text) = page.closed_by_amqp().await;
            assert!(
                code == code::ACCESS_REFUSED && text.contains(expected),
                "{code} {text} does not contain: {expected}"
            );
            let (code, reason) = page.closed().await;
            assert!(code == 1008 && reason.contains(expected), "{code} {reason}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_leave_no_memory_behind() {
    // Long enough for 100 upgrades on a busy machine: the timeout also bounds the HTTP request.
    let program = Program::start("limits = { login_timeout = \"3s\" }").await;
    assert_no_growth(&program, ROUNDS / 100, async || {
        let silent = (0..100).map(async |_| {
            let mut page = Page::open(&program.url(), &[]).await.unwrap();
            let (code, reason) = page.closed().await;
            assert!(code == 1008 && reason.contains("3s"), "{code} {reason}");
        });
        join_all(silent).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stop_reading_leave_no_memory_behind() {
    let program = Program::start("websocket = { stall_timeout = \"300ms\" }").await;
    let direct = Connection::builder().uri(&broker().amqp).open_tokio().await.unwrap();
    let channel = direct.channel().await.unwrap();
    let name = format!("unread-{}", std::process::id());
    let queue = channel.queue(&name).expires(std::time::Duration::from_secs(300)).declare().await.unwrap();
    for _ in 0..24 {
        queue.publish(vec![7_u8; 1 << 20]).confirm().await.unwrap();
    }
    assert_no_growth(&program, 12, async || {
        let mut page = Page::log_in(&program.url(), "guest", "guest").await;
        page.open_channel(1).await;
        // No message is acknowledged, so the next round gets all of them again.
        page.method(1, &basic::Consume { queue: &name, ..Default::default() }).await;
        program.is_empty().await;
        drop(page);
    })
    .await;
    let stalled = get(program.address, "/metrics", "").await.1;
    let line = "hopmq_gateway_connections_ended_total{reason=\"stalled\"} 15\n";
    assert!(stalled.contains(line), "{stalled}");
    queue.delete().await.unwrap();
    direct.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_lost_in_the_middle_of_a_frame_leaves_no_memory_behind() {
    let link = Link::start().await;
    let program = Program::start_at("", &link.host()).await;
    assert_no_growth(&program, ROUNDS, async || {
        let mut page = Page::log_in(&program.url(), "guest", "guest").await;
        page.open_channel(1).await;
        link.cut(b"\x03\0\x01\0\0\x10\0only the beginning of a body");
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == 320 && text.contains("the connection to RabbitMQ was lost"), "{code} {text}");
        assert_eq!(page.closed().await.0, 1011);
        link.restore();
    })
    .await;
}
