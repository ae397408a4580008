//! Counters, and their text for Prometheus.
//!
//! Sessions add to a counter once per batch. Labels are constants, so a peer cannot create new series.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by reason.
#[derive(Debug, Default)]
struct Reasons(Mutex<BTreeMap<&'static str, u64>>);

impl Reasons {
    fn add(&self, reason: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    fn write(&self, text: &mut String, name: &str) {
        for (reason, count) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(text, "{name}{{reason=\"{reason}\"}} {count}");
        }
    }
}

/// What a connection has counted since [`Metrics::count`] last took it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) from_browsers: Counter,
    pub(crate) to_browsers: Counter,
    published: Counter,
    delivered: Counter,
    pub(crate) operations_refused: Counter,
    /// Pauses for a rate limit.
    pub(crate) pauses: Counter,
    refused: Reasons,
    ended: Reasons,
}

impl Metrics {
    /// Adds the counts of a connection, and resets them.
    pub(crate) fn count(&self, counts: &mut Counts) {
        let Counts { published, delivered, refused } = std::mem::take(counts);
        for (counter, count) in
            [(&self.published, published), (&self.delivered, delivered), (&self.operations_refused, refused)]
        {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// Counts a refused upgrade.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
    }

    /// Counts a session that ended.
    pub(crate) fn ended(&self, reason: &'static str) {
        self.ended.add(reason);
    }

    /// Returns the text for Prometheus. The first argument holds the open WebSockets, how many may be open, and how
    /// many are not logged in; `upstreams` holds, for each host, its name, whether it is up, and the number of its
    /// connections.
    pub(crate) fn text(
        &self,
        [connections, connections_max, pending]: [usize; 3],
        upstreams: &[(&str, bool, usize)],
    ) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        };
        let gauges = [
            ("hopmq_gateway_connections", "Open WebSockets.", connections),
            ("hopmq_gateway_connections_max", "WebSockets that may be open.", connections_max),
            ("hopmq_gateway_pending_logins", "Open WebSockets that are not logged in.", pending),
        ];
        for (name, help, value) in gauges {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        }
        let totals = [
            ("hopmq_gateway_connections_accepted_total", "WebSockets opened.", &self.accepted),
            ("hopmq_gateway_messages_published_total", "Messages from browsers.", &self.published),
            ("hopmq_gateway_messages_delivered_total", "Messages to browsers.", &self.delivered),
            ("hopmq_gateway_received_bytes_total", "Bytes of AMQP from browsers.", &self.from_browsers),
            ("hopmq_gateway_sent_bytes_total", "Bytes of AMQP to browsers.", &self.to_browsers),
            ("hopmq_gateway_operations_refused_total", "Operations refused by a policy.", &self.operations_refused),
            ("hopmq_gateway_rate_pauses_total", "Times that a browser was paused by a rate limit.", &self.pauses),
        ];
        for (name, help, counter) in totals {
            head(&mut text, name, "counter", help);
            let _ = writeln!(text, "{name} {}", counter.value());
        }
        let name = "hopmq_gateway_upgrades_refused_total";
        head(&mut text, name, "counter", "WebSockets refused before they opened, by reason.");
        self.refused.write(&mut text, name);
        let name = "hopmq_gateway_connections_ended_total";
        head(&mut text, name, "counter", "WebSockets closed, by reason.");
        self.ended.write(&mut text, name);
        head(&mut text, "hopmq_gateway_upstream_up", "gauge", "Whether a RabbitMQ is reachable.");
        for (host, up, _) in upstreams {
            let _ = writeln!(text, "hopmq_gateway_upstream_up{{host=\"{host}\"}} {}", u8::from(*up));
        }
        head(&mut text, "hopmq_gateway_upstream_connections", "gauge", "Connections to a RabbitMQ.");
        for (host, _, connections) in upstreams {
            let _ = writeln!(text, "hopmq_gateway_upstream_connections{{host=\"{host}\"}} {connections}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_counter_with_its_type() {
        let metrics = Metrics::default();
        metrics.count(&mut Counts { published: 3, ..Counts::default() });
        metrics.refused("origin");
        metrics.refused("origin");
        metrics.ended("closed");
        let text = metrics.text([7, 9, 1], &[("amqp://a:5672", true, 4)]);
        for line in [
            "hopmq_gateway_connections 7",
            "hopmq_gateway_connections_max 9",
            "hopmq_gateway_pending_logins 1",
            "hopmq_gateway_messages_published_total 3",
            "hopmq_gateway_upgrades_refused_total{reason=\"origin\"} 2",
            "hopmq_gateway_connections_ended_total{reason=\"closed\"} 1",
            "hopmq_gateway_upstream_up{host=\"amqp://a:5672\"} 1",
            "hopmq_gateway_upstream_connections{host=\"amqp://a:5672\"} 4",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} has no type");
        }
    }
}
