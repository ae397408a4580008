//! Handlers that take batches, on the embedded broker.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq::Connection;
use hopmq_app::{
    Ack, App, Attempt, Backoff, Batch, BatchLimits, Context, Control, Ended, ErrorKind, Incoming, Json, Mark, Observer,
    Queue, Reject, Retry, State, Text, Verdict,
};
use hopmq_broker::Broker;

type Log = Arc<Mutex<Vec<Vec<String>>>>;

async fn publish(connection: &Connection, queue: &str, bodies: impl IntoIterator<Item = String>) {
    let channel = connection.channel().await.unwrap();
    for body in bodies {
        channel.publish("", queue, body).mandatory().confirm().await.unwrap();
    }
}

/// Runs an app until `test` is done with it, and ends it.
async fn with(
    app: impl Future<Output = Result<(), hopmq_app::Error>>,
    control: Control,
    test: impl Future<Output = ()>,
) {
    let test = async {
        test.await;
        control.stop();
        future::pending().await
    };
    app.or(test).await.unwrap();
}

fn limits(messages: usize, wait: Duration) -> BatchLimits {
    BatchLimits::of(messages).within(wait)
}

fn texts(batch: &Batch<Text>) -> Vec<String> {
    batch.iter().map(|Text(text)| text.clone()).collect()
}

#[test]
fn a_batch_is_bounded_by_count_bytes_and_time() {
    let broker = Broker::in_memory();
    let log = Log::default();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        connection.channel().await.unwrap().queue("q").durable().declare().await.unwrap();
        // Two of the large ones are more than a batch may have.
        let large = |name: &str| format!("{name}{}", " ".repeat(600));
        publish(&connection, "q", (0..7).map(|n| n.to_string()).chain([large("a"), large("b"), large("c")])).await;
        let handler = async |batch: Batch<Text>, State(log): State<Log>| {
            log.lock().unwrap().push(batch.iter().map(|Text(text)| text.trim().to_owned()).collect());
        };
        let app = App::new(Arc::clone(&log))
            .route_batch(Queue::new("q").batch(limits(4, Duration::from_millis(5)).bytes(1000)), handler);
        let control = app.control();
        let test = broker.until(|inspect| log.lock().unwrap().len() >= 4 && inspect.unacked().is_empty());
        with(app.run(&connection), control, test).await;
        connection.close().await.unwrap();
    });
    let batches = log.lock().unwrap().clone();
    assert_eq!(batches[0], ["0", "1", "2", "3"]);
    assert_eq!(batches.concat(), ["0", "1", "2", "3", "4", "5", "6", "a", "b", "c"]);
    assert!(batches.iter().all(|batch| batch.iter().filter(|text| text.parse::<u32>().is_err()).count() <= 2));
    broker.assert_idle();
}

#[test]
fn what_cannot_be_decoded_fails_alone_and_failures_go_one_by_one() {
    let broker = Broker::in_memory();
    let log = Log::default();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        connection.channel().await.unwrap().queue("q").durable().declare().await.unwrap();
        publish(&connection, "q", ["1", "no number", "2", "3", "4"].map(str::to_owned)).await;
        let handler = async |batch: Batch<(Json<u32>, Attempt)>, State(log): State<Log>, _: Context| {
            log.lock().unwrap().push(batch.iter().map(|(Json(n), attempt)| format!("{n}/{}", attempt.0)).collect());
            batch
                .into_iter()
                .map(|(Json(n), Attempt(attempt))| match n {
                    2 if attempt < 3 => Retry::because("busy").into(),
                    3 => Reject::because("no such shop").into(),
                    4 => Retry::because("always").into(),
                    _ => Ack.into(),
                })
                .collect::<Vec<Verdict>>()
        };
        let backoff = Backoff::list([Duration::from_millis(1); 2]);
        let queue = Queue::new("q").batch(limits(5, Duration::from_secs(10))).retry(backoff);
        let app = App::new(Arc::clone(&log)).route_batch(queue, handler);
        let control = app.control();
        let test = broker.until(|inspect| inspect.ready("q.dlq").len() == 3 && inspect.unacked().is_empty());
        with(app.run(&connection), control, test).await;
        connection.close().await.unwrap();
    });
    let batches = log.lock().unwrap().clone();
    assert_eq!(batches, [vec!["1/1", "2/1", "3/1", "4/1"], vec!["2/2", "4/2"], vec!["2/3", "4/3"]]);
    let mut dead: Vec<_> = broker.inspect().ready("q.dlq").iter().map(|message| format!("{message:?}")).collect();
    dead.sort();
    for reason in ["no such shop", "always", "the body is not the JSON of u32"] {
        assert_eq!(dead.iter().filter(|message| message.contains(reason)).count(), 1, "{reason}: {dead:?}");
    }
    broker.assert_idle();
}

