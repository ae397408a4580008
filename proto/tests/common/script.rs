//! One end of a connection, and a peer that sends whatever the test wants.

use std::time::Duration;

use hopmq_proto::method::{Method, channel, connection};
use hopmq_proto::{Config, FieldTable, PROTOCOL_HEADER, Role, Time};

use super::wire::{self, Frame};
use super::{Peer, server_config};

/// The end under test and its output. The test plays the other end.
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
        script.send(&start()).start_ok();
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
        script.send(&wire::method(1, &channel::OpenOk {}));
        assert_eq!(script.peer.take(), ["1: reply 1 channel.open-ok"]);
        script.output();
        script
    }

    /// Completes the handshake of a client with these limits.
    pub fn tuned(mut self, channel_max: u16, frame_max: u32, heartbeat: u16) -> Self {
        self.send(&start()).start_ok();
        self.send(&wire::method(0, &connection::Tune { channel_max, frame_max, heartbeat }));
        self.send(&wire::method(0, &connection::OpenOk {}));
        assert!(self.peer.connection.is_open(), "{:?}", self.peer.error);
        self.peer.events.clear();
        self.output();
        self
    }

    /// A server whose client has opened the connection and channel 1.
    pub fn server_channel() -> Self {
        let mut script = Self::server_open();
        script.send(&wire::method(1, &channel::Open {}));
        assert_eq!(script.peer.take(), ["1: opened"]);
        script.output();
        script
    }

    /// A server whose client has opened the connection.
    pub fn server_open() -> Self {
        let mut script = Self::server_tuning();
        script.send(&wire::method(0, &connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }));
        script.send(&wire::method(0, &connection::Open { virtual_host: "/" }));
        script.peer.connection.open_ok().expect("open-ok is the next step");
        script.peer.events.clear();
        script.output();
        script
    }

    /// A server that expects `connection.tune-ok`.
    pub fn server_tuning() -> Self {
        let mut script = Self::server();
        script.send(&PROTOCOL_HEADER).send(&wire::method(0, &start_ok()));
        script.peer.connection.tune().expect("tune is the next step");
        script.peer.events.clear();
        script.output();
        script
    }

    fn start_ok(&mut self) {
        self.peer
            .connection
            .start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest")
            .expect("start-ok is the next step");
        self.collect();
    }

    /// Sends bytes to the end under test.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.peer.feed(self.now, bytes);
        self.collect();
        self
    }

    /// Advances the time, and handles every timeout at its time.
    pub fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut rounds = 0;
        while let Some(moment) = self.peer.connection.poll_timeout().filter(|moment| *moment <= until) {
            rounds += 1;
            assert!(rounds < 10_000, "the timer spins");
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

    /// Returns the short forms of the frames that the end under test has written since the last call.
    pub fn output(&mut self) -> Vec<String> {
        wire::briefs(&self.output_bytes())
    }

    /// Returns the bytes that the end under test has written since the last call.
    pub fn output_bytes(&mut self) -> Vec<u8> {
        self.collect();
        std::mem::take(&mut self.written)
    }

    /// Restores the bytes that `heard_bytes` removed.
    pub fn restore(&mut self, bytes: Vec<u8>) {
        self.written = bytes;
    }

    /// Returns the code of the `connection.close` that the end under test has written.
    pub fn close_code(&mut self) -> Option<u16> {
        let frames: Vec<Frame> = wire::frames(&self.output_bytes());
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
