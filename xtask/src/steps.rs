//! A list of named steps. Each runs under a heading; a table at the end shows the outcome of each.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::shell::{self, Result};

/// How many steps run side by side. More would make each other's deadlines pass on a machine of two processors.
const AT_ONCE: usize = 3;

/// The outcome of a step that did not fail.
#[derive(Debug, PartialEq)]
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

    /// Runs steps side by side. Each is a command of xtask; its output is printed whole when it ends, and stays in
    /// `target/xtask`.
    ///
    /// # Errors
    /// If the files for the output cannot be written. A failed step is no error here.
    pub(crate) fn beside<'a>(&mut self, steps: impl IntoIterator<Item = (&'a str, Command)>) -> Result {
        let folder = shell::root().join("target/xtask");
        fs::create_dir_all(&folder)?;
        let waiting: Vec<(&str, Command)> = steps.into_iter().collect();
        let names: Vec<&str> = waiting.iter().map(|(name, _)| *name).collect();
        println!("\n━━ side by side (after {}): {}", seconds(self.begun.elapsed()), names.join(", "));
        let waiting = Mutex::new(waiting.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let (sender, ended) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                let (sender, next, folder) = (sender.clone(), &next, &folder);
                scope.spawn(move || {
                    while let Some((name, mut command)) = next() {
                        let begun = Instant::now();
                        let outcome = into_file(&mut command, &folder.join(format!("{}.log", name.replace(' ', "-"))));
                        let _main_thread_waits = sender.send((name, begun.elapsed(), outcome));
                    }
                });
            }
            drop(sender);
            for (name, took, (output, outcome)) in ended {
                println!("\n━━ {name} (took {})", seconds(took));
                shell::print(&output);
                self.rows.push((name.to_owned(), took, outcome.map_err(Into::into)));
            }
        });
        Ok(())
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

/// Runs a command of xtask with its output in a file. Returns the output, and what its last line says.
fn into_file(command: &mut Command, path: &Path) -> (String, std::result::Result<Outcome, String>) {
    let mut run = || -> std::io::Result<(String, bool)> {
        let file = File::create(path)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let status = command.status()?;
        Ok((String::from_utf8_lossy(&fs::read(path)?).into_owned(), status.success()))
    };
    match run() {
        Ok((output, success)) => {
            let outcome = outcome_of(&output, success);
            (output, outcome)
        }
        Err(error) => (String::new(), Err(format!("cannot run `{}`: {error}", shell::line(command)))),
    }
}

/// Reads the outcome from the end of what a command of xtask printed.
fn outcome_of(output: &str, success: bool) -> std::result::Result<Outcome, String> {
    let mut lines = output.lines().rev().filter(|line| !line.is_empty());
    if success {
        let reason = lines.next().and_then(|last| last.strip_prefix("skipped: "));
        Ok(reason.map_or(Outcome::Passed, |reason| Outcome::Skipped(reason.to_owned())))
    } else {
        // An error may have more lines than this one.
        let error = lines.find_map(|line| line.strip_prefix("xtask: "));
        Err(error.unwrap_or("it ended without a word").to_owned())
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_beside_others_tells_its_outcome_in_its_last_line() {
        assert_eq!(outcome_of("12 passed\n", true), Ok(Outcome::Passed));
        assert_eq!(outcome_of("a\nskipped: no Node\n", true), Ok(Outcome::Skipped("no Node".into())));
        assert_eq!(outcome_of("skipped: a session\n12 passed\n", true), Ok(Outcome::Passed));
        assert_eq!(outcome_of("xtask: 1\nxtask: 2\nits cause\n", false), Err("2".into()));
        assert!(outcome_of("", false).is_err());
    }
}