/// Counts what it sees.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<Vec<(String, bool)>>>);

impl Observer for Counter {
    fn begin(&self, incoming: &Incoming) -> Mark {
        Mark::new(incoming.text().into_owned())
    }

    fn end(&self, mut mark: Mark, _: &Incoming, ended: &Ended<'_>) {
        let text = mark.get_mut::<String>().unwrap().clone();
        self.0.lock().unwrap().push((format!("{text} {}", ended.verdict.name()), ended.panicked));
    }
}

#[test]
fn a_panic_fails_all_and_observers_see_each_message() {
    let broker = Broker::in_memory();
    let counter = Counter::default();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        connection.channel().await.unwrap().queue("q").durable().declare().await.unwrap();
        publish(&connection, "q", ["a", "b"].map(str::to_owned)).await;
        let handler = async |batch: Batch<(Text, Attempt)>| {
            assert!(batch[0].1.0 > 1, "not at first");
        };
        let queue = Queue::new("q").batch(limits(2, Duration::from_secs(10))).retry(Backoff::fixed(Duration::ZERO));
        let app = App::new(()).observe(counter.clone()).route_batch(queue, handler);
        let control = app.control();
        let test = broker.until(|inspect| counter.0.lock().unwrap().len() == 4 && inspect.unacked().is_empty());
        with(app.run(&connection), control, test).await;
        connection.close().await.unwrap();
    });
    let seen = counter.0.lock().unwrap().clone();
    let expected = [("a retry", true), ("b retry", true), ("a ack", false), ("b ack", false)];
    assert_eq!(seen, expected.map(|(text, panicked)| (text.to_owned(), panicked)));
    broker.assert_idle();
}

#[test]
fn a_stop_finishes_the_batch_in_work_and_gives_the_rest_back() {
    let broker = Broker::in_memory();
    let log = Log::default();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        connection.channel().await.unwrap().queue("q").durable().declare().await.unwrap();
        publish(&connection, "q", (0..6).map(|n| n.to_string())).await;
        let app = App::local(Rc::new(Arc::clone(&log)));
        let control = app.control();
        let stop = control.clone();
        let handler = move |batch: Batch<Text>, State(log): State<Rc<Log>>| {
            let stop = stop.clone();
            async move {
                stop.stop();
                // The app goes on with this batch after it was stopped.
                future::yield_now().await;
                log.lock().unwrap().push(texts(&batch));
            }
        };
        let app = app.route_batch(Queue::new("q").batch(limits(4, Duration::from_secs(10))), handler);
        app.run(&connection).await.unwrap();
        connection.close().await.unwrap();
    });
    assert_eq!(*log.lock().unwrap(), [["0", "1", "2", "3"]]);
    let left: Vec<_> = broker.inspect().ready("q").iter().map(hopmq_broker::inspect::Message::text).collect();
    assert_eq!(left, ["4", "5"]);
    broker.assert_idle();
}

