//! What stays behind of clients that do wrong: nothing. The program itself, for its memory is counted by the system.

use std::process::Stdio;

use hopmq_proto::PROTOCOL_HEADER;
use hopmq_proto::method::{Encode, connection};
use hopmq_tests::broker;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Page, get, soon};

/// The program, and where it listens.
struct Program {
    child: Child,
    address: std::net::SocketAddr,
    log: tokio::task::JoinHandle<String>,
}

impl Program {
    async fn start() -> Self {
        let address = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_hopmq-gateway"))
            .env("HOPMQ_GATEWAY_LISTEN", address.to_string())
            .env("HOPMQ_GATEWAY_UPSTREAM_HOSTS", format!("amqp://{}", broker().address()))
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
        Self { child, address, log }
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
}

/// Each wrong in turn.
async fn misbehave(url: &str, round: usize) {
    let start = <connection::Start<'_> as Encode>::ID;
    match round % 6 {
        0 => {
            let mut page = Page::open(url, &[]).await.unwrap();
            page.bytes(b"garbage").await;
            page.closed().await;
        }
        1 => {
            let mut page = Page::open(url, &[]).await.unwrap();
            page.bytes(&PROTOCOL_HEADER).await;
            page.expect(start).await;
            page.bytes(b"\x01\0\0\xff\xff\xff\xff").await;
            page.closed().await;
        }
        2 => {
            let mut page = Page::open(url, &[]).await.unwrap();
            futures_util::SinkExt::send(&mut page.socket, Message::text("hunter2")).await.unwrap();
            page.closed().await;
        }
        3 => {
            let mut page = Page::log_in(url, "guest", "guest").await;
            page.open_channel(1).await;
            // Most of a large frame, and gone.
            page.bytes(&[&b"\x03\0\x01\0\x01\0\0"[..], &vec![7; 60_000]].concat()).await;
        }
        4 => {
            let mut page = Page::open(url, &[]).await.unwrap();
            page.bytes(&PROTOCOL_HEADER).await;
            page.expect(start).await;
            page.start_ok("guest", "hunter2").await;
            page.closed_by_amqp().await;
        }
        _ => assert_eq!(Page::open(url, &[("origin", "http://evil.example")]).await.err().unwrap().0, 403),
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_clients_that_do_wrong() {
    let mut program = Program::start().await;
    let url = format!("ws://{}/ws/amqp?ticket=hunter2", program.address);
    for round in 0..120 {
        misbehave(&url, round).await;
    }
    program.is_empty().await;
    let before = program.memory();
    for round in 0..600 {
        misbehave(&url, round).await;
    }
    program.is_empty().await;
    let after = program.memory();
    // One kept session in ten would show, with the 60 KB that a hundred of them sent.
    assert!(after < before + (2 << 20), "{before} bytes became {after}");
    // It ends when it is asked to, and its log says nothing that is secret.
    let pid = program.child.id().unwrap().to_string();
    assert!(std::process::Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success());
    assert!(soon(program.child.wait()).await.unwrap().success());
    let log = soon(program.log).await.unwrap();
    assert!(log.contains("draining") && !log.contains("hunter2"), "{log}");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
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
