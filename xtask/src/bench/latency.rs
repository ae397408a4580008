//! The picture of latencies through brokers: an SVG that is legible on light and dark backgrounds. Each client has a
//! line from its median to its 99.9th percentile, on a logarithmic axis.

use super::chart::{self, LABELS, STEP, TITLE, WIDTH, escape};
use super::plan::Broker;
use super::results::Results;
use super::rows::LATENCY;

const SHOWN: [&str; 6] = ["hopmq-blocking", "hopmq, own driver", "hopmq", "hopmq, tokio", "librabbitmq", "amqp-client"];
/// The room for the figures, to the right of the lines.
const FIGURES: f64 = 150.0;
/// The ends of the axis, in microseconds, and its marks.
const MARKS: [(f64, &str); 7] = [
    (30.0, "30 µs"),
    (100.0, "100 µs"),
    (300.0, "300 µs"),
    (1e3, "1 ms"),
    (3e3, "3 ms"),
    (1e4, "10 ms"),
    (3e4, "30 ms"),
];

/// The picture, or `None` if latencies were measured with no broker.
pub(crate) fn svg(results: &Results) -> Option<String> {
    let (mut body, mut y) = (String::new(), 0.0);
    for broker in Broker::REAL {
        let lines: Vec<_> = SHOWN
            .iter()
            .filter_map(|name| Some((*name, results.get(broker, LATENCY, name)?.percentiles_us?)))
            .collect();
        if lines.is_empty() {
            continue;
        }
        body += &format!("  <text class=\"title\" x=\"0\" y=\"{:.0}\">{}</text>\n", y + 20.0, escape(broker.name()));
        y += TITLE;
        body += &axis(y, y + STEP * lines.len() as f64);
        for (name, percentiles) in lines {
            body += &line(name, percentiles, y + STEP / 2.0);
            y += STEP;
        }
        y += 20.0;
    }
    let caption = "publish to confirm at one message a millisecond: p50 (dot), p99 (bar), p99.9 (end of the line)";
    let note = format!("{caption}; {}, {}", results.machine.cpu, results.machine.date);
    (y > 0.0).then(|| chart::document("Latency by client and broker", &(STYLE.to_owned() + &body), &note, y))
}

const STYLE: &str = "  <style>
    line { stroke: #8c959f; stroke-width: 3; }
    line.grid { stroke: #d0d7de; stroke-width: 1; }
    circle { fill: #8c959f; }
    .ours line { stroke: #0969da; }
    .ours circle { fill: #0969da; }
    @media (prefers-color-scheme: dark) {
      line.grid { stroke: #30363d; }
      .ours line { stroke: #4493f8; }
      .ours circle { fill: #4493f8; }
    }
  </style>
";

/// The vertical lines from `top` to `bottom`, with the times below them.
fn axis(top: f64, bottom: f64) -> String {
    let mut text = String::new();
    for (micros, label) in MARKS {
        let x = place(micros);
        text += &format!(
            "  <line class=\"grid\" x1=\"{x:.1}\" y1=\"{top:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\"/>\n  \
             <text class=\"note\" x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>\n",
            bottom + 13.0
        );
    }
    text
}

fn line(name: &str, [p50, p99, p999]: [f64; 3], y: f64) -> String {
    let class = if name.starts_with("hopmq") { " class=\"ours\"" } else { "" };
    let [from, mark, to] = [p50, p99, p999].map(place);
    let figures = format!("{} · {} · {} µs", micros(p50), micros(p99), micros(p999));
    format!(
        "  <g{class}>\n    <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n    \
         <line x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\"/>\n    \
         <line x1=\"{mark:.1}\" y1=\"{:.1}\" x2=\"{mark:.1}\" y2=\"{:.1}\"/>\n    \
         <circle cx=\"{from:.1}\" cy=\"{y:.1}\" r=\"5\"/>\n    \
         <text x=\"{WIDTH:.0}\" y=\"{:.1}\" text-anchor=\"end\">{figures}</text>\n  </g>\n",
        LABELS - 8.0,
        y + 4.5,
        escape(name),
        y - 6.0,
        y + 6.0,
        y + 4.5
    )
}

/// The place of a time on the axis. Times beyond an end of the axis are drawn at that end.
fn place(micros: f64) -> f64 {
    let [first, .., last] = MARKS.map(|(micros, _)| micros.ln());
    let share = (micros.max(1.0).ln() - first) / (last - first);
    LABELS + (WIDTH - LABELS - FIGURES) * share.clamp(0.0, 1.0)
}

fn micros(value: f64) -> String {
    let text = format!("{value:.0}");
    match text.len() {
        4.. => format!("{},{}", &text[..text.len() - 3], &text[text.len() - 3..]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::plan::CONTENDERS;
    use crate::bench::rows::ROWS;
    use crate::bench::sample::Figures;

    #[test]
    fn the_axis_is_logarithmic_and_ends_at_its_marks() {
        assert_eq!((place(30.0), place(1.0)), (LABELS, LABELS));
        assert_eq!((place(3e4), place(1e9)), (WIDTH - FIGURES, WIDTH - FIGURES));
        assert!((place(300.0) - place(30.0) - (place(1e4) - place(1e3))).abs() < 1e-9);
    }

    #[test]
    fn a_picture_has_a_line_for_each_client_that_was_measured_with_a_broker() {
        let mut results = Results::new(Machine::default(), true);
        assert_eq!(svg(&results), None);
        let figures = Figures { percentiles_us: Some([50.0, 200.0, 1234.5]), runs: 1, ..Figures::default() };
        for row in ROWS.iter().filter(|row| row.id == LATENCY && row.broker == Broker::HopMq) {
            for name in ["hopmq", "librabbitmq"] {
                let contender = CONTENDERS.iter().find(|one| one.name == name).unwrap();
                results.add(row, contender, figures.clone());
            }
        }
        let picture = svg(&results).unwrap();
        assert_eq!(picture.matches("<circle").count(), 2);
        assert!(picture.contains("50 · 200 · 1,234 µs") && picture.contains("HopMQ's broker"), "{picture}");
    }
}
