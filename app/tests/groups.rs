//! Consumer groups: members that share a queue, and partitions that keep order while members come and go.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Entry, Log, Site};
use futures_lite::future;
use hopmq::{Channel, Connection};
use hopmq_app::{App, Exchange, Header, HeaderName, Queue, State, Text};

const PARTS: u16 = 6;
const KEYS: usize = 24;

struct Key;

impl HeaderName for Key {
    const NAME: &'static str = "x-hopmq-key";
    type Value = i64;
}

/// A member of a group with partitions, which logs what it handles.
fn member(site: &Site, name: &'static str, log: &Arc<Log>) -> App<Arc<Log>> {
    let queue = Queue::subscribe(&site.prefix, "order.*").group("billing").partitions(PARTS);
    App::new(Arc::clone(log)).exchange(Exchange::topic(&site.prefix)).route(
        queue,
        move |Text(text): Text, Header(key): Header<Key>, State(log): State<Arc<Log>>| async move {
            log.add(name, &text, key as u64 % u64::from(PARTS));
        },
    )
}

/// Publishes numbered messages for all keys, one round after the other.
struct Load {
    connection: Connection,
    exchange: String,
    rounds: usize,
    /// By when the first member must have declared the exchange and the queue.
    ready_by: Instant,
}

impl Load {
    fn new(site: &Site) -> Self {
        let connection = future::block_on(Connection::open(&site.uri)).unwrap();
        let ready_by = Instant::now() + Duration::from_secs(30);
        Self { connection, exchange: site.prefix.clone(), rounds: 0, ready_by }
    }

    fn round(&mut self) {
        future::block_on(async {
            let mut channel = self.connection.channel().await.unwrap();
            for key in 0..KEYS {
                let (routing_key, body) = (format!("order.{key}"), format!("{key} {}", self.rounds));
                let publish = async |channel: &Channel| {
                    let publish = channel.publish(&self.exchange, &routing_key, body.clone());
                    publish.persistent().mandatory().confirm().await
                };
                while let Err(error) = publish(&channel).await {
                    assert!(self.rounds + key == 0 && Instant::now() < self.ready_by, "{error}");
                    channel = self.connection.channel().await.unwrap();
                }
            }
            channel.close().await.unwrap();
        });
        self.rounds += 1;
    }

    /// Publishes rounds until a round was divided fairly.
    fn until_fair(&mut self, log: &Log, members: &[&str]) {
        for _ in 0..2000 {
            self.round();
            let round = self.rounds - 1;
            log.wait(|entries| of_round(entries, round).len() == KEYS);
            let mut parts: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
            for entry in of_round(&log.entries(), round) {
                parts.entry(entry.member).or_default().insert(entry.part);
            }
            let share = usize::from(PARTS) / members.len();
            if members.iter().all(|member| parts.get(member).is_some_and(|parts| parts.len() == share)) {
                return;
            }
        }
        panic!("the partitions were not divided fairly among {members:?} in {} rounds", self.rounds);
    }
}

fn of_round(entries: &[Entry], round: usize) -> Vec<Entry> {
    let suffix = format!(" {round}");
    let texts: BTreeMap<_, _> =
        entries.iter().filter(|entry| entry.text.ends_with(&suffix)).map(|entry| (entry.text.clone(), entry)).collect();
    texts.into_values().cloned().collect()
}

/// The numbers of each key, in the order in which they were handled.
fn numbers(log: &Log) -> BTreeMap<String, Vec<usize>> {
    let mut numbers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for entry in log.entries() {
        let (key, number) = entry.text.split_once(' ').unwrap();
        numbers.entry(key.to_owned()).or_default().push(number.parse().unwrap());
    }
    numbers
}

fn queues(site: &Site) -> Vec<String> {
    let name = format!("{}.billing", site.prefix);
    let parts = (0..PARTS).map(|part| format!("{name}.{part}"));
    parts.chain([name.clone(), format!("{name}.dlq"), format!("{name}.parked")]).collect()
}

fn clean(site: &Site) {
    site.clean(queues(site), [&*site.prefix, &format!("{}.billing.members", site.prefix)]);
}

