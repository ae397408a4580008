//! The engine beside a naive broker: random operations on both must look the same to clients.
//!
//! `HOPMQ_MODEL_SECONDS` sets the duration, and `HOPMQ_MODEL_SEED` replays one case.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hopmq_proto::method::{Method, basic, exchange, queue, tx};
use hopmq_proto::{
    Config as ProtoConfig, Connection, Content, Event, FieldTable, Properties, Receiver, Role, Route, Time, Transmit,
};

use crate::engine::keys::SessionKey;
use crate::engine::tests::naive::{Naive, QueueArguments, TRANSACTIONAL};
use crate::engine::{Config, Engine, Profile};
use crate::limits::Limits;
use crate::random::Random;

/// A client that is connected to the engine directly.
struct Client {
    engine: Engine,
    session: SessionKey,
    up: Receiver,
    client: Connection,
    down: Receiver,
    now: Time,
    /// What each channel received, in order. Confirms are kept apart, because they come at the end of a batch.
    seen: BTreeMap<u16, Vec<String>>,
    confirmed: Vec<(u16, u64, bool)>,
    consumers: Vec<String>,
}

/// Moves bytes from one end to the receiver of the other.
pub(super) fn carry(transmit: &mut Transmit, receiver: &mut Receiver) -> Option<usize> {
    let chunk = transmit.chunk();
    let space = receiver.space();
    let count = chunk.len().min(space.len());
    space[..count].copy_from_slice(&chunk[..count]);
    receiver.filled(count);
    transmit.advance(count);
    (count > 0).then_some(count)
}

impl Client {
    /// Connects a client to an engine with this budget of steps a turn.
    fn new(seed: u64, budget: u32) -> Self {
        let protocol = ProtoConfig { mechanisms: "PLAIN".to_owned(), ..ProtoConfig::default() };
        let mut engine = Engine::new(Config {
            limits: Limits::default(),
            memory_limit: u64::MAX,
            seed,
            wall_epoch: 0,
            connection_max: usize::MAX,
            profile: Profile::RabbitMq3_13,
            consumer_timeout: None,
            protocol,
        });
        engine.set_budget(budget);
        let session = engine.connect(Time::ZERO, true, "model".into());
        let client = Connection::new(Role::Client, ProtoConfig::default());
        let limits = client.receive_limits();
        let up = Receiver::server(engine.receive_limits(session).expect("it is there"));
        let down = Receiver::client(limits);
        let seen = BTreeMap::new();
        let confirmed = Vec::new();
        let consumers = Vec::new();
        let mut this = Self { engine, session, up, client, down, now: Time::ZERO, seen, confirmed, consumers };
        this.flow();
        for channel in [1, 2] {
            this.client.open_channel(channel, 0).expect("it is free");
            this.client.confirm_select(channel).expect("it is open");
        }
        this.client.open_channel(TRANSACTIONAL, 0).expect("it is free");
        this.client.tx_select(TRANSACTIONAL, None).expect("it is open");
        this.flow();
        this.seen.clear();
        this
    }

