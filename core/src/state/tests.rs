//! The tables are empty once no future waits.

use futures_lite::StreamExt;

use crate::common::method::basic::Nack;
use crate::common::{World, poll_once, seconds};
use crate::{Channel, Connection, ErrorKind};

impl super::State {
    /// Returns the sizes of everything that is kept for a future, a stream or a publisher.
    fn kept(&self) -> [(&'static str, usize); 9] {
        let (requests, deadlines) = self.requests.sizes();
        let (waiting, reserved) = self.backlog.sizes();
        [
            ("requests", requests),
            ("deadlines", deadlines),
            ("consumers", self.consumers.iter().count()),
            ("waiting publishers", waiting),
            ("reserved", reserved),
            ("buffered", self.consumers.buffered()),
            ("unconfirmed", self.outstanding.publishes()),
            ("close waiters", self.close_waiters.len()),
            ("wakers", self.wakers.len()),
        ]
    }
}

#[track_caller]
fn nothing_is_kept(world: &mut World, channel: &Channel) {
    world.settle();
    for (name, count) in channel.core().shared().lock().kept() {
        assert_eq!(count, 0, "{name}");
    }
}

fn start() -> (World, Connection, Channel) {
    let mut world = World::new();
    let (connection, channel) = world.open_by(&Connection::builder().high_water_mark(1000));
    world.run(channel.queue("q").declare()).unwrap();
    nothing_is_kept(&mut world, &channel);
    (world, connection, channel)
}

#[test]
fn a_refused_consumer_leaves_nothing() {
    for dropped in [false, true] {
        let (mut world, connection, channel) = start();
        let other = world.run(connection.channel()).unwrap();
        let request = other.consume("missing").start();
        if dropped {
            drop(request);
        } else {
            assert_eq!(world.run(request).unwrap_err().code(), Some(404));
        }
        nothing_is_kept(&mut world, &channel);
    }
}

#[test]
fn consumers_and_their_deliveries_leave_nothing() {
    let (mut world, connection, channel) = start();
    for round in 0..6 {
        let other = world.run(connection.channel()).unwrap();
        for _ in 0..5 {
            world.run(other.publish("", "q", "x").confirm()).unwrap();
        }
        let mut consumer = world.run(other.consume("q").start()).unwrap();
        let delivery = world.run(consumer.next()).unwrap().unwrap();
        match round {
            0 => assert_eq!(delivery.ack().unwrap(), crate::Settled::Sent),
            1 => drop(world.run(consumer.cancel())),
            2 => drop(consumer.cancel()),
            3 => world.run(other.close()).unwrap(),
            4 => world.server.refuse_channel(other.id(), 406, "no"),
            _ => world.server.cancel(other.id(), consumer.tag()),
        }
        world.settle();
        drop(consumer);
        nothing_is_kept(&mut world, &channel);
    }
}

#[test]
fn late_and_dropped_requests_leave_nothing() {
    let (mut world, connection, channel) = start();
    world.server.holds = vec!["queue.purge", "channel.open", "basic.get", "basic.consume"];
    let late = channel.within(seconds(5));
    assert!(world.run(late.queue_purge("q")).unwrap_err().is_timeout());
    assert!(world.run(late.get("q")).unwrap_err().is_timeout());
    assert!(world.run(late.consume("q").start()).unwrap_err().is_timeout());
    let mut purge = channel.queue_purge("q");
    assert!(poll_once(&mut purge).is_pending());
    drop((purge, channel.get("q"), channel.consume("q").start(), connection.channel()));
    let forgotten = (late.get("q"), late.consume("q").start(), connection.within(seconds(5)).channel());
    world.advance(seconds(10));
    world.server.release();
    world.settle();
    drop(forgotten);
    nothing_is_kept(&mut world, &channel);
}

#[test]
fn waiting_publishes_that_time_out_or_are_dropped_leave_nothing() {
    let (mut world, _connection, channel) = start();
    world.server.flow(1, false);
    world.settle();
    assert!(world.run(channel.within(seconds(3)).publish("", "q", "x").send()).unwrap_err().is_timeout());
    let mut dropped = channel.publish("", "q", "x").send();
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    nothing_is_kept(&mut world, &channel);
    let mut dropped = channel.publish("", "q", "x").send();
    assert!(poll_once(&mut dropped).is_pending());
    world.server.flow(1, true);
    world.settle();
    drop(dropped);
    nothing_is_kept(&mut world, &channel);
}

#[test]
fn confirms_leave_nothing_however_they_end() {
    let (mut world, connection, channel) = start();
    let other = world.run(connection.channel()).unwrap();
    world.server.broker.confirms_by_hand = true;
    assert!(world.run(other.within(seconds(3)).publish("", "q", "x").confirm()).unwrap_err().is_timeout());
    let mut dropped = other.publish("", "q", "x").confirm();
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    let mut ended = other.publish("", "q", "x").confirm();
    assert!(poll_once(&mut ended).is_pending());
    world.settle();
    world.server.refuse_channel(2, 404, "no exchange");
    assert_eq!(world.run(ended).unwrap_err().kind(), ErrorKind::ChannelClosed);
    nothing_is_kept(&mut world, &channel);
}

#[test]
fn batches_leave_nothing_however_they_end() {
    let (mut world, _connection, channel) = start();
    let publisher = channel.publisher("", "q");
    let many = || publisher.publish_many((0..9).map(|_| vec![7; 300]));
    // The high-water mark is 1000 bytes: each batch waits for room.
    world.run(many().confirm()).unwrap();
    nothing_is_kept(&mut world, &channel);
    world.server.broker.confirms_by_hand = true;
    let mut dropped = Box::pin(many().confirm());
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    drop(world.run(many().confirm_later()).unwrap());
    let mut polled = world.run(many().confirm_later()).unwrap();
    assert!(poll_once(&mut polled).is_pending());
    drop(polled);
    let late = channel.within(seconds(3)).publisher("", "q");
    assert_eq!(world.run(late.publish_many(["a", "b"]).confirm()).unwrap_err().failed().len(), 2);
    world.settle();
    world.server.answer(1, &Nack { delivery_tag: 0, multiple: true, requeue: false });
    world.settle();
    let number = channel.id();
    let failed = channel.core().shared().lock().channels.get(number).map(|channel| channel.confirms.failures());
    assert_eq!(failed, Some(0), "errors that no future will take");
    nothing_is_kept(&mut world, &channel);
    let consumer = world.run(channel.consume("q").start()).unwrap();
    let mut batches = consumer.batches().wait(seconds(5));
    world.settle();
    assert!(poll_once(&mut batches.next()).is_pending());
    drop(batches);
    nothing_is_kept(&mut world, &channel);
}

#[test]
fn dropped_events_and_close_futures_leave_nothing() {
    let (mut world, connection, channel) = start();
    let mut events = connection.events();
    assert!(poll_once(&mut events.next()).is_pending());
    let mut closed = Box::pin(connection.closed());
    assert!(poll_once(&mut closed).is_pending());
    drop((events, closed));
    nothing_is_kept(&mut world, &channel);
}

#[test]
fn the_end_of_the_connection_leaves_nothing() {
    let (mut world, connection, channel) = start();
    world.server.holds = vec!["queue.purge", "channel.open", "basic.consume"];
    let (purge, opened, consumed) = (channel.queue_purge("q"), connection.channel(), channel.consume("q").start());
    world.server.wire.cut();
    world.settle();
    drop((purge, opened, consumed));
    assert_eq!(world.run(connection.closed()).kind(), ErrorKind::Io);
    nothing_is_kept(&mut world, &channel);
}

#[test]
fn threads_wait_for_a_lock_that_is_held_for_long() {
    let (_world, _connection, channel) = start();
    let shared = std::sync::Arc::clone(channel.core().shared());
    let (waits, waiting) = std::sync::mpsc::channel();
    let state = shared.lock();
    let others = [1, 2].map(|_| {
        let (shared, waits) = (std::sync::Arc::clone(&shared), waits.clone());
        std::thread::spawn(move || {
            waits.send(()).expect("the test receives it");
            shared.lock().channel_max += 1;
        })
    });
    for _ in &others {
        waiting.recv().expect("the thread starts");
    }
    for _ in 0..10 * super::YIELDS {
        std::thread::yield_now();
    }
    let before = state.channel_max;
    drop(state);
    for other in others {
        other.join().expect("the thread gets the lock");
    }
    assert_eq!(shared.lock().channel_max, before + 2);
}

#[test]
fn a_panic_under_the_lock_is_not_passed_on() {
    let (_world, _connection, channel) = start();
    let shared = std::sync::Arc::clone(channel.core().shared());
    let panicked = std::thread::scope(|scope| {
        let holds = scope.spawn(|| {
            let _state = shared.lock();
            panic!("as the test wants it to");
        });
        holds.join().is_err()
    });
    assert!(panicked && !shared.lock().is_ended());
}
