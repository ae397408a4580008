//! Differences between RabbitMQ's releases that clients meet, and the timeout for unacked deliveries. RabbitMQ needs a
//! minute or more for each timeout; these tests advance a manual clock.

use std::time::Duration;

use hopmq_blocking::{Channel, Connection, Consumer, Delivery, Queue, Recovery};
use hopmq_broker::{Broker, Clock, Profile};

fn broker(profile: Profile) -> (Broker, Connection) {
    let broker = Broker::builder().clock(&Clock::manual()).profile(profile).start();
    let connection = Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap();
    (broker, connection)
}

fn quorum(channel: &Channel, limit: Option<i64>) -> Queue {
    channel.queue("dead").durable().declare().unwrap();
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

/// Returns how often a message was delivered before it was dead-lettered, up to `most`, if `requeue` returns each
/// delivery.
fn deliveries(broker: &Broker, channel: &Channel, limit: Option<i64>, most: usize, requeue: fn(Delivery)) -> usize {
    let queue = quorum(channel, limit);
    queue.publish("poison").confirm().unwrap();
    let mut consumer = queue.consume().prefetch(1).start().unwrap();
    for count in 1..=most {
        requeue(next(&mut consumer));
        // The reply shows that the broker has handled the reject or nack.
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
fn a_quorum_queue_has_a_delivery_limit_of_20_in_rabbitmq_4_and_none_in_3() {
    for (profile, limit, expected) in [
        (Profile::RabbitMq3_13, None, 31),
        (Profile::RabbitMq3_13, Some(-1), 1),
        (Profile::RabbitMq4_0, None, 21),
        (Profile::RabbitMq4_3, None, 21),
        (Profile::RabbitMq4_3, Some(2), 3),
        (Profile::RabbitMq4_3, Some(-1), 31),
    ] {
        let (broker, connection) = broker(profile);
        let channel = connection.channel().unwrap();
        assert_eq!(deliveries(&broker, &channel, limit, 30, reject), expected, "{profile:?} {limit:?}");
        connection.close().unwrap();
    }
}

#[test]
fn a_nack_does_not_count_towards_the_delivery_limit_in_rabbitmq_4_3() {
    for (profile, expected) in [(Profile::RabbitMq3_13, 3), (Profile::RabbitMq4_0, 3), (Profile::RabbitMq4_3, 11)] {
        let (broker, connection) = broker(profile);
        let channel = connection.channel().unwrap();
        assert_eq!(deliveries(&broker, &channel, Some(2), 10, nack), expected, "{profile:?}");
        connection.close().unwrap();
    }
}

#[test]
fn a_nacked_message_is_redelivered_without_a_delivery_count_in_rabbitmq_4_3() {
    let (_broker, connection) = broker(Profile::RabbitMq4_3);
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
fn a_message_of_20_mib_is_too_large_in_rabbitmq_4() {
    for (profile, fits) in [(Profile::RabbitMq3_13, true), (Profile::RabbitMq4_3, false)] {
        let (_broker, connection) = broker(profile);
        let queue = connection.channel().unwrap().queue("q").durable().declare().unwrap();
        assert_eq!(queue.publish(&vec![0; 20 << 20][..]).confirm().is_ok(), fits, "{profile:?}");
    }
}

#[test]
fn a_delivery_unacked_for_half_an_hour_closes_the_channel_and_is_requeued() {
    let (broker, connection) = broker(Profile::RabbitMq3_13);
    let channel = connection.channel().unwrap();
    let other = connection.channel().unwrap();
    let queue = channel.queue("q").declare().unwrap();
    let mut consumer = channel.consume("q").prefetch(2).start().unwrap();
    queue.publish("first").confirm().unwrap();
    let first = next(&mut consumer);
    broker.advance("20m");
    queue.publish("second").confirm().unwrap();
    let second = next(&mut consumer);
    first.ack().unwrap();
    broker.wait_until(|inspector| inspector.queue("q").unwrap().unacked == 1);
    // The first was acked in time, and the second has its own half hour.
    broker.advance("29m");
    assert_eq!(broker.inspect().queue("q").unwrap().unacked, 1);
    broker.advance("1m");
    let error = consumer.next().unwrap().unwrap_err();
    assert_eq!(error.code(), Some(406));
    let text = "delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms.";
    assert!(error.to_string().contains(text), "{error}");
    drop(second);
    let again = other.get("q").unwrap().expect("the message was requeued");
    assert!(again.redelivered());
    again.ack().unwrap();
    connection.close().unwrap();
}

#[test]
fn the_consumer_timeout_can_be_set_for_a_queue_and_for_a_broker() {
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
        let _held = queue.get().unwrap().expect("the message was confirmed");
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

/// Delivers a message of `q` to a consumer, and holds it.
fn held(channel: &Channel, arguments: &[(&str, i64)]) -> (Consumer, Delivery) {
    channel.publish("", "q", "x").confirm().unwrap();
    let mut consume = channel.consume("q");
    for (name, value) in arguments {
        consume = consume.argument(name, *value);
    }
    let mut consumer = consume.start().unwrap();
    let delivery = next(&mut consumer);
    (consumer, delivery)
}

#[test]
fn a_late_consumer_of_a_quorum_queue_is_cancelled_in_rabbitmq_4_3() {
    let (broker, connection) = broker(Profile::RabbitMq4_3);
    let channel = connection.channel().unwrap();
    let declare = channel.queue("q").durable().argument("x-queue-type", "quorum");
    declare.argument("x-consumer-timeout", 60_000).declare().unwrap();
    let (mut consumer, delivery) = held(&channel, &[]);
    broker.advance("59s");
    assert_eq!(broker.inspect().queue("q").unwrap().consumers, 1);
    broker.advance("1s");
    broker.wait_until(|inspector| inspector.queue("q").unwrap().ready == 1);
    assert_eq!(broker.inspect().queue("q").unwrap().consumers, 0);
    assert!(!matches!(consumer.next(), Some(Ok(_))), "the consumer has ended");
    // The channel stays open, and a late ack changes nothing.
    let _ = delivery.ack();
    let again = channel.get("q").unwrap().expect("the message is back");
    assert!(again.redelivered() && again.headers().unwrap().get("x-delivery-count").is_none());
    again.ack().unwrap();
    broker.wait_until(|inspector| inspector.queue("q").unwrap().unacked == 0);
    assert_eq!(broker.inspect().queue("q").unwrap().ready, 0);
}

#[test]
fn the_messages_of_a_late_single_active_consumer_come_first_to_the_next() {
    let (broker, connection) = broker(Profile::RabbitMq4_3);
    let channel = connection.channel().unwrap();
    let declare = channel.queue("q").durable().argument("x-queue-type", "quorum").single_active_consumer();
    declare.argument("x-consumer-timeout", 60_000).declare().unwrap();
    let _late = channel.consume("q").prefetch(1).start().unwrap();
    let mut other = channel.consume("q").start().unwrap();
    for body in ["1", "2"] {
        channel.publish("", "q", body).confirm().unwrap();
    }
    broker.advance("1m");
    let bodies = [(); 2].map(|()| next(&mut other).text().into_owned());
    assert_eq!(bodies, ["1", "2"]);
}

#[test]
fn a_consumer_has_its_own_timeout_in_rabbitmq_4_3_and_a_classic_queue_none() {
    let (broker, connection) = broker(Profile::RabbitMq4_3);
    let channel = connection.channel().unwrap();
    let classic = channel.queue("q").durable().argument("x-consumer-timeout", 60_000);
    classic.declare().unwrap();
    let (_consumer, _delivery) = held(&channel, &[]);
    broker.advance("2h");
    assert_eq!(broker.inspect().queue("q").unwrap().unacked, 1);
    channel.queue_delete("q").delete().unwrap();
    channel.queue("q").durable().argument("x-queue-type", "quorum").declare().unwrap();
    let (_consumer, _delivery) = held(&channel, &[("x-consumer-timeout", 2_000)]);
    broker.advance("2s");
    broker.wait_until(|inspector| inspector.queue("q").unwrap().ready == 1);
}
