//! The spans of an app, as an exporter of OpenTelemetry sees them.

use futures_lite::{FutureExt, future};
use hopmq::{Connection, Properties};
use hopmq_app::{App, Asynchronous, Backoff, Context, Error, Mode, Out, Queue, Reject, Retry, Spans, Text, Verdict};
use hopmq_broker::Broker;
use hopmq_broker::inspect::Message;
use hopmq_otel::Headers;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing_subscriber::layer::SubscriberExt;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Publishes messages to `orders`, runs the app until nothing is left there, and returns the spans that have ended and
/// the messages of `done` and the dead letters.
fn spans_of<M: Mode<()> + Asynchronous>(
    app: App<(), M>,
    messages: &[(&'static str, Properties)],
) -> (Vec<SpanData>, Vec<Message>) {
    let broker = Broker::in_memory();
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let control = app.control();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        future::block_on(async {
            let connection = Connection::open(&broker.uri()).await?;
            let channel = connection.channel().await?;
            channel.queue("done").durable().declare().await?;
            let test = async {
                broker.until(|inspect| !inspect.consumers().is_empty()).await;
                for (body, properties) in messages {
                    channel.publish("", "orders", *body).properties(properties).mandatory().confirm().await?;
                }
                let ends = |count| count == messages.len();
                broker.until(|inspect| ends(inspect.ready("done").len() + inspect.ready("orders.dlq").len())).await;
                broker.until(|inspect| inspect.unacked().is_empty()).await;
                control.stop();
                future::pending::<Result<(), Error>>().await
            };
            app.run(&connection).or(test).await?;
            connection.close().await?;
            Ok::<_, Error>(())
        })
        .unwrap();
    });
    let left = ["done", "orders.dlq"].iter().flat_map(|queue| broker.inspect().ready(queue)).collect();
    (exporter.get_finished_spans().unwrap(), left)
}

fn traced() -> Properties {
    Properties::new()
        .with_message_id("m-1")
        .with_correlation_id("c-1")
        .with_header("traceparent", format!("00-{TRACE}-{PARENT}-01").as_str())
        .with_header("tracestate", "shop=1")
        .with_header("baggage", "user=7")
}

async fn hand_on(Text(body): Text, out: Out<String>) -> Result<(), hopmq::Error> {
    out.publish_to("", "done", &body).await
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name)?;
    Some(found.value.to_string())
}

fn header(message: &Message, name: &str) -> Option<String> {
    message.properties.headers().ok()?.get(name).and_then(|value| value.as_str().map(str::to_owned))
}

fn only<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [one] = found[..] else { panic!("{} spans have the name {name}: {spans:#?}", found.len()) };
    one
}

#[test]
fn the_trace_of_a_message_goes_on_in_its_handler_and_in_what_that_publishes() {
    let app = App::new(()).with(hopmq_otel::traced).route(Queue::new("orders"), hand_on);
    let (spans, left) = spans_of(app, &[("one", traced())]);
    let process = only(&spans, "process orders");
    let publish = only(&spans, "publish done");
    assert_eq!((&process.span_kind, &publish.span_kind), (&SpanKind::Consumer, &SpanKind::Producer));
    let trace = TraceId::from_hex(TRACE).unwrap();
    assert_eq!((process.span_context.trace_id(), publish.span_context.trace_id()), (trace, trace));
    assert_eq!(process.parent_span_id, SpanId::from_hex(PARENT).unwrap());
    assert!(process.parent_span_is_remote && process.links.is_empty());
    assert_eq!(publish.parent_span_id, process.span_context.span_id());
    let sent = publish.span_context.span_id();
    assert_eq!(header(&left[0], "traceparent"), Some(format!("00-{TRACE}-{sent}-01")));
    assert_eq!(header(&left[0], "tracestate").as_deref(), Some("shop=1"));
    assert_eq!(header(&left[0], "baggage").as_deref(), Some("user=7"));
}

