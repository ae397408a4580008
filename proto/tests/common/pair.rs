//! A client and a server, connected by bytes on a virtual clock.

use std::time::Duration;

use hopmq_proto::method::{MethodId, channel};
use hopmq_proto::{CloseReason, Config, FieldTable, Role, Time};

use super::{Peer, Random, server_config};

/// Both ends of a connection.
#[derive(Debug)]
pub struct Pair {
    pub client: Peer,
    pub server: Peer,
    pub now: Time,
    /// The transport takes a random number of bytes at a time, at least 1 and at most this.
    step: u64,
    random: Random,
}

impl Pair {
    pub fn new(client: Config, server: Config) -> Self {
        Self {
            client: Peer::new(Role::Client, client),
            server: Peer::new(Role::Server, server),
            now: Time::ZERO,
            step: u64::MAX,
            random: Random(1),
        }
    }

    /// Splits every transfer into pieces of at most `step` bytes, with sizes that depend on `seed`.
    pub fn sliced(mut self, step: u64, seed: u64) -> Self {
        self.step = step;
        self.random = Random(seed);
        self
    }

    /// Opens a connection.
    pub fn open() -> Self {
        Self::new(Config::default(), server_config()).opened()
    }

    /// Opens a connection and channel 1.
    pub fn with_channel() -> Self {
        let mut pair = Self::open();
        pair.open_channel(1);
        pair
    }

    /// Goes through the handshake.
    pub fn opened(mut self) -> Self {
        self.flow();
        self.client.connection.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest").expect("start-ok");
        self.flow();
        self.server.connection.tune().expect("tune");
        self.flow();
        self.server.connection.open_ok().expect("open-ok");
        self.flow();
        assert!(self.client.connection.is_open() && self.server.connection.is_open());
        self.client.events.clear();
        self.server.events.clear();
        self
    }

    pub fn open_channel(&mut self, number: u16) {
        self.client.connection.open_channel(number, 0).expect("a free channel");
        self.flow();
        assert_eq!(self.client.take(), [format!("{number}: reply 0 {}", MethodId::CHANNEL_OPEN_OK)]);
        assert_eq!(self.server.take(), [format!("{number}: opened")]);
    }

    /// Transfers bytes both ways until none are left.
    pub fn flow(&mut self) {
        while self.client_writes() | self.server_writes() {}
    }

    /// Transfers the output of the client. Returns whether there was any.
    pub fn client_writes(&mut self) -> bool {
        let bytes = self.client.drain(self.now);
        self.transfer(&bytes, Role::Server)
    }

    /// Transfers the output of the server. Returns whether there was any.
    pub fn server_writes(&mut self) -> bool {
        let bytes = self.server.drain(self.now);
        self.transfer(&bytes, Role::Client)
    }

    fn transfer(&mut self, mut bytes: &[u8], to: Role) -> bool {
        let any = !bytes.is_empty();
        while !bytes.is_empty() {
            let count = usize::try_from(self.random.below(self.step)).unwrap_or(usize::MAX).saturating_add(1);
            let (part, rest) = bytes.split_at(count.min(bytes.len()));
            let peer = if to == Role::Client { &mut self.client } else { &mut self.server };
            peer.feed(self.now, part);
            bytes = rest;
        }
        any
    }

    /// Advances the time, handles every timeout at its time, and transfers bytes immediately.
    pub fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        for round in 0.. {
            assert!(round < 10_000, "the timer spins");
            let next = [self.client.connection.poll_timeout(), self.server.connection.poll_timeout()];
            let Some(moment) = next.into_iter().flatten().min().filter(|moment| *moment <= until) else { break };
            self.now = self.now.max(moment);
            for peer in [&mut self.client, &mut self.server] {
                if peer.connection.poll_timeout().is_some_and(|moment| moment <= self.now)
                    && let Err(error) = peer.connection.handle_timeout(self.now)
                {
                    peer.error = Some(error);
                }
            }
            self.flow();
        }
        self.now = until;
    }

    /// Both ends are open and without errors.
    pub fn assert_healthy(&self) {
        assert_eq!((&self.client.error, &self.server.error), (&None, &None));
        assert!(self.client.connection.is_open() && self.server.connection.is_open());
    }

    /// The server closes a channel with a reason.
    pub fn refuse_channel(&mut self, number: u16, code: u16, text: &str) {
        let reason = CloseReason { code, text: text.to_owned(), method: MethodId::QUEUE_DECLARE };
        self.server.connection.refuse_channel(number, &reason).expect("an open channel");
    }

    /// The client closes a channel and receives the reply.
    pub fn close_channel(&mut self, number: u16) {
        self.client.connection.close_channel(number, 200, "bye", Some(99)).expect("an open channel");
        self.flow();
        let reply = format!("{number}: reply 99 {}", <channel::CloseOk as hopmq_proto::method::Encode>::ID);
        assert_eq!(self.client.take(), [reply]);
    }
}
