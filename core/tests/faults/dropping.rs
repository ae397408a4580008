//! Any future may be dropped at any time: the channel still gets its replies in order, and nothing is left behind.

use futures_lite::StreamExt;
use hopmq::{Channel, Connection};

use crate::common::{World, poll_once, seconds};

/// When a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    BeforePolled,
    Pending,
    Answered,
}

const ALWAYS: [When; 3] = [When::BeforePolled, When::Pending, When::Answered];

/// Polls a future as far as `when` says, and drops it.
fn drop_at<F: Future + Unpin>(world: &mut World, mut future: F, when: When) {
    match when {
        When::BeforePolled => drop(future),
        When::Pending => {
            assert!(poll_once(&mut future).is_pending());
            drop(future);
        }
        When::Answered => {
            let _ = poll_once(&mut future);
            world.server.release();
            world.settle();
            drop(future);
        }
    }
    world.server.release();
    world.settle();
}

/// Checks that the channel gets its replies in order, and that the broker holds nothing for it.
#[track_caller]
fn assert_consistent(world: &mut World, channel: &Channel) {
    world.settle();
    let requests: Vec<_> = (0..5).map(|number| channel.queue(&format!("well-{number}")).declare()).collect();
    for (number, request) in requests.into_iter().enumerate() {
        assert_eq!(world.run(request).unwrap().name(), format!("well-{number}"));
    }
    assert_eq!(world.run(channel.queue_purge("well-0")).unwrap(), 0);
    world.run(channel.publish("", "well-0", "x").confirm()).unwrap();
    assert_eq!(world.run(channel.queue_purge("well-0")).unwrap(), 1);
    assert_eq!(world.server.broker.unacked(), 0, "the channel holds deliveries");
    assert_eq!(world.server.broker.consumers(), 0, "a consumer is left");
    assert_eq!(world.server.broker.channels(), 1, "a channel is left");
    assert!(world.server.violation.is_none(), "{:?}", world.server.violation);
}

fn start() -> (World, Connection, Channel) {
    let mut world = World::new();
    let (connection, channel) = world.open();
    let queue = world.run(channel.queue("q").declare()).unwrap();
    for _ in 0..3 {
        world.run(queue.publish("x").confirm()).unwrap();
    }
    world.server.holds =
        vec!["queue.declare", "queue.purge", "basic.get", "basic.consume", "basic.cancel", "channel.open", "tx.select"];
    (world, connection, channel)
}

#[test]
fn a_dropped_declare_is_still_carried_out() {
    for when in ALWAYS {
        let (mut world, _connection, channel) = start();
        drop_at(&mut world, channel.queue("dropped").declare(), when);
        assert_consistent(&mut world, &channel);
        assert!(world.run(channel.queue("dropped").declare_passive()).is_ok(), "{when:?}");
    }
}

#[test]
fn dropped_purge_bind_and_prefetch_requests_leave_nothing_behind() {
    for when in ALWAYS {
        let (mut world, _connection, channel) = start();
        drop_at(&mut world, channel.queue_purge("q"), when);
        world.server.holds = vec!["queue.bind"];
        drop_at(&mut world, channel.queue_bind("q", "e", "k", ()), when);
        world.server.holds = vec!["basic.qos"];
        drop_at(&mut world, channel.prefetch(5), when);
        assert_consistent(&mut world, &channel);
    }
}

#[test]
fn a_channel_whose_request_was_dropped_is_closed() {
    for when in ALWAYS {
        let (mut world, connection, channel) = start();
        drop_at(&mut world, connection.channel(), when);
        assert_eq!(world.server.count("2 channel.close"), 1, "{when:?}");
        assert_consistent(&mut world, &channel);
        assert_eq!(world.run(connection.channel()).unwrap().id(), 2);
    }
}

#[test]
fn a_consumer_whose_request_was_dropped_is_cancelled() {
    for when in ALWAYS {
        let (mut world, _connection, channel) = start();
        drop_at(&mut world, channel.consume("q").tag("c").start(), when);
        assert_eq!(world.server.count("1 basic.cancel c"), 1, "{when:?}");
        assert_consistent(&mut world, &channel);
        assert_eq!(world.server.broker.ready("q"), 3, "{when:?}");
    }
}

#[test]
fn a_message_whose_get_was_dropped_is_requeued() {
    for when in ALWAYS {
        let (mut world, _connection, channel) = start();
        drop_at(&mut world, channel.get("q"), when);
        assert_consistent(&mut world, &channel);
        assert_eq!(world.server.broker.ready("q"), 3, "{when:?}");
    }
}

#[test]
fn a_dropped_cancel_is_still_carried_out() {
    for when in ALWAYS {
        let (mut world, _connection, channel) = start();
        world.server.release();
        let mut consumer = world.run(channel.consume("q").start()).unwrap();
        world.settle();
        world.server.holds = vec!["basic.cancel"];
        drop_at(&mut world, consumer.cancel(), when);
        for _ in 0..3 {
            world.run(consumer.next()).unwrap().unwrap().ack().unwrap();
        }
        assert!(world.run(consumer.next()).is_none());
        world.settle();
        assert_consistent(&mut world, &channel);
    }
}

#[test]
fn dropping_the_future_of_the_next_delivery_loses_none() {
    let (mut world, _connection, channel) = start();
    world.server.release();
    let mut consumer = world.run(channel.consume("q").start()).unwrap();
    for _ in 0..3 {
        drop(consumer.next());
        drop(consumer.try_next());
        world.run(consumer.next()).unwrap().unwrap().ack().unwrap();
    }
    assert!(poll_once(&mut consumer.next()).is_pending());
    world.run(channel.publish("", "q", "late").send()).unwrap();
    world.settle();
    drop(consumer.next());
    assert_eq!(world.run(consumer.next()).unwrap().unwrap().body(), b"late");
}

