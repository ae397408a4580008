//! A list of named steps: each runs under a heading, and a table at the end tells how they ended.

use std::time::{Duration, Instant};

use crate::shell::Result;

/// How a step ended, if it did not fail.
pub(crate) enum Outcome {
    Passed,
    /// It did not run, for this reason.
    Skipped(String),
}

/// Runs steps one after the other. One that fails does not keep the later ones from running.
pub(crate) struct Steps {
    begun: Instant,
    rows: Vec<(String, Duration, Result<Outcome>)>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), rows: Vec::new() }
    }

    /// Runs one step.
    pub(crate) fn step(&mut self, name: &str, run: impl FnOnce() -> Result<Outcome>) {
        println!("\n━━ {name} (after {})", seconds(self.begun.elapsed()));
        let begun = Instant::now();
        let outcome = run();
        match &outcome {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::Skipped(reason)) => println!("skipped: {reason}"),
            Err(error) => println!("failed: {error}"),
        }
        self.rows.push((name.to_owned(), begun.elapsed(), outcome));
    }

    /// Runs a step that can only pass or fail.
    pub(crate) fn run(&mut self, name: &str, run: impl FnOnce() -> Result) {
        self.step(name, || run().map(|()| Outcome::Passed));
    }

    /// Prints the table; an error if any step failed.
    pub(crate) fn finish(self, title: &str) -> Result {
        println!("\n━━ {title}: {} steps in {}", self.rows.len(), seconds(self.begun.elapsed()));
        for (name, took, outcome) in &self.rows {
            let verdict = match outcome {
                Ok(Outcome::Passed) => "passed".to_owned(),
                Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
                Err(error) => format!("FAILED: {}", error.to_string().lines().next().unwrap_or_default()),
            };
            println!("{:>9}  {name:<44} {verdict}", seconds(*took));
        }
        match self.rows.iter().filter(|(.., outcome)| outcome.is_err()).count() {
            0 => Ok(()),
            failed => Err(format!("{title}: {failed} of {} steps failed", self.rows.len()).into()),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
