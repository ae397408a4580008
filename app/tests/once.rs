//! Handlers that skip what they have done before, with a store in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq::{Channel, Connection, Properties};
use hopmq_app::once::{MemoryStore, once};
use hopmq_app::{App, Attempt, Backoff, Control, Queue, Reply, State, Text};
use hopmq_broker::Broker;

type Log = Arc<Mutex<Vec<String>>>;

async fn publish(channel: &Channel, id: &str, body: &str) {
    let properties = match id {
        "" => Properties::new(),
        id => Properties::new().with_message_id(id),
    };
    channel.publish("", "q", body).properties(&properties).mandatory().confirm().await.unwrap();
}

/// Runs an app, lets `test` publish to its queue `q`, and ends it when nothing is left there.
async fn with(broker: &Broker, app: App<Log>, test: impl AsyncFnOnce(&Channel, &Control)) {
    let connection = Connection::open(&broker.uri()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let control = app.control();
    let test = async {
        broker.until(|inspect| !inspect.consumers().is_empty()).await;
        test(&channel, &control).await;
        broker.until(|inspect| inspect.ready("q").is_empty() && inspect.unacked().is_empty()).await;
        control.stop();
        future::pending().await
    };
    app.run(&connection).or(test).await.unwrap();
    connection.close().await.unwrap();
    broker.assert_idle();
}

fn store() -> MemoryStore {
    MemoryStore::new(100, Duration::from_secs(600))
}

async fn note(Text(text): Text, State(log): State<Log>) {
    log.lock().unwrap().push(text);
}

#[test]
fn what_was_done_is_skipped_and_what_has_no_id_is_rejected() {
    let (broker, log) = (Broker::in_memory(), Log::default());
    let app = App::new(Arc::clone(&log)).route(Queue::new("q"), once(store(), note));
    future::block_on(with(&broker, app, async |channel, _| {
        publish(channel, "1", "first").await;
        publish(channel, "2", "second").await;
        publish(channel, "1", "first again").await;
        publish(channel, "", "who is it?").await;
    }));
    assert_eq!(*log.lock().unwrap(), ["first", "second"]);
    let dead = broker.inspect().ready("q.dlq");
    assert_eq!((dead.len(), dead[0].text()), (1, "who is it?".to_owned()));
    assert!(format!("{:?}", dead[0]).contains("its publisher must set one"), "{dead:?}");
}

#[test]
fn another_id_may_be_read() {
    let (broker, log) = (Broker::in_memory(), Log::default());
    let by_body = once(store(), note).by(|incoming| Some(incoming.text().into_owned()));
    let app = App::new(Arc::clone(&log)).route(Queue::new("q"), by_body);
    future::block_on(with(&broker, app, async |channel, _| {
        publish(channel, "", "a").await;
        publish(channel, "", "a").await;
    }));
    assert_eq!(*log.lock().unwrap(), ["a"]);
}

#[test]
fn what_failed_or_panicked_is_tried_again_and_replayed() {
    let (broker, log) = (Broker::in_memory(), Log::default());
    let failing = async |Text(text): Text, Attempt(attempt): Attempt, State(log): State<Log>| {
        log.lock().unwrap().push(format!("{text} {attempt}"));
        assert!(text != "panic" || attempt > 1, "at first");
        if text == "fail" && attempt < 3 { Err("busy") } else { Ok(()) }
    };
    let queue = Queue::new("q").retry(Backoff::list([Duration::ZERO]));
    let app = App::new(Arc::clone(&log)).route(queue, once(store(), failing));
    future::block_on(with(&broker, app, async |channel, _| {
        publish(channel, "1", "panic").await;
        publish(channel, "2", "fail").await;
        // A person replays what is in the dead letters.
        broker.until(|inspect| inspect.ready("q.dlq").len() == 1).await;
        publish(channel, "2", "fail").await;
        publish(channel, "1", "panic").await;
        broker.until(|inspect| inspect.ready("q.dlq").len() == 2).await;
    }));
    assert_eq!(*log.lock().unwrap(), ["panic 1", "panic 2", "fail 1", "fail 2", "fail 1", "fail 2"]);
}

#[test]
fn a_reply_is_sent_again() {
    let (broker, log) = (Broker::in_memory(), Log::default());
    let answer = async |Text(text): Text, State(log): State<Log>| {
        log.lock().unwrap().push(text.clone());
        Reply(text)
    };
    let app = App::new(Arc::clone(&log)).route(Queue::new("q"), once(store(), answer));
    future::block_on(with(&broker, app, async |channel, _| {
        channel.queue("replies").durable().declare().await.unwrap();
        let properties = Properties::new().with_message_id("1").with_reply_to("replies");
        for _ in 0..2 {
            channel.publish("", "q", "ping").properties(&properties).confirm().await.unwrap();
        }
        broker.until(|inspect| inspect.ready("replies").len() == 2).await;
    }));
    assert_eq!(*log.lock().unwrap(), ["ping"]);
}

#[test]
fn of_two_workers_with_the_same_message_one_does_it_and_the_other_waits() {
    let (broker, log) = (Broker::in_memory(), Log::default());
    let store = store();
    let calls = Arc::new(AtomicUsize::new(0));
    let (begun, finish) = (Control::default(), Control::default());
    let slow = {
        let (calls, begun, finish) = (Arc::clone(&calls), begun.clone(), finish.clone());
        move |Text(text): Text, State(log): State<Log>| {
            let (calls, begun, finish) = (Arc::clone(&calls), begun.clone(), finish.clone());
            async move {
                calls.fetch_add(1, Ordering::Relaxed);
                begun.stop();
                finish.stopped().await;
                log.lock().unwrap().push(text);
            }
        }
    };
    let app = App::new(Arc::clone(&log)).route(Queue::new("q").concurrency(2), once(store.clone(), slow));
    future::block_on(with(&broker, app, async |channel, _| {
        publish(channel, "1", "first").await;
        publish(channel, "1", "second").await;
        begun.stopped().await;
        broker.until(|inspect| inspect.unacked().len() == 2).await;
        finish.stop();
    }));
    assert_eq!((calls.load(Ordering::Relaxed), log.lock().unwrap().clone()), (1, vec!["first".to_owned()]));
    assert_eq!(store.len(), 1);
}

#[test]
fn a_handler_that_is_dropped_in_its_work_is_not_done() {
    let (broker, log) = (Broker::in_memory(), Log::default());
    let store = store();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.queue("q").durable().declare().await.unwrap();
        publish(&channel, "1", "first").await;
        let begun = Control::default();
        let begins = begun.clone();
        let hanging = move |Text(_): Text| {
            begins.stop();
            future::pending::<()>()
        };
        let app = App::new(Log::default()).route(Queue::new("q"), once(store.clone(), hanging));
        let dropped = async {
            begun.stopped().await;
            // The handler's future is polled once its store has answered.
            while store.is_empty() {
                future::yield_now().await;
            }
            Ok(())
        };
        app.run(&connection).or(dropped).await.unwrap();
        connection.close().await.unwrap();
    });
    assert!(store.is_empty(), "its id is forgotten");
    let app = App::new(Arc::clone(&log)).route(Queue::new("q"), once(store, note));
    future::block_on(with(&broker, app, async |_, _| {}));
    assert_eq!(*log.lock().unwrap(), ["first"]);
}
