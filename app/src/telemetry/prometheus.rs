//! Writes metrics in Prometheus' text format.

use std::fmt::Write;

use super::histogram::Histogram;
use super::metrics::Values;

/// The name of the default exchange, which a label can't show as an empty text.
const DEFAULT_EXCHANGE: &str = "amq.default";

type Labels<'a> = Vec<(&'static str, &'a str)>;

pub(super) fn write(values: &Values) -> String {
    let mut out = String::new();
    let queues = || values.queues.iter().map(|(name, of)| (base(name), of));
    head(&mut out, "messaging_client_consumed_messages_total", "counter", "Messages delivered to handlers.");
    for (labels, of) in queues() {
        line(&mut out, "messaging_client_consumed_messages_total", &labels, None, of.consumed);
    }
    head(&mut out, "messaging_process_duration_seconds", "histogram", "Duration of calls of handlers.");
    for (labels, of) in queues() {
        for ((verdict, class), times) in &of.processed {
            let labels = with(&labels, &[("messaging_operation_name", "process"), ("hopmq_verdict", verdict)], class);
            histogram(&mut out, "messaging_process_duration_seconds", &labels, times);
        }
    }
    let sent = || {
        values.sent.iter().map(|((exchange, class), times)| {
            let exchange = if exchange.is_empty() { DEFAULT_EXCHANGE } else { exchange };
            (with(&base(exchange), &[("messaging_operation_name", "publish")], class), times)
        })
    };
    head(&mut out, "messaging_client_sent_messages_total", "counter", "Messages published, confirmed or not.");
    for (labels, times) in sent() {
        line(&mut out, "messaging_client_sent_messages_total", &labels, None, times.count());
    }
    head(&mut out, "messaging_client_operation_duration_seconds", "histogram", "Duration of confirmed publishes.");
    for (labels, times) in sent() {
        histogram(&mut out, "messaging_client_operation_duration_seconds", &labels, times);
    }
    head(&mut out, "hopmq_app_messages_in_work", "gauge", "Messages that handlers work on.");
    for (labels, of) in queues() {
        line(&mut out, "hopmq_app_messages_in_work", &labels, None, of.in_work);
    }
    head(&mut out, "hopmq_app_messages_waiting", "gauge", "Messages held while no handler works on them.");
    for (labels, of) in queues() {
        line(&mut out, "hopmq_app_messages_waiting", &labels, None, of.waiting as u64);
    }
    out
}

fn base(destination: &str) -> Labels<'_> {
    vec![("messaging_system", "rabbitmq"), ("messaging_destination_name", destination)]
}

fn with<'a>(labels: &Labels<'a>, more: &[(&'static str, &'a str)], class: &'a str) -> Labels<'a> {
    let error = (!class.is_empty()).then_some(("error_type", class));
    labels.iter().chain(more).copied().chain(error).collect()
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    push(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn histogram(out: &mut String, name: &str, labels: &Labels<'_>, times: &Histogram) {
    let bucket = format!("{name}_bucket");
    for (bound, count) in times.cumulated() {
        line(out, &bucket, labels, Some(&bound.to_string()), count);
    }
    line(out, &bucket, labels, Some("+Inf"), times.count());
    line(out, &format!("{name}_sum"), labels, None, times.sum().as_secs_f64());
    line(out, &format!("{name}_count"), labels, None, times.count());
}

fn line(out: &mut String, name: &str, labels: &Labels<'_>, bound: Option<&str>, value: impl std::fmt::Display) {
    push(out, format_args!("{name}{{"));
    for (index, (key, text)) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
        push(out, format_args!("{comma}{key}=\"{text}\""));
    }
    push(out, format_args!("}} {value}\n"));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text can't fail.
    let _ = out.write_fmt(text);
}
