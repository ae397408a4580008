//! The README's bar chart: an SVG that is legible on light and dark backgrounds.

use super::plan::Broker;
use super::report::rate;
use super::results::Results;

/// The panels: title, and name of the row.
const PANELS: [(&str, &str); 3] = [
    ("publish, 100 B, messages/s", "publish 100 B"),
    ("publish confirmed, window 1,000, messages/s", "confirmed, window 1,000"),
    ("consume, ack each, 100 B, messages/s", "consume, ack each"),
];
const SHOWN: [&str; 7] = ["hopmq", "hopmq-blocking", "amqp-client", "amiquip", "librabbitmq", "amqprs", "lapin"];
pub(super) const WIDTH: f64 = 720.0;
pub(super) const LABELS: f64 = 130.0;
const FIGURES: f64 = 90.0;
const BAR: f64 = 18.0;
pub(super) const STEP: f64 = 24.0;
pub(super) const TITLE: f64 = 34.0;

/// The chart, or `None` if none of its rows was measured.
pub(crate) fn svg(results: &Results) -> Option<String> {
    let mut body = String::new();
    let mut y = 0.0;
    for (title, row) in PANELS {
        let bars: Vec<_> = SHOWN
            .iter()
            .filter_map(|name| Some((*name, results.get(Broker::Counterpart, row, name)?.rate)))
            .filter(|(_, rate)| rate.is_finite())
            .collect();
        let most = bars.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        body += &format!("  <text class=\"title\" x=\"0\" y=\"{:.0}\">{title}</text>\n", y + 20.0);
        y += TITLE;
        for (name, value) in bars {
            body += &bar(name, value, value / most, y);
            y += STEP;
        }
    }
    let note = format!("{}, {} cores, {}", results.machine.cpu, results.machine.cores, results.machine.date);
    (y > 0.0).then(|| document("Messages per second by client", &body, &note, y))
}

/// A picture of this height, in which `note` is the last line.
pub(super) fn document(label: &str, body: &str, note: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {:.0}\" role=\"img\" \
         aria-label=\"{label}\">\n{STYLE}{body}  <text class=\"note\" x=\"0\" y=\"{:.0}\">{}</text>\n</svg>\n",
        height + 32.0,
        height + 22.0,
        escape(note)
    )
}

/// Colours with enough contrast on white and on GitHub's dark background.
const STYLE: &str = "  <style>
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; }
    .note { font-size: 11px; fill: #656d76; }
    rect { fill: #8c959f; }
    rect.ours { fill: #0969da; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .note { fill: #8d96a0; }
      rect { fill: #6e7681; }
      rect.ours { fill: #4493f8; }
    }
  </style>
";

fn bar(name: &str, value: f64, share: f64, y: f64) -> String {
    let width = ((WIDTH - LABELS - FIGURES) * share).max(1.0);
    let class = if name.starts_with("hopmq") { " class=\"ours\"" } else { "" };
    let baseline = y + 14.0;
    format!(
        "  <text x=\"{:.0}\" y=\"{baseline:.0}\" text-anchor=\"end\">{}</text>\n  \
         <rect{class} x=\"{LABELS:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR:.0}\" rx=\"3\"/>\n  \
         <text x=\"{:.1}\" y=\"{baseline:.0}\">{}</text>\n",
        LABELS - 8.0,
        escape(name),
        LABELS + width + 6.0,
        rate(value).trim()
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
