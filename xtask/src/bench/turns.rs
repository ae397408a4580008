//! The runs of a row: its contenders in turn (A B C A B C …), so that a machine's slow moments hit all of them.

use super::Options;
use super::plan::{Contender, Count, Row};
use super::progress::Progress;
use super::run::{self, Bench};
use super::sample::{Figures, Sample};

/// How often a failed run is tried.
const TRIES: usize = 3;
/// The messages of each client in a check that it works.
const CHECKED: u64 = 100;

/// A row under measurement.
pub(crate) struct Turns<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) row: &'a Row,
    /// The broker, unless each run has a counterpart of its own.
    pub(crate) url: Option<&'a str>,
    pub(crate) options: &'a Options,
}

/// A contender in a row.
struct Lane {
    contender: &'static Contender,
    count: u64,
    samples: Vec<Sample>,
    failures: usize,
}

impl Turns<'_> {
    /// Runs the contenders, and returns their figures. Appends what failed to `errors`.
    pub(crate) fn run(
        &self,
        contenders: &[&'static Contender],
        progress: &mut Progress,
        errors: &mut Vec<String>,
    ) -> Vec<(&'static Contender, Figures)> {
        let mut lanes: Vec<Lane> = Vec::new();
        for contender in contenders {
            progress.step(self.row.id, contender.name);
            lanes.push(self.pilot(contender, errors));
        }
        for _ in 0..self.options.runs(self.row) {
            for lane in &mut lanes {
                progress.step(self.row.id, lane.contender.name);
                self.turn(lane, errors);
            }
        }
        lanes.into_iter().map(|lane| (lane.contender, Figures::of(&lane.samples, lane.failures))).collect()
    }

    /// Makes a short first run that warms up and determines the message count of the later runs. It does not count.
    fn pilot(&self, contender: &'static Contender, errors: &mut Vec<String>) -> Lane {
        let mut lane = Lane { contender, count: run::pilot(self.row), samples: Vec::new(), failures: 0 };
        match self.row.count {
            _ if self.options.check => lane.count = CHECKED,
            Count::Fixed(quick, full) => lane.count = if self.options.is_quick() { quick } else { full },
            Count::Timed => {
                for _ in 0..TRIES {
                    match self.once(&lane) {
                        Ok(sample) if sample.unsupported.is_some() => lane.samples.push(sample),
                        Ok(sample) => lane.count = run::fill(self.row, &sample, self.options.time()),
                        Err(error) => {
                            self.fail(&mut lane, &error, errors);
                            continue;
                        }
                    }
                    break;
                }
            }
            Count::Seconds(..) => {}
        }
        lane
    }

    fn turn(&self, lane: &mut Lane, errors: &mut Vec<String>) {
        if lane.samples.iter().any(|sample| sample.unsupported.is_some()) {
            return;
        }
        // Retry, because some peers lose a reply now and then. A peer that hangs each time is left out.
        for _ in 0..if self.options.check { 1 } else { TRIES } {
            if lane.failures >= TRIES && lane.samples.is_empty() {
                return;
            }
            match self.once(lane) {
                Ok(sample) => return lane.samples.push(sample),
                Err(error) => self.fail(lane, &error, errors),
            }
        }
    }

    fn once(&self, lane: &Lane) -> crate::shell::Result<Sample> {
        self.bench.run(self.row, lane.contender, lane.count, self.options.is_quick(), self.url)
    }

    fn fail(&self, lane: &mut Lane, error: &dyn std::fmt::Display, errors: &mut Vec<String>) {
        lane.failures += 1;
        let Row { id, broker, .. } = self.row;
        errors.push(format!("{} in `{id}` against {}: {error}", lane.contender.name, broker.the()));
    }
}