    /// Exchanges bytes until nothing is left.
    fn flow(&mut self) {
        let mut transmit = Transmit::new();
        loop {
            let mut moved = self.client.poll_transmit(self.now, &mut transmit);
            while carry(&mut transmit, &mut self.up).is_some() {
                while let Some(incoming) = self.up.poll().expect("the client keeps to the protocol") {
                    self.engine.start_turn();
                    self.engine.handle(self.now, self.session, incoming);
                    assert_eq!(self.engine.is_held(self.session), self.engine.has_work());
                    self.engine.finish_work(self.now);
                }
            }
            self.engine.finish(self.session);
            self.up.set_limits(self.engine.receive_limits(self.session).expect("it is there"));
            moved |= self.engine.poll_transmit(self.now, self.session, &mut transmit);
            self.engine.finish_work(self.now);
            while carry(&mut transmit, &mut self.down).is_some() {
                while let Some(incoming) = self.down.poll().expect("the engine keeps to the protocol") {
                    let event = self.client.handle(self.now, incoming).expect("the engine keeps to the protocol");
                    self.down.set_limits(self.client.receive_limits());
                    event.into_iter().for_each(|event| self.note(event));
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn note(&mut self, event: Event) {
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        let (channel, line) = match event {
            Event::Start { .. } => {
                self.client.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest").expect("it is the time");
                return;
            }
            Event::Confirmed { channel, first, last, ack } => {
                self.confirmed.extend((first..=last).map(|tag| (channel, tag, ack)));
                return;
            }
            Event::Delivery { channel, consumer, delivery_tag, content } => {
                let redelivered = content.arguments().redelivered;
                let consumer = &self.consumers[consumer as usize];
                let count = count(&content);
                (channel, format!("{consumer} {delivery_tag} {} {redelivered}{count}", text(content.body())))
            }
            Event::Got { channel, content, .. } => {
                let arguments = content.arguments();
                let tag = arguments.delivery_tag;
                let redelivered = arguments.redelivered;
                let left = arguments.message_count;
                let count = count(&content);
                (channel, format!("got {tag} {} {redelivered} {left}{count}", text(content.body())))
            }
            Event::Returned { channel, content, .. } => (channel, format!("returned {}", text(content.body()))),
            Event::ConsumerCancelled { channel, .. } => (channel, "cancelled".to_owned()),
            Event::Reply { channel, payload, .. } => match Method::decode(&payload) {
                Ok(Method::BasicGetEmpty(_)) => (channel, "empty".to_owned()),
                Ok(Method::QueueDeclareOk(ok)) => (channel, format!("{} of {}", ok.message_count, ok.consumer_count)),
                Ok(Method::QueuePurgeOk(ok)) => (channel, format!("purged {}", ok.message_count)),
                Ok(Method::QueueDeleteOk(ok)) => (channel, format!("deleted {}", ok.message_count)),
                _ => return,
            },
            Event::Opened => return,
            other => panic!("{other:?}"),
        };
        self.seen.entry(channel).or_default().push(line);
    }
}

/// Returns how often a message returned to a quorum queue.
fn count(content: &Content) -> String {
    let headers = content.properties().headers().unwrap_or_default();
    let count = headers.get("x-delivery-count").and_then(|count| count.as_i64());
    count.map_or_else(String::new, |count| format!(" after {count}"))
}

impl Random {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

const QUEUES: [&str; 4] = ["a", "b", "c", "d"];
const EXCHANGES: [&str; 3] = ["amq.direct", "amq.fanout", "amq.topic"];
const KEYS: [&str; 6] = ["x", "x.y", "#", "*", "x.*", ""];

/// Runs one case: the same operations on both brokers, compared after each.
fn case(seed: u64) -> (usize, usize) {
    let mut random = Random(seed);
    // Most operations are cut, everywhere.
    let budget = [1, 2, 3, 5, 8, u32::MAX][random.below(6) as usize];
    let mut real = Client::new(seed, budget);
    let mut naive = Naive::default();
    let operations = 20 + random.below(60) as usize;
    let mut history = Vec::new();
    for number in 0..operations {
        history.push(operate(&mut random, &mut real, &mut naive, number));
        real.flow();
        real.confirmed.sort_unstable();
        naive.confirmed.sort_unstable();
        let same = real.seen == naive.seen && real.confirmed == naive.confirmed;
        assert!(
            same,
            "seed {seed} after {history:#?}\n engine: {:?} {:?}\n  naive: {:?} {:?}",
            real.seen, real.confirmed, naive.seen, naive.confirmed
        );
    }
    (operations, real.seen.values().map(Vec::len).sum())
}

fn operate(random: &mut Random, real: &mut Client, naive: &mut Naive, number: usize) -> String {
    let channel = 1 + random.below(3) as u16;
    let name = random.one(&QUEUES);
    let exists = naive.queues.contains_key(name);
    let client = &mut real.client;
    match random.below(26) {
        0..=2 if !exists => {
            let quorum = (random.below(4) == 0).then(|| random.below(3));
            let arguments = QueueArguments {
                // If the messages of two queues expire at the same time, either may come first.
                time_to_live: (name == "a").then(|| 5 + random.below(20)),
                most: (random.below(3) == 0).then(|| random.below(4)),
                rejects: random.below(2) == 0,
                dead_letters: (random.below(2) == 0).then(|| random.one(&QUEUES).to_owned()),
                priorities: quorum.is_none() && random.below(3) == 0,
                quorum,
            };
            let table = arguments.table();
            let durable = quorum.is_some();
            let table = table.as_ref_table();
            let declare = queue::Declare { queue: name, durable, arguments: table, ..Default::default() };
            client.request(channel, &declare, Some(1)).expect("it is open");
            let described = format!("declare {name} {arguments:?}");
            naive.declare(channel, name, arguments);
            described
        }
        3 if exists => {
            client.request(channel, &queue::Delete { queue: name, ..Default::default() }, Some(1)).expect("it is open");
            naive.delete(channel, name);
            format!("delete {name}")
        }
        4 if exists => {
            client.request(channel, &queue::Purge { queue: name, nowait: false }, Some(1)).expect("it is open");
            naive.purge(channel, name);
            format!("purge {name}")
        }
        5 | 6 if exists => {
            let exchange = random.one(&EXCHANGES);
            let key = random.one(&KEYS);
            let bind = queue::Bind { queue: name, exchange, routing_key: key, ..Default::default() };
            client.request(channel, &bind, Some(1)).expect("it is open");
            naive.bind(exchange, key, name);
            format!("bind {name} to {exchange} by {key:?}")
        }
        7 if exists => {
            let exchange = random.one(&EXCHANGES);
            let key = random.one(&KEYS);
            let unbind = queue::Unbind { queue: name, exchange, routing_key: key, ..Default::default() };
            client.request(channel, &unbind, Some(1)).expect("it is open");
            naive.unbind(exchange, key, name);
            format!("unbind {name} from {exchange} by {key:?}")
        }
        8 if exists => consume(random, real, naive, (channel, name), number),
        9 => match naive.consumer_of(channel) {
            Some(tag) => {
                client.cancel(channel, &tag, None).expect("it is open");
                naive.cancel(channel, &tag);
                format!("cancel {tag}")
            }
            None => "nothing to cancel".to_owned(),
        },
        10 | 11 if exists => {
            let no_ack = random.below(2) == 0;
            client.get(channel, &basic::Get { queue: name, no_ack }, Some(1)).expect("it is open");
            naive.get(channel, name, no_ack);
            format!("get {name}, no_ack {no_ack}")
        }
        12..=14 => settle(random, client, naive, channel),
        15 => {
            client.request(channel, &basic::Recover { requeue: true }, None).expect("it is open");
            naive.recover(channel);
            "recover".to_owned()
        }
        16 => {
            let time = 1 + random.below(15);
            real.now = real.now + Duration::from_millis(time);
            while real.engine.poll_timeout().is_some_and(|at| at <= real.now) {
                real.engine.handle_timeout(real.now);
                real.engine.finish_work(real.now);
            }
            naive.advance(time);
            format!("{time} ms pass")
        }
        17 | 18 => between(random, client, naive, channel),
        19 | 20 => {
            client.request(TRANSACTIONAL, &tx::Commit {}, None).expect("it is open");
            naive.commit();
            "commit".to_owned()
        }
        21 => {
            client.request(TRANSACTIONAL, &tx::Rollback {}, None).expect("it is open");
            naive.roll_back();
            "roll back".to_owned()
        }
        _ => publish(random, client, naive, (channel, name), number),
    }
}

fn consume(
    random: &mut Random,
    real: &mut Client,
    naive: &mut Naive,
    (channel, name): (u16, &str),
    number: usize,
) -> String {
    let no_ack = random.below(3) == 0;
    let prefetch = random.below(4) as u16;
    let tag = format!("c{number}");
    let qos = basic::Qos { prefetch_count: prefetch, global: false };
    real.client.request(channel, &qos, None).expect("it is open");
    let consume = basic::Consume { queue: name, consumer_tag: &tag, no_ack, ..Default::default() };
    real.client.consume(channel, &consume, real.consumers.len() as u64, None).expect("it is open");
    real.consumers.push(tag.clone());
    naive.consume(channel, name, &tag, no_ack, prefetch);
    format!("consume {name} as {tag}, prefetch {prefetch}, no_ack {no_ack}")
}

/// Binds an exchange to another one or to itself, or removes that binding.
fn between(random: &mut Random, client: &mut Connection, naive: &mut Naive, channel: u16) -> String {
    let source = random.one(&EXCHANGES);
    let routing_key = random.one(&KEYS);
    let destination = random.one(&EXCHANGES);
    let described = format!("{source} to {destination} by {routing_key:?}");
    if random.below(3) == 0 {
        let unbind = exchange::Unbind { source, destination, routing_key, ..Default::default() };
        client.request(channel, &unbind, None).expect("it is open");
        naive.unbind_between(source, routing_key, destination);
        return format!("unbind {described}");
    }
    let bind = exchange::Bind { source, destination, routing_key, ..Default::default() };
    client.request(channel, &bind, None).expect("it is open");
    naive.bind_between(source, routing_key, destination);
    format!("bind {described}")
}

fn publish(
    random: &mut Random,
    client: &mut Connection,
    naive: &mut Naive,
    (channel, queue): (u16, &str),
    number: usize,
) -> String {
    let (exchange, key) = match random.below(2) {
        0 => ("", queue),
        _ => (random.one(&EXCHANGES), random.one(&KEYS)),
    };
    let priority = random.below(4) as u8;
    let mandatory = random.below(2) == 0;
    let body = format!("m{number}");
    let properties = Properties::new().with_priority(priority);
    let route = Route { exchange, routing_key: key, mandatory };
    let properties = properties.as_ref_properties();
    client.publish(channel, route, properties, body.as_bytes().into()).expect("it is open");
    naive.publish(channel, (exchange, key), mandatory, priority, &body);
    format!("publish {body} to {exchange}/{key}, priority {priority}, mandatory {mandatory}")
}

fn settle(random: &mut Random, client: &mut Connection, naive: &mut Naive, channel: u16) -> String {
    let tags = naive.unacked(channel);
    if tags.is_empty() {
        return "nothing to settle".to_owned();
    }
    let tag = tags[random.below(tags.len() as u64) as usize];
    let multiple = random.below(3) == 0;
    let how = random.below(3);
    match how {
        0 => client.ack(channel, tag, multiple),
        1 => client.nack(channel, tag, multiple, true),
        _ => client.nack(channel, tag, multiple, false),
    }
    .expect("it is unacked");
    naive.settle(channel, tag, multiple, how);
    format!("settle {tag}, multiple {multiple}, how {how}")
}

#[test]
fn the_engine_does_what_a_naive_broker_does() {
    if let Ok(seed) = std::env::var("HOPMQ_MODEL_SEED") {
        case(seed.parse().expect("a number"));
        return;
    }
    let seconds = std::env::var("HOPMQ_MODEL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let since = Instant::now();
    let mut cases = 0;
    let mut operations = 0;
    let mut answers = 0;
    while since.elapsed() < Duration::from_secs(seconds) {
        let (more, seen) = case(cases);
        (operations, answers) = (operations + more, answers + seen);
        cases += 1;
    }
    println!("{cases} cases: {operations} operations, {answers} answers and deliveries, the same from a naive broker");
}
