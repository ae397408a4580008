//! Closing: gracefully, twice, without waiting, and against a server that does not answer.

use futures_lite::StreamExt;
use hopmq::{Connection, ErrorKind};
use hopmq_proto::method::{basic, connection};

use crate::common::{World, fault, seconds};

#[test]
fn a_graceful_close_flushes_awaits_confirms_then_closes() {
    let mut world = World::with_capacity(1000);
    let (connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    for _ in 0..50 {
        world.run(channel.publish("", "q", vec![b'x'; 200]).send()).unwrap();
    }
    let confirm = world.run(channel.publish("", "q", "last").confirm_later()).unwrap();
    let other = connection.clone();
    let closing = world.start(async move { other.close().await });
    assert_eq!(world.server.count("1 basic.publish"), 51);
    assert_eq!(world.server.count("0 connection.close"), 0, "a confirm is outstanding");
    assert_eq!(world.run(connection.channel()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(world.run(channel.queue("r").declare()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(world.run(channel.publish("", "q", "no").send()).unwrap_err().kind(), ErrorKind::Closed);
    world.server.answer(1, &basic::Ack { delivery_tag: 1, multiple: false });
    world.settle();
    closing.done().unwrap();
    world.run(confirm).unwrap();
    assert_eq!(world.server.seen().last(), Some(&"0 connection.close 200"));
    assert_eq!(world.server.broker.ready("q"), 51);
    assert!(world.server.violation.is_none());
}

#[test]
fn acks_are_sent_while_a_close_awaits_confirms() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    let queue = world.run(channel.queue("q").declare()).unwrap();
    world.run(queue.publish("x").send()).unwrap();
    let first = world.run(queue.get()).unwrap().unwrap();
    world.run(queue.publish("x").send()).unwrap();
    let second = world.run(queue.get()).unwrap().unwrap();
    world.server.broker.confirms_by_hand = true;
    let _confirm = world.run(queue.publish("x").confirm_later()).unwrap();
    let other = connection.clone();
    let closing = world.start(async move { other.close().await });
    first.ack().unwrap();
    world.settle();
    assert_eq!(world.server.count("1 basic.ack 1"), 1);
    world.server.holds = vec!["connection.close"];
    world.server.answer(1, &basic::Ack { delivery_tag: 1, multiple: false });
    world.settle();
    assert_eq!(second.ack().unwrap_err().kind(), ErrorKind::Closed);
    world.server.release();
    world.settle();
    closing.done().unwrap();
}

#[test]
fn a_second_close_waits_for_the_first() {
    let mut world = World::new();
    let connection = world.connect();
    let first = connection.clone();
    let second = connection.clone();
    world.server.holds = vec!["connection.close"];
    let first = world.start(async move { first.close().await });
    let second = world.start(async move { second.close().await });
    assert!(!first.is_done() && !second.is_done());
    world.server.release();
    world.settle();
    first.done().unwrap();
    second.done().unwrap();
    world.run(connection.close()).unwrap();
    assert_eq!(world.server.count("0 connection.close"), 1);
    assert_eq!(world.run(connection.closed()).kind(), ErrorKind::Closed);
}

#[test]
fn a_close_works_while_the_broker_blocks_publishing() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.server.answer(0, &connection::Blocked { reason: "low on memory" });
    world.settle();
    let waiting = world.start(async move { channel.publish("", "q", "x").send().await });
    world.run(connection.close()).unwrap();
    assert_eq!(waiting.done().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_server_that_never_answers_the_close_is_dropped_after_two_seconds() {
    let mut world = World::new();
    let connection = world.connect();
    world.server.holds = vec!["connection.close"];
    let start = world.time.now();
    world.run(connection.close()).unwrap();
    assert_eq!(world.time.now() - start, seconds(2));
    world.advance(seconds(2));
    assert!(world.server.wire.is_closed());
}

#[test]
fn a_slow_network_has_close_timeout_to_take_accepted_messages() {
    let mut world = World::with_capacity(100);
    let (connection, channel) = world.open_by(&Connection::builder().close_timeout(seconds(60)));
    world.server.deaf = true;
    world.run(channel.publish("", "q", vec![b'x'; 4000]).send()).unwrap();
    let other = connection.clone();
    let closing = world.start(async move { other.close().await });
    for _ in 0..50 {
        world.server.deaf = false;
        world.server.write();
        world.server.deaf = true;
        world.advance(seconds(1));
    }
    world.server.deaf = false;
    world.settle();
    closing.done().unwrap();
    assert_eq!(world.server.count("1 basic.publish q 4000 bytes"), 1);
}

#[test]
fn a_close_that_cannot_flush_fails() {
    let mut world = World::with_capacity(100);
    let (connection, channel) = world.open();
    world.server.deaf = true;
    world.run(channel.publish("", "q", vec![b'x'; 4000]).send()).unwrap();
    let start = world.time.now();
    let error = world.run(connection.close()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("written"), "{error}");
    assert!(world.time.now() - start <= seconds(12));
}

#[test]
fn dropping_the_last_handle_flushes_and_closes() {
    let mut world = World::with_capacity(1000);
    let (connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    for _ in 0..20 {
        world.run(channel.publish("", "q", vec![b'x'; 300]).send()).unwrap();
    }
    drop(connection);
    world.settle();
    assert_eq!(world.server.count("0 connection.close"), 0, "the channel keeps the connection");
    drop(channel);
    world.settle();
    assert_eq!(world.server.broker.ready("q"), 20);
    assert_eq!(world.server.count("0 connection.close 200"), 1);
    assert!(world.server.wire.is_closed());
}

#[test]
fn a_close_completes_though_consumers_are_at_the_receive_limit() {
    let mut world = World::new();
    let builder = Connection::builder().receive_limit(1000).heartbeat(seconds(0));
    let (connection, channel) = world.open_by(&builder);
    let queue = world.run(channel.queue("q").declare()).unwrap();
    let consumer = world.run(queue.consume().prefetch(0).start()).unwrap();
    for _ in 0..500 {
        world.run(queue.publish(vec![b'x'; 200]).send()).unwrap();
    }
    world.settle();
    let start = world.time.now();
    world.run(connection.close()).unwrap();
    assert_eq!(world.time.now(), start, "the reply lay behind the deliveries");
    drop(consumer);
}

#[test]
fn a_channel_close_that_crosses_the_servers_close_succeeds() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    let declared = channel.queue("q").declare();
    world.server.refuse_channel(1, 404, "NOT_FOUND");
    // The server's close is in flight when ours is sent.
    let closing = channel.close();
    world.run(closing).unwrap();
    assert_eq!(world.run(declared).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(world.server.count("1 channel.close-ok"), 1);
    let again = world.run(connection.channel()).unwrap();
    assert_eq!(again.id(), 1);
    world.run(again.queue("q").declare()).unwrap();
    assert!(world.server.violation.is_none());
}

#[test]
fn a_channel_closed_by_the_broker_ends_only_what_uses_it() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    let other = world.run(connection.channel()).unwrap();
    let mut events = connection.events();
    world.run(channel.queue("q").declare()).unwrap();
    let mut consumer = world.run(channel.consume("q").start()).unwrap();
    let failing = channel.queue("missing").declare_passive();
    let behind = channel.queue("q").declare();
    let error = world.run(failing).unwrap_err();
    assert_eq!(fault(&error), (ErrorKind::ChannelClosed, Some(404)));
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(world.run(behind).unwrap_err().to_string(), error.to_string());
    assert_eq!(world.run(consumer.next()).unwrap().unwrap_err().to_string(), error.to_string());
    assert!(world.run(consumer.next()).is_none());
    assert_eq!(world.run(channel.publish("", "q", "x").send()).unwrap_err().to_string(), error.to_string());
    assert_eq!(world.run(channel.close()).unwrap_err().to_string(), error.to_string());
    assert!(matches!(world.run(events.next()), Some(hopmq::Event::ChannelClosed { channel: 1, .. })));
    assert!(!channel.is_open() && other.is_open() && connection.is_open());
    world.run(other.queue("q").declare()).unwrap();
}

#[test]
fn a_consumer_cancelled_by_the_broker_yields_its_backlog_then_an_error() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    let queue = world.run(channel.queue("q").declare()).unwrap();
    world.run(queue.publish("x").send()).unwrap();
    let mut consumer = world.run(queue.consume().tag("c").start()).unwrap();
    world.settle();
    world.server.cancel(1, "c");
    world.settle();
    let delivery = world.run(consumer.next()).unwrap().unwrap();
    assert_eq!(world.run(consumer.next()).unwrap().unwrap_err().kind(), ErrorKind::ConsumerCancelled);
    assert!(world.run(consumer.next()).is_none());
    delivery.ack().unwrap();
    drop(consumer);
    world.settle();
    assert_eq!((world.server.count("1 basic.cancel"), world.server.count("1 basic.ack 1")), (0, 1));
    assert!(channel.is_open());
}

#[test]
fn stale_handles_of_a_reused_channel_number_keep_their_own_error() {
    let mut world = World::new();
    let connection = world.connect();
    let mut stale = Vec::new();
    for number in 0..5 {
        let channel = world.run(connection.channel()).unwrap();
        assert_eq!(channel.id(), 1, "numbers are reused");
        let confirm = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
        world.settle();
        world.server.refuse_channel(1, 406, &format!("reason {number}"));
        world.settle();
        stale.push((channel, confirm));
    }
    let live = world.run(connection.channel()).unwrap();
    for (number, (channel, confirm)) in stale.into_iter().enumerate() {
        let reason = format!("reason {number}");
        assert!(!channel.is_open());
        let error = world.run(channel.publish("", "q", "x").send()).unwrap_err();
        assert!(error.to_string().contains(&reason), "{error}");
        let error = world.run(channel.queue("q").declare()).unwrap_err();
        assert!(error.to_string().contains(&reason), "{error}");
        // The confirm came before the channel was closed.
        world.run(confirm).unwrap();
    }
    world.run(live.queue("q").declare()).unwrap();
}

#[test]
fn channel_numbers_run_out_and_are_reused() {
    let mut world = World::new();
    let connection = world.connect_by(&Connection::builder().channel_max(3)).unwrap();
    let mut channels: Vec<_> = (0..3).map(|_| world.run(connection.channel()).unwrap()).collect();
    let error = world.run(connection.channel()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("all 3 channels"), "{error}");
    drop(channels.remove(1));
    world.settle();
    assert_eq!(world.run(connection.channel()).unwrap().id(), 2);
}
