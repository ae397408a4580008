//! Wakers as executors make them: new ones for each poll, shared ones, and ones that own their task.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_lite::StreamExt;
use hopmq::{Channel, Connection, Recovery, Settled};
use hopmq_proto::method::basic;

use crate::common::{World, seconds};

/// A waker that owns its task: dropping the last one drops the future.
struct Owned {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    queue: Arc<Mutex<Vec<Arc<Owned>>>>,
}

impl Wake for Owned {
    fn wake(self: Arc<Self>) {
        let queue = Arc::clone(&self.queue);
        queue.lock().unwrap().push(self);
    }
}

/// An executor that holds only the tasks that were woken.
#[derive(Default)]
struct WokenOnly(Arc<Mutex<Vec<Arc<Owned>>>>);

impl WokenOnly {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let future = Mutex::new(Some(Box::pin(future) as Pin<Box<dyn Future<Output = ()> + Send>>));
        self.0.lock().unwrap().push(Arc::new(Owned { future, queue: Arc::clone(&self.0) }));
    }

    /// Polls woken tasks until there are none.
    fn run(&self) {
        loop {
            let Some(task) = self.0.lock().unwrap().pop() else { return };
            let Some(mut future) = task.future.lock().unwrap().take() else { continue };
            let waker = Waker::from(Arc::clone(&task));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                *task.future.lock().unwrap() = Some(future);
            }
        }
    }
}

/// A future that one task polls and the test drops.
type Lent<F> = Arc<Mutex<Option<F>>>;

async fn poll_lent<F: Future + Unpin>(lent: Lent<F>) {
    poll_fn(|context| match lent.lock().unwrap().as_mut() {
        Some(future) => Pin::new(future).poll(context).map(drop),
        None => Poll::Ready(()),
    })
    .await;
}

/// Lends a future to a task that holds handles and is owned only by the future's waker, then drops the future.
#[track_caller]
fn drop_future_that_owns_its_task<F: Future + Unpin + Send + 'static>(
    world: &mut World,
    connection: &Connection,
    channel: &Channel,
    future: F,
) {
    let executor = WokenOnly::default();
    let lent = Arc::new(Mutex::new(Some(future)));
    let dropped = Arc::new(());
    let task = Arc::clone(&lent);
    let handles = (connection.clone(), channel.clone());
    let alive = Arc::clone(&dropped);
    executor.spawn(async move {
        poll_lent(task).await;
        drop((handles, alive));
    });
    executor.run();
    assert_eq!(Arc::strong_count(&dropped), 2, "the task waits");
    let future = lent.lock().unwrap().take();
    drop(future);
    world.settle();
    world.run(channel.queue("q").declare()).unwrap();
    assert_eq!(Arc::strong_count(&dropped), 1, "the task is kept though nothing can wake it");
}

#[test]
fn dropping_a_waker_that_owns_its_task_and_handles_does_no_harm() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    world.server.flow(1, false);
    world.settle();
    let other = world.run(connection.channel()).unwrap();
    drop_future_that_owns_its_task(&mut world, &connection, &channel, channel.queue("r").declare());
    drop_future_that_owns_its_task(&mut world, &connection, &channel, connection.channel());
    drop_future_that_owns_its_task(&mut world, &connection, &channel, channel.get("q"));
    let confirm = world.run(other.publish("", "q", "x").confirm_later()).unwrap();
    drop_future_that_owns_its_task(&mut world, &connection, &channel, confirm);
    let stopped = channel.clone();
    let send = Box::pin(async move { stopped.publish("", "q", "x").send().await });
    drop_future_that_owns_its_task(&mut world, &connection, &channel, send);
    let ended = connection.clone();
    drop_future_that_owns_its_task(&mut world, &connection, &channel, Box::pin(async move { ended.closed().await }));
    let mut events = connection.events();
    drop_future_that_owns_its_task(&mut world, &connection, &channel, Box::pin(async move { events.next().await }));
    let mut consumer = world.run(channel.consume("r").start()).unwrap();
    drop_future_that_owns_its_task(
        &mut world,
        &connection,
        &channel,
        Box::pin(async move { consumer.next().await.map(drop) }),
    );
    assert!(connection.is_open() && channel.is_open());
}

#[test]
fn a_task_owned_only_by_its_waker_is_dropped_with_the_connection() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.server.holds = vec!["queue.declare"];
    let executor = WokenOnly::default();
    let request = channel.queue("q").declare();
    executor.spawn(async move {
        let _channel = channel;
        let _ = request.await;
    });
    executor.run();
    world.server.wire.cut();
    world.settle();
    executor.run();
    assert!(!connection.is_open());
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls with a new waker, and returns the waker's count of wakes.
fn poll_anew<F: Future>(future: Pin<&mut F>) -> (Poll<F::Output>, Arc<Counter>) {
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    (future.poll(&mut Context::from_waker(&waker)), counter)
}

