use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq_app::{App, Backoff, Context, Incoming, Next, Queue, Reject, State, Text, Verdict, around};

use crate::support::{Notes, run, until};

async fn noted(State(notes): State<Notes>, Text(body): Text, context: Context) {
    notes.add(format!("handles {body}"));
    match &*body {
        "slow" => context.sleep(Duration::from_secs(60)).await,
        "panic" => panic!("on purpose"),
        _ => future::yield_now().await,
    }
}

/// Turns messages away, limits their time, and notes down their verdicts.
async fn guarded(message: Incoming, next: Next, notes: Notes) -> Verdict {
    let body = message.text().into_owned();
    if body == "stranger" {
        return Reject::because("not ours").into();
    }
    notes.add(format!("before {body}"));
    let limit = async {
        message.context().sleep(Duration::from_secs(10)).await;
        Reject::because("too slow").into()
    };
    let verdict = next.run().or(limit).await;
    notes.add(format!("after {body}: {}", verdict.name()));
    verdict
}

#[test]
fn an_async_function_runs_before_and_after_each_handler_and_may_turn_messages_away() {
    let notes = Notes::default();
    let kept = notes.clone();
    let app = App::new(notes.clone())
        .layer(around(move |message, next| guarded(message, next, kept.clone())))
        .route(Queue::new("orders"), noted);
    run(app, async |world| {
        world.publish("orders", ["stranger", "one", "two"]).await;
        until(|| notes.len() == 6).await;
        world.drained("orders").await;
        let each = ["before one", "handles one", "after one: ack", "before two", "handles two", "after two: ack"];
        assert_eq!(notes.all(), each);
        assert_eq!(world.broker.inspect().ready("orders.dlq").len(), 1);
    });
}

#[test]
fn an_async_function_may_drop_the_handler_and_the_next_message_is_handled() {
    let notes = Notes::default();
    let kept = notes.clone();
    let app = App::new(notes.clone())
        .layer(around(move |message, next| guarded(message, next, kept.clone())))
        .route(Queue::new("orders"), noted);
    run(app, async |world| {
        world.publish("orders", ["slow", "one"]).await;
        until(|| notes.len() == 2).await;
        world.timer.advance(Duration::from_secs(10));
        until(|| notes.len() == 6).await;
        world.drained("orders").await;
        assert_eq!(notes.all()[2..], ["after slow: reject", "before one", "handles one", "after one: ack"]);
    });
}

#[test]
fn a_handler_that_panics_inside_an_async_function_is_a_failure_as_any_other() {
    let notes = Notes::default();
    let kept = notes.clone();
    let app = App::new(notes.clone())
        .layer(around(move |message, next| guarded(message, next, kept.clone())))
        .route(Queue::new("orders").retry(Backoff::fixed(Duration::ZERO).attempts(2)), noted);
    run(app, async |world| {
        world.publish("orders", ["panic", "one"]).await;
        world.broker.until(|inspect| inspect.ready("orders.dlq").len() == 1).await;
        until(|| notes.len() == 7).await;
        world.drained("orders").await;
        assert_eq!(notes.all()[4..], ["before one", "handles one", "after one: ack"]);
    });
}

#[test]
fn a_handler_that_runs_on_after_its_layer_has_ended_is_dropped() {
    let notes = Notes::default();
    let app = App::new(notes.clone())
        .layer(around(|_: Incoming, next: Next| async move {
            // Begins the handler, and does not wait for it.
            let _ = future::poll_once(next.run()).await;
        }))
        .route(Queue::new("orders"), noted);
    run(app, async |world| {
        world.publish("orders", ["slow", "slow"]).await;
        world.drained("orders").await;
        assert!(notes.len() <= 2);
    });
}
