//! Telemetry: spans, metrics and health, by OpenTelemetry's conventions for messaging.
//!
//! Owns the names and the attributes. In come what observers see and what is published; out go spans of `tracing`,
//! Prometheus text and answers to probes. It must never know OpenTelemetry's crates, and never block a handler.

mod destination;
mod health;
mod histogram;
#[cfg(feature = "http")]
mod listener;
mod metrics;
mod probes;
mod prometheus;
mod propagation;
mod spans;

pub use health::{Health, QueueHealth, QueueState};
pub use metrics::Metrics;
pub use probes::Probes;
pub use propagation::Propagation;
pub use spans::Spans;
pub(crate) use spans::{ended, publishing};
