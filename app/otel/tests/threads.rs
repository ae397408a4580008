//! Handlers on a pool of threads, whose threads have the subscriber of the whole program only.

use futures_lite::{FutureExt, future};
use hopmq::{Connection, Properties};
use hopmq_app::{App, Context, Error, Queue, Text, cpu};
use hopmq_broker::Broker;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

/// Publishes the trace in which it runs.
fn on_order(Text(_): Text, context: Context) -> Result<(), hopmq::Error> {
    let trace = tracing::Span::current().context().span().span_context().trace_id().to_string();
    future::block_on(context.publish("", "done", &Properties::new(), trace))
}

#[test]
fn a_handler_on_a_pool_of_threads_is_in_its_span() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let broker = Broker::in_memory();
    let app = App::new(()).with(hopmq_otel::traced).route(Queue::new("orders"), cpu(on_order));
    let control = app.control();
    future::block_on(async {
        let connection = Connection::open(&broker.uri()).await?;
        let channel = connection.channel().await?;
        channel.queue("done").durable().declare().await?;
        let test = async {
            broker.until(|inspect| !inspect.consumers().is_empty()).await;
            channel.publish("", "orders", "one").mandatory().confirm().await?;
            broker.until(|inspect| inspect.ready("done").len() == 1 && inspect.unacked().is_empty()).await;
            control.stop();
            future::pending::<Result<(), Error>>().await
        };
        app.run(&connection).or(test).await?;
        connection.close().await?;
        Ok::<_, Error>(())
    })
    .unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    let process = spans.iter().find(|span| span.name == "process orders").expect("a span of the handler");
    let done = broker.inspect().ready("done").remove(0);
    assert_eq!(done.text(), process.span_context.trace_id().to_string());
    assert!(done.properties.headers().unwrap().get("traceparent").is_some());
}
