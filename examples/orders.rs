//! A shop whose handlers validate orders, try failed ones again, and leave what can't succeed in the dead letters.
//!
//! Without `AMQP_URL`, the program starts its own broker and needs nothing else. It ends by itself after some seconds.
//!
//! ```sh
//! cargo run --example orders
//! AMQP_URL=amqp://user:password@broker:5672/vhost cargo run --example orders
//! ```

use garde::Validate;
use hopmq_app::{App, Attempt, Exchange, Header, HeaderName, Json, Queue, State, Valid, consumer, routes};
use hopmq_broker::Broker;
use serde_json::json;
use smol::channel::{Receiver, Sender};

/// The prices of our pizzas, in euros.
const PRICES: [u32; 3] = [8, 9, 11];

#[derive(serde::Deserialize, Validate)]
struct Order {
    #[garde(skip)]
    id: u32,
    /// Which of our pizzas.
    #[garde(skip)]
    pizza: usize,
    #[garde(range(min = 1, max = 50))]
    count: u32,
}

/// What the handlers share.
#[derive(Clone)]
struct Shop {
    /// Takes the outcome of each order.
    finished: Sender<Outcome>,
}

#[derive(PartialEq)]
enum Outcome {
    Done,
    Dead,
}

/// Cooks an order. One whose rules are broken never gets here.
#[consumer(
    queue = "hopmq-orders",
    bind = "hopmq-shop/order.*",
    quorum,
    concurrency = 4,
    retry(first = "1s", factor = 2, attempts = 3)
)]
async fn on_order(
    Valid(Json(order)): Valid<Json<Order>>,
    Attempt(attempt): Attempt,
    State(shop): State<Shop>,
) -> Result<(), String> {
    let Order { id, pizza, count } = order;
    if id == 2 && attempt == 1 {
        println!("order {id}: attempt {attempt} failed: the oven is full; trying again in 1 s");
        return Err("the oven is full".to_owned());
    }
    if id == 4 {
        println!("order {id}: attempt {attempt} of 3: a pizza that is not on the menu makes the handler panic");
    }
    let total = PRICES[pizza] * count;
    let pizzas = if count == 1 { "pizza" } else { "pizzas" };
    let again = if attempt == 1 { String::new() } else { format!(" (attempt {attempt})") };
    println!("order {id}: {count} {pizzas} for {total} €, done{again}");
    // The receiver lives as long as the app.
    shop.finished.send(Outcome::Done).await.ok();
    Ok(())
}

/// The headers that say why a message is a dead letter.
struct ErrorClass;
struct ErrorText;

impl HeaderName for ErrorClass {
    const NAME: &'static str = hopmq_app::flow::headers::ERROR_CLASS;
    type Value = String;
}

impl HeaderName for ErrorText {
    const NAME: &'static str = hopmq_app::flow::headers::ERROR;
    type Value = String;
}

/// Reports a dead letter. In a real shop, dead letters stay in their queue until a person has looked at them.
#[consumer(queue = "hopmq-orders.dlq", quorum, dead_letter = false)]
async fn on_dead_letter(
    Header(class): Header<ErrorClass>,
    Header(text): Header<ErrorText>,
    Attempt(attempts): Attempt,
    State(shop): State<Shop>,
) {
    let plural = if attempts == 1 { "" } else { "s" };
    println!("dead letter after {attempts} attempt{plural}: {class}: {text}");
    shop.finished.send(Outcome::Dead).await.ok();
}

fn main() -> Result<(), hopmq_app::Error> {
    let embedded = Broker::in_memory();
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| {
        println!("AMQP_URL is not set: using a broker within this program.");
        embedded.uri()
    });
    // The panic of order 4 is caught, and its text comes with the dead letter: it need not be printed here as well.
    std::panic::set_hook(Box::new(|_| {}));
    smol::block_on(run(&url))
}

async fn run(url: &str) -> Result<(), hopmq_app::Error> {
    let (finished, outcomes) = smol::channel::unbounded();
    let app =
        App::new(Shop { finished }).exchange(Exchange::topic("hopmq-shop")).with(routes![on_order, on_dead_letter]);
    let control = app.control();
    let queues: Vec<_> = app.queues().flat_map(Queue::all).collect();

    let connection = hopmq::Connection::builder().uri(url).connection_name("orders").open().await?;
    // The queue must be bound before orders are published. Otherwise, the app declares it when it runs.
    app.declare(&connection).await?;
    let channel = connection.channel().await?;
    let shop = channel.publisher("hopmq-shop", "order.new").persistent().mandatory();
    let customers = async {
        let sold = sell(&shop, &outcomes).await;
        control.stop();
        sold
    };
    // Nothing is spawned: the app is a future as well, and ends after `stop` when all messages in work are settled.
    let (ended, sold) = smol::future::zip(app.run(&connection), customers).await;
    ended?;
    sold?;
    for queue in queues {
        channel.queue_delete(queue.name()).await?;
    }
    channel.exchange_delete("hopmq-shop").await?;
    connection.close().await?;
    Ok(())
}

/// Publishes five orders, and waits until each is done or a dead letter.
async fn sell(shop: &hopmq::Publisher, outcomes: &Receiver<Outcome>) -> hopmq::Result<()> {
    for (id, pizza, count) in [(1, 0, 2), (2, 1, 1), (3, 0, 0), (4, 7, 1)] {
        shop.publish(json!({ "id": id, "pizza": pizza, "count": count }).to_string()).confirm().await?;
    }
    shop.publish("two pizzas, please").confirm().await?;
    let mut done = 0;
    for _ in 0..5 {
        done += u32::from(outcomes.recv().await == Ok(Outcome::Done));
    }
    println!("{done} orders done, {} dead letters", 5 - done);
    Ok(())
}
