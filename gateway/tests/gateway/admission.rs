//! Admission: which clients are refused, with which reason, and the HTTP paths.

use crate::common::{Page, Scratch, Served, get, soon};
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
async fn only_listed_origins_are_admitted_if_one_is_required() {
    let served = Served::start("origin = { allow = [\"https://app.example\"], require = true }").await;
    Page::open(&served.url(), &[("origin", "https://app.example")]).await.unwrap();
    let own = format!("http://{}", served.address);
    assert_eq!(Page::open(&served.url(), &[("origin", &own)]).await.err().unwrap().0, 403);
    assert_eq!(Page::open(&served.url(), &[]).await.err().unwrap().0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subprotocol_is_optional_and_echoed_or_refused() {
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
async fn every_path_accepts_websockets() {
    let served = Served::start("").await;
    for path in ["/", "/ws/amqp", "/metrics", "/some/where?else"] {
        let mut page = Page::open(&format!("ws://{}{path}", served.address), &[]).await.unwrap();
        page.bytes(&PROTOCOL_HEADER).await;
        page.expect(START).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_per_address_are_limited() {
    let served = Served::start("limits = { connections_per_address = 2 }").await;
    let first = Page::open(&served.url(), &[]).await.unwrap();
    let _second = Page::open(&served.url(), &[]).await.unwrap();
    // The header of an untrusted peer does not change its address.
    let refused = Page::open(&served.url(), &[("x-forwarded-for", "192.0.2.1")]).await.err().unwrap();
    assert_eq!(refused.0, 429, "{}", refused.1);
    drop(first);
    while served.gateway.connections() > 1 {
        tokio::task::yield_now().await;
    }
    Page::open(&served.url(), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_names_the_address_that_is_limited() {
    let served =
        Served::start("limits = { connections_per_address = 1 }\nproxy = { trusted = [\"127.0.0.0/8\"] }").await;
    let mut pages = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2"] {
        pages.push(Page::open(&served.url(), &[("x-forwarded-for", address)]).await.unwrap());
        assert_eq!(Page::open(&served.url(), &[("x-forwarded-for", address)]).await.err().unwrap().0, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_connects_too_often_gets_a_retry_time() {
    let served = Served::start("limits = { upgrades_per_minute = 3 }").await;
    for _ in 0..3 {
        Page::open(&served.url(), &[]).await.unwrap();
    }
    let refused = Page::open(&served.url(), &[]).await.err().unwrap();
    assert!(refused.0 == 429 && refused.1.contains("too often; try again in"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_per_user_are_limited() {
    let served = Served::start("limits = { connections_per_user = 1 }").await;
    let first = Page::log_in(&served.url(), "guest", "guest").await;
    // The gateway knows the user only after RabbitMQ has accepted the login.
    let mut second = Page::log_in(&served.url(), "guest", "guest").await;
    let (code, text) = second.closed_by_amqp().await;
    assert!(code == 530 && text.contains("guest has too many connections"), "{code} {text}");
    assert_eq!(second.closed().await.0, 1008);
    drop(first);
    served.is_empty().await;
    Page::log_in(&served.url(), "guest", "guest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_refuses_a_wrong_password() {
    let served = Served::start("").await;
    let mut page = Page::open(&served.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    page.start_ok("guest", "hunter2").await;
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 403 && text.contains("ACCESS_REFUSED"), "{code} {text}");
    assert_eq!(page.closed().await.0, 1008);
    // Without authentication_failure_close, RabbitMQ gives no reason, so the gateway does.
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
async fn http_requests_are_answered() {
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
async fn static_files_are_served_only_from_the_folder() {
    let scratch = Scratch::new();
    let folder = scratch.path();
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
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_paths_have_a_listener_of_their_own() {
    let admin = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let served = Served::start(&format!("admin = \"{admin}\"")).await;
    Page::open(&served.url(), &[]).await.unwrap();
    assert_eq!(served.get("/metrics").await.0, 404);
    assert_eq!(get(admin, "/metrics", "").await.0, 200);
    assert_eq!(get(admin, "/readyz", "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_is_dropped() {
    use tokio::io::AsyncReadExt;
    let served = Served::start("limits = { login_timeout = \"200ms\" }").await;
    let mut socket = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let mut answer = Vec::new();
    // The server may answer by HTTP before it closes.
    let _ = soon(socket.read_to_end(&mut answer)).await;
}
