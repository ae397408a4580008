//! Assisted drivers, which the connection's handles poll as well.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hopmq::{AssistedDriver, Channel, Connection, Driver};

use crate::common::{Slice, Transport, VirtualTimer, World, poll_once};

type Assisted = AssistedDriver<Driver<Transport, VirtualTimer>>;

/// The driver's own thread, which is polled by the test only.
struct Thread {
    driver: Assisted,
    woken: Arc<Counter>,
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Thread {
    fn poll(&mut self) -> Poll<()> {
        self.woken.0.store(0, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        Pin::new(&mut self.driver).poll(&mut Context::from_waker(&waker))
    }

    fn wakes(&self) -> usize {
        self.woken.0.load(Ordering::SeqCst)
    }

    /// Polls the thread as often as it is woken.
    fn settle(&mut self, world: &mut World) {
        loop {
            world.settle();
            if self.wakes() == 0 {
                return;
            }
            assert!(self.poll().is_pending());
        }
    }
}

/// Opens a connection with a channel, and returns its driver's thread with nothing to do.
fn open(world: &mut World) -> (Connection, Channel, Thread) {
    let (connection, driver) = world.handshake(&Connection::builder()).unwrap();
    let mut thread = Thread { driver: driver.assisted(), woken: Arc::default() };
    assert!(thread.poll().is_pending());
    let mut opening = connection.channel();
    thread.settle(world);
    let Poll::Ready(Ok(channel)) = poll_once(&mut opening) else { panic!("the server answers") };
    (connection, channel, thread)
}

#[test]
fn a_request_is_written_by_its_caller_and_its_reply_is_read_by_the_thread() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    let before = world.server.wire.written_by_client();
    let mut declaring = channel.queue("q").declare();
    assert!(world.server.wire.written_by_client() > before, "the request is written");
    assert_eq!(thread.wakes(), 0, "the thread is not woken");
    assert!(poll_once(&mut declaring).is_pending());
    world.settle();
    assert_eq!(thread.wakes(), 1, "the thread must read the reply");
    thread.settle(&mut world);
    assert!(matches!(poll_once(&mut declaring), Poll::Ready(Ok(_))));
}

#[test]
fn a_publish_wakes_the_thread_and_waiting_for_its_confirm_writes_it() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    let before = world.server.wire.written_by_client();
    let Poll::Ready(Ok(mut confirm)) = poll_once(&mut channel.publish("", "q", "x").confirm_later()) else {
        panic!("there is room")
    };
    assert_eq!(world.server.wire.written_by_client(), before);
    assert_eq!(thread.wakes(), 1);
    thread.settle(&mut world);
    assert!(matches!(poll_once(&mut confirm), Poll::Ready(Ok(()))));
    let before = world.server.wire.written_by_client();
    let mut both = channel.publish("", "q", "y").confirm();
    assert!(poll_once(&mut both).is_pending());
    thread.settle(&mut world);
    assert!(world.server.wire.written_by_client() > before);
    assert!(matches!(poll_once(&mut both), Poll::Ready(Ok(()))));
}

/// A waker that makes a request when it is woken.
struct RequestOnWake(Channel, Mutex<Option<hopmq::Request<hopmq::Queue>>>);

impl Wake for RequestOnWake {
    fn wake(self: Arc<Self>) {
        *self.1.lock().unwrap() = Some(self.0.queue("second").declare());
    }
}

#[test]
fn a_request_made_while_the_driver_is_polled_wakes_its_thread() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    let waker = Arc::new(RequestOnWake(channel.clone(), Mutex::default()));
    let mut first = channel.queue("first").declare();
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&waker)))).is_pending());
    thread.settle(&mut world);
    let mut second = waker.1.lock().unwrap().take().expect("the reply has woken it");
    assert!(matches!(poll_once(&mut second), Poll::Ready(Ok(_))));
}

/// Gives the driver so much to do that it assumes a burst.
fn begin_burst(world: &mut World, channel: &Channel, thread: &mut Thread) {
    world.server.wire.slice(&Slice::Bytes(1));
    let mut declaring = channel.queue("q").declare();
    thread.settle(world);
    assert!(matches!(poll_once(&mut declaring), Poll::Ready(Ok(_))));
    world.server.wire.slice(&Slice::Whole);
}

#[test]
fn a_burst_is_buffered_until_full_for_a_millisecond_or_until_a_request() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    begin_burst(&mut world, &channel, &mut thread);
    let publish = |bytes: usize| {
        let sent = poll_once(&mut channel.publish("", "elsewhere", vec![0; bytes]).send());
        assert!(matches!(sent, Poll::Ready(Ok(()))));
    };
    let before = world.server.wire.written_by_client();
    publish(100);
    assert_eq!((world.server.wire.written_by_client(), thread.wakes()), (before, 0), "the message is buffered");
    world.advance(Duration::from_millis(1));
    thread.settle(&mut world);
    assert!(world.server.wire.written_by_client() > before, "the buffer is written after a millisecond");

    begin_burst(&mut world, &channel, &mut thread);
    let before = world.server.wire.written_by_client();
    for _ in 0..6 {
        publish(5000);
    }
    assert_eq!((world.server.wire.written_by_client(), thread.wakes()), (before, 0), "30 kB are buffered");
    publish(5000);
    assert!(world.server.wire.written_by_client() > before + 35_000, "the publish that fills the buffer writes it");
    assert_eq!(thread.wakes(), 0);
    let before = world.server.wire.written_by_client();
    publish(100);
    assert_eq!(world.server.wire.written_by_client(), before, "the next message is buffered again");
    let mut declaring = channel.queue("q").declare();
    assert!(world.server.wire.written_by_client() > before + 100, "a request flushes the buffer");
    thread.settle(&mut world);
    assert!(matches!(poll_once(&mut declaring), Poll::Ready(Ok(_))));
}