/// Checks that the last waker is woken, and no earlier one.
#[track_caller]
fn only_the_last_is_woken<F: Future>(world: &mut World, future: F, happen: impl FnOnce(&mut World)) {
    let mut future = pin!(future);
    let mut counters = Vec::new();
    for _ in 0..5 {
        let (poll, counter) = poll_anew(future.as_mut());
        assert!(poll.is_pending());
        counters.push(counter);
        world.settle();
    }
    assert_eq!(counters.iter().map(|counter| counter.0.load(Ordering::SeqCst)).sum::<usize>(), 0, "woken without need");
    assert!(counters[..4].iter().all(|counter| Arc::strong_count(counter) == 1), "an old waker is kept");
    happen(world);
    world.settle();
    assert_eq!(counters[4].0.load(Ordering::SeqCst), 1);
    assert!(poll_anew(future.as_mut()).0.is_ready());
}

#[test]
fn a_replaced_waker_is_dropped_and_the_new_one_is_woken() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    let mut consumer = world.run(channel.consume("q").tag("c").start()).unwrap();
    let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
    only_the_last_is_woken(&mut world, consumer.next(), |world| world.server.message(1, &deliver, b"x"));
    world.server.holds = vec!["queue.declare"];
    only_the_last_is_woken(&mut world, channel.queue("r").declare(), |world| world.server.release());
    world.server.broker.confirms_by_hand = true;
    let confirm = world.run(channel.publish("", "elsewhere", "x").confirm_later()).unwrap();
    only_the_last_is_woken(&mut world, confirm, |world| {
        world.server.answer(1, &basic::Ack { delivery_tag: 1, multiple: false });
    });
    let mut events = connection.events();
    world.server.flow(1, false);
    world.settle();
    assert!(world.run(events.next()).is_some());
    only_the_last_is_woken(&mut world, channel.publish("", "elsewhere", "x").send(), |world| {
        world.server.flow(1, true);
    });
    assert!(world.run(events.next()).is_some());
    let mut returns = channel.returns();
    let returned = basic::Return { reply_code: 312, ..Default::default() };
    only_the_last_is_woken(&mut world, returns.next(), |world| world.server.message(1, &returned, b"x"));
    only_the_last_is_woken(&mut world, connection.closed(), |world| world.server.wire.cut());
    assert!(world.run(events.next()).is_some());
}

#[test]
fn all_tasks_that_await_the_end_are_woken() {
    let mut world = World::new();
    let connection = world.connect();
    let started: Vec<_> = (0..5)
        .map(|_| {
            let connection = connection.clone();
            world.start(async move { connection.closed().await })
        })
        .collect();
    world.advance(seconds(10));
    world.server.wire.reset();
    world.settle();
    for closed in started {
        assert_eq!(closed.done().kind(), hopmq::ErrorKind::Io);
    }
}

#[test]
fn a_driver_polled_with_new_wakers_neither_spins_nor_misses_a_wake() {
    let mut world = World::new();
    let (connection, driver) = world.handshake(&Connection::builder()).unwrap();
    let mut driver = pin!(driver);
    let mut last = None;
    for _ in 0..5 {
        loop {
            let (poll, counter) = poll_anew(driver.as_mut());
            assert!(poll.is_pending());
            world.settle();
            let woken = counter.0.load(Ordering::SeqCst);
            last = Some(counter);
            if woken == 0 {
                break;
            }
        }
    }
    let last = last.unwrap();
    let request = connection.channel();
    assert_eq!(last.0.load(Ordering::SeqCst), 1, "the last waker is woken");
    drop(request);
}

/// A waker that runs a closure once.
struct RunOnWake(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for RunOnWake {
    fn wake(self: Arc<Self>) {
        let action = self.0.lock().unwrap().take();
        if let Some(action) = action {
            action();
        }
    }
}

#[test]
fn calls_made_between_the_brokers_close_and_the_outage_wait_for_the_next_link() {
    let mut world = World::new();
    let (_connection, channel) = world.open_lasting(&Connection::builder().recovery(Recovery::new().seed(1)));
    world.run(channel.queue("q").declare()).unwrap();
    world.run(channel.publish("", "q", "held").confirm()).unwrap();
    let mut consumer = world.run(channel.consume("q").start()).unwrap();
    let delivery = world.run(consumer.try_next()).unwrap().expect("the message was confirmed");
    world.server.broker.confirms_by_hand = true;
    let mut confirm = world.run(channel.publish("", "q", "x").confirm_later()).unwrap();
    world.settle();
    // The waker of the confirm runs before the driver handles the close that was received with it.
    let begun = Arc::new(Mutex::new(None));
    let other = channel.clone();
    let result = Arc::clone(&begun);
    let act = move || {
        let settled = delivery.ack();
        let declare = other.queue("q").declare_passive();
        let mut publish = Box::pin(async move { other.publish("", "q", "y").confirm().await });
        let published = publish.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        *result.lock().unwrap() = Some((settled, declare, publish, published));
    };
    let waker = Waker::from(Arc::new(RunOnWake(Mutex::new(Some(Box::new(act))))));
    assert!(Pin::new(&mut confirm).poll(&mut Context::from_waker(&waker)).is_pending());
    world.server.answer(1, &basic::Ack { delivery_tag: 2, multiple: false });
    world.server.refuse(320, "CONNECTION_FORCED - operator");
    world.server.broker.confirms_by_hand = false;
    world.settle();
    let (settled, declare, publish, published) = begun.lock().unwrap().take().expect("the waker ran");
    assert_eq!(settled.unwrap(), Settled::Stale);
    assert!(published.is_pending(), "{published:?}");
    world.run(publish).unwrap();
    world.run(declare).unwrap();
}
