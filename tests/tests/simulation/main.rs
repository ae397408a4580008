//! The real client and the real embedded broker in one thread, on a virtual clock, over a network that breaks and with
//! a broker that crashes. Each run has a seed, which repeats the run exactly.
//!
//! ```sh
//! HOPMQ_SEEDS=10000 cargo test -p hopmq-tests --test simulation   # 10,000 runs
//! HOPMQ_SEED=4711 cargo test -p hopmq-tests --test simulation     # repeats one run
//! ```

mod network;
mod tap;
#[path = "../../../core/tests/common/time.rs"]
mod time;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use hopmq::{Builder, Connection, Delivery, ErrorKind, Recovery, Settled, Unconfirmed};
use world::{Random, World};

/// The events of a run, as the program sees them.
#[derive(Default)]
struct Record {
    /// Messages that the publishers began to publish.
    published: u64,
    /// The outcome of each publish: true if confirmed, false if unknown.
    outcomes: BTreeMap<u64, bool>,
    /// The consumed messages, in order: the id, whether it was marked as redelivered, whether its ack was sent.
    consumed: Vec<(u64, bool, bool)>,
}

/// The parameters of a run, drawn from its seed.
struct Plan {
    publishers: u64,
    messages: u64,
    consumers: usize,
    republish: bool,
    faults: usize,
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        Self {
            publishers: 1 + random.below(3),
            messages: 5 + random.below(40),
            consumers: 1 + random.below(2) as usize,
            republish: random.below(4) > 0,
            faults: random.below(8) as usize,
        }
    }
}

const QUEUE: &str = "orders";
const EXCHANGE: &str = "shop";

fn builder(seed: u64, plan: &Plan) -> Builder {
    let unconfirmed = if plan.republish { Unconfirmed::Republish } else { Unconfirmed::Fail };
    let recovery =
        Recovery::new().seed(seed).delays(Duration::from_millis(50), Duration::from_secs(3)).unconfirmed(unconfirmed);
    Connection::builder()
        .heartbeat(Duration::from_secs(10))
        .request_timeout(Duration::from_secs(600))
        .confirm_timeout(Duration::from_secs(600))
        .connect_timeout(Duration::from_secs(20))
        .recovery(recovery)
        .wait_for_broker(Duration::from_secs(600))
}

async fn declare(channel: &hopmq::Channel) -> hopmq::Result<()> {
    channel.exchange(EXCHANGE).topic().durable().declare().await?;
    let queue = channel.queue(QUEUE).durable().declare().await?;
    queue.bind(EXCHANGE, "order.#").await
}

async fn publish(world: World, builder: Builder, number: u64, messages: u64, record: Rc<RefCell<Record>>) {
    let connection = world.connect(&builder).await;
    let channel = connection.channel().await.expect("a channel opens in spite of faults");
    declare(&channel).await.expect("a repeated declaration succeeds");
    let mut confirms = Vec::new();
    for message in 0..messages {
        let id = number * 1000 + message;
        record.borrow_mut().published += 1;
        let body = id.to_string();
        let confirm = channel.publish(EXCHANGE, "order.new", body).persistent().confirm_later().await;
        confirms.push((id, confirm.expect("the publish is not blocked for long")));
        if world.random(3) == 0 {
            world.sleep(Duration::from_millis(world.random(800))).await;
        }
        if world.random(4) == 0 {
            settle(&mut confirms, &record).await;
        }
    }
    settle(&mut confirms, &record).await;
    connection.close().await.expect("all messages are confirmed");
}

async fn settle(confirms: &mut Vec<(u64, hopmq::Confirm)>, record: &Rc<RefCell<Record>>) {
    for (id, confirm) in confirms.drain(..) {
        let confirmed = match confirm.await {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => false,
            Err(error) => panic!("publish {id}: {error}"),
        };
        record.borrow_mut().outcomes.insert(id, confirmed);
    }
}

async fn consume(world: World, builder: Builder, record: Rc<RefCell<Record>>) {
    let connection = world.connect(&builder).await;
    let channel = connection.channel().await.expect("a channel opens in spite of faults");
    declare(&channel).await.expect("a repeated declaration succeeds");
    // The broker names this queue, and deletes it with each link.
    let copy = channel.queue("").exclusive().declare().await.expect("the broker declares the queue");
    copy.bind(EXCHANGE, "copy.#").await.expect("the exchange is declared");
    let prefetch = 1 + world.random(10) as u16;
    let mut consumer = channel.consume(QUEUE).prefetch(prefetch).await.expect("the queue is declared");
    world.note_copy(copy);
    world.note_connection(connection);
    let mut held: Vec<Delivery> = Vec::new();
    loop {
        let later = async {
            world.sleep(Duration::from_secs(2)).await;
            None
        };
        let Some(next) = future::or(async { Some(consumer.next().await) }, later).await else {
            for delivery in held.drain(..) {
                delivery.ack().expect("ack never fails");
            }
            continue;
        };
        let Some(delivery) = next else { return };
        let delivery = delivery.expect("the stream continues in spite of faults");
        let id = delivery.text().parse().expect("bodies are whole");
        if world.random(5) == 0 {
            world.sleep(Duration::from_millis(world.random(1500))).await;
        }
        let redelivered = delivery.redelivered();
        if world.random(6) == 0 && held.len() + 1 < usize::from(prefetch) {
            // Some deliveries are acked later, perhaps over another link.
            held.push(delivery);
            record.borrow_mut().consumed.push((id, redelivered, false));
            continue;
        }
        let settled = delivery.ack().expect("ack never fails");
        record.borrow_mut().consumed.push((id, redelivered, settled == Settled::Sent));
        for delivery in held.drain(..) {
            delivery.ack().expect("ack never fails");
        }
    }
}

