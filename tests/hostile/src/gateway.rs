//! The gateway under attack, and the tokens of its clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::neighbour::QUEUE;
use crate::programs::{Program, Scratch, resident};
use crate::{Door, Result, Target};

const SECRET: &str = "a secret of at least 32 bytes, for tests";
/// Where attackers connect from. The neighbour comes from 127.0.0.1.
pub(crate) const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// How many messages a second an attacker may publish.
pub(crate) const MESSAGES_PER_SECOND: u64 = 100;

/// The program `hopmq-gateway` in front of a target.
#[derive(Debug)]
pub struct Gateway {
    program: Program,
    address: SocketAddr,
    _settings: Scratch,
}

impl Gateway {
    /// Starts the program. Attackers may do little, but nothing limits how often they connect.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(target: &Target) -> Result<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let folder = Scratch::new()?;
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, settings(address, target.door().address))?;
        let mut program = Program::start("hopmq-gateway", |command| {
            command.arg("--config").arg(&file).stderr(Stdio::piped());
        })?;
        program.line_with(&address.to_string())?;
        Ok(Self { program, address, _settings: folder })
    }

    /// Returns where the neighbour connects.
    ///
    /// # Errors
    /// If the token cannot be signed.
    pub fn neighbour(&self) -> Result<Door> {
        self.door("neighbour", None)
    }

    /// Returns where attackers connect, from an address of their own.
    ///
    /// # Errors
    /// If the token cannot be signed.
    pub fn attacker(&self) -> Result<Door> {
        self.door("attacker", Some(ATTACKER))
    }

    fn door(&self, role: &str, from: Option<IpAddr>) -> Result<Door> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "sub": role, "role": role, "iss": "https://issuer.example", "aud": "chat", "exp": now + 24 * 3600
        });
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?;
        Ok(Door { address: self.address, from, websocket: true, user: role.into(), password: token })
    }

    /// Returns the memory in MiB.
    pub fn memory(&self) -> Option<u64> {
        resident(self.program.id(), "VmRSS")
    }

    /// Returns the most memory since the start in MiB.
    pub fn peak(&self) -> Option<u64> {
        resident(self.program.id(), "VmHWM")
    }
}

fn settings(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        r##"
        listen = "{listen}"
        log.level = "info"
        upstream.hosts = ["amqp://{upstream}"]
        limits = {{ upgrades_per_minute = 1000000, refused_logins_per_minute = 0 }}
        [auth.jwt]
        secret = "{SECRET}"
        issuer = "https://issuer.example"
        audience = "chat"
        [[auth.policy]]
        when = {{ role = "neighbour" }}
        username = "guest"
        password = "guest"
        publish = [{{ exchange = "", routing_key = "{QUEUE}" }}]
        consume = ["{QUEUE}"]
        queues = ["{QUEUE}"]
        [[auth.policy]]
        when = {{ role = "attacker" }}
        username = "guest"
        password = "guest"
        publish = [{{ exchange = "chat", routing_key = "room.#" }}]
        bind = [{{ exchange = "chat", routing_key = "room.#" }}]
        temporary_queues = true
        messages_per_second = {MESSAGES_PER_SECOND}
        "##
    )
}
