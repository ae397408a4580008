//! The goals of HopMQ's speed, as ratios within one bench wherever that is possible.

mod list;

use super::plan::Broker;
use super::results::Results;
use super::sample::Figures;

/// A goal and its measurement.
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    /// `None` if one of the compared figures was not measured.
    pub(crate) held: Option<bool>,
    pub(crate) figures: String,
}

/// The modes of HopMQ that are measured over TCP.
const MODES: [&str; 4] = ["hopmq", "hopmq, own driver", "hopmq, tokio", "hopmq-blocking"];
const PEERS: [&str; 5] = ["amqp-client", "amiquip", "librabbitmq", "amqprs", "lapin"];
const BARE: &str = "bare loop";

/// A part of a goal: a comparison, or which of its figures is missing.
type Part = Result<Finding, String>;

/// A comparison.
struct Finding {
    held: bool,
    figures: String,
}

/// The modes that must reach a goal. The report shows the figure of each mode in both cases.
#[derive(Clone, Copy)]
enum Which {
    /// One of all modes.
    Best,
    /// All modes.
    All,
    /// All of these.
    These(&'static [&'static str]),
}

/// What a figure must not be below, or above.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}{unit}", short(least)),
            Self::AtMost(most) => format!("≤ {}{unit}", short(most)),
        }
    }
}

/// Looks up figures. The error names the missing one.
struct Look<'a>(&'a Results);

impl Look<'_> {
    fn at(&self, broker: Broker, row: &str, contender: &str) -> Result<&Figures, String> {
        let missing = || format!("{contender} not measured in `{row}` against {}", broker.the());
        self.0.get(broker, row, contender).ok_or_else(missing)
    }

    fn rate(&self, row: &str, contender: &str) -> Result<f64, String> {
        Ok(self.at(Broker::Counterpart, row, contender)?.rate)
    }

    fn cpu(&self, row: &str, contender: &str) -> Result<f64, String> {
        Ok(self.at(Broker::Counterpart, row, contender)?.cpu_us)
    }

    /// The fastest peer of a row and its rate.
    fn best_peer(&self, row: &str) -> Result<(&'static str, f64), String> {
        let rates = PEERS.iter().filter_map(|name| Some((*name, self.rate(row, name).ok()?)));
        rates.max_by(|a, b| a.1.total_cmp(&b.1)).ok_or_else(|| format!("no peer measured in `{row}`"))
    }

    /// Measures each mode of HopMQ, and compares it with `bound`. `what` says what is measured.
    fn modes(
        which: Which,
        what: &str,
        unit: &str,
        bound: Bound,
        measure: impl Fn(&str) -> Result<f64, String>,
    ) -> Part {
        let names = if let Which::These(names) = which { names } else { &MODES };
        let measured = names.iter().map(|mode| Ok((*mode, measure(mode)?))).collect::<Result<Vec<_>, String>>()?;
        let held = match which {
            Which::Best => measured.iter().any(|(_, value)| bound.holds(*value)),
            Which::All | Which::These(_) => measured.iter().all(|(_, value)| bound.holds(*value)),
        };
        let name = |mode: &str| mode.trim_start_matches("hopmq").trim_start_matches([',', '-', ' ']).to_owned();
        let name = |mode: &str| Some(name(mode)).filter(|name| !name.is_empty()).unwrap_or_else(|| "open".to_owned());
        let figures = measured.iter().map(|(mode, value)| format!("{} {}{unit}", name(mode), short(*value)));
        let figures = figures.collect::<Vec<_>>().join(", ");
        Ok(Finding { held, figures: format!("{what}: {figures} ({})", bound.text(unit)) })
    }

    /// Compares HopMQ's rate with that of another contender in the same row.
    fn faster(&self, which: Which, row: &str, other: &str, least: f64) -> Part {
        let theirs = self.rate(row, other)?;
        let what = format!("rate of {other}'s");
        Self::modes(which, &what, "×", Bound::AtLeast(least), |mode| Ok(self.rate(row, mode)? / theirs))
    }

    /// Compares HopMQ's rate with that of the fastest peer in the same row.
    fn fastest(&self, which: Which, row: &str, least: f64) -> Part {
        let (name, theirs) = self.best_peer(row)?;
        let what = format!("rate of the best peer's, {name}");
        Self::modes(which, &what, "×", Bound::AtLeast(least), |mode| Ok(self.rate(row, mode)? / theirs))
    }

    /// Compares each mode's rate in a row with its own rate in another.
    fn keeps(&self, which: Which, row: &str, other: &str, least: f64) -> Part {
        let ratio = |mode: &str| Ok(self.rate(row, mode)? / self.rate(other, mode)?);
        Self::modes(which, &format!("rate of `{other}`"), "×", Bound::AtLeast(least), ratio)
    }

    /// Compares HopMQ's CPU time for a message with a number of microseconds.
    fn costs(&self, row: &str, most: f64) -> Part {
        Self::modes(Which::Best, "CPU", " µs", Bound::AtMost(most), |mode| self.cpu(row, mode))
    }

    /// Compares HopMQ's CPU time for a message with that of another contender in the same row.
    fn cheaper(&self, broker: Broker, row: &str, other: &str, most: f64) -> Part {
        let theirs = self.at(broker, row, other)?.cpu_us;
        let ratio = |mode: &str| Ok(self.at(broker, row, mode)?.cpu_us / theirs);
        let what = format!("CPU of {other}'s {} µs, {}", short(theirs), broker.name());
        Self::modes(Which::Best, &what, "×", Bound::AtMost(most), ratio)
    }

    /// Compares memory or allocations of all modes with `most`.
    fn takes(&self, row: &str, unit: &str, most: f64, measure: impl Fn(&Figures) -> Option<f64>) -> Part {
        let of = |mode: &str| {
            measure(self.at(Broker::Counterpart, row, mode)?).ok_or_else(|| format!("`{row}` was not counted"))
        };
        Self::modes(Which::All, "each", unit, Bound::AtMost(most), of)
    }
}