#[test]
fn members_share_a_group_and_each_app_without_one_gets_all() {
    let site = Site::new("share");
    let log = Arc::<Log>::default();
    let start = |name: &'static str| {
        let each = move |Text(text): Text, State(log): State<Arc<Log>>| async move { log.add(name, &text, 1) };
        let shared = move |Text(text): Text, State(log): State<Arc<Log>>| async move { log.add(name, &text, 0) };
        let app = App::new(Arc::clone(&log))
            .exchange(Exchange::topic(&site.prefix))
            .route(Queue::subscribe(&site.prefix, "order.*").group("billing"), shared)
            .route(Queue::subscribe(&site.prefix, "order.*").and("price.*"), each);
        site.start(app)
    };
    let members = [start("a"), start("b")];
    let mut load = Load::new(&site);
    // Both are there when both have got a message of a round.
    let each =
        |entries: &[Entry], round: &str| of(entries, 1).iter().filter(|entry| entry.text.ends_with(round)).count();
    loop {
        load.round();
        let round = format!(" {}", load.rounds - 1);
        log.wait(|entries| of(entries, 0).iter().filter(|entry| entry.text.ends_with(&round)).count() == KEYS);
        if each(&log.entries(), &round) == 2 * KEYS {
            break;
        }
        assert!(load.rounds < 2000, "the two members do not get the same messages");
    }
    let rounds = load.rounds;
    log.wait(|entries| of(entries, 0).len() == rounds * KEYS);
    let shared = of(&log.entries(), 0);
    let distinct: BTreeSet<_> = shared.iter().map(|entry| &entry.text).collect();
    assert_eq!(distinct.len(), rounds * KEYS, "no message is handled twice by the group");
    members.into_iter().for_each(common::Member::stop);
    future::block_on(load.connection.close()).unwrap();
    let group = ["", ".dlq", ".parked"].map(|end| format!("{}.billing{end}", site.prefix));
    site.clean(group, [&*site.prefix]);
}

fn of(entries: &[Entry], part: u64) -> Vec<Entry> {
    entries.iter().filter(|entry| entry.part == part).cloned().collect()
}

#[test]
fn partitions_are_divided_anew_when_members_come_and_go_and_order_holds() {
    let site = Site::new("rebalance");
    let log = Arc::<Log>::default();
    let mut load = Load::new(&site);
    let a = site.start(member(&site, "a", &log));
    load.until_fair(&log, &["a"]);
    let b = site.start(member(&site, "b", &log));
    load.until_fair(&log, &["a", "b"]);
    let c = site.start(member(&site, "c", &log));
    load.until_fair(&log, &["a", "b", "c"]);
    a.stop();
    b.stop();
    load.until_fair(&log, &["c"]);
    c.stop();
    let rounds: Vec<_> = (0..load.rounds).collect();
    for (key, numbers) in numbers(&log) {
        assert_eq!(numbers, rounds, "the messages of key {key}, each once and in order");
    }
    future::block_on(load.connection.close()).unwrap();
    clean(&site);
}

#[test]
fn a_member_that_dies_loses_nothing_and_order_holds() {
    let site = Site::new("death");
    let log = Arc::<Log>::default();
    let mut load = Load::new(&site);
    let a = site.start(member(&site, "a", &log));
    load.until_fair(&log, &["a"]);
    let b = site.start(member(&site, "b", &log));
    load.until_fair(&log, &["a", "b"]);
    let done = AtomicBool::new(false);
    let (a, b) = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                load.round();
            }
        });
        let before = log.entries().len();
        log.wait(|entries| entries.len() > before + 3 * KEYS);
        a.kill();
        let c = site.start(member(&site, "c", &log));
        let after = log.entries().len();
        log.wait(|entries| entries[after..].iter().filter(|entry| entry.member == "b").count() > 3 * KEYS);
        done.store(true, Ordering::Relaxed);
        (b, c)
    });
    let rounds = load.rounds;
    log.wait(|entries| {
        let distinct: BTreeSet<_> = entries.iter().map(|entry| &entry.text).collect();
        distinct.len() == rounds * KEYS
    });
    a.stop();
    b.stop();
    for (key, numbers) in numbers(&log) {
        let mut next = 0;
        for number in &numbers {
            assert!(*number <= next, "{number} of key {key} came before {next}: {numbers:?}");
            next = next.max(number + 1);
        }
        assert_eq!(next, rounds, "the last message of key {key}");
    }
    future::block_on(load.connection.close()).unwrap();
    clean(&site);
}

