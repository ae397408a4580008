//! The results of a bench, and their JSON file.

use super::machine::Machine;
use super::plan::{Broker, CONTENDERS, Contender, Row};
use super::rows::ROWS;
use super::sample::Figures;

/// The figures of each contender in each row.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    entries: Vec<(&'static Row, &'static Contender, Figures)>,
}

impl Results {
    pub(crate) fn new(machine: Machine, quick: bool) -> Self {
        Self { machine, quick, entries: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: &'static Row, contender: &'static Contender, figures: Figures) {
        self.entries.push((row, contender, figures));
    }

    /// The rows that were measured, in the order of the plan.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'static Row> {
        let measured =
            |row: &Row| self.entries.iter().any(|(other, ..)| (other.id, other.broker) == (row.id, row.broker));
        ROWS.iter().filter(move |row| measured(row))
    }

    /// The contenders of a row and their figures, in the order of the plan.
    pub(crate) fn of(&self, row: &Row) -> Vec<(&'static Contender, &Figures)> {
        let of_row = self.entries.iter().filter(|(other, ..)| (other.id, other.broker) == (row.id, row.broker));
        let mut all: Vec<_> = of_row.map(|(_, contender, figures)| (*contender, figures)).collect();
        all.sort_by_key(|(one, _)| CONTENDERS.iter().position(|other| other.name == one.name));
        all
    }

    /// The figures of a contender in a row; `None` if it does not support the workload or every run failed.
    pub(crate) fn get(&self, broker: Broker, row: &str, contender: &str) -> Option<&Figures> {
        let mut entries = self.entries.iter();
        let (.., figures) = entries.find(|(r, c, _)| r.id == row && r.broker == broker && c.name == contender)?;
        (figures.unsupported.is_none() && figures.runs > 0).then_some(figures)
    }

    /// The file that is committed.
    pub(crate) fn json(&self) -> String {
        let mut text =
            format!("{{\n  \"machine\": {},\n  \"quick\": {},\n  \"results\": [\n", self.machine.json(), self.quick);
        let mut lines = Vec::new();
        for row in self.rows() {
            for (contender, figures) in self.of(row) {
                lines.push(format!("    {}", entry(row, contender, figures)));
            }
        }
        text += &lines.join(",\n");
        text + "\n  ]\n}\n"
    }
}

fn entry(row: &Row, contender: &Contender, figures: &Figures) -> String {
    let head = format!(
        r#"{{"row": "{}", "against": "{}", "workload": "{}", "size": {}, "contender": "{}""#,
        row.id,
        row.broker.name(),
        row.workload,
        row.size,
        contender.name
    );
    if let Some(why) = &figures.unsupported {
        return format!("{head}, \"unsupported\": \"{why}\"}}");
    }
    let or_null = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| format!("{value:.4}"));
    let [p50, p99, p999] = figures.percentiles_us.map_or([None; 3], |all| all.map(Some));
    let spread = [figures.rates.first(), figures.rates.last()].map(|rate| or_null(rate.copied()));
    format!(
        "{head}, \"per_second\": {:.1}, \"slowest\": {}, \"fastest\": {}, \"cpu_us\": {:.4}, \"peak_rss_kib\": {:.0}, \
         \"allocations\": {}, \"heap_bytes\": {}, \"p50_us\": {}, \"p99_us\": {}, \"p999_us\": {}, \"runs\": {}, \
         \"failures\": {}}}",
        figures.rate,
        spread[0],
        spread[1],
        figures.cpu_us,
        figures.peak_rss_kib,
        or_null(figures.allocations),
        or_null(figures.heap_bytes),
        or_null(p50),
        or_null(p99),
        or_null(p999),
        figures.runs,
        figures.failures
    )
}
