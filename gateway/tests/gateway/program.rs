//! The gateway as a program: its log, its exit, and its settings.

use std::process::Stdio;

use hopmq_proto::PROTOCOL_HEADER;
use hopmq_proto::code;
use hopmq_proto::method::{Encode, connection};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::common::program::Program;
use crate::common::{Page, Scratch, soon};

#[tokio::test(flavor = "multi_thread")]
async fn the_log_contains_no_secrets_and_sigterm_ends_the_program() {
    let mut program = Program::start("").await;
    let url = format!("{}?ticket=hunter2", program.url());
    let mut page = Page::open(&url, &[]).await.unwrap();
    page.bytes(&PROTOCOL_HEADER).await;
    page.expect(<connection::Start<'_> as Encode>::ID).await;
    page.start_ok("guest", "hunter2").await;
    assert_eq!(page.closed_by_amqp().await.0, code::ACCESS_REFUSED);
    program.is_empty().await;
    program.terminate().await;
    let log = soon(&mut program.log).await.unwrap();
    assert!(log.contains("draining") && !log.contains("hunter2"), "{log}");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_log_has_no_colours_and_says_why_rabbitmq_is_not_reachable() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hopmq-gateway"))
        .env("HOPMQ_GATEWAY_LISTEN", "127.0.0.1:0")
        .env("HOPMQ_GATEWAY_UPSTREAM_HOSTS", "amqp://127.0.0.1:1")
        // So few that there are files for them.
        .env("HOPMQ_GATEWAY_LIMITS_CONNECTIONS", "10")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
    let warning = loop {
        let line = soon(lines.next_line()).await.unwrap().expect("the program logs a warning");
        assert!(!line.contains('\x1b'), "{line:?}");
        if line.contains("WARN") {
            break line;
        }
    };
    let expected = ["RabbitMQ is not reachable", "amqp://127.0.0.1:1", "refused"];
    assert!(expected.iter().all(|part| warning.contains(part)), "{warning}");
}

/// Runs the program to its end with these arguments, and returns whether it succeeded and what it printed.
async fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hopmq-gateway")).args(arguments).output().await.unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_names_the_file_the_line_the_setting_and_the_reason() {
    let folder = Scratch::new();
    let file = folder.path().join("gateway.toml");
    for (text, is_valid, expected) in [
        ("listen = \"127.0.0.1:0\"", true, "can be used"),
        ("colour = 1", false, "gateway.toml, line 1: unknown field `colour`"),
        ("[limits]\nchannels = \"many\"", false, "gateway.toml, line 2: limits.channels: invalid type"),
        ("log.level = \"loud!\"", false, "log.level: `loud!` is not a level"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (succeeded, printed) = run(&["--check-config", "--config", file.to_str().unwrap()]).await;
        assert_eq!(succeeded, is_valid, "{printed}");
        assert!(printed.contains(expected), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_names_the_option_and_the_reason() {
    let folder = Scratch::new();
    let file = folder.path().join("gateway.toml");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("listen = \"{address}\"");
    let admin = format!("listen = \"127.0.0.1:0\"\nadmin = \"{address}\"");
    for (text, expected) in [(listen, "listen: cannot listen on "), (admin, "admin: cannot listen on ")] {
        std::fs::write(&file, text).unwrap();
        let (succeeded, printed) = soon(run(&["--config", file.to_str().unwrap()])).await;
        assert!(!succeeded && printed.contains(&format!("{expected}{address}: ")), "{printed}");
    }
    for (arguments, expected) in [
        (&["--config", "/nowhere/gateway.toml"][..], "config: cannot read /nowhere/gateway.toml: "),
        (&["--config"], "--config needs a file"),
        (&["--loud"], "unknown option `--loud`; see --help"),
    ] {
        let (succeeded, printed) = run(arguments).await;
        assert!(!succeeded && printed.contains(expected), "{printed}");
    }
}
