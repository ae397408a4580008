//! Rates, circuit breakers and pauses, on a clock that the tests turn.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq::{Clock, Connection, Time, Timer};
use hopmq_app::{App, Breaker, BreakerState, Control, Observer, Queue, Rate, State, Text};
use hopmq_broker::Broker;

/// A timer whose time the test turns.
#[derive(Clone, Default)]
struct Manual(Arc<Mutex<(Duration, Option<Waker>)>>);

impl Manual {
    fn advance(&self, time: Duration) {
        let mut state = self.0.lock().unwrap();
        state.0 += time;
        state.1.take().into_iter().for_each(Waker::wake);
    }
}

impl Timer for Manual {
    fn clock(&self) -> Clock {
        let this = self.clone();
        Clock::new(move || Time::from_epoch(Duration::from_secs(1_000_000) + this.0.lock().unwrap().0))
    }

    fn poll_until(&mut self, time: Time, task: &mut Context<'_>) -> Poll<()> {
        if self.clock().now() >= time {
            return Poll::Ready(());
        }
        self.0.lock().unwrap().1 = Some(task.waker().clone());
        Poll::Pending
    }
}

#[derive(Clone, Default)]
struct Shop {
    handled: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
}

async fn handle(Text(_): Text, State(shop): State<Shop>) -> Result<(), &'static str> {
    shop.handled.fetch_add(1, Ordering::Relaxed);
    if shop.down.load(Ordering::Relaxed) { Err("the database is down") } else { Ok(()) }
}

