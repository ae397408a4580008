//! Buffers are bounded in both directions, and full buffers delay no request, ack or close.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use futures_lite::StreamExt;
use hopmq::{Builder, Connection, ErrorKind};
use hopmq_proto::method::connection;

use crate::common::{World, poll_once, seconds};

fn builder() -> Builder {
    Connection::builder().heartbeat(seconds(0)).high_water_mark(10_000).request_timeout(seconds(30))
}

#[test]
fn waiting_publishes_buffer_no_more_than_the_high_water_mark() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&builder());
    world.run(channel.queue("q").declare()).unwrap();
    world.server.wire.stall_writes(true);
    let taken = Rc::new(RefCell::new(0));
    let publishers: Vec<_> = (0..20)
        .map(|_| {
            let channel = channel.clone();
            let taken = Rc::clone(&taken);
            world.start(async move {
                for _ in 0..20 {
                    channel.publish("", "q", vec![b'x'; 1000]).send().await?;
                    *taken.borrow_mut() += 1;
                }
                Ok::<(), hopmq::Error>(())
            })
        })
        .collect();
    // One mark of bytes that the driver is writing, and one of bytes behind them; one message may exceed the mark.
    let bytes = *taken.borrow() * 1000;
    assert!((10_000..=22_000).contains(&bytes), "{bytes} bytes were taken");
    world.server.wire.stall_writes(false);
    world.settle();
    for publisher in publishers {
        publisher.done().unwrap();
    }
    assert_eq!(world.server.broker.ready("q"), 400);
}

#[test]
fn waiting_publishers_resume_in_order() {
    let mut world = World::with_capacity(1000);
    let (_connection, channel) = world.open_by(&builder());
    world.server.deaf = true;
    let order = Rc::new(RefCell::new(Vec::new()));
    for number in 0..60 {
        let channel = channel.clone();
        let order = Rc::clone(&order);
        world.start(async move {
            channel.publish("", "q", vec![b'x'; 1000]).send().await.unwrap();
            order.borrow_mut().push(number);
        });
    }
    assert!(order.borrow().len() < 30);
    world.server.deaf = false;
    world.settle();
    assert_eq!(*order.borrow(), (0..60).collect::<Vec<_>>());
}

#[test]
fn no_publisher_starves_while_others_publish_continuously() {
    let mut world = World::with_capacity(1000);
    let (_connection, channel) = world.open_by(&builder());
    world.server.deaf = true;
    let count = Rc::new(RefCell::new(0));
    for _ in 0..5 {
        let channel = channel.clone();
        let count = Rc::clone(&count);
        world.start(async move {
            while *count.borrow() < 500 {
                channel.publish("", "q", vec![b'x'; 900]).send().await.unwrap();
                *count.borrow_mut() += 1;
            }
        });
    }
    let other = channel.clone();
    let seen = Rc::clone(&count);
    let single = world.start(async move {
        other.publish("", "q", vec![b'x'; 900]).send().await.unwrap();
        *seen.borrow()
    });
    let before = *count.borrow();
    world.server.deaf = false;
    world.settle();
    assert!(single.done() - before < 100, "other publishers went first too often");
}

#[test]
fn a_waiting_publish_times_out_and_the_next_one_moves_up() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&builder());
    world.server.wire.stall_writes(true);
    world.run(channel.publish("", "q", vec![0; 20_000]).send()).unwrap();
    world.run(channel.publish("", "q", vec![0; 20_000]).send()).unwrap();
    let short = channel.within(seconds(5));
    let long = channel.within(seconds(50));
    let short = world.start(async move { short.publish("", "q", "short").send().await });
    let long = world.start(async move { long.publish("", "q", "long").send().await });
    world.advance(seconds(5));
    assert_eq!(short.done().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(!long.is_done());
    world.server.wire.stall_writes(false);
    world.settle();
    long.done().unwrap();
    assert_eq!(world.server.count("1 basic.publish"), 3);
}

#[test]
fn a_large_publish_that_fails_or_is_dropped_at_its_turn_blocks_no_other() {
    for dropped in [false, true] {
        let mut world = World::new();
        let (_connection, channel) = world.open_by(&builder());
        world.server.wire.stall_writes(true);
        world.run(channel.publish("", "q", vec![0; 20_000]).send()).unwrap();
        world.run(channel.publish("", "q", vec![0; 20_000]).send()).unwrap();
        let long = "x".repeat(256);
        let mut large = channel.publish("", &long, vec![0; 20_000]).send();
        assert!(poll_once(&mut large).is_pending());
        let small = channel.clone();
        let small = world.start(async move { small.publish("", "q", "small").send().await });
        world.server.wire.stall_writes(false);
        world.settle();
        assert!(!small.is_done(), "the large publish comes first");
        match dropped {
            true => drop(large),
            false => assert_eq!(world.run(large).unwrap_err().kind(), ErrorKind::Usage),
        }
        world.settle();
        small.done().unwrap();
    }
}

