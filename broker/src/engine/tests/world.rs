//! An engine with clients, which is turned as the server does it.

use std::collections::VecDeque;

use hopmq_proto::method::{basic, exchange, queue};
use hopmq_proto::{
    Config as ProtoConfig, Connection, Event, FieldTable, Incoming, Properties, Receiver, Role, Route, Time, Transmit,
};

use crate::engine::keys::SessionKey;
use crate::engine::tests::model::carry;
use crate::engine::{Config, Engine, Profile};

/// Inputs of one turn, as in the server.
pub(super) const BATCH: usize = 512;

pub(super) struct Peer {
    pub(super) session: SessionKey,
    pub(super) up: Receiver,
    pub(super) incoming: VecDeque<Incoming>,
    pub(super) client: Connection,
    pub(super) down: Receiver,
    /// The answers of the broker, without deliveries and confirms.
    pub(super) answers: usize,
    pub(super) deliveries: usize,
    pub(super) confirmed: u64,
}

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Time,
}

impl World {
    pub(super) fn new(budget: Option<u32>) -> Self {
        let mut engine = Engine::new(Config {
            seed: 1,
            wall_epoch: 0,
            connection_max: usize::MAX,
            profile: Profile::RabbitMq3_13,
            consumer_timeout: None,
            limits: crate::limits::Limits::default(),
            memory_limit: u64::MAX,
            protocol: ProtoConfig { mechanisms: "PLAIN".to_owned(), ..ProtoConfig::default() },
        });
        if let Some(budget) = budget {
            engine.set_budget(budget);
        }
        Self { engine, now: Time::ZERO }
    }

    pub(super) fn connect(&mut self) -> Peer {
        let session = self.engine.connect(Time::ZERO, true, "test".into());
        let client = Connection::new(Role::Client, ProtoConfig::default());
        let up = Receiver::server(self.engine.receive_limits(session).unwrap());
        let down = Receiver::client(client.receive_limits());
        let incoming = VecDeque::new();
        let mut peer = Peer { session, up, incoming, client, down, answers: 0, deliveries: 0, confirmed: 0 };
        self.flow(&mut peer);
        peer.client.open_channel(1, 0).unwrap();
        self.flow(&mut peer);
        peer.answers = 0;
        peer
    }

    /// A turn of a connection, as the server does it. Returns whether anything moved.
    pub(super) fn turn(&mut self, peer: &mut Peer) -> bool {
        let mut transmit = Transmit::new();
        peer.client.poll_transmit(self.now, &mut transmit);
        while carry(&mut transmit, &mut peer.up).is_some() {
            while let Some(incoming) = peer.up.poll().unwrap() {
                peer.incoming.push_back(incoming);
            }
        }
        let mut moved = false;
        self.engine.start_turn();
        for _ in 0..BATCH {
            if self.engine.is_held(peer.session) || self.engine.is_spent() {
                break;
            }
            let Some(incoming) = peer.incoming.pop_front() else { break };
            self.engine.handle(self.now, peer.session, incoming);
            moved = true;
        }
        self.engine.finish(peer.session);
        peer.up.set_limits(self.engine.receive_limits(peer.session).unwrap());
        moved |= self.engine.poll_transmit(self.now, peer.session, &mut transmit);
        self.engine.start_turn();
        while carry(&mut transmit, &mut peer.down).is_some() {
            while let Some(incoming) = peer.down.poll().unwrap() {
                let event = peer.client.handle(self.now, incoming).unwrap();
                peer.down.set_limits(peer.client.receive_limits());
                match event {
                    Some(Event::Start { .. }) => {
                        peer.client.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest").unwrap();
                    }
                    Some(Event::Confirmed { last, .. }) => peer.confirmed = last,
                    Some(Event::Delivery { .. }) => peer.deliveries += 1,
                    Some(_) => peer.answers += 1,
                    None => {}
                }
            }
        }
        moved
    }

    /// A turn of unfinished work, as the server does it. Returns whether there was some.
    pub(super) fn work(&mut self) -> bool {
        if !self.engine.has_work() && !self.is_due() {
            return false;
        }
        self.engine.start_turn();
        if self.is_due() {
            self.engine.handle_timeout(self.now);
        }
        if self.engine.has_work() {
            self.engine.work(self.now);
        }
        self.engine.start_turn();
        true
    }

    pub(super) fn is_due(&self) -> bool {
        self.engine.poll_timeout().is_some_and(|at| at <= self.now)
    }

    /// Turns until nothing moves.
    pub(super) fn flow(&mut self, peer: &mut Peer) {
        while self.turn(peer) | self.work() {}
    }
}

impl Peer {
    pub(super) fn declare(&mut self, name: &str, exclusive: bool, arguments: &FieldTable) {
        let arguments = arguments.as_ref_table();
        let declare = queue::Declare { queue: name, exclusive, arguments, ..Default::default() };
        self.client.request(1, &declare, None).unwrap();
    }

    pub(super) fn bind(&mut self, queue: &str, exchange: &str, routing_key: &str) {
        let bind = queue::Bind { queue, exchange, routing_key, ..Default::default() };
        self.client.request(1, &bind, None).unwrap();
    }

    pub(super) fn declare_headers(&mut self, queues: &[&str]) {
        let declare = exchange::Declare { exchange: "h", kind: "headers", ..Default::default() };
        self.client.request(1, &declare, None).unwrap();
        queues.iter().for_each(|queue| self.declare(queue, false, &FieldTable::new()));
    }

    pub(super) fn bind_headers(&mut self, queue: &str, arguments: &FieldTable) {
        let arguments = arguments.as_ref_table();
        let bind = queue::Bind { queue, exchange: "h", arguments, ..Default::default() };
        self.client.request(1, &bind, None).unwrap();
    }

    pub(super) fn publish_headers(&mut self, headers: &FieldTable) {
        let route = Route { exchange: "h", routing_key: "", mandatory: false };
        let properties = Properties::new().with_headers(headers);
        self.client.publish(1, route, properties.as_ref_properties(), b"x".into()).unwrap();
    }

    pub(super) fn publish(&mut self, exchange: &str, routing_key: &str, body: &[u8]) {
        let route = Route { exchange, routing_key, mandatory: false };
        self.client.publish(1, route, Properties::EMPTY, body.into()).unwrap();
    }

    pub(super) fn consume(&mut self, queue: &str, tag: &str) {
        let consume = basic::Consume { queue, consumer_tag: tag, ..Default::default() };
        self.client.consume(1, &consume, 0, None).unwrap();
    }

    pub(super) fn fill(&mut self, world: &mut World, queue: &str, arguments: &FieldTable, count: usize) {
        self.declare(queue, false, arguments);
        for _ in 0..count {
            self.publish("", queue, b"x");
        }
        world.flow(self);
    }

    /// Fills a queue, and consumes all of it.
    pub(super) fn hold(&mut self, world: &mut World, arguments: &FieldTable, count: usize) {
        self.fill(world, "q", arguments, count);
        self.consume("q", "c");
        world.flow(self);
        assert_eq!(self.deliveries, count);
    }
}

impl Peer {
    /// Sends a declaration, publishes and a purge, whose answer ends them.
    pub(super) fn fill_unheard(&mut self, queue: &str, count: usize) {
        self.declare(queue, false, &FieldTable::new());
        (0..count).for_each(|_| self.publish("", queue, b"x"));
        self.client.request(1, &queue::Purge { queue, nowait: false }, Some(1)).unwrap();
    }
}
