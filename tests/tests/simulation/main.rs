//! The real client and the real embedded broker, in one thread, on a virtual clock, over a network that breaks
//! and with a broker that crashes: each run is a seed, and the same seed is the same run.
//!
//! ```sh
//! HOPMQ_SEEDS=10000 cargo test -p hopmq-tests --test simulation   # so many runs
//! HOPMQ_SEED=4711 cargo test -p hopmq-tests --test simulation     # one of them again
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

/// What happened, as the program sees it.
#[derive(Default)]
struct Book {
    /// Messages that were to be published.
    published: u64,
    /// What became of them: the broker has it, or nobody knows.
    outcomes: BTreeMap<u64, bool>,
    /// What was consumed, in order; whether it was marked as redelivered; whether its ack was sent.
    consumed: Vec<(u64, bool, bool)>,
}

/// How one seed has it.
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

async fn publish(world: World, builder: Builder, number: u64, messages: u64, book: Rc<RefCell<Book>>) {
    let connection = world.connect(&builder).await;
    let channel = connection.channel().await.expect("a channel opens, whatever the network does");
    declare(&channel).await.expect("it may be declared again and again");
    let mut confirms = Vec::new();
    for message in 0..messages {
        let id = number * 1000 + message;
        book.borrow_mut().published += 1;
        let body = id.to_string();
        let confirm = channel.publish(EXCHANGE, "order.new", body).persistent().confirm_later().await;
        confirms.push((id, confirm.expect("there is room in time")));
        if world.random(3) == 0 {
            world.sleep(Duration::from_millis(world.random(800))).await;
        }
        if world.random(4) == 0 {
            settle(&mut confirms, &book).await;
        }
    }
    settle(&mut confirms, &book).await;
    connection.close().await.expect("all is confirmed");
}

async fn settle(confirms: &mut Vec<(u64, hopmq::Confirm)>, book: &Rc<RefCell<Book>>) {
    for (id, confirm) in confirms.drain(..) {
        let confirmed = match confirm.await {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => false,
            Err(error) => panic!("publish {id}: {error}"),
        };
        book.borrow_mut().outcomes.insert(id, confirmed);
    }
}

async fn consume(world: World, builder: Builder, book: Rc<RefCell<Book>>) {
    let connection = world.connect(&builder).await;
    let channel = connection.channel().await.expect("a channel opens, whatever the network does");
    declare(&channel).await.expect("it may be declared again and again");
    // A queue that the broker names, and that goes with each link.
    let copy = channel.queue("").exclusive().declare().await.expect("the broker has names for it");
    copy.bind(EXCHANGE, "copy.#").await.expect("it is there");
    let prefetch = 1 + world.random(10) as u16;
    let mut consumer = channel.consume(QUEUE).prefetch(prefetch).await.expect("the queue is there");
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
                delivery.ack().expect("an ack is never an error");
            }
            continue;
        };
        let Some(delivery) = next else { return };
        let delivery = delivery.expect("the stream goes on, whatever the network does");
        let id = delivery.text().parse().expect("bodies are whole");
        if world.random(5) == 0 {
            world.sleep(Duration::from_millis(world.random(1500))).await;
        }
        let redelivered = delivery.redelivered();
        if world.random(6) == 0 && held.len() + 1 < usize::from(prefetch) {
            // Some are settled later, perhaps over another link.
            held.push(delivery);
            book.borrow_mut().consumed.push((id, redelivered, false));
            continue;
        }
        let settled = delivery.ack().expect("an ack is never an error");
        book.borrow_mut().consumed.push((id, redelivered, settled == Settled::Sent));
        for delivery in held.drain(..) {
            delivery.ack().expect("an ack is never an error");
        }
    }
}