/// A waker that drops a publish when it is woken.
struct DropOnWake(Mutex<Option<Publishing>>);

type Publishing = Pin<Box<dyn Future<Output = hopmq::Result<()>> + Send>>;

impl Wake for DropOnWake {
    fn wake(self: Arc<Self>) {
        let dropped = self.0.lock().unwrap().take();
        drop(dropped);
    }
}

#[test]
fn the_room_of_a_publish_dropped_while_the_driver_is_polled_goes_to_the_next_one() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&builder());
    let large = channel.clone();
    let mut large: Publishing = Box::pin(async move { large.publish("", "q", vec![0; 20_000]).send().await });
    let mut small = channel.publish("", "q", "small").send();
    let waker = Arc::new(DropOnWake(Mutex::default()));
    // All three come before the driver's next poll.
    assert!(poll_once(&mut channel.publish("", "q", vec![0; 20_000]).send()).is_ready());
    assert!(large.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&waker)))).is_pending());
    assert!(poll_once(&mut small).is_pending());
    *waker.0.lock().unwrap() = Some(large);
    world.settle();
    assert!(waker.0.lock().unwrap().is_none(), "the large publish comes first");
    assert!(poll_once(&mut small).is_ready(), "the small publish waits though there is room");
}

#[test]
fn acks_requests_and_closes_are_sent_while_publishing_is_blocked() {
    let mut world = World::new();
    let (connection, channel) = world.open_by(&builder());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    world.run(queue.publish("x").send()).unwrap();
    let delivery = world.run(queue.get()).unwrap().unwrap();
    let mut events = connection.events();
    world.server.answer(0, &connection::Blocked { reason: "low on memory" });
    world.settle();
    assert!(matches!(world.run(events.next()), Some(hopmq::Event::Blocked { reason }) if reason == "low on memory"));
    let other = channel.clone();
    let sent = world.start(async move { other.publish("", "q", "x").send().await });
    delivery.ack().unwrap();
    world.run(channel.queue("r").declare()).unwrap();
    world.run(world_channel(&connection)).unwrap();
    assert_eq!(world.server.broker.unacked(), 0);
    assert!(!sent.is_done());
    world.server.answer(0, &connection::Unblocked {});
    world.settle();
    sent.done().unwrap();
    assert!(matches!(world.run(events.next()), Some(hopmq::Event::Unblocked)));
}

fn world_channel(connection: &Connection) -> hopmq::Request<hopmq::Channel> {
    connection.channel()
}

#[test]
fn blocked_publishers_sleep_until_they_are_unblocked() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&builder());
    world.server.answer(0, &connection::Blocked { reason: "low on disk" });
    world.settle();
    let polls = Rc::new(RefCell::new(0));
    let other = channel.clone();
    let count = Rc::clone(&polls);
    let sent = world.start(async move {
        let mut send = other.publish("", "q", "x").send();
        std::future::poll_fn(|context| {
            *count.borrow_mut() += 1;
            std::pin::Pin::new(&mut send).poll(context)
        })
        .await
    });
    for _ in 0..20 {
        world.run(channel.queue("q").declare()).unwrap();
    }
    assert_eq!(*polls.borrow(), 1, "the publisher was woken without need");
    world.server.answer(0, &connection::Unblocked {});
    world.settle();
    sent.done().unwrap();
}

#[test]
fn a_channel_with_stopped_flow_waits_while_others_publish() {
    let mut world = World::new();
    let (connection, channel) = world.open_by(&builder());
    let other = world.run(connection.channel()).unwrap();
    world.server.flow(1, false);
    world.settle();
    assert_eq!(world.server.count("1 channel.flow-ok"), 1);
    let stopped = channel.clone();
    let sent = world.start(async move { stopped.publish("", "q", "x").send().await });
    for _ in 0..10 {
        world.run(other.publish("", "q", "y").send()).unwrap();
    }
    world.run(channel.queue("q").declare()).unwrap();
    assert!(!sent.is_done());
    world.server.flow(1, true);
    world.settle();
    sent.done().unwrap();
    world.settle();
    assert_eq!((world.server.count("1 basic.publish"), world.server.count("2 basic.publish")), (1, 10));
}

fn receiving() -> Builder {
    Connection::builder().heartbeat(seconds(20)).receive_limit(20_000)
}

