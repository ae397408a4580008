//! What stays behind of clients that do wrong, and of a RabbitMQ that dies: nothing. Each gets its code and its reason,
//! again and again, and then the memory of the program is where it was. It is the program itself, for its memory is
//! counted by the system.

use std::process::Stdio;

use futures_util::SinkExt;
use futures_util::future::join_all;
use hopmq::Connection;
use hopmq_proto::method::{Encode, basic, connection};
use hopmq_proto::{PROTOCOL_HEADER, code};
use hopmq_tests::broker;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;

use crate::common::link::Link;
use crate::common::tokens::{claims, claims_with, now, settings, sign};
use crate::common::{Page, get, soon};

const START: hopmq_proto::method::MethodId = <connection::Start<'_> as Encode>::ID;
/// How often each wrong is done: an idle connection takes some 14 KiB, so had all been kept it would show.
const ROUNDS: usize = 200;
/// By how much memory may grow meanwhile, in bytes.
const SLACK: u64 = 2 << 20;

/// The program, and where it listens.
struct Program {
    child: Child,
    address: std::net::SocketAddr,
    log: tokio::task::JoinHandle<String>,
    settings: std::path::PathBuf,
}

impl Program {
    /// With the RabbitMQ of the tests behind it.
    async fn start(settings: &str) -> Self {
        Self::start_at(settings, &format!("amqp://{}", broker().address())).await
    }

    async fn start_at(settings: &str, host: &str) -> Self {
        let address = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let file = std::env::temp_dir().join(format!("hopmq-gateway-{}-{}.toml", std::process::id(), address.port()));
        std::fs::write(&file, settings).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_hopmq-gateway"))
            .arg("--config")
            .arg(&file)
            .env("HOPMQ_GATEWAY_LISTEN", address.to_string())
            .env("HOPMQ_GATEWAY_UPSTREAM_HOSTS", host)
            .env("HOPMQ_GATEWAY_LIMITS_UPGRADES_PER_MINUTE", "1000000")
            .env("HOPMQ_GATEWAY_WEBSOCKET_MESSAGE_MAX", "128KiB")
            .env("HOPMQ_GATEWAY_DRAIN_SPREAD", "100ms")
            .env("HOPMQ_GATEWAY_LOG_FORMAT", "json")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        // Its first line says that it listens.
        let first = soon(lines.next_line()).await.unwrap().expect("it says something");
        assert!(first.starts_with('{') && first.contains(&address.to_string()), "{first}");
        let log = tokio::spawn(async move {
            let mut log = first;
            while let Ok(Some(line)) = lines.next_line().await {
                log.push('\n');
                log.push_str(&line);
            }
            log
        });
        Self { child, address, log, settings: file }
    }

    fn url(&self) -> String {
        format!("ws://{}/ws/amqp", self.address)
    }

