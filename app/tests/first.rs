//! An app on the embedded broker, from the first message to the dead letters.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq_app::{App, Attempt, Backoff, Exchange, Json, Out, Queue, Reject, Retry, State, Verdict};
use hopmq_broker::Broker;

#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Order {
    id: u32,
}

#[derive(Clone, Default)]
struct Shop {
    seen: Arc<Mutex<Vec<(u32, u32)>>>,
    calls: Arc<AtomicU32>,
}

async fn on_order(
    Json(order): Json<Order>,
    State(shop): State<Shop>,
    Attempt(attempt): Attempt,
    out: Out<Order>,
) -> Result<Verdict, hopmq::Error> {
    shop.seen.lock().unwrap().push((order.id, attempt));
    shop.calls.fetch_add(1, Ordering::Relaxed);
    Ok(match order.id {
        1 => {
            out.publish_to("", "done", &order).await?;
            hopmq_app::Ack.into()
        }
        2 if attempt < 3 => Retry::because("busy").into(),
        2 => hopmq_app::Ack.into(),
        3 => Reject::because("no such shop").into(),
        _ => panic!("what is order {}?", order.id),
    })
}

#[test]
fn orders_are_handled_retried_and_dead_lettered() {
    let broker = Broker::in_memory();
    let shop = Shop::default();
    future::block_on(async {
        let connection = hopmq::Connection::open(&broker.uri()).await?;
        let channel = connection.channel().await?;
        channel.queue("done").durable().declare().await?;
        let backoff = Backoff::list([Duration::from_millis(5), Duration::from_millis(5)]);
        let queue = Queue::new("orders").quorum().bind("shop", "order.*").retry(backoff).concurrency(4);
        let app = App::new(shop.clone()).exchange(Exchange::topic("shop")).route(queue, on_order);
        let control = app.control();
        let test = async {
            broker.until(|inspect| !inspect.consumers().is_empty()).await;
            for id in 1..=4 {
                let body = serde_json::to_vec(&Order { id }).unwrap();
                channel.publish("shop", "order.new", body).mandatory().confirm().await?;
            }
            channel.publish("shop", "order.new", "no JSON").confirm().await?;
            broker.until(|inspect| inspect.ready("orders.dlq").len() == 3 && inspect.ready("done").len() == 1).await;
            broker.until(|inspect| inspect.ready("orders").is_empty() && inspect.unacked().is_empty()).await;
            control.stop();
            future::pending::<Result<(), hopmq_app::Error>>().await
        };
        app.run(&connection).or(test).await?;
        connection.close().await?;
        Ok::<_, hopmq_app::Error>(())
    })
    .unwrap();
    let mut seen = shop.seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 2), (4, 3)]);
    let dead: Vec<_> = broker.inspect().ready("orders.dlq");
    let class = |message: &hopmq_broker::inspect::Message| format!("{message:?}");
    let all = dead.iter().map(class).collect::<Vec<_>>().join("\n");
    for text in ["no such shop", "the handler panicked: what is order 4?", "the body is not the JSON of Order"] {
        assert!(all.contains(text), "{text} is not in {all}");
    }
    broker.assert_idle();
}
