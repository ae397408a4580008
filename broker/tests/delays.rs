//! Delayed retries of quorum queues, and delayed-message exchanges. The tests advance a manual clock.

use hopmq_blocking::{Channel, Connection, Recovery};
use hopmq_broker::inspect::Message;
use hopmq_broker::store::MemoryStorage;
use hopmq_broker::{Broker, Builder, Clock, Profile};

fn builder(profile: Profile) -> Builder {
    Broker::builder().clock(&Clock::manual()).profile(profile)
}

fn connect(broker: &Broker) -> Connection {
    Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap()
}

/// Returns how many messages of a queue are ready, and how many wait for their retry.
fn counts(broker: &Broker, queue: &str) -> (usize, usize) {
    let queue = broker.inspect().queue(queue).unwrap();
    (queue.ready, queue.delayed)
}

fn retrying(channel: &Channel, arguments: &[(&str, i64)], kind: Option<&str>) {
    let mut declare = channel.queue("q").durable().argument("x-queue-type", "quorum");
    for (name, value) in arguments {
        declare = declare.argument(name, *value);
    }
    match kind {
        Some(kind) => declare.argument("x-delayed-retry-type", kind).declare().unwrap(),
        None => declare.declare().unwrap(),
    };
    channel.publish("", "q", "x").persistent().confirm().unwrap();
}

/// Rejects the message of `q`, and returns after how many milliseconds it is ready again.
fn retry(broker: &Broker, channel: &Channel) -> u32 {
    channel.get("q").unwrap().expect("the message is ready").reject(true).unwrap();
    // The reply shows that the broker has handled the reject.
    channel.queue("q").declare_passive().unwrap();
    let mut waited = 0;
    while counts(broker, "q") == (0, 1) {
        broker.advance("100ms");
        waited += 100;
    }
    assert_eq!(counts(broker, "q"), (1, 0));
    waited
}

#[test]
fn a_returned_message_waits_longer_each_time_in_rabbitmq_4_3() {
    let lavinmq = [("x-delayed-retry-min", 500), ("x-delayed-retry-multiplier", 2)];
    let limits = [("x-delayed-retry-min", 1000), ("x-delayed-retry-max", 3000)];
    for (profile, arguments, kind, expected) in [
        (Profile::RabbitMq4_3, &limits, Some("all"), [1000, 2000, 3000, 3000]),
        (Profile::RabbitMq4_3, &limits, Some("failed"), [1000, 2000, 3000, 3000]),
        (Profile::RabbitMq4_3, &limits, Some("returned"), [0; 4]),
        (Profile::RabbitMq4_3, &limits, Some("disabled"), [0; 4]),
        (Profile::RabbitMq4_3, &lavinmq, None, [500, 1000, 2000, 4000]),
        (Profile::RabbitMq4_0, &limits, Some("all"), [0; 4]),
        (Profile::RabbitMq3_13, &limits, Some("all"), [0; 4]),
    ] {
        let broker = builder(profile).start();
        let connection = connect(&broker);
        let channel = connection.channel().unwrap();
        retrying(&channel, arguments, kind);
        assert_eq!([(); 4].map(|()| retry(&broker, &channel)), expected, "{profile:?} {arguments:?} {kind:?}");
        connection.close().unwrap();
    }
}

#[test]
fn a_delayed_retry_counts_towards_the_delivery_limit_and_survives_a_crash() {
    let storage = MemoryStorage::new();
    let broker = builder(Profile::RabbitMq4_3).open(storage.clone()).unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    retrying(&channel, &[("x-delayed-retry-min", 1000), ("x-delivery-limit", 2)], Some("all"));
    channel.publish("", "q", "y").persistent().confirm().unwrap();
    channel.get("q").unwrap().expect("the message is ready").reject(true).unwrap();
    channel.queue("q").declare_passive().unwrap();
    assert_eq!(counts(&broker, "q"), (1, 1));
    broker.advance("1s");
    assert_eq!(counts(&broker, "q"), (2, 0));
    channel.get("q").unwrap().expect("the message is ready").reject(true).unwrap();
    // So has the store, once a later message is confirmed.
    channel.publish("", "q", "z").persistent().confirm().unwrap();
    broker.faults().crash(|| storage.clone()).unwrap();
    assert_eq!(counts(&broker, "q"), (2, 1));
    broker.advance("1s");
    assert_eq!(counts(&broker, "q"), (2, 1));
    broker.advance("1s");
    assert_eq!(counts(&broker, "q"), (3, 0));
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    let last = channel.get("q").unwrap().expect("the message is ready");
    assert_eq!((last.body(), last.headers().unwrap().get("x-delivery-count")), (&b"x"[..], Some(2_i64.into())));
    last.reject(true).unwrap();
    channel.queue("q").declare_passive().unwrap();
    assert_eq!(counts(&broker, "q"), (2, 0));
}

#[test]
fn a_classic_queue_refuses_delayed_retries_in_rabbitmq_4_3() {
    for (profile, code) in [(Profile::RabbitMq4_3, Some(406)), (Profile::RabbitMq4_0, None)] {
        let broker = builder(profile).start();
        let connection = connect(&broker);
        let declare = connection.channel().unwrap();
        let declare = declare.queue("q").durable().argument("x-delayed-retry-min", 5);
        assert_eq!(declare.declare().err().and_then(|error| error.code()), code);
    }
}

