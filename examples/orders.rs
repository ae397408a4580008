//! A shop whose handlers validate orders, try failed ones again, and leave what can't succeed in the dead letters.
//!
//! Without `AMQP_URL`, the program starts its own broker and needs nothing else. It ends by itself after some seconds.
//!
//! ```sh
//! cargo run --example orders
//! AMQP_URL=amqp://user:password@broker:5672/vhost cargo run --example orders
//! ```

use std::fmt;
use std::time::Duration;

use hopmq_app::{App, Attempt, Backoff, Class, Classify, DeadLetter, Exchange, Header, HeaderName, Json, Queue, State};
use hopmq_broker::Broker;
use serde_json::json;
use smol::channel::{Receiver, Sender};

/// The prices of our pizzas, in euros.
const PRICES: [u32; 3] = [8, 9, 11];

#[derive(serde::Deserialize)]
struct Order {
    id: u32,
    /// Which of our pizzas.
    pizza: usize,
    count: u32,
}

/// Why an order was not cooked. The class decides what happens with its message.
enum OrderError {
    OvenFull,
    NoPizzas(u32),
}

impl Classify for OrderError {
    fn class(&self) -> Class {
        match self {
            Self::OvenFull => Class::Retry,
            Self::NoPizzas(_) => Class::Reject,
        }
    }

    fn name(&self) -> std::borrow::Cow<'static, str> {
        match self {
            Self::OvenFull => "busy".into(),
            Self::NoPizzas(_) => "invalid".into(),
        }
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OvenFull => f.write_str("the oven is full"),
            Self::NoPizzas(id) => write!(f, "order {id} is for no pizzas"),
        }
    }
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

/// Cooks an order.
async fn on_order(
    Json(order): Json<Order>,
    Attempt(attempt): Attempt,
    State(shop): State<Shop>,
) -> Result<(), OrderError> {
    let Order { id, pizza, count } = order;
    if count == 0 {
        return Err(OrderError::NoPizzas(id));
    }
    if id == 2 && attempt == 1 {
        println!("order {id}: attempt {attempt} failed: the oven is full; trying again in 1 s");
        return Err(OrderError::OvenFull);
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
    let orders = Queue::new("hopmq-orders")
        .quorum()
        .bind("hopmq-shop", "order.*")
        .retry(Backoff::exponential(Duration::from_secs(1), 2).attempts(3))
        .concurrency(4);
    let dead_letters = Queue::new("hopmq-orders.dlq").quorum().dead_letter(DeadLetter::Reject);
    let app = App::new(Shop { finished })
        .exchange(Exchange::topic("hopmq-shop"))
        .route(orders, on_order)
        .route(dead_letters, on_dead_letter);
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