/// Returns how often the broker crashed.
fn run(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random);
    let world = World::new(seed);
    let book = Rc::new(RefCell::new(Book::default()));
    for number in 0..plan.publishers {
        let (builder, book) = (builder(seed + number, &plan), Rc::clone(&book));
        world.start("publisher", publish(world.clone(), builder, number, plan.messages, book));
    }
    let publishing = world.running();
    for number in 0..plan.consumers {
        let builder = builder(seed + 100 + number as u64, &plan);
        world.start("consumer", consume(world.clone(), builder, Rc::clone(&book)));
    }
    for _ in 0..plan.faults {
        world.advance(Duration::from_millis(random.below(4000)));
        world.fault(&mut random);
    }
    world.heal();
    let total = plan.publishers * plan.messages;
    let done = |book: &Book| {
        let got = |id: &u64| book.consumed.iter().any(|(consumed, ..)| consumed == id);
        book.outcomes.len() as u64 == total && book.outcomes.iter().filter(|(_, ok)| **ok).all(|(id, _)| got(id))
    };
    let begin = world.now();
    let whole = || {
        let copies = world.copies();
        copies.len() == plan.consumers && world.route(EXCHANGE, "copy.it") == copies
    };
    while !done(&book.borrow()) || world.queue(QUEUE) != Some((0, 0)) || !whole() {
        assert!(world.now() - begin < Duration::from_secs(900), "it never comes to rest: {}", summary(&book.borrow()));
        assert!(world.step(), "nothing would ever happen again: {}", summary(&book.borrow()));
    }
    check(&book.borrow(), &plan);
    assert_eq!(world.complaints(), [""; 0]);
    assert_eq!(world.route(EXCHANGE, "order.new"), [QUEUE]);
    world.shut_down();
    assert_eq!(world.running(), 0, "{publishing} publishers: a future is left pending");
    world.crashes()
}

fn check(book: &Book, plan: &Plan) {
    assert_eq!(book.published, plan.publishers * plan.messages);
    if plan.republish {
        assert!(book.outcomes.values().all(|confirmed| *confirmed), "what is published again is confirmed");
    }
    let known = |id: u64| id / 1000 < plan.publishers && id % 1000 < plan.messages;
    assert!(book.consumed.iter().all(|(id, ..)| known(*id)), "nothing comes that nobody sent");
    if plan.faults == 0 {
        assert_eq!(book.consumed.len() as u64, book.published, "without faults, each comes once");
    }
    if plan.consumers > 1 {
        return;
    }
    // A queue gives back what was not settled to where it was: so whatever is new comes in the order of its publisher.
    let mut latest = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for (id, ..) in &book.consumed {
        if seen.insert(*id) {
            let before = latest.insert(id / 1000, *id);
            assert!(before < Some(*id), "{id} came after {before:?}");
        }
    }
}

fn summary(book: &Book) -> String {
    let confirmed = book.outcomes.values().filter(|ok| **ok).count();
    format!("{} published, {confirmed} confirmed, {} consumed", book.published, book.consumed.len())
}

#[test]
fn nothing_confirmed_is_lost_whatever_the_network_does() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, count) = match number("HOPMQ_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("HOPMQ_SEEDS").unwrap_or(300)),
    };
    let (mut begun, mut crashes) = (None, 0);
    for seed in first..first + count {
        if seed - first == count / 4 {
            begun = memory();
        }
        if seed > first && (seed - first) % 1000 == 0 {
            println!("{} of {count} seeds, in which the broker crashed {crashes} times", seed - first);
        }
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(crashed) => crashes += crashed,
            Err(panic) => {
                eprintln!("HOPMQ_SEED={seed} cargo test -p hopmq-tests --test simulation # runs this one again");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{count} seeds, in which the broker crashed {crashes} times");
    assert!(crashes > 0 || count < 100, "the broker crashes now and then");
    if let (Some(before), Some(after)) = (begun, memory())
        && count >= 100
    {
        println!("memory {before} kB after a quarter of them, {after} kB at the end");
        assert!(after < before + 16 * 1024, "{before} kB became {after} kB: a run leaves something behind");
    }
}

/// What this process holds, in kilobytes. `None` where the system doesn't say.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
