//! Dead letters at least once survive the end of the broker; and the longest times.

use std::time::Duration;

use hopmq_blocking::{Channel, Connection, Recovery};
use hopmq_broker::store::MemoryStorage;
use hopmq_broker::{Broker, Clock};

fn connect(broker: &Broker) -> Connection {
    Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap()
}

fn start(clock: &Clock, storage: &MemoryStorage) -> Broker {
    Broker::builder().clock(clock).open(storage.clone()).unwrap()
}

/// Declares a quorum queue `q`, rejects these messages of it, and leaves one more ready.
fn bury(channel: &Channel, bodies: &[&'static str]) {
    let declare = channel.queue("q").durable().argument("x-queue-type", "quorum");
    let declare = declare.argument("x-overflow", "reject-publish").argument("x-dead-letter-strategy", "at-least-once");
    let declare = declare.argument("x-dead-letter-exchange", "").argument("x-dead-letter-routing-key", "dead");
    declare.declare().unwrap();
    for body in bodies {
        channel.publish("", "q", *body).persistent().confirm().unwrap();
        channel.get("q").unwrap().expect("the message is ready").reject(false).unwrap();
    }
    channel.publish("", "q", "ready").persistent().confirm().unwrap();
}

fn texts(broker: &Broker, queue: &str) -> Vec<String> {
    broker.inspect().ready(queue).iter().map(|message| message.text().to_owned()).collect()
}

#[test]
fn a_dead_letter_without_a_queue_survives_a_restart() {
    let (clock, storage) = (Clock::manual(), MemoryStorage::new());
    let broker = start(&clock, &storage);
    bury(&connect(&broker).channel().unwrap(), &["1", "2"]);
    drop(broker);
    for _ in 0..2 {
        let broker = start(&clock, &storage);
        broker.advance("1m");
        assert_eq!(texts(&broker, "q"), ["ready"]);
    }
    let broker = start(&clock, &storage);
    let channel = connect(&broker).channel().unwrap();
    channel.queue("dead").durable().declare().unwrap();
    broker.advance("1s");
    assert_eq!((texts(&broker, "dead"), texts(&broker, "q")), (vec!["1".into(), "2".into()], vec!["ready".to_owned()]));
    let reason = broker.inspect().ready("dead")[0]
        .properties
        .headers()
        .unwrap()
        .get("x-first-death-reason")
        .unwrap()
        .as_str()
        .map(str::to_owned);
    assert_eq!(reason.as_deref(), Some("rejected"));
    drop(broker);
    let broker = start(&clock, &storage);
    broker.advance("1m");
    assert_eq!((texts(&broker, "dead"), texts(&broker, "q")), (vec!["1".into(), "2".into()], vec!["ready".to_owned()]));
}

#[test]
fn many_dead_letters_are_sent_at_once_when_their_queue_is_declared() {
    let broker = Broker::builder().clock(&Clock::manual()).start();
    let channel = connect(&broker).channel().unwrap();
    bury(&channel, &["x"; 500]);
    broker.advance("10s");
    channel.queue("dead").declare().unwrap();
    broker.advance("1ms");
    assert_eq!(texts(&broker, "dead").len(), 500);
}

#[test]
fn a_time_to_live_of_ten_years_is_exact_after_a_restart() {
    let (clock, storage) = (Clock::manual(), MemoryStorage::new());
    let broker = start(&clock, &storage);
    let channel = connect(&broker).channel().unwrap();
    let longest = 315_360_000_000_i64;
    channel.queue("q").durable().argument("x-message-ttl", longest).declare().unwrap();
    channel.queue("unused").durable().argument("x-expires", longest).declare().unwrap();
    channel.publish("", "q", "m").persistent().confirm().unwrap();
    drop(broker);
    let broker = start(&clock, &storage);
    broker.advance(Duration::from_millis(315_359_999_999));
    assert_eq!((texts(&broker, "q").len(), broker.inspect().queue("unused").is_some()), (1, true));
    broker.advance("1ms");
    assert_eq!((texts(&broker, "q").len(), broker.inspect().queue("unused").is_some()), (0, false));
}
