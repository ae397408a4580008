//! Restoring after an outage: topology, channels, consumers and requests.

use std::time::Duration;

use futures_lite::StreamExt;
use hopmq::{Consumer, ErrorKind, Event, OnFailure, Recovery, Settled};

use crate::common::{World, recovering, seconds};

async fn next(consumer: &mut Consumer) -> (String, bool, bool) {
    let delivery = consumer.next().await.expect("the consumer continues").expect("the consumer continues");
    let text = delivery.text().into_owned();
    let redelivered = delivery.redelivered();
    let resumed = delivery.resumed();
    assert_eq!(delivery.ack().unwrap(), Settled::Sent);
    (text, redelivered, resumed)
}

#[test]
fn topology_is_restored_in_order_without_what_was_deleted() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("orders").durable().declare()).unwrap();
    world.run(channel.exchange("shop").topic().declare()).unwrap();
    world.run(channel.exchange("copy").fanout().internal().declare()).unwrap();
    world.run(channel.queue_bind("orders", "shop", "order.*", ())).unwrap();
    world.run(channel.exchange_bind("copy", "shop", "#", ())).unwrap();
    world.run(channel.queue("gone").declare()).unwrap();
    world.run(channel.queue_bind("gone", "shop", "x", ())).unwrap();
    world.run(channel.queue_delete("gone").delete()).unwrap();
    world.run(channel.queue_bind("orders", "shop", "y", ())).unwrap();
    world.run(channel.queue_unbind("orders", "shop", "y", ())).unwrap();
    world.run(channel.exchange("trash").declare()).unwrap();
    world.run(channel.queue_bind("orders", "trash", "", ())).unwrap();
    world.run(channel.exchange_delete("trash").delete()).unwrap();
    world.run(channel.queue("looked at").declare_passive()).unwrap_err();
    let events = connection.events();
    world.outage();
    let seen: Vec<&str> = world.server.seen().into_iter().filter(|what| !what.starts_with("0 ")).collect();
    let expected = [
        "header",
        "1 channel.open",
        "1 exchange.declare shop",
        "1 exchange.declare copy",
        "1 queue.declare orders",
        "1 queue.bind orders shop order.*",
        "1 exchange.bind copy shop #",
        "1 channel.close",
    ];
    assert_eq!(seen, expected);
    drop(connection);
    let recovered = world.run(events.filter(|event| matches!(event, Event::Recovered { .. })).next());
    let Some(Event::Recovered { replayed, .. }) = recovered else { panic!("an event of that kind is expected") };
    let counts = (replayed.exchanges, replayed.queues, replayed.bindings, replayed.failures);
    assert_eq!(counts, (2, 1, 2, 0));
}

#[test]
fn auto_deleted_entities_are_not_restored() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering());
    world.run(channel.exchange("temporary").auto_delete().declare()).unwrap();
    world.run(channel.queue("replies").auto_delete().declare()).unwrap();
    world.run(channel.queue_bind("replies", "temporary", "", ())).unwrap();
    let consumer = world.run(channel.consume("replies").start()).unwrap();
    world.run(consumer.cancel()).unwrap();
    world.outage();
    assert_eq!(world.server.count("1 queue") + world.server.count("1 exchange"), 0, "{:?}", world.server.seen());
}

