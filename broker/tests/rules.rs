//! What RabbitMQ's releases do differently, and what a client loses that holds a delivery for too long. RabbitMQ itself
//! takes a minute or more for each of the latter; here the clock is turned.

use std::time::Duration;

use hopmq_blocking::{Channel, Connection, Consumer, Delivery, Queue, Recovery};
use hopmq_broker::{Broker, Clock, Profile};

fn broker(profile: Profile) -> (Broker, Connection) {
    let broker = Broker::builder().clock(&Clock::manual()).profile(profile).start();
    let connection = Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap();
    (broker, connection)
}

fn quorum(channel: &Channel, limit: Option<i64>) -> Queue {
    channel.queue("dead").declare().unwrap();
    let declare = channel.queue("q").durable().argument("x-queue-type", "quorum");
    let declare = declare.argument("x-dead-letter-exchange", "").argument("x-dead-letter-routing-key", "dead");
    match limit {
        Some(limit) => declare.argument("x-delivery-limit", limit).declare(),
        None => declare.declare(),
    }
    .unwrap()
}

fn next(consumer: &mut Consumer) -> Delivery {
    consumer.next().unwrap().unwrap()
}

/// How often the message came before it was dead, up to `most`, when each is given back this way.
fn deliveries(broker: &Broker, channel: &Channel, limit: Option<i64>, most: usize, give_back: fn(Delivery)) -> usize {
    let queue = quorum(channel, limit);
    queue.publish("poison").confirm().unwrap();
    let mut consumer = queue.consume().prefetch(1).start().unwrap();
    for count in 1..=most {
        give_back(next(&mut consumer));
        // Its answer says that the broker has seen what was sent before.
        channel.queue("q").declare_passive().unwrap();
        if broker.inspect().queue("dead").unwrap().ready == 1 {
            return count;
        }
    }
    most + 1
}

fn reject(delivery: Delivery) {
    delivery.reject(true).unwrap();
}

fn nack(delivery: Delivery) {
    delivery.nack(true).unwrap();
}

#[test]
fn a_quorum_queue_has_a_limit_of_20_by_the_rules_of_4_and_none_by_those_of_3() {
    for (profile, limit, expected) in [
        (Profile::RabbitMq3, None, 31),
        (Profile::RabbitMq4, None, 21),
        (Profile::RabbitMq4, Some(2), 3),
        (Profile::RabbitMq4, Some(-1), 31),
    ] {
        let (broker, connection) = broker(profile);
        let channel = connection.channel().unwrap();
        assert_eq!(deliveries(&broker, &channel, limit, 30, reject), expected, "{profile:?} {limit:?}");
        connection.close().unwrap();
    }
}

#[test]
fn an_unlimited_delivery_limit_is_no_value_by_the_rules_of_3() {
    let (_broker, connection) = broker(Profile::RabbitMq3);
    let declare = connection.channel().unwrap();
    let declare = declare.queue("q").durable().argument("x-queue-type", "quorum").argument("x-delivery-limit", -1);
    assert_eq!(declare.declare().unwrap_err().code(), Some(406));
}

#[test]
fn what_is_nacked_does_not_count_by_the_rules_of_4() {
    for (profile, expected) in [(Profile::RabbitMq3, 3), (Profile::RabbitMq4, 11)] {
        let (broker, connection) = broker(profile);
        let channel = connection.channel().unwrap();
        assert_eq!(deliveries(&broker, &channel, Some(2), 10, nack), expected, "{profile:?}");
        connection.close().unwrap();
    }
}

#[test]
fn a_message_that_was_nacked_is_redelivered_and_has_no_count_by_the_rules_of_4() {
    let (_broker, connection) = broker(Profile::RabbitMq4);
    let queue = quorum(&connection.channel().unwrap(), None);
    queue.publish("x").confirm().unwrap();
    let mut consumer = queue.consume().prefetch(1).start().unwrap();
    nack(next(&mut consumer));
    let again = next(&mut consumer);
    assert!(again.redelivered() && again.headers().unwrap().get("x-delivery-count").is_none());
    reject(again);
    let again = next(&mut consumer);
    assert_eq!(again.headers().unwrap().get("x-delivery-count").and_then(|count| count.as_i64()), Some(1));
}

#[test]
fn a_message_of_20_mib_is_too_large_by_the_rules_of_4() {
    for (profile, fits) in [(Profile::RabbitMq3, true), (Profile::RabbitMq4, false)] {
        let (_broker, connection) = broker(profile);
        let queue = connection.channel().unwrap().queue("q").declare().unwrap();
        assert_eq!(queue.publish(&vec![0; 20 << 20][..]).confirm().is_ok(), fits, "{profile:?}");
    }
}

#[test]
fn who_holds_a_delivery_for_half_an_hour_loses_the_channel_and_others_get_it() {
    let (broker, connection) = broker(Profile::RabbitMq3);
    let (channel, other) = (connection.channel().unwrap(), connection.channel().unwrap());
    let queue = channel.queue("q").declare().unwrap();
    let mut consumer = channel.consume("q").prefetch(2).start().unwrap();
    queue.publish("first").confirm().unwrap();
    let first = next(&mut consumer);
    broker.advance("20m");
    queue.publish("second").confirm().unwrap();
    let second = next(&mut consumer);
    first.ack().unwrap();
    broker.wait_until(|look| look.queue("q").unwrap().unacked == 1);
    // What is acked in time does no harm, and the second has its own half hour.
    broker.advance("29m");
    assert_eq!(broker.inspect().queue("q").unwrap().unacked, 1);
    broker.advance("1m");
    let error = consumer.next().unwrap().unwrap_err();
    assert_eq!(error.code(), Some(406));
    let text = "delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms.";
    assert!(error.to_string().contains(text), "{error}");
    drop(second);
    let again = other.get("q").unwrap().expect("it was given back");
    assert!(again.redelivered());
    again.ack().unwrap();
    connection.close().unwrap();
}

#[test]
fn a_queue_has_a_time_of_its_own_and_so_has_a_broker() {
    let held = |broker: &Broker, timeout: Option<i64>| {
        let connection = Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap();
        let channel = connection.channel().unwrap();
        let declare = channel.queue("").exclusive();
        let queue = match timeout {
            Some(timeout) => declare.argument("x-consumer-timeout", timeout).declare(),
            None => declare.declare(),
        };
        let queue = queue.unwrap();
        queue.publish("x").confirm().unwrap();
        let _held = queue.get().unwrap().expect("it was confirmed");
        let at = (1..=100).find(|_| {
            broker.advance("1m");
            broker.inspect().channels().is_empty()
        });
        connection.close().unwrap();
        at
    };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let started =
        |timeout: Option<Duration>| Broker::builder().clock(&Clock::manual()).consumer_timeout(timeout).start();
    let broker = started(Some(minutes(10)));
    assert_eq!(held(&broker, None), Some(10));
    assert_eq!(held(&broker, Some(120_000)), Some(2));
    assert_eq!(held(&broker, Some(0)), None);
    assert_eq!(held(&started(None), None), None);
}