#[test]
fn a_stop_gives_back_what_waits_for_its_next_attempt() {
    let broker = Broker::in_memory();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        connection.channel().await.unwrap().queue("q").durable().declare().await.unwrap();
        publish(&connection, "q", ["a", "b"].map(str::to_owned)).await;
        let app = App::new(());
        let control = app.control();
        let handler = move |batch: Batch<Text>| {
            control.stop();
            let outcome = |text: &Text| if text.0 == "a" { Ok(()) } else { Err("later") };
            async move { batch.iter().map(outcome).collect::<Vec<_>>() }
        };
        // In order, so that the wait happens in the slot.
        let backoff = Backoff::list([Duration::from_secs(600)]);
        let queue = Queue::new("q").batch(limits(2, Duration::from_secs(10))).ordered_by(|_| 1).retry(backoff);
        app.route_batch(queue, handler).run(&connection).await.unwrap();
        connection.close().await.unwrap();
    });
    let left: Vec<_> = broker.inspect().ready("q").iter().map(hopmq_broker::inspect::Message::text).collect();
    assert_eq!(left, ["b"]);
    broker.assert_idle();
}

#[test]
fn a_message_that_ended_the_program_too_often_is_parked_alone() {
    let broker = Broker::in_memory();
    let log = Log::default();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let queue = Queue::new("q").quorum().batch(limits(2, Duration::from_secs(10))).delivery_limit(1);
        let channel = connection.channel().await.unwrap();
        channel.queue("q").durable().quorum().declare().await.unwrap();
        publish(&connection, "q", ["poison".to_owned()]).await;
        // A program takes it and dies.
        let dying = Connection::open(&broker.uri()).await.unwrap();
        let taken = dying.channel().await.unwrap().get("q").await.unwrap();
        assert!(taken.is_some());
        dying.close().await.unwrap();
        publish(&connection, "q", ["fine".to_owned()]).await;
        let handler = async |batch: Batch<Text>, State(log): State<Log>| log.lock().unwrap().push(texts(&batch));
        let app = App::new(Arc::clone(&log)).route_batch(queue, handler);
        let control = app.control();
        let test = broker.until(|inspect| inspect.ready("q.parked").len() == 1 && inspect.unacked().is_empty());
        with(app.run(&connection), control, test).await;
        connection.close().await.unwrap();
    });
    assert_eq!(*log.lock().unwrap(), [["fine"]]);
    broker.assert_idle();
}

#[test]
fn a_batch_whose_link_was_lost_comes_again() {
    let broker = Broker::in_memory();
    let log = Log::default();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        connection.channel().await.unwrap().queue("q").durable().declare().await.unwrap();
        publish(&connection, "q", ["a", "b"].map(str::to_owned)).await;
        // The first app is dropped in the middle of its batch, as if its program had ended.
        let first = App::new(()).route_batch(
            Queue::new("q").batch(limits(2, Duration::from_secs(10))),
            async |_: Batch<Text>| {
                future::pending::<()>().await;
            },
        );
        let held = broker.until(|inspect| inspect.unacked().len() == 2);
        let dropped = async {
            held.await;
            Ok(())
        };
        first.run(&connection).or(dropped).await.unwrap();
        let handler = async |batch: Batch<Text>, State(log): State<Log>| log.lock().unwrap().push(texts(&batch));
        let app =
            App::new(Arc::clone(&log)).route_batch(Queue::new("q").batch(limits(2, Duration::from_secs(10))), handler);
        connection.close().await.unwrap();
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let control = app.control();
        let test = broker.until(|inspect| {
            log.lock().unwrap().len() == 1 && inspect.ready("q").is_empty() && inspect.unacked().is_empty()
        });
        with(app.run(&connection), control, test).await;
        connection.close().await.unwrap();
    });
    assert_eq!(*log.lock().unwrap(), [["a", "b"]]);
    broker.assert_idle();
}

#[test]
fn a_queue_with_batches_needs_a_batch_handler() {
    let broker = Broker::in_memory();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let app = App::new(()).route(Queue::new("q").batch(BatchLimits::of(5)), async || {});
        let error = app.run(&connection).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("`.route_batch(…)`"), "{error}");
        let queue = Queue::new("q").ordered_by(|_| 1).concurrency(2);
        let error = App::new(()).route_batch(queue, async |_: Batch<Text>| {}).run(&connection).await.unwrap_err();
        assert!(error.to_string().contains("leave out `.concurrency(2)`"), "{error}");
        connection.close().await.unwrap();
    });
    assert!(broker.inspect().queues().is_empty());
}