#[test]
fn handles_bindings_and_consumers_follow_a_renamed_queue() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering());
    let queue = world.run(channel.queue("").exclusive().declare()).unwrap();
    let other = queue.clone();
    let old = queue.name().to_owned();
    world.run(queue.bind("amq.topic", "a.#")).unwrap();
    let mut consumer = world.run(queue.consume().start()).unwrap();
    world.server.broker.delete_all_queues();
    world.outage();
    let new = queue.name().to_owned();
    assert_ne!(new, old);
    assert_eq!(other.name(), new);
    assert_eq!(world.server.count(&format!("1 queue.bind {new} amq.topic a.#")), 1, "{:?}", world.server.seen());
    world.run(queue.publish("hello").confirm()).unwrap();
    assert_eq!(world.run(next(&mut consumer)), ("hello".to_owned(), false, true));
    // Requests in flight, and requests made without a link, go to the new name too.
    world.server.holds = vec!["queue.bind", "basic.publish"];
    let bind = queue.bind("amq.topic", "b.#");
    let confirm = world.run(queue.publish("late").confirm_later()).unwrap();
    world.settle();
    world.server.holds.clear();
    world.server.broker.delete_all_queues();
    world.net.down(true);
    world.server.wire.cut();
    world.settle();
    let unbind = queue.unbind("amq.topic", "a.#");
    world.net.down(false);
    world.run(bind).unwrap();
    world.run(unbind).unwrap();
    world.run(confirm).unwrap();
    let new = queue.name().to_owned();
    assert_eq!(world.server.count(&format!("1 queue.bind {new} amq.topic b.#")), 1, "{:?}", world.server.seen());
    assert_eq!(world.run(next(&mut consumer)).0, "late");
    // A second outage renames the queue from its current name.
    world.server.broker.delete_all_queues();
    world.outage();
    assert_ne!(queue.name(), new);
    world.run(other.publish("again").confirm()).unwrap();
    assert_eq!(world.run(next(&mut consumer)), ("again".to_owned(), false, true));
}

#[test]
fn a_consumer_continues_in_the_same_stream() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    let mut consumer = world.run(queue.consume().prefetch(3).start()).unwrap();
    for number in 0..4 {
        world.run(queue.publish(format!("{number}")).confirm()).unwrap();
    }
    let held = world.run(consumer.next()).unwrap().unwrap();
    assert_eq!((&*held.text(), held.resumed()), ("0", false));
    let waiting = world.run(consumer.next()).unwrap().unwrap();
    world.outage();
    assert_eq!(held.ack().unwrap(), Settled::Stale);
    assert_eq!(waiting.nack(true).unwrap(), Settled::Stale);
    // "2" was received before the outage but not taken, so it is seen once.
    for (number, resumed) in [(0, true), (1, false), (2, false), (3, false)] {
        assert_eq!(world.run(next(&mut consumer)), (number.to_string(), number < 3, resumed));
    }
    assert_eq!(world.server.count("1 basic.qos 3"), 1);
    world.settle();
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (0, 0));
    assert_eq!(world.server.violation, None);
}

#[test]
fn channels_keep_their_numbers_and_modes() {
    let mut world = World::new();
    let (connection, first) = world.open_lasting(&recovering());
    let second = world.run(connection.channel()).unwrap();
    let third = world.run(connection.channel()).unwrap();
    world.run(first.close()).unwrap();
    world.run(second.prefetch(7)).unwrap();
    world.run(second.prefetch_shared(70)).unwrap();
    world.run(second.publish("", "nowhere", "x").confirm()).unwrap();
    world.run(third.tx_select()).unwrap();
    world.outage();
    let seen: Vec<&str> = world.server.seen().into_iter().filter(|what| !what.starts_with("0 ")).collect();
    let expected = [
        "header",
        "2 channel.open",
        "2 confirm.select",
        "2 basic.qos 7",
        "2 basic.qos 70",
        "3 channel.open",
        "3 tx.select",
    ];
    assert_eq!(seen, expected);
    world.run(second.publish("", "nowhere", "x").confirm()).unwrap();
    // The transaction is lost, and its commit fails; the next transaction succeeds.
    world.run(third.publish("", "nowhere", "x").send()).unwrap();
    assert_eq!(world.run(third.tx_commit()).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    world.run(third.tx_commit()).unwrap();
}

#[test]
fn requests_in_flight_are_repeated_or_fail() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("q").declare()).unwrap();
    world.server.holds = vec!["queue.declare", "channel.open", "basic.get", "basic.consume", "basic.publish"];
    let declare = channel.queue("r").declare();
    let open = connection.channel();
    let get = channel.get("q");
    let get_no_ack = channel.get_no_ack("q");
    let consume = channel.consume("q").start();
    let dropped = channel.consume("q").start();
    let confirm = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
    world.settle();
    drop(dropped);
    world.server.holds.clear();
    world.net.down(true);
    world.server.wire.cut();
    world.settle();
    let later = channel.queue("s").declare();
    let opened_later = connection.channel();
    let consume_later = channel.consume("q").start();
    assert_eq!(world.run(get_no_ack).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    world.net.down(false);
    assert_eq!(world.run(declare).unwrap().name(), "r");
    assert_eq!(world.run(later).unwrap().name(), "s");
    let second = world.run(open).unwrap();
    let third = world.run(opened_later).unwrap();
    assert_eq!((second.id(), third.id()), (2, 3));
    world.run(confirm).unwrap();
    assert_eq!(world.run(get).unwrap().expect("the message was published again").text(), "x");
    let consumer = world.run(consume).unwrap();
    let other = world.run(consume_later).unwrap();
    world.settle();
    assert_eq!(world.server.broker.consumers(), 2);
    drop(other);
    drop(consumer);
    world.run(second.close()).unwrap();
    assert_eq!(world.server.violation, None);
}

