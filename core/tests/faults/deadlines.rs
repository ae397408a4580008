//! Every wait has a timeout, and a reply that comes after it does no harm.

use std::time::Duration;

use futures_lite::StreamExt;
use hopmq::{Connection, Error, ErrorKind};
use hopmq_proto::method::connection;

use crate::common::{World, seconds};

#[track_caller]
fn times_out<T>(world: &World, start: Duration, result: Result<T, Error>, after: u64) -> Error {
    let Err(error) = result else { panic!("the call must time out") };
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(world.time.now().since_epoch() - start, seconds(after), "{error}");
    error
}

#[test]
fn every_kind_of_call_times_out() {
    let mut world = World::new();
    let builder = Connection::builder().request_timeout(seconds(7)).confirm_timeout(seconds(11));
    let (connection, channel) = world.open_by(&builder);
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    world.server.holds = vec![
        "queue.declare",
        "queue.bind",
        "queue.purge",
        "queue.delete",
        "basic.get",
        "basic.consume",
        "basic.qos",
        "channel.open",
        "connection.update-secret",
    ];
    for (within, after) in [(None, 7), (Some(seconds(3)), 3), (Some(seconds(20)), 20)] {
        let (connection, channel) = match within {
            Some(time) => (connection.within(time), channel.within(time)),
            None => (connection.clone(), channel.clone()),
        };
        let start = world.time.now().since_epoch();
        let result = world.run(channel.queue("r").declare());
        times_out(&world, start, result, after);
        let start = world.time.now().since_epoch();
        let result = world.run(channel.queue_bind("q", "e", "k", ()));
        times_out(&world, start, result, after);
        let start = world.time.now().since_epoch();
        let result = world.run(channel.get("q"));
        times_out(&world, start, result, after);
        let start = world.time.now().since_epoch();
        let result = world.run(channel.consume("q").start());
        times_out(&world, start, result, after);
        let start = world.time.now().since_epoch();
        let result = world.run(connection.channel());
        times_out(&world, start, result, after);
        let start = world.time.now().since_epoch();
        let result = world.run(connection.update_secret("s", "r"));
        times_out(&world, start, result, after);
    }
    assert!(connection.is_open() && channel.is_open());
}

#[test]
fn confirm_timeout_starts_when_the_confirm_is_awaited() {
    let mut world = World::new();
    let builder = Connection::builder().request_timeout(seconds(7)).confirm_timeout(seconds(11));
    let (_connection, channel) = world.open_by(&builder);
    world.server.broker.confirms_by_hand = true;
    let start = world.time.now().since_epoch();
    let result = world.run(channel.publish("", "q", "x").confirm());
    times_out(&world, start, result, 11);
    let later = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
    world.advance(seconds(100));
    let start = world.time.now().since_epoch();
    let result = world.run(later);
    times_out(&world, start, result, 11);
    let start = world.time.now().since_epoch();
    let result = world.run(channel.within(seconds(2)).publish("", "q", "x").confirm());
    times_out(&world, start, result, 2);
    // The channel stays open, and the late confirms do no harm.
    world.server.answer(1, &hopmq_proto::method::basic::Ack { delivery_tag: 3, multiple: true });
    world.server.broker.confirms_by_hand = false;
    world.run(channel.publish("", "q", "x").confirm()).unwrap();
}

#[test]
fn a_publish_without_room_times_out_while_other_calls_go_on() {
    let mut world = World::new();
    let builder = Connection::builder().request_timeout(seconds(30)).heartbeat(seconds(10));
    let (connection, channel) = world.open_by(&builder);
    let other = world.run(connection.channel()).unwrap();
    world.server.answer(0, &connection::Blocked { reason: "low on memory" });
    world.settle();
    let start = world.time.now().since_epoch();
    let sent = world.start(async move { channel.publish("", "q", "x").send().await });
    for _ in 0..29 {
        world.advance(seconds(1));
        world.run(other.queue("q").declare()).unwrap();
        assert!(!sent.is_done());
    }
    let result = world.wait(&sent);
    times_out(&world, start, result, 30);
}

