//! OpenTelemetry for [`hopmq_app`]: the trace of a message goes on in its handler, and in what the handler publishes.
//!
//! `hopmq-app` opens spans of `tracing` by OpenTelemetry's conventions for messaging ([`Spans`]), and
//! `tracing-opentelemetry` makes spans of OpenTelemetry of them. This crate carries their contexts over messages, in
//! the headers `traceparent`, `tracestate` and `baggage` of the W3C, which the messaging libraries of other languages
//! use too.
//!
//! ```
//! use hopmq_app::{App, Queue, Text};
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! async fn on_order(Text(order): Text) {
//!     tracing::info!(order, "an event in the span of the message");
//! }
//!
//! // Once, in `main`; `provider` has the exporter of your choice.
//! let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
//! let tracer = opentelemetry::trace::TracerProvider::tracer(&provider, "shop");
//! let spans = tracing_opentelemetry::layer().with_tracer(tracer);
//! let subscriber = tracing_subscriber::registry().with(spans);
//! # tracing::subscriber::with_default(subscriber, || {
//!
//! let app = App::new(()).with(hopmq_otel::traced).route(Queue::new("orders"), on_order);
//! # let _ = app;
//! # });
//! ```
//!
//! The versions of `opentelemetry`, `opentelemetry_sdk` and `tracing-opentelemetry` must be those of this crate,
//! because they find each other by types.
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

use std::fmt;

use hopmq::Message;
use hopmq_app::{App, Mode, Propagation, Spans};
use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt};
use opentelemetry::propagation::{Extractor, Injector, TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Opens spans for the messages of an app, and carries their traces over messages: for [`App::with`].
pub fn traced<S: 'static, M: Mode<S>>(app: App<S, M>) -> App<S, M> {
    app.observe(Spans::new()).propagation(Headers::new())
}

/// Carries traces in the headers of messages. For spans, the app needs the observer [`Spans`] as well: [`traced`] adds
/// both.
pub struct Headers {
    propagator: Box<dyn TextMapPropagator + Send + Sync>,
    linked: bool,
}

impl Headers {
    /// Carries traces and baggage in the headers of the W3C: `traceparent`, `tracestate`, `baggage`.
    pub fn new() -> Self {
        let w3c: [Box<dyn TextMapPropagator + Send + Sync>; 2] =
            [Box::new(TraceContextPropagator::new()), Box::new(BaggagePropagator::new())];
        Self::with(TextMapCompositePropagator::new(w3c.into()))
    }

    /// Carries traces in the headers of another propagator, such as that of Zipkin or Jaeger.
    pub fn with(propagator: impl TextMapPropagator + Send + Sync + 'static) -> Self {
        Self { propagator: Box::new(propagator), linked: false }
    }

    /// Begins a trace of its own for each message, with a link to the span that published it. The default is to go on
    /// with the trace of the message: its handler's span is a child of the publisher's.
    #[must_use]
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers").field("propagator", &self.propagator).field("linked", &self.linked).finish()
    }
}

impl Propagation for Headers {
    fn extract(&self, span: &Span, message: &Message) {
        let carrier = Carrier::read(message, &*self.propagator);
        let found = self.propagator.extract_with_context(&Context::new(), &carrier);
        let publisher = found.span().span_context().clone();
        let parent = if self.linked { baggage_of(&found) } else { found };
        if let Err(error) = span.set_parent(parent) {
            // Without the layer of tracing-opentelemetry, there is no trace to go on with.
            tracing::debug!(%error, "the trace of a message can't be continued");
            return;
        }
        if self.linked && publisher.is_valid() {
            span.add_link(publisher);
        }
    }

    fn inject(&self, span: &Span, set: &mut dyn FnMut(&str, &str)) {
        self.propagator.inject_context(&span.context(), &mut Setter(set));
    }
}

/// Returns a context with the baggage of another one alone.
fn baggage_of(context: &Context) -> Context {
    let entries = context.baggage().iter().map(|(key, value)| (key.clone(), value.clone()));
    Context::new().with_baggage(entries.collect::<Baggage>())
}

/// The headers of a message that a propagator reads. Headers that are no text are left out.
struct Carrier(Vec<(String, String)>);

impl Carrier {
    fn read(message: &Message, propagator: &dyn TextMapPropagator) -> Self {
        let text = |name: &str| Some((name.to_owned(), message.header(name)?.as_str()?.to_owned()));
        Self(propagator.fields().filter_map(text).collect())
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

struct Setter<'a>(&'a mut dyn FnMut(&str, &str));

impl Injector for Setter<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An empty baggage is no header.
        if !value.is_empty() {
            (self.0)(key, &value);
        }
    }
}
