//! Faults: clients that break the protocol, stall or vanish, and a RabbitMQ that fails. The other side gets the
//! reason, and nothing is left behind.

use crate::common::link::Link;
use crate::common::{Page, Served, soon};
use futures_util::StreamExt;
use hopmq::{Connection, Recovery};
use hopmq_proto::method::{Encode, Method, basic, connection};
use hopmq_proto::{PROTOCOL_HEADER, code};
use hopmq_tests::broker;
use tokio_tungstenite::tungstenite::Message;

const START: hopmq_proto::method::MethodId = <connection::Start<'_> as Encode>::ID;

#[tokio::test(flavor = "multi_thread")]
async fn text_messages_are_refused_with_1003() {
    let served = Served::start("").await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    futures_util::SinkExt::send(&mut page.socket, Message::text("AMQP")).await.unwrap();
    let (code, reason) = page.closed().await;
    assert!(code == 1003 && reason.contains("binary"), "{code} {reason}");
    served.is_empty().await;
    // When the AMQP connection is open, it is closed too.
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    futures_util::SinkExt::send(&mut page.socket, Message::text("AMQP")).await.unwrap();
    assert_eq!(page.closed_by_amqp().await.0, code::FRAME_ERROR);
    assert_eq!(page.closed().await.0, 1003);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_before_the_protocol_header_is_refused_with_1002() {
    let served = Served::start("").await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"AMQP\x00\x01\x00\x00", b"AMQP\x00\x00\x09\x00", b"\0"] {
        let mut page = Page::open(&served.url(), &[]).await.unwrap();
        page.bytes(garbage).await;
        let (code, reason) = page.closed().await;
        assert!(code == 1002 && reason.contains("AMQP 0-0-9-1"), "{garbage:?}: {code} {reason}");
    }
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_limited_before_the_login() {
    let served = Served::start("limits = { login_frame_max = \"8KiB\" }").await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    let response = vec![b'x'; 9000];
    page.method(0, &connection::StartOk { mechanism: "PLAIN", response: &response, ..Default::default() }).await;
    let (code, reason) = page.closed().await;
    assert!(code == 1002 && reason.contains("8192"), "{code} {reason}");
    // The head of a frame suffices to refuse the frame.
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    page.bytes(b"\x01\0\0\xff\xff\xff\xff").await;
    assert_eq!(page.closed().await.0, 1002);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_before_the_login_are_limited() {
    let served = Served::start("limits = { login_frame_max = \"8KiB\" }").await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    // One message, which the WebSocket library would otherwise buffer whole.
    page.bytes(&vec![b'A'; 64 << 10]).await;
    let (code, reason) = page.closed().await;
    assert!(code == 1009 && reason.contains("login"), "{code} {reason}");
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_and_messages_are_limited_after_the_login() {
    let served = Served::start("limits = { frame_max = \"8KiB\" }\nwebsocket = { message_max = \"256KiB\" }").await;
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    page.open_channel(1).await;
    page.bytes(b"\x03\0\x01\0\0\x20\x00").await;
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 501 && text.contains("8192"), "{code} {text}");
    assert_eq!(page.closed().await.0, 1002);
    // WebSocket messages are limited too.
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    page.bytes(&vec![0; 300 << 10]).await;
    let close = page.expect(<connection::Close<'_> as Encode>::ID).await;
    assert!(matches!(Method::decode(&close), Ok(Method::ConnectionClose(close)) if close.reply_code == 501));
    assert_eq!(page.closed().await.0, 1009);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_numbers_are_limited() {
    let served = Served::start("limits = { channels = 3 }").await;
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    page.open_channel(3).await;
    page.method(4, &hopmq_proto::method::channel::Open {}).await;
    assert_eq!(page.closed_by_amqp().await.0, code::CHANNEL_ERROR);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_log_in_is_disconnected() {
    let served = Served::start("limits = { login_timeout = \"3s\" }").await;
    let mut silent = Page::open(&served.url(), &[]).await.unwrap();
    let mut slow = Page::open(&served.url(), &[]).await.unwrap();
    slow.bytes(&PROTOCOL_HEADER).await;
    slow.expect(START).await;
    for page in [&mut silent, &mut slow] {
        let (code, reason) = page.closed().await;
        assert!(code == 1008 && reason.contains("3s"), "{code} {reason}");
    }
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_and_not_buffered_for() {
    let served = Served::start("websocket = { stall_timeout = \"500ms\" }").await;
    let direct = Connection::builder().uri(&broker().amqp).open_tokio().await.unwrap();
    let channel = direct.channel().await.unwrap();
    let queue = channel.queue("").auto_delete().declare().await.unwrap();
    for _ in 0..40 {
        queue.publish(vec![7_u8; 1 << 20]).confirm().await.unwrap();
    }
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    page.open_channel(1).await;
    page.method(1, &basic::Consume { queue: queue.name(), no_ack: true, ..Default::default() }).await;
    served.is_empty().await;
    assert_eq!(served.metric("hopmq_gateway_connections_ended_total{reason=\"stalled\"}").await, 1);
    // Backpressure reached RabbitMQ: only a part of the 40 MiB was read from it.
    assert!(served.metric("hopmq_gateway_sent_bytes_total").await < 20 << 20);
    drop(page);
    direct.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_answer_pings_is_disconnected() {
    let served = Served::start("websocket = { ping_interval = \"300ms\", ping_timeout = \"3s\" }").await;
    let unread = Page::log_in(&served.url(), "guest", "guest").await;
    let mut alive = Page::log_in(&served.url(), "guest", "guest").await;
    // The client answers pings only while it is read.
    soon(async {
        let mut pings = 0;
        while pings < 14 || served.gateway.connections() > 1 {
            let message = alive.socket.next().await.expect("the WebSocket is open").expect("the WebSocket works");
            pings += usize::from(matches!(message, Message::Ping(_)));
        }
    })
    .await;
    assert_eq!(served.metric("hopmq_gateway_connections_ended_total{reason=\"silent\"}").await, 1);
    assert_eq!(served.gateway.connections(), 1);
    drop((unread, alive));
    served.is_empty().await;
}

/// Awaits a ping. The client answers it with the next read.
async fn pinged(page: &mut Page) {
    let message = soon(page.socket.next()).await.expect("the WebSocket is open").expect("the WebSocket works");
    assert!(matches!(message, Message::Ping(_)), "{message:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_to_a_ping_after_a_quick_one_is_accepted() {
    let served = Served::start("websocket = { ping_interval = \"300ms\", ping_timeout = \"5s\" }").await;
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    let mut clock = Page::log_in(&served.url(), "guest", "guest").await;
    for slowly in [false, true, false, true] {
        pinged(&mut page).await;
        if slowly {
            // Delays the answer by about two seconds: seven pings of another page.
            for _ in 0..7 {
                pinged(&mut clock).await;
            }
        }
    }
    drop(clock);
    served.is_empty_after(page).await;
    assert_eq!(served.metric("hopmq_gateway_connections_ended_total{reason=\"silent\"}").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_vanishes_leaves_nothing_behind() {
    let served = Served::start("").await;
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    page.open_channel(1).await;
    // The browser vanishes in the middle of a frame.
    page.bytes(b"\x01\0\x01\0\0").await;
    drop(page);
    served.is_empty().await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    soon(page.socket.close(None)).await.unwrap();
    while let Some(Ok(_)) = soon(page.socket.next()).await {}
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_rabbitmq_closes_the_connection_with_320() {
    for last_bytes in [&b""[..], b"\x03\0\x01\0\0\x10\0only the beginning of a body", b"\x01\0"] {
        let link = Link::start().await;
        let served = Served::start_at("", &link.host()).await;
        let mut page = Page::log_in(&served.url(), "guest", "guest").await;
        page.open_channel(1).await;
        link.cut(last_bytes);
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == 320 && text.contains("the connection to RabbitMQ was lost"), "{code} {text}");
        assert_eq!(page.closed().await.0, 1011);
        served.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hopmq_client_reports_a_lost_rabbitmq() {
    let link = Link::start().await;
    let served = Served::start_at("", &link.host()).await;
    let builder = Connection::builder().uri(&served.amqp("guest", "guest")).recovery(Recovery::off());
    let connection = builder.open_tokio().await.unwrap();
    let channel = connection.channel().await.unwrap();
    link.cut(b"\x03\0\x01\0");
    let error = soon(async {
        loop {
            if let Err(error) = channel.queue("").exclusive().declare().await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.code(), Some(code::CONNECTION_FORCED), "{error}");
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_bytes_from_rabbitmq_are_not_passed_on() {
    let link = Link::start().await;
    let served = Served::start_at("", &link.host()).await;
    let mut page = Page::log_in(&served.url(), "guest", "guest").await;
    link.cut(b"HTTP/1.1 502 Bad Gateway");
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 320 && text.contains("RabbitMQ broke the protocol"), "{code} {text}");
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_rabbitmq_closes_with_1013_and_fails_readyz() {
    let unused = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let served = Served::start_at("", &format!("amqp://{unused}")).await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    let (code, reason) = page.closed().await;
    assert!(code == 1013 && reason.contains("the gateway can reach no broker (1013); try again"), "{code} {reason}");
    assert_eq!(served.get("/readyz").await.0, 503);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_is_used_when_one_is_unreachable() {
    let unused = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let served = Served::start_at("", &format!("amqp://{unused},amqp://{}", broker().address())).await;
    for _ in 0..5 {
        Page::log_in(&served.url(), "guest", "guest").await;
    }
    assert_eq!(served.get("/readyz").await.0, 200);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_spread_over_the_hosts() {
    let hosts = [Link::start().await, Link::start().await];
    let served = Served::start_at("", &format!("{},{}", hosts[0].host(), hosts[1].host())).await;
    let mut pages = Vec::new();
    for _ in 0..6 {
        pages.push(Page::log_in(&served.url(), "guest", "guest").await);
    }
    for host in &hosts {
        let name = format!("hopmq_gateway_upstream_connections{{host=\"{}\"}}", host.host());
        assert_eq!(served.metric(&name).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_reached_over_tls_if_its_certificate_is_trusted() {
    let ca = std::path::Path::new(&broker().tls).join("ca.pem");
    let port = broker().tls_address().rsplit(':').next().unwrap().to_owned();
    let settings = format!("upstream = {{ ca_file = {ca:?} }}");
    let served = Served::start_at(&settings, &format!("amqps://localhost:{port}")).await;
    let connection = soon(Connection::builder().uri(&served.amqp("guest", "guest")).open_tokio()).await.unwrap();
    soon(connection.close()).await.unwrap();
    // Without ca_file, the certificate is not trusted.
    let served = Served::start_at("", &format!("amqps://localhost:{port}")).await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    assert_eq!(page.closed().await.0, 1013);
}