#[test]
fn undelivered_messages_are_requeued_when_their_consumer_is_dropped() {
    let (mut world, _connection, channel) = start();
    world.server.release();
    let mut consumer = world.run(channel.consume("q").start()).unwrap();
    let first = world.run(consumer.next()).unwrap().unwrap();
    drop(consumer);
    world.settle();
    assert_eq!(world.server.broker.ready("q"), 2);
    first.ack().unwrap();
    assert_consistent(&mut world, &channel);
}

#[test]
fn a_dropped_publish_is_sent_whole_or_not_at_all() {
    for when in ALWAYS {
        let (mut world, _connection, channel) = start();
        world.server.release();
        world.server.flow(1, false);
        world.settle();
        world.server.forget();
        let sending = channel.publish("", "q", "dropped").send();
        drop_at(&mut world, sending, if when == When::Answered { When::Pending } else { when });
        world.server.flow(1, true);
        world.settle();
        assert_eq!(world.server.count("1 basic.publish"), 0, "{when:?}");
        assert_consistent(&mut world, &channel);
    }
}

#[test]
fn a_publish_dropped_at_its_turn_lets_the_next_one_proceed() {
    let (mut world, _connection, channel) = start();
    world.server.release();
    world.server.flow(1, false);
    world.settle();
    let mut first = channel.publish("", "q", "first").send();
    assert!(poll_once(&mut first).is_pending());
    let other = channel.clone();
    let second = world.start(async move { other.publish("", "q", "second").send().await });
    world.server.flow(1, true);
    world.settle();
    drop(first);
    world.settle();
    second.done().unwrap();
}

#[test]
fn a_publish_whose_confirm_is_dropped_is_still_sent_and_counted() {
    for when in ALWAYS {
        let (mut world, connection, channel) = start();
        world.server.release();
        world.server.broker.confirms_by_hand = true;
        let before = connection.stats().confirmed;
        let mut confirm = channel.publish("", "q", "x").confirm();
        let polled = when != When::BeforePolled;
        if polled {
            assert!(poll_once(&mut confirm).is_pending());
        }
        world.settle();
        if when == When::Answered {
            world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag: 4, multiple: false });
            world.settle();
        }
        drop(confirm);
        if when == When::Pending {
            world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag: 4, multiple: false });
        }
        world.server.broker.confirms_by_hand = false;
        assert_consistent(&mut world, &channel);
        let expected = if polled { 2 } else { 1 };
        assert_eq!(connection.stats().confirmed - before, expected, "{when:?}");
        world.run(connection.close()).unwrap();
    }
}

#[test]
fn a_dropped_close_is_still_carried_out() {
    for polled in [false, true] {
        let (mut world, connection, channel) = start();
        world.server.release();
        let other = connection.clone();
        let mut close = Box::pin(async move { other.close().await });
        if polled {
            assert!(poll_once(&mut close).is_pending());
        }
        drop(close);
        world.settle();
        assert_eq!(world.server.count("0 connection.close 200"), usize::from(polled));
        assert_eq!(channel.is_open(), !polled);
    }
}

#[test]
fn a_dropped_channel_close_is_still_carried_out() {
    for when in ALWAYS {
        let (mut world, connection, channel) = start();
        let second = {
            world.server.release();
            world.run(connection.channel()).unwrap()
        };
        drop_at(&mut world, second.close(), when);
        assert_eq!(world.server.count("2 channel.close"), 1, "{when:?}");
        assert!(!second.is_open());
        assert_consistent(&mut world, &channel);
    }
}

#[test]
fn dropped_waits_for_the_end_leave_nothing_behind() {
    let (mut world, connection, _channel) = start();
    for _ in 0..3 {
        let mut closed = Box::pin(connection.closed());
        assert!(poll_once(&mut closed).is_pending());
        let mut events = connection.events();
        assert!(poll_once(&mut events.next()).is_pending());
    }
    world.advance(seconds(1));
    assert!(connection.is_open());
}

#[test]
fn a_stale_request_does_not_affect_the_channel_that_reuses_its_number() {
    let (mut world, connection, first) = start();
    world.server.release();
    // Three requests that are answered but not awaited: a channel, a message, a consumer with deliveries.
    let got = first.get("q");
    let mut consumer = world.run(first.consume("q").start()).unwrap();
    world.settle();
    let taken = world.run(consumer.next()).unwrap().unwrap();
    let opened = connection.channel();
    world.settle();
    world.server.refuse_channel(1, 406, "PRECONDITION_FAILED - by the test");
    world.server.refuse_channel(2, 406, "PRECONDITION_FAILED - by the test");
    world.settle();
    world.server.broker = Default::default();
    let again = world.run(connection.channel()).unwrap();
    let second = world.run(connection.channel()).unwrap();
    assert_eq!((again.id(), second.id()), (1, 2));
    let queue = world.run(again.queue("fresh").declare()).unwrap();
    for _ in 0..3 {
        world.run(queue.publish("y").send()).unwrap();
    }
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(world.run(queue.get()).unwrap().unwrap());
    }
    world.server.forget();
    drop((got, opened, consumer));
    assert!(taken.ack().unwrap_err().is_closed());
    world.settle();
    assert_eq!(world.server.seen(), [""; 0]);
    assert!(again.is_open() && second.is_open());
    for delivery in deliveries {
        delivery.ack().unwrap();
    }
    world.settle();
    assert_eq!(world.server.broker.unacked(), 0);
}