#[test]
fn closing_with_unconfirmed_publishes_times_out_and_tells_their_number() {
    let mut world = World::new();
    let (connection, channel) = world.open_by(&Connection::builder().close_timeout(seconds(5)));
    world.server.broker.confirms_by_hand = true;
    let mut confirms = Vec::new();
    for _ in 0..3 {
        confirms.push(world.run(channel.publish("", "q", "x").confirm_later()).unwrap());
    }
    let start = world.time.now().since_epoch();
    let result = world.run(connection.close());
    let error = times_out(&world, start, result, 5);
    assert!(error.to_string().contains('3'), "{error}");
    for confirm in confirms {
        assert_eq!(world.run(confirm).unwrap_err().to_string(), error.to_string());
    }
    assert_eq!(world.server.count("0 connection.close 200"), 1);
}

#[test]
fn a_channel_that_opens_after_the_timeout_is_closed() {
    for polled in [true, false] {
        let mut world = World::new();
        let connection = world.connect();
        world.server.holds = vec!["channel.open"];
        let request = connection.channel();
        if polled {
            assert!(world.run(request).unwrap_err().is_timeout());
            world.server.release();
        } else {
            world.advance(seconds(31));
            world.server.release();
            world.settle();
            assert!(world.run(request).unwrap_err().is_timeout());
        }
        world.settle();
        assert_eq!(world.server.count("1 channel.close"), 1, "polled: {polled}");
        assert_eq!(world.run(connection.channel()).unwrap().id(), 1);
    }
}

#[test]
fn a_consumer_that_starts_after_the_timeout_is_cancelled_and_its_deliveries_requeued() {
    for polled in [true, false] {
        let mut world = World::new();
        let (_connection, channel) = world.open();
        let queue = world.run(channel.queue("q").declare()).unwrap();
        for _ in 0..3 {
            world.run(queue.publish("x").confirm()).unwrap();
        }
        world.server.holds = vec!["basic.consume"];
        let request = queue.consume().start();
        if polled {
            assert!(world.run(request).unwrap_err().is_timeout());
            world.server.release();
        } else {
            world.advance(seconds(31));
            world.server.release();
            world.settle();
            assert!(world.run(request).unwrap_err().is_timeout());
        }
        world.settle();
        let broker = &world.server.broker;
        assert_eq!((broker.consumers(), broker.unacked(), broker.ready("q")), (0, 0, 3), "polled: {polled}");
    }
}

#[test]
fn a_message_fetched_after_the_timeout_is_requeued() {
    for polled in [true, false] {
        let mut world = World::new();
        let (_connection, channel) = world.open();
        let queue = world.run(channel.queue("q").declare()).unwrap();
        world.run(queue.publish("x").confirm()).unwrap();
        world.server.holds = vec!["basic.get"];
        let request = queue.get();
        if polled {
            assert!(world.run(request).unwrap_err().is_timeout());
            world.server.release();
        } else {
            world.advance(seconds(31));
            world.server.release();
            world.settle();
            assert!(world.run(request).unwrap_err().is_timeout());
        }
        world.settle();
        assert_eq!((world.server.broker.unacked(), world.server.broker.ready("q")), (0, 1), "polled: {polled}");
    }
}

#[test]
fn a_late_reply_is_not_taken_for_the_reply_to_the_next_request() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.server.holds = vec!["queue.declare"];
    assert!(world.run(channel.queue("first").declare()).unwrap_err().is_timeout());
    let second = channel.queue("second").declare();
    let third = channel.queue_purge("second");
    world.settle();
    world.server.release();
    assert_eq!(world.run(second).unwrap().name(), "second");
    assert_eq!(world.run(third).unwrap(), 0);
}

#[test]
fn a_reply_stuck_behind_undelivered_messages_times_out_with_an_explanation() {
    let mut world = World::new();
    let builder = Connection::builder().receive_limit(1000).heartbeat(seconds(0));
    let (_connection, channel) = world.open_by(&builder);
    let queue = world.run(channel.queue("q").declare()).unwrap();
    let consumer = world.run(queue.consume().prefetch(0).start()).unwrap();
    for _ in 0..200 {
        world.run(queue.publish(vec![b'x'; 200]).send()).unwrap();
    }
    world.settle();
    let error = world.run(channel.queue_purge("q")).unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("deliveries"), "{error}");
    drop(consumer);
}

#[test]
fn waiting_for_a_delivery_has_no_timeout() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    let queue = world.run(channel.queue("q").declare()).unwrap();
    let mut consumer = world.run(queue.consume().start()).unwrap();
    let next = world.start(async move { consumer.next().await });
    world.advance(seconds(5000));
    assert!(!next.is_done());
    world.run(queue.publish("x").send()).unwrap();
    world.settle();
    assert!(next.done().unwrap().is_ok());
}