/// Runs one seed, and returns how often the broker crashed.
fn run(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random);
    let world = World::new(seed);
    let record = Rc::new(RefCell::new(Record::default()));
    for number in 0..plan.publishers {
        let builder = builder(seed + number, &plan);
        world.start("publisher", publish(world.clone(), builder, number, plan.messages, Rc::clone(&record)));
    }
    let publishing = world.running();
    for number in 0..plan.consumers {
        let builder = builder(seed + 100 + number as u64, &plan);
        world.start("consumer", consume(world.clone(), builder, Rc::clone(&record)));
    }
    for _ in 0..plan.faults {
        world.advance(Duration::from_millis(random.below(4000)));
        world.fault(&mut random);
    }
    world.heal();
    let total = plan.publishers * plan.messages;
    let done = |record: &Record| {
        let got = |id: &u64| record.consumed.iter().any(|(consumed, ..)| consumed == id);
        record.outcomes.len() as u64 == total && record.outcomes.iter().filter(|(_, ok)| **ok).all(|(id, _)| got(id))
    };
    let begin = world.now();
    let whole = || {
        let copies = world.copies();
        copies.len() == plan.consumers && world.route(EXCHANGE, "copy.it") == copies
    };
    while !done(&record.borrow()) || world.queue(QUEUE) != Some((0, 0)) || !whole() {
        assert!(
            world.now() - begin < Duration::from_secs(900),
            "messages are left after 15 minutes: {}",
            summary(&record.borrow())
        );
        assert!(world.step(), "deadlock: no task, timer or byte is pending: {}", summary(&record.borrow()));
    }
    check(&record.borrow(), &plan);
    assert_eq!(world.violations(), [""; 0]);
    assert_eq!(world.route(EXCHANGE, "order.new"), [QUEUE]);
    world.shut_down();
    assert_eq!(world.running(), 0, "a future never completes; there were {publishing} publishers");
    world.crashes()
}

fn check(record: &Record, plan: &Plan) {
    assert_eq!(record.published, plan.publishers * plan.messages);
    if plan.republish {
        assert!(record.outcomes.values().all(|confirmed| *confirmed), "republished messages are confirmed");
    }
    let known = |id: u64| id / 1000 < plan.publishers && id % 1000 < plan.messages;
    assert!(record.consumed.iter().all(|(id, ..)| known(*id)), "only published messages are consumed");
    if plan.faults == 0 {
        assert_eq!(record.consumed.len() as u64, record.published, "without faults, each message is delivered once");
    }
    if plan.consumers > 1 {
        return;
    }
    // A requeued message returns to its old place: so first deliveries are in the order of each publisher.
    let mut latest = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for (id, ..) in &record.consumed {
        if seen.insert(*id) {
            let before = latest.insert(id / 1000, *id);
            assert!(before < Some(*id), "{id} came after {before:?}");
        }
    }
}

fn summary(record: &Record) -> String {
    let confirmed = record.outcomes.values().filter(|ok| **ok).count();
    format!("{} published, {confirmed} confirmed, {} consumed", record.published, record.consumed.len())
}

#[test]
fn nothing_confirmed_is_lost_whatever_the_network_does() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, count) = match number("HOPMQ_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("HOPMQ_SEEDS").unwrap_or(300)),
    };
    let mut memory_before = None;
    let mut crashes = 0;
    for seed in first..first + count {
        if seed - first == count / 4 {
            memory_before = memory();
        }
        if seed > first && (seed - first) % 1000 == 0 {
            println!("{} of {count} seeds, in which the broker crashed {crashes} times", seed - first);
        }
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(crashed) => crashes += crashed,
            Err(panic) => {
                eprintln!("HOPMQ_SEED={seed} cargo test -p hopmq-tests --test simulation # repeats this run");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{count} seeds, in which the broker crashed {crashes} times");
    assert!(crashes > 0 || count < 100, "no run crashed the broker");
    if let Some(before) = memory_before
        && let Some(after) = memory()
        && count >= 100
    {
        println!("memory {before} kB after a quarter of the seeds, {after} kB at the end");
        assert!(after < before + 16 * 1024, "memory grew from {before} kB to {after} kB: runs leak");
    }
}

/// Returns this process's memory in kilobytes; `None` on systems without `/proc`.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