#[test]
fn a_flooded_idle_consumer_stops_reading_and_later_gets_everything_in_order() {
    let mut world = World::with_capacity(4096);
    let (connection, channel) = world.open_by(&receiving());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    for number in 0..2000_u32 {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(500, 0);
        world.run(queue.publish(body).send()).unwrap();
    }
    world.settle();
    let mut consumer = world.run(queue.consume().prefetch(0).start()).unwrap();
    world.settle();
    // Only a request that waits for its reply would continue the reading; there is none.
    world.advance(seconds(100));
    let read = world.server.wire.read_by_client();
    assert!(read < 400_000, "{read} bytes were read");
    assert!(connection.is_open(), "unread bytes show that the server is alive");
    world.advance(seconds(100));
    assert!(world.server.wire.read_by_client() - read < 1000);
    for number in 0..2000_u32 {
        let delivery = world.run(consumer.next()).unwrap().unwrap();
        assert_eq!(delivery.body()[..4], number.to_be_bytes());
        delivery.ack().unwrap();
    }
    world.settle();
    assert_eq!(world.server.broker.unacked(), 0);
}

#[test]
fn a_reply_is_read_from_behind_a_flood_of_up_to_eight_times_the_limit() {
    for (messages, answered) in [(100, true), (1000, false)] {
        let mut world = World::with_capacity(4096);
        let (_connection, channel) = world.open_by(&receiving());
        let queue = world.run(channel.queue("q").declare()).unwrap();
        for _ in 0..messages {
            world.run(queue.publish(vec![0; 500]).send()).unwrap();
        }
        world.settle();
        let consumer = world.run(queue.consume().prefetch(0).start()).unwrap();
        world.settle();
        let result = world.run(channel.queue("other").declare());
        assert_eq!(result.is_ok(), answered, "{messages} messages: {result:?}");
        assert!(world.server.wire.read_by_client() < 220_000);
        drop(consumer);
    }
}

#[test]
fn taking_deliveries_unblocks_a_request_though_another_consumer_is_over_the_limit() {
    let mut world = World::with_capacity(4096);
    let (connection, first) = world.open_by(&Connection::builder().heartbeat(seconds(0)).receive_limit(20_000));
    let second = world.run(connection.channel()).unwrap();
    let big = world.run(first.queue("big").declare()).unwrap();
    let small = world.run(first.queue("small").declare()).unwrap();
    for _ in 0..120 {
        world.run(small.publish(vec![0; 500]).send()).unwrap();
    }
    world.settle();
    // This consumer's backlog is three times the limit, and the test takes none of it.
    let idle = world.run(second.consume("small").prefetch(0).start()).unwrap();
    world.settle();
    for _ in 0..400 {
        world.run(big.publish(vec![0; 500]).send()).unwrap();
    }
    let mut busy = world.run(first.consume("big").prefetch(0).start()).unwrap();
    let declared = first.within(seconds(900)).queue("other").declare();
    let declared = world.start(declared);
    assert!(!declared.is_done(), "the reply lies behind more than eight times the limit");
    // After one batch is taken, the rest is still above the limit.
    for _ in 0..360 {
        let Some(Ok(delivery)) = world.run(busy.next()) else { panic!("a delivery") };
        delivery.ack().unwrap();
    }
    world.settle();
    assert!(declared.is_done(), "reading has not resumed");
    declared.done().unwrap();
    drop(idle);
}

#[test]
fn a_dropped_consumer_frees_its_share_of_the_receive_limit() {
    let mut world = World::with_capacity(4096);
    let (connection, channel) = world.open_by(&receiving());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    for _ in 0..300 {
        world.run(queue.publish(vec![0; 500]).send()).unwrap();
    }
    world.settle();
    for _ in 0..3 {
        let other = world.run(connection.channel()).unwrap();
        let mut consumer = world.run(other.consume("q").prefetch(0).start()).unwrap();
        let delivery = world.run(consumer.next()).unwrap().unwrap();
        delivery.nack(true).unwrap();
        drop(consumer);
        world.run(other.close()).unwrap();
        world.settle();
        assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (300, 0));
    }
    world.run(channel.queue("other").declare()).unwrap();
}

#[test]
fn a_prefetch_bounds_the_unacknowledged_deliveries() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&receiving());
    let queue = world.run(channel.queue("q").declare()).unwrap();
    for _ in 0..50 {
        world.run(queue.publish("x").send()).unwrap();
    }
    world.settle();
    let mut consumer = world.run(queue.consume().prefetch(7).start()).unwrap();
    world.settle();
    assert_eq!((world.server.broker.unacked(), world.server.broker.ready("q")), (7, 43));
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(world.run(consumer.next()).unwrap().unwrap());
    }
    assert!(poll_once(&mut consumer.next()).is_pending());
    held.pop().unwrap().ack_multiple().unwrap();
    world.settle();
    assert_eq!((world.server.broker.unacked(), world.server.broker.ready("q")), (7, 36));
    // This delivery was settled with the last.
    assert_eq!(held.pop().unwrap().ack().unwrap_err().kind(), ErrorKind::Usage);
}
