//! Graceful shutdown, reopening closed channels, and pooling channels.

use futures_lite::StreamExt;
use hopmq::{ErrorKind, Pool, Settled};

use crate::common::{World, poll_once, recovering, seconds};

#[test]
fn shutdown_waits_for_deliveries_in_progress_and_requeues_the_rest() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    for number in 0..5 {
        world.run(queue.publish(format!("{number}")).confirm()).unwrap();
    }
    let mut consumer = world.run(queue.consume().prefetch(4).start()).unwrap();
    world.settle();
    let mut busy = world.run(channel.consume("q").start()).unwrap();
    let in_progress = world.run(consumer.next()).unwrap().unwrap();
    let other = world.run(busy.next()).unwrap().unwrap();
    let closing = connection.clone();
    let done = world.start(async move { closing.shutdown(seconds(30)).await });
    world.advance(seconds(5));
    assert!(!done.is_done(), "two deliveries are in progress");
    // Work in progress can finish: its result is published, and its delivery settled.
    world.run(queue.publish("result").send()).unwrap();
    assert_eq!(in_progress.ack().unwrap(), Settled::Sent);
    assert!(world.run(consumer.next()).is_none(), "nothing is delivered any more");
    assert!(!done.is_done(), "one delivery is in progress");
    other.ack().unwrap();
    world.wait(&done).unwrap();
    assert!(!connection.is_open());
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (4, 0));
    assert_eq!(world.server.violation, None);
}

#[test]
fn shutdown_does_not_wait_for_an_unpolled_consumer() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    for number in 0..5 {
        world.run(queue.publish(format!("{number}")).confirm()).unwrap();
    }
    let mut consumer = world.run(queue.consume().prefetch(3).start()).unwrap();
    world.settle();
    let in_progress = world.run(consumer.next()).unwrap().unwrap();
    let closing = connection.clone();
    let done = world.start(async move { closing.shutdown(seconds(30)).await });
    world.advance(seconds(5));
    assert!(!done.is_done(), "one delivery is in progress");
    let begin = world.time.now();
    in_progress.ack().unwrap();
    world.wait(&done).unwrap();
    assert_eq!(world.time.now(), begin, "two undelivered messages do not delay the shutdown");
    // Those two were not settled: the broker requeues them when the connection is closed.
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (2, 2));
    assert_eq!(world.server.violation, None);
    assert!(world.run(consumer.next()).is_none_or(|last| last.is_err()));
}

#[test]
fn shutdown_reports_what_it_left_unfinished() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    world.run(queue.publish("x").confirm()).unwrap();
    let mut consumer = world.run(queue.consume().start()).unwrap();
    let held = world.run(consumer.next()).unwrap().unwrap();
    let begin = world.time.now();
    let error = world.run(connection.shutdown(seconds(3))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("1 deliveries were not settled"), "{error}");
    assert!(world.time.now() - begin <= seconds(6));
    assert!(!connection.is_open());
    drop(held);
}

#[test]
fn shutdown_without_a_link_ends_at_once() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    let _consumer = world.run(queue.consume().start()).unwrap();
    world.net.down(true);
    world.server.wire.cut();
    world.settle();
    let begin = world.time.now();
    world.run(connection.shutdown(seconds(30))).unwrap();
    assert_eq!(world.time.now(), begin);
}

#[test]
fn a_channel_closed_by_the_broker_is_reopened_with_its_settings() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    let other = world.run(connection.channel()).unwrap();
    world.run(other.queue("q").declare()).unwrap();
    world.run(channel.prefetch(5)).unwrap();
    world.run(channel.publish("", "q", "x").confirm()).unwrap();
    let mut consumer = world.run(channel.consume("q").prefetch(9).tag("mine").start()).unwrap();
    world.settle();
    let error = world.run(channel.queue("missing").declare_passive()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)));
    assert!(error.to_string().contains("no queue 'missing'"), "{error}");
    while let Some(Ok(delivery)) = world.run(consumer.next()) {
        assert_eq!(delivery.ack().unwrap_err().code(), Some(404));
    }
    world.server.forget();
    let again = world.run(channel.reopen()).unwrap();
    let mut restarted = world.run(consumer.restart(&again)).unwrap();
    assert_eq!(restarted.tag(), "mine");
    let delivery = world.run(restarted.next()).unwrap().unwrap();
    assert!(delivery.redelivered());
    delivery.ack().unwrap();
    world.run(again.publish("", "q", "y").confirm()).unwrap();
    let seen = world.server.seen().join(", ");
    assert!(seen.starts_with("1 channel.open, 1 confirm.select, 1 basic.qos 5, 1 basic.qos 9, 1 basic.consume mine"));
    // The other channel is not affected.
    world.run(other.queue("q").declare_passive()).unwrap();
    assert!(!channel.is_open() && other.is_open());
}

#[test]
fn a_pool_reuses_open_channels_and_drops_closed_ones() {
    let mut world = World::new();
    let connection = world.connect_lasting(&recovering()).unwrap();
    let pool = Pool::new([connection.clone()], 2);
    let first = world.run(pool.get()).unwrap();
    let second = world.run(pool.get()).unwrap();
    assert_eq!((first.id(), second.id(), pool.size()), (1, 2, 2));
    let mut waiting = Box::pin(pool.get());
    let mut dropped = Box::pin(pool.get());
    assert!(poll_once(&mut waiting).is_pending() && poll_once(&mut dropped).is_pending());
    drop(dropped);
    world.run(first.queue("missing").declare_passive()).unwrap_err();
    drop(first);
    let third = world.run(waiting).unwrap();
    assert_eq!((third.id(), pool.size()), (1, 2));
    drop(second);
    world.server.wire.cut();
    world.advance(seconds(1));
    let fourth = world.run(pool.get()).unwrap();
    assert_eq!(fourth.id(), 2);
    world.run(fourth.queue("q").declare()).unwrap();
    world.run(connection.close()).unwrap();
    drop((third, fourth));
    assert_eq!(world.run(pool.get()).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_cloned_publisher_outlives_its_channel_handle_and_its_link() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("q").declare()).unwrap();
    let publisher = channel.publisher("", "q").persistent().mandatory();
    drop(channel);
    let other = publisher.clone();
    world.run(publisher.publish("a").confirm()).unwrap();
    world.server.wire.cut();
    world.run(other.publish("b").confirm()).unwrap();
    assert_eq!(world.run(other.publish_to("nowhere", "c").confirm()).unwrap_err().kind(), ErrorKind::Returned);
    let delivery = world.run(publisher.channel().get_no_ack("q")).unwrap().unwrap();
    assert!(delivery.properties().is_persistent());
}
