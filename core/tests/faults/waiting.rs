//! Queues that the broker still holds for the lost link: what is reported, and what waits for them.

use futures_lite::StreamExt;
use hopmq::{ErrorKind, Event, OnFailure, Recovery};

use crate::common::{World, recovering, seconds};

/// Describes the events about what is restored.
fn describe(event: &Event) -> Option<String> {
    match event {
        Event::Waiting { entity, error } => Some(format!("{entity} waits: {}", error.code().unwrap_or(0))),
        Event::Restored { entity, waiting } => Some(format!("{entity} is back, {waiting} wait")),
        Event::NotRestored { entity, .. } => Some(format!("{entity} is lost")),
        Event::Recovered { replayed, .. } => Some(format!("recovered, {} wait", replayed.waiting)),
        _ => None,
    }
}

#[test]
fn events_tell_what_waits_and_when_it_is_back() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("mine").exclusive().declare()).unwrap();
    let mut consumer = world.run(channel.consume("mine").tag("c").start()).unwrap();
    let mut events = connection.events().filter_map(|event| describe(&event));
    world.server.broker.refuse_declare("mine", 405);
    world.outage();
    let mut next = |world: &mut World| world.run(events.next()).unwrap();
    assert_eq!(next(&mut world), "queue \"mine\" waits: 405");
    assert_eq!(next(&mut world), "consumer \"c\" of queue \"mine\" waits: 405");
    assert_eq!(next(&mut world), "recovered, 2 wait");
    world.advance(seconds(5));
    world.server.broker.refuse_declare("", 0);
    assert_eq!(next(&mut world), "queue \"mine\" is back, 0 wait");
    assert_eq!(next(&mut world), "consumer \"c\" of queue \"mine\" is back, 0 wait");
    world.run(channel.publish("", "mine", "x").confirm()).unwrap();
    assert_eq!(world.run(consumer.next()).unwrap().unwrap().text(), "x");
}

#[test]
fn what_never_comes_back_is_reported_as_lost() {
    let mut world = World::new();
    let policy = Recovery::new().seed(1).on_failure(OnFailure::Retry { attempts: 3, delay: seconds(1) });
    let (connection, channel) = world.open_lasting(&recovering().recovery(policy));
    world.run(channel.queue("mine").exclusive().declare()).unwrap();
    let mut consumer = world.run(channel.consume("mine").tag("c").start()).unwrap();
    let events = connection.events().filter_map(|event| describe(&event));
    world.server.broker.refuse_declare("mine", 405);
    world.outage();
    let get = world.start(channel.get("mine"));
    world.advance(seconds(5));
    let seen: Vec<String> = world.run(events.take(4).collect());
    assert_eq!(seen[2..], ["recovered, 2 wait", "queue \"mine\" is lost"]);
    assert_eq!(world.run(consumer.next()).unwrap().unwrap_err().kind(), ErrorKind::ConsumerCancelled);
    // The request is made after all, and the broker answers it.
    assert!(get.is_done());
    assert_eq!(world.server.count("1 basic.get"), 1);
}

#[test]
fn requests_for_a_queue_that_waits_wait_with_it() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("other").declare()).unwrap();
    world.run(channel.queue("mine").exclusive().declare()).unwrap();
    let _consumer = world.run(channel.consume("mine").start()).unwrap();
    world.server.broker.refuse_declare("mine", 405);
    world.outage();
    let get = world.start(channel.get("mine"));
    let purge = world.start(channel.queue_purge("mine"));
    let bind = world.start(channel.queue_bind("mine", "amq.topic", "x", ()));
    let declare = world.start(channel.queue("mine").exclusive().declare());
    let consume = world.start(channel.consume("mine").start());
    let dropped = channel.get_no_ack("mine");
    drop(dropped);
    world.run(channel.get("other")).unwrap();
    world.run(channel.queue("").declare()).unwrap();
    world.advance(seconds(3));
    assert!(!get.is_done() && !purge.is_done() && !bind.is_done());
    assert!(!declare.is_done() && !consume.is_done());
    assert_eq!(world.server.count("1 basic.get"), 1, "only that of the other queue: {:?}", world.server.seen());
    world.server.broker.refuse_declare("", 0);
    world.advance(seconds(2));
    world.run(channel.get("other")).unwrap();
    get.done().unwrap();
    purge.done().unwrap();
    bind.done().unwrap();
    declare.done().unwrap();
    consume.done().unwrap();
    assert_eq!(world.server.violation, None);
}

#[test]
fn a_request_that_waits_too_long_for_a_queue_says_so() {
    let mut world = World::new();
    let policy = Recovery::new().seed(1).on_failure(OnFailure::Retry { attempts: 100, delay: seconds(1) });
    let (_connection, channel) = world.open_lasting(&recovering().recovery(policy));
    world.run(channel.queue("mine").exclusive().declare()).unwrap();
    world.server.broker.refuse_declare("mine", 405);
    world.outage();
    let get = world.start(channel.get("mine"));
    let consume = world.start(channel.consume("mine").start());
    world.advance(seconds(31));
    for error in [get.done().map(drop).unwrap_err(), consume.done().map(drop).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let text = error.to_string();
        assert!(text.contains("queue \"mine\" could not be restored in time") && text.contains("405"), "{text}");
    }
}
