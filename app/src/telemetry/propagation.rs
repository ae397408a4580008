use hopmq::Message;
use tracing::Span;

/// Carries traces over messages, in their headers: set with [`App::propagation`](crate::App::propagation). The crate
/// `hopmq-otel` has that of OpenTelemetry, by W3C's headers `traceparent`, `tracestate` and `baggage`.
///
/// Messages that the app moves, to a retry queue or to the dead letters, keep the headers that they have.
pub trait Propagation: Send + Sync {
    /// Makes the span of a handler continue the trace that the message is part of.
    fn extract(&self, span: &Span, message: &Message);

    /// Calls `set` with the name and the value of each header that carries the trace of `span`.
    fn inject(&self, span: &Span, set: &mut dyn FnMut(&str, &str));
}
