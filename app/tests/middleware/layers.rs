use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::future;
use hopmq_app::{
    App, Attempt, Backoff, ConcurrencyLimit, Context, Queue, RateLimit, Retry, RetryBudget, State, Text, Timeout,
    Verdict,
};

use crate::support::{Notes, header, run, until};

const SECOND: Duration = Duration::from_secs(1);

/// Notes when a handler's future is dropped before its end.
struct Watch(Notes, String);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.add(format!("dropped {}", self.1));
    }
}

#[test]
fn a_handler_that_takes_too_long_is_dropped_and_its_message_tried_again() {
    let notes = Notes::default();
    let handler = async |State(notes): State<Notes>, Attempt(attempt): Attempt, context: Context| {
        notes.add(format!("attempt {attempt}"));
        if attempt == 1 {
            let _watch = Watch(notes, "1".into());
            future::pending::<()>().await;
        }
        context.sleep(SECOND * 5).await;
    };
    let queue = Queue::new("orders").retry(Backoff::fixed(Duration::ZERO).attempts(2));
    let app = App::new(notes.clone()).layer(Timeout::after(SECOND * 10)).route(queue, handler);
    run(app, async |world| {
        world.publish("orders", ["one"]).await;
        until(|| notes.len() == 1).await;
        world.timer.advance(Duration::from_millis(9_999));
        future::yield_now().await;
        assert_eq!(notes.all(), ["attempt 1"]);
        world.timer.advance(Duration::from_millis(1));
        until(|| notes.len() == 3).await;
        assert_eq!(notes.all(), ["attempt 1", "dropped 1", "attempt 2"]);
        world.timer.advance(SECOND * 5);
        world.drained("orders").await;
        assert!(world.broker.inspect().ready("orders.dlq").is_empty());
    });
}

#[test]
fn a_message_that_times_out_too_often_goes_to_the_dead_letters_with_the_reason() {
    let notes = Notes::default();
    let handler = async |State(notes): State<Notes>| {
        notes.add("called");
        future::pending::<()>().await;
    };
    let app = App::new(notes.clone()).layer(Timeout::after(SECOND)).route(Queue::new("orders"), handler);
    run(app, async |world| {
        world.publish("orders", ["one"]).await;
        until(|| notes.len() == 1).await;
        world.timer.advance(SECOND);
        world.broker.until(|inspect| inspect.ready("orders.dlq").len() == 1).await;
        let dead = world.broker.inspect().ready("orders.dlq").remove(0);
        assert_eq!(header(&dead, "x-hopmq-error-class").as_deref(), Some("timeout"));
        assert_eq!(header(&dead, "x-hopmq-error").as_deref(), Some("the handler did not end within 1s"));
    });
}

/// Runs while a message is handled, and counts how many do.
#[derive(Clone, Default)]
struct Gauge {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    notes: Notes,
}

struct InWork(Arc<AtomicUsize>);

