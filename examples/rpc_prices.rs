//! A service that quotes prices, a second one that it asks, and a client: calls, typed errors, deadlines, and a stream.
//!
//! ```sh
//! cargo run --example rpc_prices
//! ```
//!
//! Without `AMQP_URL`, the program starts its own broker and needs nothing else.

use std::time::{Duration, Instant};

use futures_lite::{FutureExt, Stream, StreamExt, future, stream};
use hopmq::Connection;
use hopmq_app::rpc::{Client, RpcError};
use hopmq_app::{App, rpc};
use hopmq_broker::Broker;

#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Quote {
    pizza: String,
    count: u32,
}

#[derive(Debug, serde::Deserialize, serde::Serialize)]
enum PricingError {
    NoSuchPizza(String),
}

impl std::fmt::Display for PricingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::NoSuchPizza(name) = self;
        write!(f, "there is no pizza {name}")
    }
}

#[rpc]
trait Pricing {
    /// Returns the price in euros. The discount is asked of another service, before the caller's deadline.
    async fn quote(&self, quote: Quote, #[extract] discounts: DiscountsClient) -> Result<u32, PricingError>;

    /// Returns the price of one pizza, again and again.
    fn watch(&self, pizza: String) -> impl Stream<Item = Result<u32, PricingError>>;
}

#[rpc]
trait Discounts {
    /// Returns a discount in percent.
    async fn percent(&self, count: u32) -> u32;
}

struct Prices;

impl Pricing for Prices {
    async fn quote(&self, quote: Quote, discounts: DiscountsClient) -> Result<u32, PricingError> {
        let price = price(&quote.pizza)?;
        // The call ends at the deadline of the one that asked us. Without an answer, there is no discount.
        let percent = discounts.percent(quote.count).await.unwrap_or(0);
        Ok(price * quote.count * (100 - percent) / 100)
    }

    fn watch(&self, pizza: String) -> impl Stream<Item = Result<u32, PricingError>> {
        stream::iter(0..).map(move |hour| Ok(price(&pizza)? + hour))
    }
}

fn price(pizza: &str) -> Result<u32, PricingError> {
    match pizza {
        "margherita" => Ok(9),
        "funghi" => Ok(11),
        other => Err(PricingError::NoSuchPizza(other.to_owned())),
    }
}

struct Bulk;

impl Discounts for Bulk {
    async fn percent(&self, count: u32) -> u32 {
        if count >= 10 { 20 } else { 0 }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let embedded = Broker::in_memory();
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| {
        println!("AMQP_URL is not set: using a broker within this program.");
        embedded.uri()
    });
    future::block_on(async {
        let connection = Connection::open(&url).await?;
        let pricing = PricingClient::new(Client::open(&connection).await?).within(Duration::from_secs(5));

        let asked = Instant::now();
        if let Err(error) = pricing.quote(order("margherita", 2)).await {
            println!("before the server starts: {error} (after {:.1?})", asked.elapsed());
        }

        let (prices, pricing_handler) = serve_pricing(Prices);
        let (discounts, discounts_handler) = serve_discounts(Bulk);
        let app = App::new(()).route(prices, pricing_handler).route(discounts, discounts_handler);
        let control = app.control();
        let client = async {
            ask(&pricing).await.unwrap_or_else(|error| println!("{error}"));
            control.stop();
            future::pending().await
        };
        app.run(&connection).or(client).await?;
        Ok(connection.close().await?)
    })
}

fn order(pizza: &str, count: u32) -> Quote {
    Quote { pizza: pizza.to_owned(), count }
}

async fn ask(pricing: &PricingClient) -> Result<(), RpcError<PricingError>> {
    // The server declares its queue when it starts.
    while let Err(RpcError::NoServer { .. }) = pricing.quote(order("margherita", 1)).await {
        future::yield_now().await;
    }
    for (pizza, count) in [("margherita", 2), ("funghi", 10), ("hawaii", 1)] {
        match pricing.quote(order(pizza, count)).await {
            Ok(price) => println!("{count} × {pizza}: {price} euros"),
            Err(RpcError::Failed(error)) => println!("{count} × {pizza}: {error}"),
            Err(error) => return Err(error),
        }
    }

    let prices: Vec<_> = pricing.watch("funghi".to_owned()).await?.take(3).collect().await;
    let prices = prices.into_iter().collect::<Result<Vec<_>, _>>()?;
    println!("the next prices of funghi: {prices:?}");

    let begun = Instant::now();
    let mut calls = futures_util::stream::FuturesUnordered::new();
    calls.extend((0..1000).map(|_| pricing.quote(order("margherita", 1))));
    while let Some(price) = calls.next().await {
        price?;
    }
    println!("1000 calls at once took {:.0?}", begun.elapsed());
    Ok(())
}
