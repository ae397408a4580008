//! The gateway as a program of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use hopmq_tests::broker;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{Scratch, get, soon};

/// A running program. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    /// Completes with the whole log when the program ends.
    pub(crate) log: JoinHandle<String>,
    _settings: Scratch,
}

impl Program {
    /// Starts the program with these settings (TOML) for the RabbitMQ of the tests.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_at(settings, &format!("amqp://{}", broker().address())).await
    }

    /// Starts the program with these settings (TOML) for another host.
    pub(crate) async fn start_at(settings: &str, host: &str) -> Self {
        Self::start_with_host(settings, host, &[]).await
    }

    /// Starts the program with these settings (TOML) and variables for the RabbitMQ of the tests.
    pub(crate) async fn start_with(settings: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_with_host(settings, &format!("amqp://{}", broker().address()), variables).await
    }

    async fn start_with_host(settings: &str, host: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_command(Command::new(env!("CARGO_BIN_EXE_hopmq-gateway")), settings, host, variables).await
    }

    /// Starts the program with these settings (TOML) for the RabbitMQ of the tests. It may open that many files.
    pub(crate) async fn start_with_files(settings: &str, files: usize) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_hopmq-gateway")]);
        Self::start_command(command, settings, &format!("amqp://{}", broker().address()), &[]).await
    }

    async fn start_command(mut command: Command, settings: &str, host: &str, variables: &[(&str, &str)]) -> Self {
        let address = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let folder = Scratch::new();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, settings).unwrap();
        let mut child = command
            .arg("--config")
            .arg(&file)
            .env("HOPMQ_GATEWAY_LISTEN", address.to_string())
            .env("HOPMQ_GATEWAY_UPSTREAM_HOSTS", host)
            .env("HOPMQ_GATEWAY_LIMITS_UPGRADES_PER_MINUTE", "1000000")
            .env("HOPMQ_GATEWAY_LIMITS_PENDING_LOGINS_PER_ADDRESS", "1000")
            .env("HOPMQ_GATEWAY_LIMITS_REFUSED_LOGINS_PER_MINUTE", "0")
            .env("HOPMQ_GATEWAY_WEBSOCKET_MESSAGE_MAX", "128KiB")
            .env("HOPMQ_GATEWAY_DRAIN_SPREAD", "100ms")
            .env("HOPMQ_GATEWAY_LOG_FORMAT", "json")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut log = String::new();
        while !log.contains(&address.to_string()) {
            let line = soon(lines.next_line()).await.unwrap().expect("the program logs that it listens");
            assert!(line.starts_with('{'), "{line}");
            log.push_str(&line);
            log.push('\n');
        }
        let log = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.push_str(&line);
                log.push('\n');
            }
            log
        });
        Self { child, address, log, _settings: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws/amqp", self.address)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id().unwrap());
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Sends SIGTERM, and awaits the end, which must be a success.
    pub(crate) async fn terminate(&mut self) {
        self.signal("TERM");
        assert!(soon(self.child.wait()).await.unwrap().success());
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Returns the largest resident memory so far, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Awaits that no WebSocket is open.
    pub(crate) async fn is_empty(&self) {
        soon(async {
            while !get(self.address, "/metrics", "").await.1.contains("hopmq_gateway_connections 0\n") {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
