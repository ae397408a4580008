//! The handshake of clients and servers, up to the open connection (specification §2.2.4).
//!
//! Owns the order of the steps and the negotiation of limits. The user decides about credentials, challenges and
//! virtual hosts.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::channel::unexpected;
use super::event::Event;
use super::{CLASS_CONNECTION, Connection, State};
use crate::duration::seconds;
use crate::error::{Error, code};
use crate::frame::{MIN_FRAME_MAX, PROTOCOL_HEADER};
use crate::heartbeat::Heartbeat;
use crate::limits::ReceiveLimits;
use crate::method::{Method, connection};
use crate::method_id::MethodId;
use crate::table::FieldTable;
use crate::time::Time;
use crate::violation::Violation;

/// What the connection waits for before it is open. `Expect…` is for the peer to send, `Await…` for the user to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    ExpectStart,
    AwaitStartOk,
    ExpectTune,
    AwaitSecureOk,
    ExpectOpenOk,
    ExpectHeader,
    ExpectStartOk,
    AwaitTune,
    ExpectSecureOk,
    ExpectTuneOk,
    ExpectOpen,
    AwaitOpenOk,
}

/// The step of the handshake that must come next: see [`Connection::handshake_stage`]. Its `Display` names the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeStage {
    /// Client: the server must send `connection.start`.
    Start,
    /// Client: the server must accept the credentials, or send a challenge.
    Login,
    /// Client: the server must open the virtual host.
    OpenOk,
    /// Client: the program must call [`Connection::start_ok`] or [`Connection::secure_ok`].
    Credentials,
    /// Server: the client must send the protocol header.
    ProtocolHeader,
    /// Server: the client must send `connection.start-ok`.
    StartOk,
    /// Server: the client must send `connection.secure-ok`.
    SecureOk,
    /// Server: the client must send `connection.tune-ok`.
    TuneOk,
    /// Server: the client must send `connection.open`.
    Open,
    /// Server: the program must accept or refuse the client.
    Decision,
}

impl fmt::Display for HandshakeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "connection.start",
            Self::Login => "the answer to the credentials",
            Self::OpenOk => "connection.open-ok",
            Self::Credentials => "this program's credentials",
            Self::ProtocolHeader => "the protocol header",
            Self::StartOk => "connection.start-ok",
            Self::SecureOk => "connection.secure-ok",
            Self::TuneOk => "connection.tune-ok",
            Self::Open => "connection.open",
            Self::Decision => "this program's decision",
        })
    }
}

/// The settings of one end of a connection.
#[derive(Clone, Debug)]
pub struct Config {
    /// The highest channel number. 0 means 65,535.
    pub channel_max: u16,
    /// The largest frame in bytes, at least 4,096. With 0 the peer decides, up to 1 MiB.
    pub frame_max: u32,
    /// Server: the smallest frame limit in bytes that a client may choose, at least 4,096.
    pub frame_min: u32,
    /// The heartbeat interval, rounded up to whole seconds, at most [`LONGEST_HEARTBEAT`](crate::LONGEST_HEARTBEAT).
    /// With `None` the peer decides; zero disables heartbeats.
    pub heartbeat: Option<Duration>,
    /// The largest frame in bytes that is accepted before both peers agree on a limit.
    pub first_frame_max: u32,
    /// The largest accepted body of a message in bytes.
    pub message_max: u64,
    /// Client: the virtual host to open.
    pub vhost: String,
    /// Server: its properties and capabilities.
    pub properties: FieldTable,
    /// Server: its SASL mechanisms, separated by spaces.
    pub mechanisms: String,
    /// Server: the header that answers a client of another protocol. A client of another version of AMQP 0 is answered
    /// with [`PROTOCOL_HEADER`](crate::PROTOCOL_HEADER), which is the default.
    pub foreign_header: [u8; 8],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            frame_min: MIN_FRAME_MAX,
            heartbeat: None,
            first_frame_max: 8192,
            message_max: 128 * 1024 * 1024,
            vhost: "/".to_owned(),
            properties: FieldTable::new(),
            mechanisms: "PLAIN".to_owned(),
            foreign_header: PROTOCOL_HEADER,
        }
    }
}

impl Config {
    /// Returns the largest frame in bytes, as proposed to the peer.
    fn frame_limit(&self) -> u32 {
        if self.frame_max == 0 { UNLIMITED_FRAME } else { self.frame_max.max(MIN_FRAME_MAX) }
    }
}

/// The limits that both peers agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The highest channel number.
    pub channel_max: u16,
    /// The largest frame in bytes, including its overhead.
    pub frame_max: u32,
    /// The heartbeat interval; zero if heartbeats are disabled.
    pub heartbeat: Duration,
}

/// The limit for frames if both peers propose no limit: eight times the default of RabbitMQ.
const UNLIMITED_FRAME: u32 = 1024 * 1024;