#[test]
fn what_is_cancelled_or_closed_without_a_link_is_not_restored() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("q").declare()).unwrap();
    let mut cancelled = world.run(channel.consume("q").start()).unwrap();
    let dropped = world.run(channel.consume("q").start()).unwrap();
    let other = world.run(connection.channel()).unwrap();
    world.net.down(true);
    world.server.wire.cut();
    world.settle();
    world.run(cancelled.cancel()).unwrap();
    assert!(world.run(cancelled.next()).is_none());
    drop(dropped);
    world.run(other.close()).unwrap();
    assert!(!other.is_open());
    world.net.down(false);
    world.advance(seconds(5));
    assert!(connection.is_connected());
    assert_eq!((world.server.broker.consumers(), world.server.broker.channels()), (0, 1));
}

#[test]
fn a_missing_queue_ends_only_its_consumer() {
    for (policy, least_wait) in [(OnFailure::Skip, 1), (OnFailure::Retry { attempts: 5, delay: seconds(2) }, 9)] {
        let mut world = World::new();
        let (connection, channel) = world.open_lasting(&recovering().recovery(Recovery::new().on_failure(policy)));
        world.server.broker.create_queue("theirs");
        world.run(channel.queue("ours").declare()).unwrap();
        let mut theirs = world.run(channel.consume("theirs").start()).unwrap();
        let mut ours = world.run(channel.consume("ours").start()).unwrap();
        let events = connection.events();
        world.server.broker.delete_queue("theirs");
        let begin = world.time.now();
        world.outage();
        world.run(channel.publish("", "ours", "x").confirm()).unwrap();
        assert_eq!(world.run(next(&mut ours)).0, "x");
        let error = world.run(theirs.next()).unwrap().unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::ConsumerCancelled, Some(404)));
        assert!(world.time.now() - begin >= Duration::from_secs(least_wait));
        let event = world.run(events.filter(|event| matches!(event, Event::NotRestored { .. })).next());
        let Some(Event::NotRestored { entity, .. }) = event else { panic!("an event of that kind is expected") };
        assert_eq!(entity, "queue \"theirs\"");
    }
}

#[test]
fn a_queue_that_reappears_later_gets_its_consumer_back() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering());
    world.server.broker.create_queue("theirs");
    let mut theirs = world.run(channel.consume("theirs").start()).unwrap();
    world.server.broker.delete_queue("theirs");
    world.outage();
    world.advance(seconds(5));
    world.server.broker.create_queue("theirs");
    world.advance(seconds(2));
    world.run(channel.publish("", "theirs", "x").confirm()).unwrap();
    assert_eq!(world.run(next(&mut theirs)), ("x".to_owned(), false, true));
}

#[test]
fn a_refused_declaration_costs_no_channel() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("a").declare()).unwrap();
    world.run(channel.queue("b").declare()).unwrap();
    world.run(channel.queue("c").declare()).unwrap();
    world.run(channel.queue_bind("b", "amq.direct", "", ())).unwrap();
    world.run(channel.queue_bind("c", "amq.direct", "", ())).unwrap();
    let events = connection.events();
    world.server.broker.refuse_declare("b", 406);
    world.outage();
    assert!(connection.is_connected() && channel.is_open());
    assert_eq!(world.server.count("1 queue.bind b"), 0);
    assert_eq!(world.server.count("1 queue.bind c"), 1);
    let event = world.run(events.filter(|event| matches!(event, Event::NotRestored { .. })).next());
    let Some(Event::NotRestored { entity, error }) = event else { panic!("an event of that kind is expected") };
    assert_eq!((entity.as_str(), error.code()), ("queue \"b\"", Some(406)));
}

