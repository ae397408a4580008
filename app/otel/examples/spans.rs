//! Prints the spans of three messages: of an order, of the receipt that its handler publishes, and of an order that
//! fails. Needs no broker: `cargo run -p hopmq-otel --example spans`.

use std::borrow::Cow;

use futures_lite::{FutureExt, future};
use hopmq_app::{App, Error, Json, Out, Publishes, Queue};
use hopmq_broker::Broker;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;

#[derive(serde::Deserialize, serde::Serialize)]
struct Receipt {
    total: u32,
}

impl Publishes for Receipt {
    const EXCHANGE: &'static str = "";

    fn routing_key(&self) -> Cow<'_, str> {
        "receipts".into()
    }
}

async fn on_order(Json(total): Json<u32>, out: Out<Receipt>) -> Result<(), hopmq::Error> {
    tracing::info!(total, "an event within the span");
    out.publish(&Receipt { total }).await
}

async fn on_receipt(Json(receipt): Json<Receipt>) {
    println!("a receipt of {}", receipt.total);
}

fn main() -> Result<(), Error> {
    let exporter = opentelemetry_stdout::SpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop")).with_location(false);
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans));

    let broker = Broker::in_memory();
    let app = App::new(())
        .with(hopmq_otel::traced)
        .route(Queue::new("orders"), on_order)
        .route(Queue::new("receipts"), on_receipt);
    let control = app.control();
    future::block_on(async {
        let connection = hopmq::Connection::open(&broker.uri()).await?;
        let orders = async {
            broker.until(|inspect| inspect.consumers().len() == 2).await;
            let channel = connection.channel().await?;
            for body in ["12", "no number"] {
                channel.publish("", "orders", body).mandatory().confirm().await?;
            }
            broker.until(|inspect| inspect.ready("orders.dlq").len() == 1 && inspect.unacked().is_empty()).await;
            control.stop();
            future::pending::<Result<(), Error>>().await
        };
        app.run(&connection).or(orders).await?;
        connection.close().await?;
        Ok(())
    })
}