    /// Memory that is in use, in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    async fn is_empty(&self) {
        soon(async {
            while !get(self.address, "/metrics", "").await.1.contains("hopmq_gateway_connections 0\n") {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Has somebody do wrong `rounds` times: then the memory must be where it was, once buffers had grown to what a
    /// quarter of the rounds needs.
    async fn forgets(&self, rounds: usize, wrong: impl AsyncFn()) {
        for _ in 0..rounds.div_ceil(4) {
            wrong().await;
        }
        self.is_empty().await;
        let before = self.memory();
        for _ in 0..rounds {
            wrong().await;
        }
        self.is_empty().await;
        let after = self.memory();
        assert!(after < before + SLACK, "{before} bytes became {after} after {rounds} rounds");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A file that stays in the folder for such files harms nobody.
        let _ = std::fs::remove_file(&self.settings);
    }
}

/// A page that has sent the header and got the first answer.
async fn begun(url: &str) -> Page {
    let mut page = Page::open(url, &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(START).await;
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_page_of_another_origin() {
    let program = Program::start("").await;
    program
        .forgets(ROUNDS, async || {
            let refused = Page::open(&program.url(), &[("origin", "http://evil.example")]).await.err().unwrap();
            assert!(refused.0 == 403 && refused.1.contains("origin"), "{refused:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_text_frames() {
    let program = Program::start("").await;
    program
        .forgets(ROUNDS, async || {
            let mut page = Page::open(&program.url(), &[]).await.unwrap();
            page.socket.send(Message::text("hunter2")).await.unwrap();
            let (code, reason) = page.closed().await;
            assert!(code == 1003 && reason.contains("binary"), "{code} {reason}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_header_split_byte_by_byte() {
    let program = Program::start("").await;
    program
        .forgets(ROUNDS, async || {
            let mut page = Page::open(&program.url(), &[]).await.unwrap();
            // It is no wrong, and works; what breaks off in the middle is left behind by nobody either.
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
async fn of_garbage_before_the_header() {
    let program = Program::start("").await;
    program
        .forgets(ROUNDS, async || {
            let mut page = Page::open(&program.url(), &[]).await.unwrap();
            page.bytes(b"garbage").await;
            let (code, reason) = page.closed().await;
            assert!(code == 1002 && reason.contains("AMQP 0-0-9-1"), "{code} {reason}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_oversized_frame_before_login() {
    let program = Program::start("limits = { login_frame_max = \"8KiB\" }").await;
    program
        .forgets(ROUNDS, async || {
            let mut page = begun(&program.url()).await;
            page.bytes(b"\x01\0\0\xff\xff\xff\xff").await;
            let (code, reason) = page.closed().await;
            assert!(code == 1002 && reason.contains("8192"), "{code} {reason}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_oversized_frame_after_login() {
    let program = Program::start("limits = { frame_max = \"8KiB\" }").await;
    program
        .forgets(ROUNDS, async || {
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
async fn of_who_leaves_in_the_middle_of_a_frame() {
    let program = Program::start("").await;
    program
        .forgets(ROUNDS, async || {
            let mut page = Page::log_in(&program.url(), "guest", "guest").await;
            page.open_channel(1).await;
            page.bytes(&[&b"\x03\0\x01\0\x01\0\0"[..], &vec![7; 60_000]].concat()).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_bad_tokens() {
    let program = Program::start(&settings("publish = []")).await;
    let good = sign(&claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let payload = head.split_once('.').unwrap().1;
    let bad = [
        (sign(&claims_with("exp", now() - 1)), "has expired"),
        (format!("{head}."), "signature"),
        // {"typ":"JWT","alg":"none"}
        (format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{payload}.{signature}"), "not signed"),
        (sign(&claims_with("aud", "somebody-else")), "is not for this service"),
    ];
    program
        .forgets(ROUNDS / bad.len(), async || {
            for (token, why) in &bad {
                let mut page = begun(&program.url()).await;
                page.start_ok("anybody", token).await;
                let (code, text) = page.closed_by_amqp().await;
                assert!(code == code::ACCESS_REFUSED && text.contains(why), "{code} {text} does not say: {why}");
                let (code, reason) = page.closed().await;
                assert!(code == 1008 && reason.contains(why), "{code} {reason}");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_who_says_nothing() {
    // Long enough that nobody who is slow to ask for a WebSocket, on a busy machine, is taken for one who never does.
    let program = Program::start("limits = { login_timeout = \"3s\" }").await;
    program
        .forgets(ROUNDS / 100, async || {
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
async fn of_who_stops_reading() {
    let program = Program::start("websocket = { stall_timeout = \"300ms\" }").await;
    let direct = Connection::builder().uri(&broker().amqp).open_tokio().await.unwrap();
    let channel = direct.channel().await.unwrap();
    let name = format!("unread-{}", std::process::id());
    let queue = channel.queue(&name).expires(std::time::Duration::from_secs(300)).declare().await.unwrap();
    for _ in 0..24 {
        queue.publish(vec![7_u8; 1 << 20]).confirm().await.unwrap();
    }
    program
        .forgets(12, async || {
            let mut page = Page::log_in(&program.url(), "guest", "guest").await;
            page.open_channel(1).await;
            // Nothing is acknowledged, so all of it comes again for the next one.
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
async fn of_a_rabbitmq_that_dies_in_the_middle_of_a_frame() {
    let cut = Link::start().await;
    let program = Program::start_at("", &cut.host()).await;
    program
        .forgets(ROUNDS, async || {
            let mut page = Page::log_in(&program.url(), "guest", "guest").await;
            page.open_channel(1).await;
            cut.cut(b"\x03\0\x01\0\0\x10\0only the beginning of a body");
            let (code, text) = page.closed_by_amqp().await;
            assert!(code == 320 && text.contains("the connection to RabbitMQ was lost"), "{code} {text}");
            assert_eq!(page.closed().await.0, 1011);
            cut.mend();
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_nothing_that_is_secret() {
    let mut program = Program::start("").await;
    let url = format!("{}?ticket=hunter2", program.url());
    let mut page = begun(&url).await;
    page.start_ok("guest", "hunter2").await;
    assert_eq!(page.closed_by_amqp().await.0, code::ACCESS_REFUSED);
    program.is_empty().await;
    // It ends when it is asked to.
    let pid = program.child.id().unwrap().to_string();
    assert!(std::process::Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success());
    assert!(soon(program.child.wait()).await.unwrap().success());
    let log = soon(&mut program.log).await.unwrap();
    assert!(log.contains("draining") && !log.contains("hunter2"), "{log}");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_to_a_file_is_plain_and_says_why_rabbitmq_is_not_there() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hopmq-gateway"))
        .env("HOPMQ_GATEWAY_LISTEN", "127.0.0.1:0")
        .env("HOPMQ_GATEWAY_UPSTREAM_HOSTS", "amqp://127.0.0.1:1")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let warning = loop {
        let line = soon(lines.next_line()).await.unwrap().expect("it warns");
        assert!(!line.contains('\x1b'), "{line:?}");
        if line.contains("WARN") {
            break line;
        }
    };
    let words = ["RabbitMQ can't be reached", "amqp://127.0.0.1:1", "refused"];
    assert!(words.iter().all(|word| warning.contains(word)), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_checks_its_settings() {
    let folder = std::env::temp_dir().join(format!("hopmq-settings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("gateway.toml");
    for (text, well, words) in [
        ("listen = \"127.0.0.1:0\"", true, "can be used"),
        ("colour = 1", false, "colour"),
        ("log.level = \"loud!\"", false, "log.level"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_hopmq-gateway"))
            .args(["--check-config", "--config"])
            .arg(&file)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!((output.status.success(), said.contains(words)), (well, true), "{said}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
