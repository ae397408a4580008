//! Publishes that were unconfirmed when the link was lost: published again, or failed, as configured.

use hopmq::{Builder, Confirm, Connection, ErrorKind, Properties, Recovery, Unconfirmed};

use crate::common::{Started, World, fault, seconds};

fn builder(recovery: Recovery) -> Builder {
    Connection::builder().heartbeat(seconds(20)).recovery(recovery.seed(1))
}

fn bodies(world: &mut World, channel: &hopmq::Channel, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(delivery) = world.run(channel.get_no_ack(queue)).unwrap() {
        bodies.push(delivery.text().into_owned());
    }
    bodies
}

#[test]
fn unconfirmed_messages_are_republished_in_order_and_before_later_ones() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&builder(Recovery::new()));
    let mut confirms: Vec<Option<Confirm>> = Vec::new();
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    for number in 1..=6 {
        let body = if number == 4 { vec![b'x'; 50_000] } else { number.to_string().into_bytes() };
        confirms.push(Some(world.run(channel.publish("", "q", body).confirm_later()).unwrap()));
    }
    // Two are confirmed, one of them from the middle; the broker has the others, but the client can't know that.
    world.settle();
    for delivery_tag in [1, 3] {
        world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag, multiple: false });
    }
    world.settle();
    world.server.broker.delete_all_queues();
    world.server.broker.create_queue("q");
    world.net.down(true);
    world.server.wire.cut();
    world.settle();
    let other = channel.clone();
    let later = world.start(async move { other.publish("", "q", "7").confirm().await });
    world.net.down(false);
    world.advance(seconds(2));
    let published = world.server.seen().iter().filter(|what| what.contains("basic.publish")).count();
    assert_eq!(published, 6 + 4 + 1);
    // On the new link, tags start from 1 again; the later publishes are confirmed first.
    world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag: 5, multiple: false });
    world.wait(&later).unwrap();
    world.server.answer(1, &hopmq_proto::method::basic::Nack { delivery_tag: 2, multiple: false, requeue: false });
    world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag: 4, multiple: true });
    for (number, confirm) in (1..).zip(&mut confirms) {
        let outcome = world.run(confirm.take().unwrap());
        assert_eq!(outcome.map_err(|error| error.kind()), if number == 4 { Err(ErrorKind::Nacked) } else { Ok(()) });
    }
    let bodies = bodies(&mut world, &channel, "q");
    let shown: Vec<&str> = bodies.iter().map(|body| &body[..1]).collect();
    assert_eq!(shown, ["2", "x", "5", "6", "7"]);
    assert_eq!(bodies[1].len(), 50_000);
    world.server.broker.confirms_by_hand = false;
    world.run(channel.publish("", "q", "8").confirm()).unwrap();
    assert_eq!(connection.stats().confirmed, 2 + 1 + 3 + 1);
}

#[test]
fn a_second_outage_republishes_what_is_still_unconfirmed() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&builder(Recovery::new()));
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    let start = |world: &mut World, body: &'static str| -> Started<_> {
        let channel = channel.clone();
        world.start(async move { channel.publish("", "q", body).confirm().await })
    };
    let first = start(&mut world, "a");
    let second = start(&mut world, "b");
    world.server.wire.cut();
    world.advance(seconds(1));
    let third = start(&mut world, "c");
    world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag: 2, multiple: false });
    world.wait(&second).unwrap();
    world.server.broker.delete_all_queues();
    world.server.broker.create_queue("q");
    world.server.broker.confirms_by_hand = false;
    world.server.wire.cut();
    world.advance(seconds(1));
    world.wait(&first).unwrap();
    world.wait(&third).unwrap();
    assert_eq!(bodies(&mut world, &channel, "q"), ["a", "c"]);
}

#[test]
fn republished_messages_are_marked_on_request() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&builder(Recovery::new().mark_republished("x-again")));
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    let properties = Properties::new().with_message_id("17").with_header("shop", 3);
    let confirm = world.run(channel.publish("", "q", "x").properties(&properties).confirm_later()).unwrap();
    world.settle();
    world.server.broker.confirms_by_hand = false;
    world.server.wire.cut();
    world.run(confirm).unwrap();
    for again in [false, true] {
        let delivery = world.run(channel.get_no_ack("q")).unwrap().expect("both copies are queued");
        assert_eq!(delivery.properties().message_id(), Some("17"));
        assert_eq!(delivery.headers().unwrap().get("shop"), Some(hopmq::Value::I32(3)));
        assert_eq!(delivery.headers().unwrap().contains_key("x-again"), again);
    }
}

