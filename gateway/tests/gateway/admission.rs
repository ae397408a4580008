//! Who is not let in, and what they are told.

use crate::common::{Page, Served, get, soon};
use hopmq_proto::PROTOCOL_HEADER;
use hopmq_proto::method::{Encode, connection};

const START: hopmq_proto::method::MethodId = <connection::Start<'_> as Encode>::ID;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_is_refused_before_the_upgrade() {
    let served = Served::start("").await;
    let (status, body) = Page::open(&served.url(), &[("origin", "http://evil.example")]).await.err().unwrap();
    assert_eq!(status, 403);
    assert!(body.contains("http://evil.example") && body.contains("origin.allow"), "{body}");
    let own = format!("http://{}", served.address);
    Page::open(&served.url(), &[("origin", &own)]).await.unwrap();
    Page::open(&served.url(), &[]).await.unwrap();
    assert_eq!(served.metric("hopmq_gateway_upgrades_refused_total{reason=\"origin\"}").await, 1);
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_and_strictness_are_settings() {
    let served = Served::start("origin = { allow = [\"https://app.example\"], require = true }").await;
    Page::open(&served.url(), &[("origin", "https://app.example")]).await.unwrap();
    let own = format!("http://{}", served.address);
    assert_eq!(Page::open(&served.url(), &[("origin", &own)]).await.err().unwrap().0, 403);
    assert_eq!(Page::open(&served.url(), &[]).await.err().unwrap().0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subprotocol_is_echoed_or_refused_and_never_needed() {
    let served = Served::start("").await;
    for offer in ["amqp", "amqp091", "mqtt, amqp"] {
        let mut page = Page::open(&served.url(), &[("sec-websocket-protocol", offer)]).await.unwrap();
        page.bytes(&PROTOCOL_HEADER).await;
        page.expect(START).await;
    }
    let (status, body) = Page::open(&served.url(), &[("sec-websocket-protocol", "mqtt")]).await.err().unwrap();
    assert!(status == 400 && body.contains("amqp"), "{status} {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_takes_websockets() {
    let served = Served::start("").await;
    for path in ["/", "/ws/amqp", "/metrics", "/some/where?else"] {
        let mut page = Page::open(&format!("ws://{}{path}", served.address), &[]).await.unwrap();
        page.bytes(&PROTOCOL_HEADER).await;
        page.expect(START).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_share_and_no_more() {
    let served = Served::start("limits = { connections_per_address = 2 }").await;
    let first = Page::open(&served.url(), &[]).await.unwrap();
    let _second = Page::open(&served.url(), &[]).await.unwrap();
    // Nobody believes what a header says.
    let refused = Page::open(&served.url(), &[("x-forwarded-for", "192.0.2.1")]).await.err().unwrap();
    assert_eq!(refused.0, 429, "{}", refused.1);
    drop(first);
    while served.gateway.connections() > 1 {
        tokio::task::yield_now().await;
    }
    Page::open(&served.url(), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_whose_share_it_is() {
    let served =
        Served::start("limits = { connections_per_address = 1 }\nproxy = { trusted = [\"127.0.0.0/8\"] }").await;
    let mut pages = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2"] {
        pages.push(Page::open(&served.url(), &[("x-forwarded-for", address)]).await.unwrap());
        assert_eq!(Page::open(&served.url(), &[("x-forwarded-for", address)]).await.err().unwrap().0, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_too_often_is_told_when_to_come_again() {
    let served = Served::start("limits = { upgrades_per_minute = 3 }").await;
    for _ in 0..3 {
        Page::open(&served.url(), &[]).await.unwrap();
    }
    let refused = Page::open(&served.url(), &[]).await.err().unwrap();
    assert!(refused.0 == 429 && refused.1.contains("too often"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_their_share_and_no_more() {
    let served = Served::start("limits = { connections_per_user = 1 }").await;
    let first = Page::log_in(&served.url(), "guest", "guest").await;
    // RabbitMQ lets both in, so the gateway knows then whose share it is.
    let mut second = Page::log_in(&served.url(), "guest", "guest").await;
    let (code, text) = second.closed_by_amqp().await;
    assert!(code == 530 && text.contains("guest has as many connections"), "{code} {text}");
    assert_eq!(second.closed().await.0, 1008);
    drop(first);
    served.is_empty().await;
    Page::log_in(&served.url(), "guest", "guest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_rabbitmqs_to_refuse() {
    let served = Served::start("").await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    page.start_ok("guest", "hunter2").await;
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 403 && text.contains("ACCESS_REFUSED"), "{code} {text}");
    assert_eq!(page.closed().await.0, 1000);
    // To those who do not understand that, RabbitMQ says nothing; the gateway does.
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    let start = connection::StartOk { mechanism: "PLAIN", response: b"\0guest\0hunter2", ..Default::default() };
    page.method(0, &start).await;
    let (code, text) = page.closed().await;
    assert!(code == 1008 && text.contains("refused the login"), "{code} {text}");
    served.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered() {
    let served = Served::start("").await;
    let (status, body) = served.get("/").await;
    assert!(status == 200 && body.contains("AMQP 0-9-1 over WebSocket"), "{status} {body}");
    assert_eq!(served.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(served.get("/readyz").await.0, 200);
    assert_eq!(served.get("/nowhere").await.0, 404);
    let (status, body) = served.get("/metrics").await;
    assert!(status == 200 && body.contains("hopmq_gateway_upstream_up{host="), "{status} {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_served_from_a_folder_and_from_nowhere_else() {
    let folder = std::env::temp_dir().join(format!("hopmq-gateway-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("page")).unwrap();
    std::fs::write(folder.join("page/index.html"), "hello").unwrap();
    let served = Served::start(&format!("static = {:?}", folder.join("page"))).await;
    std::fs::write(folder.join("secret"), "hunter2").unwrap();
    assert_eq!(served.get("/").await, (200, "hello".to_owned()));
    assert_eq!(served.get("/readyz").await.0, 200);
    for path in ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "//etc/passwd"] {
        let (status, body) = served.get(path).await;
        assert!(status >= 400 && !body.contains("hunter2"), "{path}: {status}");
    }
    Page::open(&served.url(), &[]).await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_a_door_of_their_own() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let served = Served::start(&format!("admin = \"{free}\"")).await;
    Page::open(&served.url(), &[]).await.unwrap();
    assert_eq!(served.get("/metrics").await.0, 404);
    assert_eq!(get(free, "/metrics", "").await.0, 200);
    assert_eq!(get(free, "/readyz", "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_at_all_is_dropped() {
    use tokio::io::AsyncReadExt;
    let served = Served::start("limits = { login_timeout = \"200ms\" }").await;
    let mut socket = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let mut answer = Vec::new();
    // An answer of HTTP or none, and the end.
    let _ = soon(socket.read_to_end(&mut answer)).await;
}
