//! A RabbitMQ node: its name, its ports, and whether it answers.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::files;
use super::release::{self, Release};
use crate::process;
use crate::shell::{self, Result};

/// The timeout of one request to the node.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The node of one folder.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) release: Release,
    /// The folder of its RabbitMQ's scripts. A node must resume with the RabbitMQ that wrote its data.
    pub(crate) scripts: PathBuf,
    pub(crate) ports: Ports,
    /// The id of the node's process; 0 before it starts.
    pub(crate) pid: u32,
}

/// The ports of one node, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    pub(crate) amqps: u16,
    pub(crate) http: u16,
    pub(crate) distribution: u16,
    pub(crate) epmd: u16,
}

impl Ports {
    /// Chooses ports that are free now. They lie below the range of outgoing connections: a test's connection could
    /// take a port of that range before the node listens.
    fn choose() -> Result<Self> {
        let mut next = 20_000 + (files::random() % 10_000) as u16;
        let mut held = Vec::new();
        while held.len() < 5 && next < 32_000 {
            held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, next)).map(|listener| (next, listener)));
            next += 1;
        }
        let ports: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
        let [amqp, amqps, http, distribution, epmd] = ports[..] else {
            return Err("no free ports on 127.0.0.1 between 20000 and 32000".into());
        };
        Ok(Self { amqp, amqps, http, distribution, epmd })
    }
}

impl Node {
    /// A node for `folder` that does not run yet. Each folder has a node name of its own.
    pub(crate) fn new(folder: &Path, release: Release, scripts: &Path) -> Result<Self> {
        Ok(Self {
            folder: folder.to_path_buf(),
            name: name_of(folder),
            release,
            scripts: scripts.to_path_buf(),
            ports: Ports::choose()?,
            pid: 0,
        })
    }

    /// The node that was last started in `folder`, if any.
    pub(crate) fn load(folder: &Path) -> Option<Self> {
        let text = shell::read(&folder.join("node")).ok()?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let port = |name| value(name).and_then(|port| port.parse().ok());
        let ports = Ports {
            amqp: port("amqp")?,
            amqps: port("amqps")?,
            http: port("http")?,
            distribution: port("distribution")?,
            epmd: port("epmd")?,
        };
        Some(Self {
            folder: folder.to_path_buf(),
            name: name_of(folder),
            release: Release::from_str(value("release")?, false).ok()?,
            scripts: value("scripts")?.into(),
            ports,
            pid: value("pid")?.parse().ok()?,
        })
    }

    /// Saves the node for the next [`Node::load`].
    pub(crate) fn save(&self) -> Result {
        let Ports { amqp, amqps, http, distribution, epmd } = self.ports;
        let Self { pid, release, .. } = self;
        let text = format!(
            "release={release}\nscripts={}\npid={pid}\namqp={amqp}\namqps={amqps}\nhttp={http}\n\
             distribution={distribution}\nepmd={epmd}\n",
            self.scripts.display()
        );
        shell::write(&self.folder.join("node"), &text)
    }

    /// The environment of the tests: the addresses and files of the broker.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut variables = environment(&self.ports, &self.folder.join("tls"), &self.folder.join("ctl"));
        variables.push((release::VARIABLE.into(), self.release.to_string()));
        variables
    }

    /// Whether its process runs.
    pub(crate) fn is_running(&self) -> bool {
        process::is_running(self.pid, &server_mark(&self.folder))
    }

    /// Checks that every port answers. The error names the port's protocol and the answer.
    pub(crate) fn check(&self) -> Result {
        // base64 of guest:guest
        let request = "GET /api/overview HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n";
        let answer = ask(self.ports.http, request.as_bytes(), usize::MAX).map_err(|error| format!("HTTP: {error}"))?;
        let answer = String::from_utf8_lossy(&answer);
        if !answer.contains(&format!("\"node\":\"{}\"", self.name)) {
            return Err(format!("HTTP: {}", answer.lines().next().unwrap_or("no answer")).into());
        }
        check_amqp(&self.ports)
    }

    /// The last lines of its log and of its output.
    pub(crate) fn log_tail(&self) -> String {
        let mut tail = String::new();
        for name in ["rabbit.log", "console.log"] {
            let path = self.folder.join("log").join(name);
            let text = shell::read(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            if !lines.is_empty() {
                let last = lines[lines.len().saturating_sub(20)..].join("\n  ");
                tail += &format!("\n{} ends:\n  {last}", path.display());
            }
        }
        tail
    }
}

/// The environment of the tests, for a broker with these ports, certificates and `rabbitmqctl`.
pub(super) fn environment(ports: &Ports, tls: &Path, ctl: &Path) -> Vec<(String, String)> {
    let Ports { amqp, amqps, http, .. } = ports;
    vec![
        ("AMQP_URL".into(), format!("amqp://guest:guest@127.0.0.1:{amqp}/%2f")),
        ("AMQPS_URL".into(), format!("amqps://guest:guest@localhost:{amqps}/%2f")),
        ("RABBITMQ_HTTP".into(), format!("http://127.0.0.1:{http}")),
        ("HOPMQ_TLS_DIR".into(), tls.display().to_string()),
        ("HOPMQ_RABBITMQCTL".into(), ctl.display().to_string()),
        ("HOPMQ_XTASK".into(), std::env::current_exe().unwrap_or_default().display().to_string()),
    ]
}

/// Checks that the AMQP listener begins a session, and that the one for TLS accepts connections.
pub(super) fn check_amqp(ports: &Ports) -> Result {
    let answer = ask(ports.amqp, b"AMQP\x00\x00\x09\x01", 7).map_err(|error| format!("AMQP: {error}"))?;
    if answer.first() != Some(&1) {
        return Err(format!("AMQP: expected a method frame, received {answer:?}").into());
    }
    connect(ports.amqps).map(drop).map_err(|error| format!("AMQPS: {error}").into())
}

/// The mark in the server's command line.
pub(crate) fn server_mark(folder: &Path) -> String {
    format!("-hopmq_node {}", name_of(folder))
}

/// The mark in the command line of the port mapper of `folder`'s node.
pub(crate) fn epmd_mark(folder: &Path) -> String {
    format!("epmd of {}", name_of(folder))
}

fn name_of(folder: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    format!("hopmq-{:08x}@localhost", hasher.finish() as u32)
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends `request` and returns the answer, or its first `limit` bytes.
fn ask(port: u16, request: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut stream = connect(port)?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(limit as u64).read_to_end(&mut answer)?;
    Ok(answer)
}
