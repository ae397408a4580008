//! Deliveries of a lost link: nothing that arrives late may settle a delivery of the next link in their place.

use futures_lite::StreamExt;
use hopmq::{Channel, Connection, Consumer, Delivery, ErrorKind, Settled};

use crate::common::{World, recovering};

/// Opens a channel with the queues `old` and `new`, and three messages in `old`.
fn open() -> (World, Connection, Channel) {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    for name in ["old", "new"] {
        world.run(channel.queue(name).declare()).unwrap();
    }
    for _ in 0..3 {
        world.run(channel.publish("", "old", "x").confirm()).unwrap();
    }
    (world, connection, channel)
}

/// Replaces the link, and takes three deliveries that have the tags 1 to 3 on the next one.
fn deliveries_of_the_next_link(world: &mut World, channel: &Channel) -> (Consumer, Vec<Delivery>) {
    let mut consumer = world.run(channel.consume("new").start()).unwrap();
    world.outage();
    for _ in 0..3 {
        world.run(channel.publish("", "new", "y").confirm()).unwrap();
    }
    let deliveries: Vec<_> = (0..3).map(|_| world.run(consumer.next()).unwrap().unwrap()).collect();
    assert_eq!(deliveries.iter().map(Delivery::delivery_tag).collect::<Vec<_>>(), [1, 2, 3]);
    (consumer, deliveries)
}

/// Acknowledges the deliveries, which nothing has settled, and whose messages are gone then.
#[track_caller]
fn assert_unsettled(world: &mut World, deliveries: Vec<Delivery>) {
    world.settle();
    for delivery in deliveries {
        assert_eq!(delivery.ack().unwrap(), Settled::Sent);
    }
    world.settle();
    assert_eq!((world.server.broker.ready("new"), world.server.broker.unacked()), (0, 0));
    assert_eq!(world.server.broker.ready("old"), 3);
}

#[test]
fn a_consumer_that_the_broker_cancelled_yields_nothing_of_a_lost_link() {
    let (mut world, _connection, channel) = open();
    let mut consumer = world.run(channel.consume("old").tag("c").start()).unwrap();
    world.settle();
    world.server.cancel(1, "c");
    world.settle();
    let (_other, deliveries) = deliveries_of_the_next_link(&mut world, &channel);
    let end = world.run(consumer.next()).unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConsumerCancelled);
    assert_unsettled(&mut world, deliveries);
}

#[test]
fn a_consumer_that_the_program_cancelled_yields_nothing_of_a_lost_link() {
    let (mut world, _connection, channel) = open();
    let mut consumer = world.run(channel.consume("old").start()).unwrap();
    world.settle();
    world.run(consumer.cancel()).unwrap();
    let (_other, deliveries) = deliveries_of_the_next_link(&mut world, &channel);
    assert!(world.run(consumer.next()).is_none());
    assert_unsettled(&mut world, deliveries);
}

#[test]
fn a_consumer_that_is_dropped_requeues_nothing_of_a_lost_link() {
    let (mut world, _connection, channel) = open();
    let mut consumer = world.run(channel.consume("old").start()).unwrap();
    world.settle();
    let taken = world.run(consumer.next()).unwrap().unwrap();
    world.run(consumer.cancel()).unwrap();
    let (_other, deliveries) = deliveries_of_the_next_link(&mut world, &channel);
    drop(consumer);
    assert_eq!(taken.ack().unwrap(), Settled::Stale);
    assert_unsettled(&mut world, deliveries);
}

#[test]
fn a_get_that_is_dropped_requeues_nothing_of_a_lost_link() {
    let (mut world, _connection, channel) = open();
    let got = channel.get("old");
    world.settle();
    let (_other, deliveries) = deliveries_of_the_next_link(&mut world, &channel);
    drop(got);
    assert_unsettled(&mut world, deliveries);
}
