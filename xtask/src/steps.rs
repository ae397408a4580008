//! A list of named steps. Each runs under a heading; a table at the end shows the outcome of each.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::shell::Result;

/// The outcome of a step that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    /// The step did not run, for this reason.
    Skipped(String),
}

/// Turns a missing requirement into a skipped step. In CI, where nothing may be missing, it is an error.
pub(crate) fn skip_outside_ci(reason: Box<dyn Error>) -> Result<Outcome> {
    if std::env::var_os("CI").is_some() { Err(reason) } else { Ok(Outcome::Skipped(reason.to_string())) }
}

/// Runs steps one after the other. A failed step does not stop the later ones.
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

    /// Installs what later steps need, or reports what is missing before any of them has cost time.
    ///
    /// Each later step checks its own requirement again, and fails or is skipped without it.
    pub(crate) fn require(&mut self, requirements: &[fn() -> Result]) {
        self.step("requirements", || {
            let mut missing: Vec<String> = Vec::new();
            for error in requirements.iter().filter_map(|requirement| requirement().err()) {
                let error = error.to_string();
                if !missing.contains(&error) {
                    // At once: the next requirement may take minutes to install.
                    println!("missing: {error}");
                    missing.push(error);
                }
            }
            if missing.is_empty() { Ok(Outcome::Passed) } else { skip_outside_ci(missing.join("\n").into()) }
        });
    }

    /// Prints the table.
    ///
    /// # Errors
    /// If any step failed.
    pub(crate) fn finish(self, title: &str) -> Result {
        println!("\n━━ {title}: {} steps in {}", self.rows.len(), seconds(self.begun.elapsed()));
        for (name, took, outcome) in &self.rows {
            let verdict = match outcome {
                Ok(Outcome::Passed) => "passed".to_owned(),
                Ok(Outcome::Skipped(reason)) => format!("skipped: {}", first_line(reason)),
                Err(error) => format!("FAILED: {}", first_line(&error.to_string())),
            };
            println!("{:>9}  {name:<44} {verdict}", seconds(*took));
        }
        match self.rows.iter().filter(|(.., outcome)| outcome.is_err()).count() {
            0 => Ok(()),
            failed => Err(format!("{title}: {failed} of {} steps failed", self.rows.len()).into()),
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
