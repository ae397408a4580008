//! Logins that RabbitMQ checks: which ones the gateway refuses, counts and limits, and the address that it hands on.

use std::net::TcpListener;

use hopmq_broker::Broker;
use hopmq_proto::method::{Encode, connection};
use hopmq_proto::{FieldTable, PROTOCOL_HEADER};

use crate::common::{Page, Served};

const START: hopmq_proto::method::MethodId = <connection::Start<'_> as Encode>::ID;
const TUNE: hopmq_proto::method::MethodId = connection::Tune::ID;
/// Settings with which a page can be on another machine.
const TRUSTED: &str = "proxy.trusted = [\"127.0.0.0/8\"]\n";
const REMOTE: &[(&str, &str)] = &[("x-forwarded-for", "203.0.113.9")];
const REFUSED: &str = "hopmq_gateway_connections_ended_total{reason=\"login_refused\"}";

/// Opens a WebSocket, and awaits `connection.start`.
async fn start(served: &Served, headers: &[(&'static str, &str)]) -> Page {
    let mut page = Page::open(&served.url(), headers).await.expect("the gateway admits the page");
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_can_log_in_from_a_page_on_this_machine_only() {
    let served = Served::start(TRUSTED).await;
    let mut page = start(&served, REMOTE).await;
    page.start_ok("guest", "guest").await;
    let (code, text) = page.closed_by_amqp().await;
    assert!(code == 403 && text.contains("user 'guest'") && text.contains("auth.loopback_users"), "{code} {text}");
    assert_eq!(page.closed().await.0, 1008);
    // Other users may.
    let mut page = start(&served, REMOTE).await;
    page.start_ok("hopmq-limited", "limited").await;
    page.expect(TUNE).await;
    drop(page);
    assert_eq!(served.metric(REFUSED).await, 1);

    // A proxy that is not trusted may stand for any page.
    let served = Served::start("").await;
    let mut page = start(&served, REMOTE).await;
    page.start_ok("guest", "guest").await;
    assert_eq!(page.closed_by_amqp().await.0, 403);
    Page::log_in(&served.url(), "guest", "guest").await;

    let served = Served::start(&format!("{TRUSTED}auth.loopback_users = []")).await;
    let mut page = start(&served, REMOTE).await;
    page.start_ok("guest", "guest").await;
    page.expect(TUNE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_hides_its_user_is_refused_on_another_machine() {
    let served = Served::start(TRUSTED).await;
    let capabilities = FieldTable::new().with("authentication_failure_close", true);
    let properties = FieldTable::new().with("capabilities", &capabilities);
    let guest = FieldTable::new().with("LOGIN", "guest").with("PASSWORD", "guest");
    for (mechanism, response, expected) in
        [("ANONYMOUS", &b""[..], "shows no user"), ("AMQPLAIN", guest.as_bytes(), "user 'guest'")]
    {
        let mut page = start(&served, REMOTE).await;
        let client_properties = properties.as_ref_table();
        page.method(0, &connection::StartOk { client_properties, mechanism, response, locale: "en_US" }).await;
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == 403 && text.contains(expected), "{mechanism}: {code} {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_counted_and_limited_by_address() {
    let served = Served::start(&format!("{TRUSTED}limits = {{ refused_logins_per_minute = 3 }}")).await;
    for _ in 0..3 {
        let mut page = start(&served, REMOTE).await;
        page.start_ok("hopmq-limited", "wrong").await;
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == 403 && text.contains("Login was refused"), "{code} {text}");
        let (code, reason) = page.closed().await;
        assert!(code == 1008 && reason.contains("RabbitMQ refused the login: 403"), "{code} {reason}");
    }
    let (status, body) = Page::open(&served.url(), REMOTE).await.err().unwrap();
    assert!(status == 429 && body.contains("too many logins of your address were refused"), "{status} {body}");
    assert_eq!(served.metric(REFUSED).await, 3);
    assert_eq!(served.metric("hopmq_gateway_upgrades_refused_total{reason=\"refused_logins\"}").await, 1);
    // Another address is not affected, and neither is a virtual host that does not exist a normal end.
    let mut page = start(&served, &[("x-forwarded-for", "203.0.113.10")]).await;
    page.start_ok("hopmq-limited", "limited").await;
    page.opening("nowhere").await;
    assert_eq!(page.closed_by_amqp().await.0, 530);
    assert_eq!(page.closed().await.0, 1008);
    assert_eq!(served.metric(REFUSED).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_learns_the_address_of_the_page() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "secret").unwrap();
    broker.set_permissions("alice", "/", hopmq_broker::Permissions::ALL).unwrap();
    let address = broker.listen_proxied("127.0.0.1:0").unwrap();
    let settings = format!("{TRUSTED}auth.loopback_users = []\nupstream.proxy_protocol = true");
    let served = Served::start_at(&settings, &format!("amqp://{address}")).await;
    // The gateway lets guest pass, and the broker refuses it, because it knows the page.
    for (headers, user, password, is_in) in [
        (REMOTE, "guest", "guest", false),
        (&[("x-forwarded-for", "2001:db8::7")], "guest", "guest", false),
        (REMOTE, "alice", "secret", true),
        (&[], "guest", "guest", true),
    ] {
        let mut page = start(&served, headers).await;
        page.start_ok(user, password).await;
        match is_in {
            true => drop(page.expect(TUNE).await),
            false => assert_eq!(page.closed_by_amqp().await.0, 403, "{headers:?}"),
        }
    }
    // The gateway's own check is a connection of the gateway.
    assert_eq!(served.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn the_log_names_refused_logins_and_a_broker_that_is_gone_once() {
    use crate::common::program::Program;

    let broker = Broker::in_memory();
    let address = broker.listen("127.0.0.1:0").unwrap();
    let mut program = Program::start_at("", &format!("amqp://{address}")).await;
    let mut page = Page::open(&program.url(), &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    page.start_ok("waiter", "hunter2").await;
    assert_eq!(page.closed_by_amqp().await.0, 403);
    program.is_empty().await;
    broker.shut_down(std::time::Duration::ZERO).await;
    // Until the system has closed the listener, a page may still reach the broker.
    let taken = loop {
        match TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    drop(taken);
    for _ in 0..5 {
        let mut page = Page::open(&program.url(), &[]).await.unwrap();
        page.bytes(&PROTOCOL_HEADER).await;
        assert_eq!(page.closed().await.0, 1013);
    }
    program.terminate().await;
    let log = (&mut program.log).await.unwrap();
    assert!(!log.contains("hunter2"), "{log}");
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("RabbitMQ refused the login: 403"), 1, "{log}");
    assert!(log.contains("\"user\":\"waiter\"") && log.contains("\"address\":\"127.0.0.1\""), "{log}");
    assert_eq!(lines("no RabbitMQ can be reached"), 1, "{log}");
    assert_eq!(lines(&format!("amqp://{address}")), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn sighup_is_ignored_and_sigterm_with_an_idle_page_ends_at_once() {
    use crate::common::program::Program;

    // With the default `drain.spread` of ten seconds.
    let mut program = Program::start_with("", &[("HOPMQ_GATEWAY_DRAIN_SPREAD", "10s")]).await;
    let url = program.url().replace("ws://", "ws://guest:guest@") + "?vhost=%2f";
    let builder = hopmq::Connection::builder().uri(&url).recovery(hopmq::Recovery::off());
    let connection = builder.open_tokio().await.unwrap();
    program.signal("HUP");
    // It still serves.
    connection.channel().await.unwrap();
    let started = std::time::Instant::now();
    program.terminate().await;
    assert!(started.elapsed() < std::time::Duration::from_secs(1), "{:?}", started.elapsed());
    let log = (&mut program.log).await.unwrap();
    assert!(log.contains("received SIGHUP"), "{log}");
    assert_eq!(connection.closed().await.code(), Some(320));
}
