use tracing::field::Empty;
use tracing::{Span, info_span};

use super::destination;
use crate::incoming::Incoming;
use crate::observe::{Ended, Mark, Observer};

/// Opens a span of `tracing` around each call of a handler, named `process DESTINATION`, with the attributes of
/// OpenTelemetry's conventions for RabbitMQ:
///
/// | attribute | |
/// | --- | --- |
/// | `messaging.system` | `rabbitmq` |
/// | `messaging.operation.name`, `.type` | `process` |
/// | `messaging.destination.name` | `exchange:routing_key:queue`, without what is empty or the same |
/// | `messaging.rabbitmq.destination.routing_key` | the first routing key, whatever retry queues came between |
/// | `messaging.rabbitmq.message.delivery_tag` | |
/// | `messaging.message.id`, `.conversation_id` | the message id and the correlation id, if there are any |
/// | `error.type` | the class of the failure, if there is one |
/// | `hopmq.attempt`, `hopmq.verdict` | `2`; `ack`, `retry`, `reject`, … |
///
/// The span is entered whenever the handler runs, on the thread of [`cpu`](crate::cpu) as well, and closed when it has
/// ended. Each attempt has its own. The trace of the message is continued by the app's
/// [`Propagation`](crate::Propagation), if it has one; publishes have spans then too.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Spans;

impl Spans {
    /// Returns the observer.
    pub fn new() -> Self {
        Self
    }
}

impl Observer for Spans {
    fn begin(&self, incoming: &Incoming) -> Mark {
        let span = processing(incoming);
        if span.is_disabled() {
            return Mark::default();
        }
        if let Some(propagation) = incoming.context().propagation() {
            propagation.extract(&span, incoming.message());
        }
        Mark::new(span)
    }

    fn enter(&self, mark: &mut Mark) {
        if let Some(span) = mark.get_mut::<Span>() {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        }
    }

    fn exit(&self, mark: &mut Mark) {
        if let Some(span) = mark.get_mut::<Span>() {
            span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
        }
    }

    fn end(&self, mut mark: Mark, _: &Incoming, ended: &Ended<'_>) {
        let Some(span) = mark.get_mut::<Span>() else { return };
        span.record("hopmq.verdict", ended.verdict.name());
        if let Some(failure) = ended.verdict.failure() {
            failed(span, failure.class(), failure.text());
        }
    }
}

fn processing(incoming: &Incoming) -> Span {
    let span = info_span!(
        target: "hopmq_app",
        parent: None,
        "process",
        otel.name = Empty,
        otel.kind = "consumer",
        otel.status_code = Empty,
        otel.status_description = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = Empty,
        messaging.rabbitmq.destination.routing_key = Empty,
        messaging.rabbitmq.message.delivery_tag = incoming.delivery_tag().cast_signed(),
        messaging.message.id = Empty,
        messaging.message.conversation_id = Empty,
        hopmq.attempt = i64::from(incoming.attempt()),
        hopmq.verdict = Empty,
        error.type = Empty,
    );
    if !span.is_disabled() {
        let (exchange, routing_key) = (incoming.exchange(), incoming.routing_key());
        named(&span, "process", &destination::of_consume(exchange, routing_key, incoming.queue()), routing_key);
        let properties = incoming.properties();
        if let Some(id) = properties.message_id() {
            span.record("messaging.message.id", id);
        }
        if let Some(id) = properties.correlation_id() {
            span.record("messaging.message.conversation_id", id);
        }
    }
    span
}

/// Opens the span of a publish, in the one that is entered now.
pub(crate) fn publishing(exchange: &str, routing_key: &str) -> Span {
    let span = info_span!(
        target: "hopmq_app",
        "publish",
        otel.name = Empty,
        otel.kind = "producer",
        otel.status_code = Empty,
        otel.status_description = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = Empty,
        messaging.rabbitmq.destination.routing_key = Empty,
        error.type = Empty,
    );
    if !span.is_disabled() {
        named(&span, "publish", &destination::of_publish(exchange, routing_key), routing_key);
    }
    span
}

/// Records how a publish ended.
pub(crate) fn ended(span: &Span, result: &hopmq::Result<()>) {
    if let Err(error) = result {
        failed(span, &error_type(error), &error.to_string());
    }
}

/// The broker's code, or the kind of the error.
pub(super) fn error_type(error: &hopmq::Error) -> String {
    error.code().map_or_else(|| format!("{:?}", error.kind()), |code| code.to_string())
}

fn named(span: &Span, operation: &str, destination: &str, routing_key: &str) {
    span.record("otel.name", format!("{operation} {destination}"));
    span.record("messaging.destination.name", destination);
    if !routing_key.is_empty() {
        span.record("messaging.rabbitmq.destination.routing_key", routing_key);
    }
}

fn failed(span: &Span, class: &str, text: &str) {
    span.record("error.type", class);
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", text);
}