#[test]
fn message_ids_are_unique_and_kept_when_republished_on_request() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&builder(Recovery::new().message_ids()));
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    let mine = Properties::new().with_message_id("17");
    let others = Properties::new().with_kind("order");
    let publishes = [channel.publish("", "q", "a"), channel.publish("", "q", "b").properties(&mine)];
    let more = [channel.publish("", "q", "c").properties(&others), channel.publish("", "q", "d").message_id("18")];
    let confirms: Vec<Confirm> =
        publishes.into_iter().chain(more).map(|publish| world.run(publish.confirm_later()).unwrap()).collect();
    world.settle();
    world.server.broker.confirms_by_hand = false;
    world.server.wire.cut();
    for confirm in confirms {
        world.run(confirm).unwrap();
    }
    let mut seen = Vec::new();
    while let Some(delivery) = world.run(channel.get_no_ack("q")).unwrap() {
        let properties = delivery.properties();
        assert_eq!(properties.kind(), (delivery.text() == "c").then_some("order"));
        seen.push((delivery.text().into_owned(), properties.message_id().expect("every message has an ID").to_owned()));
    }
    assert_eq!(seen.len(), 8);
    let (first, again) = seen.split_at(4);
    assert_eq!(first, again, "each message came twice with the same ID");
    assert_eq!((&*first[1].1, &*first[3].1), ("17", "18"), "a message keeps the ID that it had");
    assert_ne!(first[0].1, first[2].1);
    assert!(first[0].1.len() > 32, "{first:?}");
}

#[test]
fn messages_get_no_id_by_default() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&builder(Recovery::new()));
    world.run(channel.queue("q").declare()).unwrap();
    world.run(channel.publish("", "q", "x").confirm()).unwrap();
    let delivery = world.run(channel.get_no_ack("q")).unwrap().expect("the message was confirmed");
    assert_eq!(delivery.properties().message_id(), None);
}

#[test]
fn unconfirmed_messages_fail_when_so_configured() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&builder(Recovery::new().unconfirmed(Unconfirmed::Fail)));
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    let confirm = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
    world.server.broker.confirms_by_hand = false;
    world.server.wire.cut();
    let error = world.run(confirm).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    world.run(channel.publish("", "q", "y").confirm()).unwrap();
    assert_eq!(world.server.count("1 basic.publish"), 2);
}

#[test]
fn messages_kept_for_republishing_are_bounded() {
    let mut world = World::new();
    let recovery = Recovery::new().republish_limit(10_000);
    let (_connection, channel) = world.open_lasting(&builder(recovery).request_timeout(seconds(3)));
    world.server.broker.confirms_by_hand = true;
    let mut confirms = Vec::new();
    let refused = loop {
        match world.run(channel.publish("", "q", "x".repeat(500)).confirm_later()) {
            Ok(confirm) => confirms.push(confirm),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Timeout);
    assert!((15..25).contains(&confirms.len()), "{}", confirms.len());
    world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag: 0, multiple: true });
    for confirm in confirms {
        world.run(confirm).unwrap();
    }
    assert!(world.run(channel.publish("", "q", "x").send()).is_ok());
}

#[test]
fn a_request_that_the_broker_closes_the_connection_for_is_not_sent_again() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&builder(Recovery::new()));
    let other = world.run(connection.channel()).unwrap();
    world.server.holds = vec!["exchange.declare", "queue.declare", "basic.publish"];
    let refused = channel.exchange("x").kind("x-unheard-of").declare();
    let unrelated = other.queue("q").declare();
    world.settle();
    world.server.holds.clear();
    world.server.refuse_for(503, "COMMAND_INVALID - unknown exchange type", (40, 10));
    assert_eq!(fault(&world.run(refused).unwrap_err()), (ErrorKind::ConnectionClosed, Some(503)));
    assert_eq!(world.run(unrelated).unwrap().name(), "q");
    assert!(connection.is_connected() && channel.is_open());

    world.server.holds = vec!["basic.publish"];
    let confirm = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
    world.settle();
    world.server.holds.clear();
    world.server.refuse_for(540, "NOT_IMPLEMENTED - immediate=true", (60, 40));
    assert_eq!(world.run(confirm).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    world.advance(seconds(5));
    assert!(connection.is_connected());
    assert_eq!(world.server.count("1 basic.publish"), 1);
}