#[test]
fn a_message_that_fails_keeps_those_with_its_key_behind_it() {
    let site = Site::new("failing");
    let log = Arc::<Log>::default();
    let queue = Queue::subscribe(&site.prefix, "order.*")
        .group("billing")
        .partitions(PARTS)
        .ordered_by(|message| message.routing_key().to_owned())
        .retry(hopmq_app::Backoff::list([Duration::from_millis(20); 2]));
    let failing = move |Text(text): Text, attempt: hopmq_app::Attempt, State(log): State<Arc<Log>>| async move {
        log.add("a", &text, u64::from(attempt.0));
        if text == "3 0" || (text == "5 1" && attempt.0 < 3) { Err("busy") } else { Ok(()) }
    };
    let app = App::new(Arc::clone(&log)).exchange(Exchange::topic(&site.prefix)).route(queue, failing);
    let member = site.start(app);
    let mut load = Load::new(&site);
    load.round();
    load.round();
    log.wait(|entries| entries.len() == 2 * KEYS + 4 && of_round(entries, 1).len() == KEYS);
    let of_key = |key: &str| numbers(&log)[key].clone();
    assert_eq!((of_key("3"), of_key("5")), (vec![0, 0, 0, 1], vec![0, 1, 1, 1]));
    member.stop();
    future::block_on(async {
        let channel = load.connection.channel().await.unwrap();
        let dead = channel.get(&format!("{}.billing.dlq", site.prefix)).await.unwrap().unwrap();
        let text = |name: &str| dead.header(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap();
        assert_eq!(dead.text(), "3 0");
        // A replay to the group's queue finds the partition again.
        assert_eq!(text("x-hopmq-queue"), format!("{}.billing", site.prefix));
        assert_eq!((text("x-hopmq-exchange"), text("x-hopmq-routing-key")), (site.prefix.clone(), "order.3".into()));
        dead.ack().unwrap();
        load.connection.close().await.unwrap();
    });
    clean(&site);
}

#[test]
fn a_long_pause_gives_messages_to_other_members() {
    let site = Site::new("pause");
    let log = Arc::<Log>::default();
    let start = |name: &'static str, paused: bool| {
        let handler = move |Text(text): Text, State(log): State<Arc<Log>>| async move { log.add(name, &text, 0) };
        let queue = Queue::subscribe(&site.prefix, "order.*").group("billing").prefetch(1000);
        let app = App::new(Arc::clone(&log)).exchange(Exchange::topic(&site.prefix)).route(queue, handler);
        if paused {
            assert!(app.control().pause(&format!("{}.billing", site.prefix)));
        }
        site.start(app)
    };
    let a = start("a", false);
    let mut load = Load::new(&site);
    load.round();
    log.wait(|entries| entries.len() == KEYS);
    let name = format!("{}.billing", site.prefix);
    assert!(a.control.pause(&name) && !a.control.pause("another"));
    // The messages of this round are sent ahead to the paused member, and come back to the next one.
    load.round();
    let b = start("b", false);
    log.wait(|entries| entries.len() == 2 * KEYS);
    let entries = log.entries();
    assert!(entries[KEYS..].iter().all(|entry| entry.member == "b"), "{entries:?}");
    b.stop();
    a.control.resume(&name);
    load.round();
    log.wait(|entries| entries.len() == 3 * KEYS);
    assert!(log.entries()[2 * KEYS..].iter().all(|entry| entry.member == "a"));
    a.stop();
    // One that is paused from the start consumes nothing before it is resumed.
    let c = start("c", true);
    load.round();
    assert_eq!(log.entries().len(), 3 * KEYS);
    c.control.resume(&name);
    log.wait(|entries| entries.len() == 4 * KEYS);
    c.stop();
    future::block_on(load.connection.close()).unwrap();
    let group = ["", ".dlq", ".parked"].map(|end| format!("{}.billing{end}", site.prefix));
    site.clean(group, [&*site.prefix]);
}