impl Gauge {
    fn enter(&self) -> InWork {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        InWork(Arc::clone(&self.now))
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn counted(State(gauge): State<Gauge>, Text(body): Text, context: Context) -> Result<(), &'static str> {
    let _in_work = gauge.enter();
    context.sleep(SECOND).await;
    gauge.notes.add(body.clone());
    match &*body {
        "fail" => Err("failed"),
        "panic" => panic!("on purpose"),
        _ => Ok(()),
    }
}

#[test]
fn a_concurrency_limit_holds_over_all_queues_and_no_permit_is_lost() {
    let gauge = Gauge::default();
    let queue = |name: &str| Queue::new(name).concurrency(8);
    let app =
        App::new(gauge.clone()).layer(ConcurrencyLimit::new(3)).route(queue("a"), counted).route(queue("b"), counted);
    run(app, async |world| {
        for _ in 0..4 {
            world.publish("a", ["ok", "fail", "panic", "ok", "ok"]).await;
            world.publish("b", ["ok", "panic", "ok", "fail", "ok"]).await;
        }
        until(|| gauge.now.load(Ordering::Relaxed) == 3).await;
        let next = || {
            world.timer.advance(SECOND);
            gauge.notes.len() == 40
        };
        until(next).await;
        world.drained("a").await;
        world.drained("b").await;
        assert_eq!(gauge.most.load(Ordering::Relaxed), 3);
        assert_eq!(world.broker.inspect().ready("a.dlq").len(), 8);
    });
}

#[test]
fn a_timeout_around_a_limit_ends_what_runs_and_what_waits_and_passes_the_permit_on() {
    let notes = Notes::default();
    let limit = ConcurrencyLimit::new(1);
    let app = App::new(notes.clone()).layer(limit.clone()).layer(Timeout::after(SECOND)).route(
        Queue::new("orders").concurrency(2).retry(Backoff::fixed(Duration::ZERO).attempts(2)),
        async |State(notes): State<Notes>, Text(body): Text| {
            notes.add(body);
            future::pending::<()>().await;
        },
    );
    run(app, async |world| {
        world.publish("orders", ["one", "two"]).await;
        until(|| notes.len() == 1).await;
        world.broker.until(|inspect| inspect.unacked().len() == 2).await;
        for _ in 0..2 {
            future::yield_now().await;
        }
        world.timer.advance(SECOND);
        until(|| notes.len() == 2).await;
        // Both begin their second attempt before the clock goes on.
        for _ in 0..2 {
            future::yield_now().await;
        }
        world.timer.advance(SECOND);
        world.broker.until(|inspect| inspect.ready("orders.dlq").len() == 2).await;
    });
}

#[test]
fn a_rate_limit_lets_messages_begin_evenly_after_a_burst() {
    let notes = Notes::default();
    let handler = async |State(notes): State<Notes>, Text(body): Text, context: Context| {
        notes.add(format!("{body} at {} ms", context.alarms().now().since_epoch().as_millis()));
    };
    let app = App::new(notes.clone())
        .layer(RateLimit::new(10, SECOND).burst(2))
        .route(Queue::new("orders").concurrency(4), handler);
    run(app, async |world| {
        // A quiet time is saved up only as far as the burst.
        world.timer.advance(SECOND * 10);
        world.publish("orders", ["a", "b", "c", "d"]).await;
        until(|| notes.len() == 2).await;
        world.broker.until(|inspect| inspect.unacked().len() == 2).await;
        world.timer.advance(Duration::from_millis(100));
        until(|| notes.len() == 3).await;
        world.timer.advance(Duration::from_millis(100));
        until(|| notes.len() == 4).await;
        assert_eq!(notes.all(), ["a at 10000 ms", "b at 10000 ms", "c at 10100 ms", "d at 10200 ms"]);
        world.drained("orders").await;
    });
}

#[test]
fn a_spent_retry_budget_holds_failures_back_and_loses_none() {
    let notes = Notes::default();
    let handler = async |State(notes): State<Notes>, Text(body): Text, Attempt(attempt): Attempt| -> Verdict {
        notes.add(format!("{body}{attempt}"));
        if body == "ok" { Verdict::Ack } else { Retry::because("the shop is away").into() }
    };
    let queue = Queue::new("orders").retry(Backoff::fixed(Duration::ZERO).attempts(2));
    let app =
        App::new(notes.clone()).layer(RetryBudget::percent(20).reserve(2).pause(SECOND * 5)).route(queue, handler);
    run(app, async |world| {
        world.publish("orders", ["a", "b", "ok"]).await;
        until(|| notes.len() == 3).await;
        world.broker.until(|inspect| inspect.unacked().len() == 2 || inspect.ready("orders").len() < 3).await;
        assert_eq!(notes.all(), ["a1", "a2", "b1"], "the third failure is held back");
        world.timer.advance(SECOND * 5);
        until(|| notes.len() == 4).await;
        world.timer.advance(SECOND * 5);
        until(|| notes.len() == 5).await;
        assert_eq!(notes.all(), ["a1", "a2", "b1", "b2", "ok1"]);
        world.broker.until(|inspect| inspect.ready("orders.dlq").len() == 2).await;
    });
}
