//! An app of plain functions, on the embedded broker.

use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use hopmq_app::blocking::{Context, Out};
use hopmq_app::{
    App, Attempt, Backoff, ConcurrencyLimit, Control, Exchange, Json, Queue, Reject, Retry, State, Verdict,
};
use hopmq_blocking::{Channel, Connection};
use hopmq_broker::Broker;

#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
struct Order {
    id: u32,
}

/// Publishes orders once the app consumes, stops the app when `done` holds, and lets it end.
fn beside(
    broker: &Broker,
    control: &Control,
    orders: impl FnOnce(&Channel) + Send + 'static,
) -> thread::JoinHandle<()> {
    let (broker, control) = (broker.clone(), control.clone());
    thread::spawn(move || {
        broker.wait_until(|inspect| !inspect.consumers().is_empty());
        let connection = Connection::open(&broker.uri()).unwrap();
        orders(&connection.channel().unwrap());
        connection.close().unwrap();
        control.stop();
    })
}

fn publish(channel: &Channel, id: u32) {
    let body = serde_json::to_vec(&Order { id }).unwrap();
    channel.publish("shop", "order.new", body).mandatory().confirm().unwrap();
}

type Seen = Arc<Mutex<Vec<(u32, u32)>>>;

fn on_order(
    Json(order): Json<Order>,
    State(seen): State<Seen>,
    Attempt(attempt): Attempt,
    out: Out<Order>,
) -> Result<Verdict, hopmq::Error> {
    seen.lock().unwrap().push((order.id, attempt));
    Ok(match order.id {
        1 => {
            out.publish_to("", "done", &order)?;
            Verdict::Ack
        }
        2 if attempt < 3 => Retry::because("busy").into(),
        2 => Verdict::Ack,
        3 => Reject::because("no such shop").into(),
        _ => panic!("what is order {}?", order.id),
    })
}

#[test]
fn plain_functions_are_handled_retried_and_dead_lettered_as_async_ones_are() {
    let broker = Broker::in_memory();
    let connection = Connection::open(&broker.uri()).unwrap();
    connection.channel().unwrap().queue("done").durable().declare().unwrap();
    let backoff = Backoff::list([Duration::from_millis(5), Duration::from_millis(5)]);
    let queue = Queue::new("orders").quorum().bind("shop", "order.*").retry(backoff).concurrency(4);
    let seen = Seen::default();
    let app = App::blocking(Arc::clone(&seen))
        .exchange(Exchange::topic("shop"))
        .layer(ConcurrencyLimit::new(3))
        .route(queue, on_order);
    let watched = broker.clone();
    let publisher = beside(&broker, &app.control(), move |channel| {
        (1..=4).for_each(|id| publish(channel, id));
        channel.publish("shop", "order.new", "no JSON").confirm().unwrap();
        watched.wait_until(|inspect| inspect.ready("orders.dlq").len() == 3 && inspect.ready("done").len() == 1);
        watched.wait_until(|inspect| inspect.ready("orders").is_empty() && inspect.unacked().is_empty());
    });
    app.run(&connection).unwrap();
    publisher.join().unwrap();
    connection.close().unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 2), (4, 3)]);
    broker.assert_idle();
}

#[test]
fn as_many_functions_run_at_once_as_the_concurrency_allows() {
    let broker = Broker::in_memory();
    let connection = Connection::open(&broker.uri()).unwrap();
    // Each function waits for two others: with fewer threads, none would end.
    let barrier = Arc::new(Barrier::new(3));
    let handler = |State(barrier): State<Arc<Barrier>>, context: Context| {
        assert_eq!(context.queue(), "orders");
        barrier.wait();
    };
    let app = App::blocking(barrier)
        .exchange(Exchange::topic("shop"))
        .route(Queue::new("orders").bind("shop", "order.*").concurrency(3), handler);
    let watched = broker.clone();
    let publisher = beside(&broker, &app.control(), move |channel| {
        (0..9).for_each(|id| publish(channel, id));
        watched.wait_until(|inspect| inspect.ready("orders").is_empty() && inspect.unacked().is_empty());
    });
    app.run(&connection).unwrap();
    publisher.join().unwrap();
    assert!(broker.inspect().ready("orders.dlq").is_empty());
    connection.close().unwrap();
    broker.assert_idle();
}

#[test]
fn a_stopped_app_finishes_the_function_in_work_and_gives_the_rest_back() {
    let broker = Broker::in_memory();
    let connection = Connection::open(&broker.uri()).unwrap();
    connection.channel().unwrap().queue("done").durable().declare().unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let (begun, begins) = mpsc::channel();
    let handler = move |Json(order): Json<Order>, out: Out<Order>| {
        begun.send(order.id).unwrap();
        wait.lock().unwrap().recv().unwrap();
        out.publish_to("", "done", &order)
    };
    let app = App::blocking(())
        .exchange(Exchange::topic("shop"))
        .route(Queue::new("orders").bind("shop", "order.*"), handler);
    let (watched, control) = (broker.clone(), app.control());
    let publisher = beside(&broker, &app.control(), move |channel| {
        (1..=3).for_each(|id| publish(channel, id));
        assert_eq!(begins.recv().unwrap(), 1);
        control.stop();
        watched.wait_until(|inspect| inspect.consumers().is_empty() && inspect.ready("orders").len() == 2);
        go.send(()).unwrap();
    });
    app.run(&connection).unwrap();
    publisher.join().unwrap();
    connection.close().unwrap();
    let texts =
        |queue| broker.inspect().ready(queue).iter().map(hopmq_broker::inspect::Message::text).collect::<Vec<_>>();
    assert_eq!(texts("done"), [r#"{"id":1}"#]);
    assert_eq!(texts("orders"), [r#"{"id":2}"#, r#"{"id":3}"#]);
    broker.assert_idle();
}