impl Tuning {
    pub(super) fn before(config: &Config) -> Self {
        Self { channel_max: 0, frame_max: config.first_frame_max.max(MIN_FRAME_MAX), heartbeat: Duration::ZERO }
    }

    pub(super) fn receive_limits(&self, config: &Config) -> ReceiveLimits {
        ReceiveLimits { frame_max: self.frame_max, channel_max: self.channel_max, message_max: config.message_max }
    }

    /// Combines the settings of this end with the proposal of the peer: the smaller limit, where 0 means no limit.
    fn agree(config: &Config, peer: &Proposal) -> Result<Self, Error> {
        if peer.frame_max != 0 && peer.frame_max < MIN_FRAME_MAX {
            let text = format!("the peer proposed frame-max {}; at least {MIN_FRAME_MAX} is required", peer.frame_max);
            return Err(Violation::Negotiation.by_peer(code::SYNTAX_ERROR, text));
        }
        let ours = config.frame_limit();
        let frame_max = smaller(ours, peer.frame_max).unwrap_or(ours);
        let channel_max = smaller(config.channel_max.into(), peer.channel_max.into()).unwrap_or(u16::MAX.into());
        let theirs = interval(peer.heartbeat);
        let heartbeat = match config.heartbeat.map(|ours| interval(seconds(ours))) {
            None => theirs,
            Some(ours) if ours.is_zero() || theirs.is_zero() => ours,
            Some(ours) => ours.min(theirs),
        };
        Ok(Self { channel_max: channel_max as u16, frame_max, heartbeat })
    }

    /// Checks the limits that a client chose: within those that this end proposed.
    fn accepted(config: &Config, client: &Proposal) -> Result<Self, Error> {
        let above = |ours: u32, theirs: u32| ours != 0 && (theirs == 0 || theirs > ours);
        let frame_min = config.frame_min.max(MIN_FRAME_MAX);
        let fault = if above(config.frame_limit(), client.frame_max) {
            Some(("frame-max", client.frame_max, "above the proposed limit".to_owned()))
        } else if above(config.channel_max.into(), client.channel_max.into()) {
            Some(("channel-max", client.channel_max.into(), "above the proposed limit".to_owned()))
        } else if client.frame_max != 0 && client.frame_max < frame_min {
            Some(("frame-max", client.frame_max, format!("below the required {frame_min}")))
        } else {
            None
        };
        if let Some((name, value, why)) = fault {
            let text = format!("the client chose {name} {value}, which is {why}");
            return Err(Violation::Negotiation.by_peer(code::NOT_ALLOWED, text));
        }
        // The client decides the heartbeat interval (RabbitMQ's page "Heartbeats").
        Ok(Self { heartbeat: interval(client.heartbeat), ..Self::agree(config, client)? })
    }
}

/// The limits that a peer proposed or chose.
struct Proposal {
    channel_max: u16,
    frame_max: u32,
    heartbeat: u16,
}

fn interval(seconds: u16) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

fn smaller(a: u32, b: u32) -> Option<u32> {
    [a, b].into_iter().filter(|limit| *limit != 0).min()
}

impl Connection {
    /// Returns the step of the handshake that must come next; `None` once the connection is open.
    pub fn handshake_stage(&self) -> Option<HandshakeStage> {
        let State::Handshake(handshake) = self.state else { return None };
        Some(match handshake {
            Handshake::ExpectStart => HandshakeStage::Start,
            Handshake::ExpectTune => HandshakeStage::Login,
            Handshake::ExpectOpenOk => HandshakeStage::OpenOk,
            Handshake::ExpectHeader => HandshakeStage::ProtocolHeader,
            Handshake::ExpectStartOk => HandshakeStage::StartOk,
            Handshake::ExpectSecureOk => HandshakeStage::SecureOk,
            Handshake::ExpectTuneOk => HandshakeStage::TuneOk,
            Handshake::ExpectOpen => HandshakeStage::Open,
            Handshake::AwaitStartOk | Handshake::AwaitSecureOk => HandshakeStage::Credentials,
            Handshake::AwaitTune | Handshake::AwaitOpenOk => HandshakeStage::Decision,
        })
    }

