use super::metrics::Metrics;
use crate::control::Control;

/// The type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers the questions that a platform asks a service over HTTP: `/metrics` and `/healthz`. It fits into any server.
///
/// ```
/// use hopmq_app::{App, Metrics, Probes, Queue};
///
/// let metrics = Metrics::new();
/// let app = App::new(()).observe(metrics.clone()).route(Queue::new("orders"), || async {});
/// let probes = Probes::new(app.control(), metrics);
/// // In the handler of any HTTP server:
/// let (status, content_type, body) = probes.answer("/healthz").unwrap_or((404, "text/plain", String::new()));
/// assert_eq!((status, body.as_str()), (503, "not connected\norders: no consumer\n"));
/// ```
#[derive(Clone, Debug)]
pub struct Probes {
    control: Control,
    metrics: Metrics,
}

impl Probes {
    /// Returns what answers for an app.
    pub fn new(control: Control, metrics: Metrics) -> Self {
        Self { control, metrics }
    }

    /// Returns the status, the content type and the body for a path; `None` for a path that it does not know.
    ///
    /// - `/metrics`: all [`Metrics`], for Prometheus.
    /// - `/healthz`: 200 if the app [is healthy](crate::Health::is_healthy), otherwise 503; the body says why.
    pub fn answer(&self, path: &str) -> Option<(u16, &'static str, String)> {
        match path.split('?').next().unwrap_or_default() {
            "/metrics" => Some((200, PROMETHEUS, self.metrics.prometheus())),
            "/healthz" => {
                let health = self.control.health();
                Some((if health.is_healthy() { 200 } else { 503 }, TEXT, health.to_string()))
            }
            _ => None,
        }
    }
}