#[test]
fn a_locked_exclusive_queue_is_retried() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("mine").exclusive().declare()).unwrap();
    let mut consumer = world.run(channel.consume("mine").start()).unwrap();
    world.server.broker.refuse_declare("mine", 405);
    world.outage();
    world.run(channel.queue("other").declare()).unwrap();
    world.advance(seconds(10));
    world.server.broker.refuse_declare("", 0);
    world.advance(seconds(2));
    world.run(channel.publish("", "mine", "x").confirm()).unwrap();
    assert_eq!(world.run(next(&mut consumer)).0, "x");
}

#[test]
fn a_failed_restore_ends_the_connection_when_so_configured() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering().recovery(Recovery::new().on_failure(OnFailure::Fail)));
    world.run(channel.queue("b").declare()).unwrap();
    world.server.broker.refuse_declare("b", 406);
    world.outage();
    let error = world.run(connection.closed());
    assert_eq!(error.code(), Some(406));
    assert!(error.to_string().starts_with("queue \"b\" could not be restored"), "{error}");
}

#[test]
fn the_filter_excludes_entities_from_the_replay() {
    use hopmq::Entity;
    let mut world = World::new();
    let wanted = |entity: &Entity<'_>| !matches!(entity, Entity::Queue { name } if name.starts_with("tmp"));
    let (_connection, channel) = world.open_lasting(&recovering().recovery(Recovery::new().filter(wanted)));
    world.run(channel.queue("tmp.1").declare()).unwrap();
    world.run(channel.queue("kept").declare()).unwrap();
    world.outage();
    assert_eq!(world.server.count("1 queue.declare tmp.1"), 0);
    assert_eq!(world.server.count("1 queue.declare kept"), 1);
}

#[test]
fn a_link_lost_at_any_point_of_the_replay_is_replaced() {
    for cut_after in 0..60 {
        let mut world = World::new();
        let (connection, channel) = world.open_lasting(&recovering());
        let queue = world.run(channel.queue("q").declare()).unwrap();
        world.run(channel.exchange("e").declare()).unwrap();
        world.run(queue.bind("e", "k")).unwrap();
        let mut consumer = world.run(queue.consume().start()).unwrap();
        world.run(queue.publish("before").confirm()).unwrap();
        world.server.wire.cut();
        world.server.cut_after = Some(cut_after);
        world.advance(seconds(20));
        assert!(connection.is_connected(), "{cut_after}");
        world.server.cut_after = None;
        assert_eq!(world.run(next(&mut consumer)), ("before".to_owned(), true, true), "{cut_after}");
        world.run(queue.publish("after").confirm()).unwrap();
        assert_eq!(world.run(next(&mut consumer)).0, "after");
        assert_eq!(world.server.broker.consumers(), 1);
        assert_eq!(world.server.violation, None);
    }
}

#[test]
fn a_broker_that_does_not_answer_the_replay_is_dropped() {
    for held in ["queue.declare", "basic.consume", "channel.open"] {
        let mut world = World::new();
        let (_connection, channel) = world.open_lasting(&recovering());
        world.run(channel.queue("q").declare()).unwrap();
        let mut consumer = world.run(channel.consume("q").start()).unwrap();
        world.server.holds = vec![held];
        world.server.wire.cut();
        world.advance(seconds(20));
        assert_eq!(world.net.dials().len(), 2);
        world.server.holds.clear();
        world.advance(seconds(20));
        assert_eq!(world.net.dials().len(), 3, "{held}");
        world.run(channel.publish("", "q", "x").confirm()).unwrap();
        assert_eq!(world.run(next(&mut consumer)).0, "x", "{held}");
    }
}