    pub(super) fn handshake_from_server(
        &mut self,
        now: Time,
        handshake: Handshake,
        id: MethodId,
        payload: Bytes,
    ) -> Result<Option<Event>, Error> {
        let event = match (handshake, Method::decode(&payload)?) {
            (Handshake::ExpectStart, Method::ConnectionStart(start)) => {
                if (start.version_major, start.version_minor) != (0, 9) {
                    let text =
                        format!("the server speaks AMQP {}-{}, not 0-9", start.version_major, start.version_minor);
                    return Err(Violation::WrongProtocol.by_peer(code::NOT_IMPLEMENTED, text));
                }
                self.state = State::Handshake(Handshake::AwaitStartOk);
                Event::Start {
                    server_properties: start.server_properties.into(),
                    mechanisms: String::from_utf8_lossy(start.mechanisms).into_owned(),
                }
            }
            (Handshake::ExpectTune, Method::ConnectionSecure(secure)) => {
                self.state = State::Handshake(Handshake::AwaitSecureOk);
                Event::Secure { challenge: payload.slice_ref(secure.challenge) }
            }
            (Handshake::ExpectTune, Method::ConnectionTune(tune)) => {
                let peer =
                    Proposal { channel_max: tune.channel_max, frame_max: tune.frame_max, heartbeat: tune.heartbeat };
                self.tuning = Tuning::agree(&self.config, &peer)?;
                self.tune_ok()?;
                self.heartbeat = Heartbeat::start(self.tuning.heartbeat, now);
                self.state = State::Handshake(Handshake::ExpectOpenOk);
                return Ok(None);
            }
            (Handshake::ExpectOpenOk, Method::ConnectionOpenOk(_)) => {
                self.state = State::Open;
                self.heartbeat = Heartbeat::start(self.tuning.heartbeat, now);
                Event::Opened
            }
            _ if id.class == CLASS_CONNECTION => return Err(unexpected(id)),
            _ => return Err(self.too_early(id)),
        };
        Ok(Some(event))
    }

    fn tune_ok(&mut self) -> Result<(), Error> {
        let Tuning { channel_max, frame_max, .. } = self.tuning;
        let heartbeat = seconds(self.tuning.heartbeat);
        self.send(0, &connection::TuneOk { channel_max, frame_max, heartbeat })?;
        let vhost = std::mem::take(&mut self.config.vhost);
        let sent = self.send(0, &connection::Open { virtual_host: &vhost });
        self.config.vhost = vhost;
        sent
    }

    /// Client: sends its properties and credentials, after [`Event::Start`].
    ///
    /// # Errors
    /// The caller's fault, if called out of order or an argument cannot be encoded.
    pub fn start_ok(&mut self, properties: &FieldTable, mechanism: &str, response: &[u8]) -> Result<(), Error> {
        self.expect_user(Handshake::AwaitStartOk)?;
        let client_properties = properties.as_ref_table();
        let locale = "en_US";
        self.send(0, &connection::StartOk { client_properties, mechanism, response, locale })?;
        self.state = State::Handshake(Handshake::ExpectTune);
        Ok(())
    }

    /// Client: answers the challenge of [`Event::Secure`].
    ///
    /// # Errors
    /// The caller's fault, if called out of order or the response does not fit into a frame.
    pub fn secure_ok(&mut self, response: &[u8]) -> Result<(), Error> {
        self.expect_user(Handshake::AwaitSecureOk)?;
        self.send(0, &connection::SecureOk { response })?;
        self.state = State::Handshake(Handshake::ExpectTune);
        Ok(())
    }

