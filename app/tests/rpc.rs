//! Calls on the embedded broker.

use std::time::Duration;

use futures_lite::{FutureExt, future};
use hopmq_app::rpc::{Client, RpcError};
use hopmq_app::{App, rpc};
use hopmq_broker::Broker;

#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Quote {
    pizza: String,
    count: u32,
}

#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
enum PricingError {
    NoSuchPizza(String),
}

#[rpc]
trait Pricing {
    /// Returns the price.
    async fn quote(&self, quote: Quote) -> Result<u32, PricingError>;
    async fn sum(&self, a: u32, b: u32) -> u32;
}

struct Prices;

impl Pricing for Prices {
    async fn quote(&self, quote: Quote) -> Result<u32, PricingError> {
        match quote.pizza.as_str() {
            "margherita" => Ok(quote.count * 9),
            "bomb" => panic!("no bombs"),
            _ => Err(PricingError::NoSuchPizza(quote.pizza)),
        }
    }

    async fn sum(&self, a: u32, b: u32) -> u32 {
        a + b
    }
}

#[test]
fn a_call_returns_the_result_of_the_method() {
    let broker = Broker::in_memory();
    future::block_on(async {
        let connection = hopmq::Connection::open(&broker.uri()).await.unwrap();
        let (queue, pricing) = serve_pricing(Prices);
        let app = App::new(()).route(queue, pricing);
        let control = app.control();
        let test = async {
            broker.until(|inspect| !inspect.consumers().is_empty()).await;
            let client = PricingClient::new(Client::open(&connection).await.unwrap()).within(Duration::from_secs(5));
            assert_eq!(client.sum(1, 2).await.unwrap(), 3);
            let order = |pizza: &str| Quote { pizza: pizza.into(), count: 2 };
            assert_eq!(client.quote(order("margherita")).await.unwrap(), 18);
            let failed = client.quote(order("quattro")).await.unwrap_err().failed();
            assert_eq!(failed, Some(PricingError::NoSuchPizza("quattro".into())));
            let Err(RpcError::Fault(fault)) = client.quote(order("bomb")).await else { panic!("no fault") };
            assert_eq!((fault.class.as_str(), fault.text.as_str()), ("panic", "the method panicked: no bombs"));
            control.stop();
            future::pending().await
        };
        app.run(&connection).or(test).await.unwrap();
        connection.close().await.unwrap();
    });
    broker.assert_idle();
}