/// Declares a durable delayed-message exchange `later`, bound to the queue `q`.
fn later(channel: &Channel) {
    let exchange = channel.exchange("later").kind("x-delayed-message").durable();
    exchange.argument("x-delayed-type", "topic").declare().unwrap();
    channel.queue("q").durable().declare().unwrap().bind("later", "k.*").unwrap();
}

fn publish(channel: &Channel, body: &str, delay: i64) {
    let publish = channel.publish("later", "k.1", body).persistent();
    publish.header("x-delay", delay).confirm().unwrap();
}

#[test]
fn a_delayed_message_exchange_routes_in_the_order_of_the_delays() {
    let broker = builder(Profile::default()).start();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    later(&channel);
    for (body, delay) in [("third", 3000), ("first", 1000), ("second", 2000), ("at once", 0), ("at once too", -5)] {
        publish(&channel, body, delay);
    }
    channel.publish("later", "k.1", "no delay").confirm().unwrap();
    channel.publish("later", "elsewhere", "no binding").header("x-delay", 10).confirm().unwrap();
    let taken = || std::iter::from_fn(|| channel.get_no_ack("q").unwrap()).map(|delivery| delivery.text().into_owned());
    let taken = || taken().collect::<Vec<_>>();
    assert_eq!(taken(), ["at once", "at once too", "no delay"]);
    for body in ["first", "second", "third"] {
        broker.advance("999ms");
        assert_eq!(counts(&broker, "q"), (0, 0));
        broker.advance("1ms");
        assert_eq!(taken(), [body]);
    }
    assert_eq!(broker.inspect().counts().queues, 1);
}

#[test]
fn a_delayed_message_has_its_delay_as_a_negative_header() {
    let broker = builder(Profile::default()).start();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    later(&channel);
    publish(&channel, "x", 5000);
    broker.advance("5s");
    let delivery = channel.get_no_ack("q").unwrap().expect("the delay is over");
    assert_eq!(delivery.headers().unwrap().get("x-delay"), Some((-5000).into()));
    assert_eq!((delivery.exchange(), delivery.routing_key()), ("later", "k.1"));
}

#[test]
fn delayed_messages_survive_a_crash_and_come_at_their_time() {
    let storage = MemoryStorage::new();
    let broker = builder(Profile::default()).open(storage.clone()).unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    later(&channel);
    publish(&channel, "second", 60_000);
    publish(&channel, "first", 30_000);
    broker.advance("20s");
    broker.faults().crash(|| storage.clone()).unwrap();
    broker.advance("9s");
    assert_eq!(counts(&broker, "q"), (0, 0));
    broker.advance("1s");
    assert_eq!(broker.inspect().ready("q")[0].text(), "first");
    broker.faults().crash(|| storage.clone()).unwrap();
    broker.advance("30s");
    let bodies: Vec<_> = broker.inspect().ready("q").iter().map(Message::text).collect();
    assert_eq!(bodies, ["first", "second"]);
    // Deleting the exchange drops what it delays.
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    publish(&channel, "never", 1000);
    channel.exchange_delete("later").delete().unwrap();
    broker.advance("1s");
    assert_eq!(counts(&broker, "q"), (2, 0));
    broker.faults().crash(|| storage.clone()).unwrap();
    broker.advance("1s");
    assert_eq!(counts(&broker, "q"), (2, 0));
}

#[test]
fn a_mandatory_message_that_is_delayed_is_returned_and_routed_later() {
    let broker = builder(Profile::default()).start();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    later(&channel);
    let publish = channel.publish("later", "k.1", "x").mandatory().header("x-delay", 1000);
    assert!(publish.confirm().is_err());
    broker.advance("1s");
    assert_eq!(counts(&broker, "q"), (1, 0));
}

#[test]
fn the_type_of_a_delayed_message_exchange_must_exist() {
    let broker = builder(Profile::default()).start();
    let connection = connect(&broker);
    for kind in [None, Some("magic"), Some("x-delayed-message")] {
        let channel = connection.channel().unwrap();
        let declare = channel.exchange("later").kind("x-delayed-message");
        let refused = match kind {
            Some(kind) => declare.argument("x-delayed-type", kind).declare(),
            None => declare.declare(),
        };
        assert_eq!(refused.unwrap_err().code(), Some(406), "{kind:?}");
    }
}

#[test]
fn a_transaction_delays_its_messages_at_the_commit() {
    let broker = builder(Profile::default()).start();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    later(&channel);
    channel.tx_select().unwrap();
    channel.publish("later", "k.1", "x").header("x-delay", 1000).send().unwrap();
    channel.tx_rollback().unwrap();
    channel.publish("later", "k.1", "y").header("x-delay", 1000).send().unwrap();
    channel.tx_commit().unwrap();
    broker.advance("1s");
    assert_eq!(broker.inspect().ready("q").iter().map(Message::text).collect::<Vec<_>>(), ["y"]);
}
