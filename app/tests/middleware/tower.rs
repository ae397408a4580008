use std::time::Duration;

use futures_lite::future;
use hopmq_app::{App, Backoff, Context, Incoming, Queue, State, Text, Verdict, tower};
use tower::ServiceBuilder;
use tower::filter::FilterLayer;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::support::{Notes, header, run, until};

async fn noted(State(notes): State<Notes>, Text(body): Text) {
    notes.add(format!("handles {body}"));
    future::yield_now().await;
}

#[test]
fn layers_of_tower_see_messages_and_verdicts() {
    let notes = Notes::default();
    let (before, after) = (notes.clone(), notes.clone());
    let layers = ServiceBuilder::new()
        .layer(MapRequestLayer::new(move |message: Incoming| {
            before.add(format!("before {}", message.text()));
            message
        }))
        .layer(MapResponseLayer::new(move |verdict: Verdict| {
            after.add(verdict.name());
            verdict
        }))
        .into_inner();
    let app = App::new(notes.clone()).layer(tower(layers)).route(Queue::new("orders"), noted);
    run(app, async |world| {
        world.publish("orders", ["one", "two"]).await;
        until(|| notes.len() == 6).await;
        world.drained("orders").await;
        assert_eq!(notes.all(), ["before one", "handles one", "ack", "before two", "handles two", "ack"]);
    });
}

#[test]
fn an_error_of_a_tower_service_is_a_failure_of_the_message() {
    let notes = Notes::default();
    let filter =
        FilterLayer::new(|message: Incoming| if message.text() == "stranger" { Err("not ours") } else { Ok(message) });
    let queue = Queue::new("orders").retry(Backoff::fixed(Duration::ZERO).attempts(2));
    let app = App::new(notes.clone()).layer(tower(filter)).route(queue, noted);
    run(app, async |world| {
        world.publish("orders", ["stranger", "one"]).await;
        world.broker.until(|inspect| inspect.ready("orders.dlq").len() == 1).await;
        until(|| notes.len() == 1).await;
        world.drained("orders").await;
        let dead = world.broker.inspect().ready("orders.dlq").remove(0);
        assert_eq!(header(&dead, "x-hopmq-error").as_deref(), Some("not ours"));
    });
}

#[test]
fn a_limit_of_tower_holds_over_all_slots() {
    let notes = Notes::default();
    let handler = async |State(notes): State<Notes>, Text(body): Text, context: Context| {
        notes.add(body);
        context.sleep(Duration::from_secs(1)).await;
    };
    let app = App::new(notes.clone())
        .layer(tower(GlobalConcurrencyLimitLayer::new(1)))
        .route(Queue::new("a"), handler)
        .route(Queue::new("b"), handler);
    run(app, async |world| {
        world.publish("a", ["one"]).await;
        until(|| notes.len() == 1).await;
        world.publish("b", ["two"]).await;
        world.broker.until(|inspect| inspect.unacked().len() == 2).await;
        assert_eq!(notes.len(), 1);
        world.timer.advance(Duration::from_secs(1));
        until(|| notes.len() == 2).await;
        world.timer.advance(Duration::from_secs(1));
        world.drained("b").await;
    });
}