/// Every goal and whether the results reach it.
pub(crate) fn all(results: &Results) -> Vec<Goal> {
    list::all(&Look(results)).into_iter().map(|(what, parts)| goal(what, parts)).collect()
}

fn goal(what: &'static str, parts: Vec<Part>) -> Goal {
    // A part that is missed decides, even if others were not measured.
    let held = if parts.iter().flatten().any(|part| !part.held) {
        Some(false)
    } else {
        parts.iter().all(Result::is_ok).then_some(true)
    };
    let figures = parts.into_iter().map(|part| part.map_or_else(|missing| missing, |part| part.figures));
    Goal { what, held, figures: figures.collect::<Vec<_>>().join("; ") }
}

/// A number with two or three digits that count.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size < 0.01 => 4,
        size if size < 0.1 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The goals for a terminal, a line for each part.
pub(crate) fn table(goals: &[Goal]) -> String {
    let mut text = String::from("\nGoals\n");
    for Goal { what, held, figures } in goals {
        let verdict = match held {
            Some(true) => "held",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let lines = figures.replace("; ", &format!("\n{:<55}", ""));
        text += &format!("  {verdict:<13}{what:<40}{lines}\n");
    }
    let held = goals.iter().filter(|goal| goal.held == Some(true)).count();
    let missed = goals.iter().filter(|goal| goal.held == Some(false)).count();
    text += &format!("{held} goals held, {missed} missed, {} not measured\n", goals.len() - held - missed);
    text + "Other goals: the npm package (cargo xtask bench browser), the time to build (cargo xtask bench build)\n"
}

/// The goals in Markdown.
pub(crate) fn markdown(goals: &[Goal]) -> String {
    let mut text = String::from("\n## Goals\n\n| goal | | measured |\n| --- | --- | --- |\n");
    for Goal { what, held, figures } in goals {
        let verdict = match held {
            Some(true) => "held",
            Some(false) => "**missed**",
            None => "not measured",
        };
        text += &format!("| {what} | {verdict} | {} |\n", figures.replace("; ", "<br>"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::plan::CONTENDERS;
    use crate::bench::rows::ROWS;

    /// Results in which every contender has these figures in each row.
    fn same(figures: &Figures) -> Results {
        let mut results = Results::new(Machine::default(), true);
        for row in ROWS {
            for contender in CONTENDERS.iter().filter(|one| row.has(one, true)) {
                results.add(row, contender, figures.clone());
            }
        }
        results
    }

    fn figures() -> Figures {
        let figures = Figures { rate: 1000.0, cpu_us: 0.05, runs: 1, peak_rss_kib: 4096.0, ..Figures::default() };
        Figures { heap_bytes: Some(0.0), allocations: Some(0.0), percentiles_us: Some([1.0; 3]), ..figures }
    }

    #[test]
    fn a_quick_run_measures_every_goal() {
        for goal in all(&same(&figures())) {
            assert!(goal.held.is_some(), "{}: {}", goal.what, goal.figures);
        }
    }

    #[test]
    fn a_goal_without_its_figures_is_not_measured_and_says_which_are_missing() {
        let results = Results::new(Machine::default(), true);
        for goal in all(&results) {
            assert!(goal.held.is_none() && !goal.figures.is_empty(), "{}: {}", goal.what, goal.figures);
        }
    }

    #[test]
    fn the_best_mode_or_all_modes_must_reach_a_bound() {
        let measure = |mode: &str| Ok(if mode == "hopmq" { 2.0 } else { 1.0 });
        let held = |which, bound| Look::modes(which, "rate", "×", bound, measure).unwrap().held;
        assert!(held(Which::Best, Bound::AtLeast(2.0)) && !held(Which::All, Bound::AtLeast(2.0)));
        assert!(held(Which::Best, Bound::AtMost(1.0)) && !held(Which::All, Bound::AtMost(1.0)));
        assert!(held(Which::These(&["hopmq"]), Bound::AtLeast(2.0)));
        let text = Look::modes(Which::Best, "rate", "×", Bound::AtLeast(0.5), measure).unwrap().figures;
        assert_eq!(text, "rate: open 2×, own driver 1×, tokio 1×, blocking 1× (≥ 0.5×)");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.0004, 0.034, 0.25, 1.5, 18.0, 123.4].map(short);
        assert_eq!(texts, ["0", "0.0004", "0.034", "0.25", "1.5", "18", "123"]);
    }
}