#[test]
fn a_driver_that_ends_on_a_handles_thread_ends_on_its_own_thread() {
    let mut world = World::new();
    let (connection, channel, mut thread) = open(&mut world);
    world.server.wire.reset();
    let mut declaring = channel.queue("q").declare();
    assert!(thread.wakes() > 0, "the driver's thread is woken");
    assert!(thread.poll().is_ready());
    assert!(matches!(poll_once(&mut declaring), Poll::Ready(Err(_))));
    assert!(!connection.is_open());
}

#[test]
fn a_dropped_driver_ends_the_connection_though_handles_refer_to_it() {
    let mut world = World::new();
    let (connection, channel, thread) = open(&mut world);
    drop(thread);
    assert!(!connection.is_open());
    assert!(matches!(poll_once(&mut channel.queue("q").declare()), Poll::Ready(Err(_))));
}

#[test]
fn a_request_that_the_network_does_not_take_is_written_by_the_thread() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    world.server.wire.stall_writes(true);
    let before = world.server.wire.written_by_client();
    let mut declaring = channel.queue("q").declare();
    let dropped = channel.queue("dropped").declare();
    assert_eq!((world.server.wire.written_by_client(), thread.wakes()), (before, 0));
    drop(dropped);
    world.server.wire.stall_writes(false);
    assert_eq!(thread.wakes(), 1, "the thread is woken when there is room again");
    thread.settle(&mut world);
    assert!(matches!(poll_once(&mut declaring), Poll::Ready(Ok(_))));
}

#[test]
fn a_burst_that_the_network_does_not_take_lets_the_thread_sleep() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    begin_burst(&mut world, &channel, &mut thread);
    world.server.wire.stall_writes(true);
    let mut sending = channel.publish("", "elsewhere", vec![0; 40_000]).send();
    assert!(matches!(poll_once(&mut sending), Poll::Ready(Ok(()))));
    for _ in 0..3 {
        world.advance(Duration::from_millis(1));
        let mut polls = 0;
        while thread.wakes() > 0 {
            assert!(thread.poll().is_pending());
            polls += 1;
            assert!(polls < 4, "the driver keeps waking itself, though nothing can be written");
        }
    }
    let before = world.server.wire.written_by_client();
    world.server.wire.stall_writes(false);
    thread.settle(&mut world);
    assert!(world.server.wire.written_by_client() >= before + 40_000);
}

/// Publishes `count` messages of 1,000 bytes and writes them, `times` times in 1.2 milliseconds.
fn publish_in_batches(world: &mut World, channel: &Channel, thread: &mut Thread, times: u32, count: usize) {
    for _ in 0..times {
        for _ in 0..count {
            let sent = poll_once(&mut channel.publish("", "elsewhere", vec![0; 1000]).send());
            assert!(matches!(sent, Poll::Ready(Ok(()))));
        }
        thread.settle(world);
        world.advance(Duration::from_micros(1200) / times);
    }
    thread.settle(world);
}

/// Publishes a message, and returns whether it is buffered.
fn is_buffered(world: &mut World, channel: &Channel, thread: &mut Thread) -> bool {
    let before = world.server.wire.written_by_client();
    assert!(matches!(poll_once(&mut channel.publish("", "elsewhere", "x").send()), Poll::Ready(Ok(()))));
    let buffered = thread.wakes() == 0;
    thread.settle(world);
    assert_eq!(world.server.wire.written_by_client() == before, buffered);
    buffered
}

#[test]
fn a_burst_with_pauses_is_recognised_by_its_rate() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    assert!(!is_buffered(&mut world, &channel, &mut thread), "no burst yet");
    publish_in_batches(&mut world, &channel, &mut thread, 6, 20);
    assert!(is_buffered(&mut world, &channel, &mut thread), "120 kB in six writes are a burst");
    let mut declaring = channel.queue("q").declare();
    thread.settle(&mut world);
    assert!(matches!(poll_once(&mut declaring), Poll::Ready(Ok(_))), "a request flushes the buffer");
    world.advance(Duration::from_millis(2));
    thread.settle(&mut world);
    assert!(!is_buffered(&mut world, &channel, &mut thread), "the burst is over");
}

#[test]
fn a_steady_sequence_of_single_messages_is_no_burst() {
    let mut world = World::new();
    let (_connection, channel, mut thread) = open(&mut world);
    for _ in 0..4 {
        publish_in_batches(&mut world, &channel, &mut thread, 120, 1);
        assert!(
            !is_buffered(&mut world, &channel, &mut thread),
            "an application may wait for each message in a way that the driver can't see"
        );
    }
    for _ in 0..4 {
        publish_in_batches(&mut world, &channel, &mut thread, 3, 10);
        assert!(!is_buffered(&mut world, &channel, &mut thread), "30 kB in a millisecond are no burst");
    }
}
