//! One end of a connection, and a peer that says whatever the test wants it to say.

use std::time::Duration;

use hopmq_proto::method::{Method, channel, connection};
use hopmq_proto::{Config, FieldTable, PROTOCOL_HEADER, Role, Time};

use super::wire::{self, Frame};
use super::{Peer, server_config};

/// An end under test and what it wrote. The other end is the test.
#[derive(Debug)]
pub struct Script {
    pub peer: Peer,
    pub now: Time,
    written: Vec<u8>,
}

impl Script {
    /// A client before the handshake.
    pub fn client() -> Self {
        Self::new(Role::Client, Config::default())
    }

    /// A server before the handshake.
    pub fn server() -> Self {
        Self::new(Role::Server, server_config())
    }

    pub fn new(role: Role, config: Config) -> Self {
        let mut script = Self { peer: Peer::new(role, config), now: Time::ZERO, written: Vec::new() };
        script.collect();
        script
    }

    /// A client that has sent its credentials.
    pub fn client_started() -> Self {
        let mut script = Self::client();
        script.say(&start()).start_ok();
        script
    }

    /// A client whose connection is open.
    pub fn client_open() -> Self {
        Self::client().tuned(2047, 131_072, 0)
    }

    /// A client whose channel 1 is open.
    pub fn client_channel() -> Self {
        let mut script = Self::client_open();
        script.peer.connection.open_channel(1, 1).expect("a free channel");
        script.say(&wire::method(1, &channel::OpenOk {}));
        assert_eq!(script.peer.take(), ["1: reply 1 channel.open-ok"]);
        script.heard();
        script
    }

    /// Goes through a client's handshake with this tuning.
    pub fn tuned(mut self, channel_max: u16, frame_max: u32, heartbeat: u16) -> Self {
        self.say(&start()).start_ok();
        self.say(&wire::method(0, &connection::Tune { channel_max, frame_max, heartbeat }));
        self.say(&wire::method(0, &connection::OpenOk {}));
        assert!(self.peer.connection.is_open(), "{:?}", self.peer.error);
        self.peer.events.clear();
        self.heard();
        self
    }

    /// A server whose client has opened the connection and channel 1.
    pub fn server_channel() -> Self {
        let mut script = Self::server_open();
        script.say(&wire::method(1, &channel::Open {}));
        assert_eq!(script.peer.take(), ["1: opened"]);
        script.heard();
        script
    }

    /// A server whose client has opened the connection.
    pub fn server_open() -> Self {
        let mut script = Self::server_tuning();
        script.say(&wire::method(0, &connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }));
        script.say(&wire::method(0, &connection::Open { virtual_host: "/" }));
        script.peer.connection.open_ok().expect("the moment to open");
        script.peer.events.clear();
        script.heard();
        script
    }

    /// A server that waits for `connection.tune-ok`.
    pub fn server_tuning() -> Self {
        let mut script = Self::server();
        script.say(&PROTOCOL_HEADER).say(&wire::method(0, &start_ok()));
        script.peer.connection.tune().expect("the moment to tune");
        script.peer.events.clear();
        script.heard();
        script
    }

    fn start_ok(&mut self) {
        self.peer.connection.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest").expect("the moment to log in");
        self.collect();
    }

    /// The other end says this.
    pub fn say(&mut self, bytes: &[u8]) -> &mut Self {
        self.peer.feed(self.now, bytes);
        self.collect();
        self
    }

    /// Lets time pass, with every timeout in its moment.
    pub fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut rounds = 0;
        while let Some(moment) = self.peer.connection.poll_timeout().filter(|moment| *moment <= until) {
            rounds += 1;
            assert!(rounds < 10_000, "a timer that spins");
            self.now = self.now.max(moment);
            if let Err(error) = self.peer.connection.handle_timeout(self.now) {
                self.peer.error = Some(error);
            }
            self.collect();
        }
        self.now = until;
    }

    fn collect(&mut self) {
        let bytes = self.peer.drain(self.now);
        self.written.extend(bytes);
    }

    /// What the end under test has written since the last call, in short.
    pub fn heard(&mut self) -> Vec<String> {
        wire::briefs(&self.heard_bytes())
    }

    /// What the end under test has written since the last call.
    pub fn heard_bytes(&mut self) -> Vec<u8> {
        self.collect();
        std::mem::take(&mut self.written)
    }

    /// Puts back what `heard_bytes` took.
    pub fn written_again(&mut self, bytes: Vec<u8>) {
        self.written = bytes;
    }

    /// The code of the `connection.close` that the end under test has written.
    pub fn told_code(&mut self) -> Option<u16> {
        let frames: Vec<Frame> = wire::frames(&self.heard_bytes());
        frames.iter().filter(|frame| frame.kind == wire::METHOD).find_map(|frame| {
            match Method::decode(&frame.payload) {
                Ok(Method::ConnectionClose(close)) => Some(close.reply_code),
                _ => None,
            }
        })
    }
}

/// An ordinary `connection.start`.
pub fn start() -> Vec<u8> {
    let server_properties = FieldTable::new().with("product", "tests");
    wire::method(
        0,
        &connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: server_properties.as_ref_table(),
            mechanisms: b"PLAIN",
            locales: b"en_US",
        },
    )
}

/// An ordinary `connection.start-ok`.
pub fn start_ok() -> connection::StartOk<'static> {
    connection::StartOk { mechanism: "PLAIN", response: b"\0guest\0guest", locale: "en_US", ..Default::default() }
}