#[test]
fn spans_have_the_attributes_of_the_conventions() {
    let app = App::new(()).with(hopmq_otel::traced).route(Queue::new("orders"), hand_on);
    let (spans, _) = spans_of(app, &[("one", traced())]);
    let process = only(&spans, "process orders");
    for (name, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "orders"),
        ("messaging.rabbitmq.destination.routing_key", "orders"),
        ("messaging.rabbitmq.message.delivery_tag", "1"),
        ("messaging.message.id", "m-1"),
        ("messaging.message.conversation_id", "c-1"),
        ("hopmq.attempt", "1"),
        ("hopmq.verdict", "ack"),
    ] {
        assert_eq!(attribute(process, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!((attribute(process, "error.type"), &process.status), (None, &Status::Unset));
    let publish = only(&spans, "publish done");
    for (name, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "done"),
    ] {
        assert_eq!(attribute(publish, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn each_attempt_has_a_span_with_its_error_and_a_dead_letter_keeps_its_trace() {
    let queue = Queue::new("orders").retry(Backoff::fixed(std::time::Duration::ZERO).attempts(2));
    let handler = async |attempt: hopmq_app::Attempt| -> Verdict {
        match attempt.0 {
            1 => Retry::because("the shop is away").into(),
            _ => Reject::because("no such shop").into(),
        }
    };
    let app = App::new(()).with(hopmq_otel::traced).route(queue, handler);
    let (spans, left) = spans_of(app, &[("one", traced())]);
    let seen: Vec<_> = spans
        .iter()
        .map(|span| (attribute(span, "hopmq.attempt").unwrap(), attribute(span, "error.type").unwrap()))
        .collect();
    assert_eq!(seen, [("1".to_owned(), "retry".to_owned()), ("2".to_owned(), "reject".to_owned())]);
    assert_eq!(spans[1].status, Status::error("no such shop"));
    assert_eq!(header(&left[0], "traceparent"), Some(format!("00-{TRACE}-{PARENT}-01")));
    assert_eq!(header(&left[0], "baggage").as_deref(), Some("user=7"));
}

#[test]
fn a_publish_that_fails_has_its_error() {
    let handler = async |out: Out<String>, context: Context| -> Result<(), hopmq::Error> {
        let lost = out.publish_to("", "nowhere", &"lost".to_owned()).await;
        assert!(lost.is_err());
        context.publish("", "done", &Properties::new(), "kept").await
    };
    let app = App::new(()).with(hopmq_otel::traced).route(Queue::new("orders"), handler);
    let (spans, _) = spans_of(app, &[("one", Properties::new())]);
    let lost = only(&spans, "publish nowhere");
    assert_eq!(attribute(lost, "error.type").as_deref(), Some("312"), "the code of the broker's return");
    assert!(matches!(lost.status, Status::Error { .. }));
    assert_eq!(only(&spans, "publish done").status, Status::Unset);
}

#[test]
fn a_message_without_a_trace_begins_one_and_garbage_is_no_trace() {
    let garbage = Properties::new().with_header("traceparent", "00-zz").with_header("baggage", 7);
    let app = App::new(()).with(hopmq_otel::traced).route(Queue::new("orders"), hand_on);
    let (spans, _) = spans_of(app, &[("one", Properties::new()), ("two", garbage)]);
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "process orders").collect();
    assert_eq!(roots.len(), 2);
    assert!(roots.iter().all(|span| span.parent_span_id == SpanId::INVALID));
    assert_ne!(roots[0].span_context.trace_id(), roots[1].span_context.trace_id());
}

#[test]
fn a_linked_trace_begins_anew_and_keeps_the_baggage() {
    let app =
        App::new(()).observe(Spans::new()).propagation(Headers::new().linked()).route(Queue::new("orders"), hand_on);
    let (spans, left) = spans_of(app, &[("one", traced())]);
    let process = only(&spans, "process orders");
    assert_eq!(process.parent_span_id, SpanId::INVALID);
    assert_ne!(process.span_context.trace_id(), TraceId::from_hex(TRACE).unwrap());
    let linked = &process.links.links[0].span_context;
    assert_eq!(linked.span_id(), SpanId::from_hex(PARENT).unwrap());
    assert_eq!(header(&left[0], "baggage").as_deref(), Some("user=7"));
}