/// Publishes messages, runs an app on a manual timer, and ends it when `test` is done.
async fn with(broker: &Broker, app: App<Shop>, messages: usize, test: impl AsyncFnOnce(&Manual, &Control)) {
    let connection = Connection::open(&broker.uri()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    channel.queue("q").durable().declare().await.unwrap();
    for number in 0..messages {
        channel.publish("", "q", number.to_string()).confirm().await.unwrap();
    }
    let (timer, control) = (Manual::default(), app.control());
    let test = async {
        test(&timer, &control).await;
        control.stop();
        future::pending().await
    };
    app.run_with(&connection, timer.clone()).or(test).await.unwrap();
    connection.close().await.unwrap();
    broker.assert_idle();
}

/// Lets the app do all that it can do now.
async fn settle(broker: &Broker) {
    for _ in 0..20 {
        future::yield_now().await;
        broker.settle();
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_rate_lets_a_burst_pass_and_then_one_after_the_other() {
    let broker = Broker::in_memory();
    let shop = Shop::default();
    let handled = Arc::clone(&shop.handled);
    let queue = Queue::new("q").rate_limit(Rate::new(10, Duration::from_secs(1)).burst(5)).prefetch(100);
    let app = App::new(shop).route(queue, handle);
    future::block_on(with(&broker, app, 20, async |timer, _| {
        let count = || handled.load(Ordering::Relaxed);
        broker.until(|inspect| inspect.unacked().len() == 15 && inspect.ready("q").is_empty()).await;
        settle(&broker).await;
        assert_eq!(count(), 5);
        timer.advance(millis(99));
        settle(&broker).await;
        assert_eq!(count(), 5);
        timer.advance(millis(1));
        broker.until(|inspect| inspect.unacked().len() == 14).await;
        assert_eq!(count(), 6);
        timer.advance(millis(300));
        broker.until(|inspect| inspect.unacked().len() == 11).await;
        settle(&broker).await;
        assert_eq!(count(), 9);
    }));
    assert_eq!(broker.inspect().ready("q").len(), 11, "what was sent ahead is back");
}

#[test]
fn the_prefetch_follows_concurrency_batches_and_rate() {
    let broker = Broker::in_memory();
    let hour = Duration::from_secs(3600);
    let queues = [
        Queue::new("plain"),
        Queue::new("wide").concurrency(50),
        Queue::new("slow").rate_limit(Rate::new(10, hour)),
        Queue::new("chosen").rate_limit(Rate::new(10, hour)).prefetch(7),
    ];
    let app = queues.into_iter().fold(App::new(()), |app, queue| app.route(queue, async || {}));
    let limits = hopmq_app::BatchLimits::of(500);
    let app = app.route_batch(Queue::new("batches").batch(limits), async |_: hopmq_app::Batch<Text>| {});
    let control = app.control();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let test = async {
            broker.until(|inspect| inspect.consumers().len() == 5).await;
            let mut all: Vec<_> =
                broker.inspect().consumers().into_iter().map(|consumer| (consumer.queue, consumer.prefetch)).collect();
            all.sort();
            let expected = [("batches", 1000), ("chosen", 7), ("plain", 16), ("slow", 1), ("wide", 100)];
            assert_eq!(all, expected.map(|(queue, prefetch)| (queue.to_owned(), prefetch)));
            control.stop();
            future::pending().await
        };
        app.run(&connection).or(test).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[derive(Clone, Default)]
struct Turns(Arc<Mutex<Vec<BreakerState>>>);

impl Observer for Turns {
    fn breaker(&self, queue: &str, state: BreakerState) {
        assert_eq!(queue, "q");
        self.0.lock().unwrap().push(state);
    }
}

#[test]
fn a_breaker_gives_messages_back_and_probes_with_one() {
    use BreakerState::{Closed, Open, Probing};
    let broker = Broker::in_memory();
    let (shop, turns) = (Shop::default(), Turns::default());
    let (handled, down, seen) = (Arc::clone(&shop.handled), Arc::clone(&shop.down), Arc::clone(&turns.0));
    down.store(true, Ordering::Relaxed);
    let breaker = Breaker::after(3).of(5).pause(Duration::from_secs(30));
    let app = App::new(shop).observe(turns).route(Queue::new("q").breaker(breaker), handle);
    future::block_on(with(&broker, app, 10, async |timer, _| {
        let count = || handled.load(Ordering::Relaxed);
        broker.until(|inspect| inspect.ready("q").len() == 7 && inspect.consumers().is_empty()).await;
        broker.until(|inspect| inspect.ready("q.dlq").len() == 3).await;
        assert_eq!((count(), seen.lock().unwrap().clone()), (3, vec![Open]));
        timer.advance(Duration::from_secs(29));
        settle(&broker).await;
        assert!(broker.inspect().consumers().is_empty());
        timer.advance(Duration::from_secs(1));
        broker.until(|inspect| inspect.ready("q.dlq").len() == 4 && inspect.consumers().is_empty()).await;
        assert_eq!((count(), seen.lock().unwrap().clone()), (4, vec![Open, Probing, Open]));
        // The others were not sent ahead while one was tried.
        assert!(broker.inspect().ready("q").iter().filter(|message| message.redelivered).count() <= 6);
        down.store(false, Ordering::Relaxed);
        timer.advance(Duration::from_secs(30));
        broker.until(|inspect| inspect.ready("q").is_empty() && inspect.unacked().is_empty()).await;
        assert_eq!((count(), seen.lock().unwrap().clone()), (10, vec![Open, Probing, Open, Probing, Closed]));
    }));
}

#[test]
fn a_short_break_keeps_the_consumer() {
    let broker = Broker::in_memory();
    let shop = Shop::default();
    let (handled, down) = (Arc::clone(&shop.handled), Arc::clone(&shop.down));
    down.store(true, Ordering::Relaxed);
    let app = App::new(shop).route(Queue::new("q").breaker(Breaker::after(1).pause(millis(500))), handle);
    future::block_on(with(&broker, app, 3, async |timer, _| {
        broker.until(|inspect| inspect.ready("q.dlq").len() == 1).await;
        settle(&broker).await;
        assert_eq!((handled.load(Ordering::Relaxed), broker.inspect().consumers().len()), (1, 1));
        down.store(false, Ordering::Relaxed);
        timer.advance(millis(500));
        broker.until(|inspect| inspect.ready("q").is_empty() && inspect.unacked().is_empty()).await;
        assert_eq!(handled.load(Ordering::Relaxed), 3);
    }));
}

#[test]
fn a_short_pause_keeps_the_consumer_and_a_long_one_ends_it() {
    let broker = Broker::in_memory();
    let shop = Shop::default();
    let handled = Arc::clone(&shop.handled);
    let app = App::new(shop).route(Queue::new("q"), handle);
    app.control().pause("q");
    future::block_on(with(&broker, app, 3, async |timer, control| {
        settle(&broker).await;
        assert!(broker.inspect().consumers().is_empty(), "a paused queue has no consumer");
        control.resume("q");
        broker.until(|inspect| inspect.ready("q").is_empty() && inspect.unacked().is_empty()).await;
        assert_eq!(handled.load(Ordering::Relaxed), 3);
        control.pause("q");
        timer.advance(millis(999));
        settle(&broker).await;
        assert_eq!(broker.inspect().consumers().len(), 1);
        timer.advance(millis(1001));
        broker.until(|inspect| inspect.consumers().is_empty()).await;
        control.resume("q");
        broker.until(|inspect| inspect.consumers().len() == 1).await;
        control.pause("q");
        // A stop ends a paused app too.
    }));
}