    pub(super) fn handle_protocol_header(&mut self, header: [u8; 8]) -> Result<Option<Event>, Error> {
        if !self.role.is_server()
            || header != PROTOCOL_HEADER
            || self.state != State::Handshake(Handshake::ExpectHeader)
        {
            // The reply to any other header is a supported one (specification §4.2.2). A client that already asked for
            // the foreign protocol must not be told to use it.
            let foreign = self.config.foreign_header;
            let is_related = header.starts_with(b"AMQP\0") || header == foreign;
            self.output.frames().extend_from_slice(if is_related { &PROTOCOL_HEADER } else { &foreign });
            let text = format!("received \"{}\" instead of the protocol header of AMQP 0-9-1", header.escape_ascii());
            return Err(Violation::WrongProtocol.by_peer(code::FRAME_ERROR, text));
        }
        let properties = std::mem::take(&mut self.config.properties);
        let mechanisms = std::mem::take(&mut self.config.mechanisms);
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties.as_ref_table(),
            mechanisms: mechanisms.as_bytes(),
            locales: b"en_US",
        };
        self.send(0, &start)?;
        self.state = State::Handshake(Handshake::ExpectStartOk);
        Ok(None)
    }

    pub(super) fn handshake_from_client(
        &mut self,
        now: Time,
        handshake: Handshake,
        id: MethodId,
        payload: Bytes,
    ) -> Result<Option<Event>, Error> {
        let event = match (handshake, Method::decode(&payload)?) {
            (Handshake::ExpectStartOk, Method::ConnectionStartOk(start)) => {
                self.state = State::Handshake(Handshake::AwaitTune);
                Event::StartOk {
                    client_properties: start.client_properties.into(),
                    mechanism: start.mechanism.to_owned(),
                    response: payload.slice_ref(start.response),
                }
            }
            (Handshake::ExpectSecureOk, Method::ConnectionSecureOk(secure)) => {
                self.state = State::Handshake(Handshake::AwaitTune);
                Event::SecureOk { response: payload.slice_ref(secure.response) }
            }
            (Handshake::ExpectTuneOk, Method::ConnectionTuneOk(tune)) => {
                let peer =
                    Proposal { channel_max: tune.channel_max, frame_max: tune.frame_max, heartbeat: tune.heartbeat };
                self.tuning = Tuning::accepted(&self.config, &peer)?;
                self.heartbeat = Heartbeat::start(self.tuning.heartbeat, now);
                self.state = State::Handshake(Handshake::ExpectOpen);
                return Ok(None);
            }
            (Handshake::ExpectOpen, Method::ConnectionOpen(open)) => {
                self.state = State::Handshake(Handshake::AwaitOpenOk);
                Event::Open { vhost: open.virtual_host.to_owned() }
            }
            _ if id.class == CLASS_CONNECTION => return Err(unexpected(id)),
            _ => return Err(self.too_early(id)),
        };
        Ok(Some(event))
    }

    /// Server: sends a SASL challenge, after [`Event::StartOk`] or [`Event::SecureOk`].
    ///
    /// # Errors
    /// The caller's fault, if called out of order or the challenge does not fit into a frame.
    pub fn secure(&mut self, challenge: &[u8]) -> Result<(), Error> {
        self.expect_user(Handshake::AwaitTune)?;
        self.send(0, &connection::Secure { challenge })?;
        self.state = State::Handshake(Handshake::ExpectSecureOk);
        Ok(())
    }

    /// Server: accepts the login and proposes limits, after [`Event::StartOk`] or [`Event::SecureOk`].
    ///
    /// # Errors
    /// The caller's fault, if called out of order.
    pub fn tune(&mut self) -> Result<(), Error> {
        self.expect_user(Handshake::AwaitTune)?;
        let channel_max = self.config.channel_max;
        let frame_max = self.config.frame_limit();
        let heartbeat = seconds(self.config.heartbeat.unwrap_or(DEFAULT_HEARTBEAT));
        self.send(0, &connection::Tune { channel_max, frame_max, heartbeat })?;
        self.state = State::Handshake(Handshake::ExpectTuneOk);
        Ok(())
    }

    /// Server: opens the virtual host of [`Event::Open`].
    ///
    /// # Errors
    /// The caller's fault, if called out of order.
    pub fn open_ok(&mut self) -> Result<(), Error> {
        self.expect_user(Handshake::AwaitOpenOk)?;
        self.send(0, &connection::OpenOk {})?;
        self.state = State::Open;
        Ok(())
    }

    fn expect_user(&self, handshake: Handshake) -> Result<(), Error> {
        if self.state == State::Handshake(handshake) {
            return Ok(());
        }
        let role = if self.role.is_server() { "server" } else { "client" };
        let text = format!("{role} handshake step called out of order; wait for the matching event");
        Err(Violation::HandshakeOrder.by_caller(text))
    }
}

/// The default of RabbitMQ.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(ours: (u16, u32, Option<u64>), theirs: (u16, u32, u16)) -> Result<(u16, u32, u64), u16> {
        let config = Config {
            channel_max: ours.0,
            frame_max: ours.1,
            heartbeat: ours.2.map(Duration::from_secs),
            ..Config::default()
        };
        let peer = Proposal { channel_max: theirs.0, frame_max: theirs.1, heartbeat: theirs.2 };
        Tuning::agree(&config, &peer)
            .map(|tuning| (tuning.channel_max, tuning.frame_max, tuning.heartbeat.as_secs()))
            .map_err(|error| error.code())
    }

    #[test]
    fn the_smaller_limit_wins_and_zero_means_no_limit() {
        assert_eq!(agree((2047, 131_072, None), (100, 8192, 60)), Ok((100, 8192, 60)));
        assert_eq!(agree((10, 4096, Some(5)), (2047, 131_072, 60)), Ok((10, 4096, 5)));
        assert_eq!(agree((2047, 131_072, None), (0, 0, 0)), Ok((2047, 131_072, 0)));
        assert_eq!(agree((0, 0, None), (0, 0, 0)), Ok((65535, UNLIMITED_FRAME, 0)));
        assert_eq!(agree((0, 0, Some(0)), (7, 5000, 60)), Ok((7, 5000, 0)));
        assert_eq!(agree((0, 0, Some(30)), (7, 5000, 0)), Ok((7, 5000, 30)));
        assert_eq!(agree((2047, 131_072, None), (2047, 1, 60)), Err(502));
        assert_eq!(agree((2047, 131_072, None), (2047, 4095, 60)), Err(502));
    }
}
