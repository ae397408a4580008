//! `cargo xtask test`: every test. The scenarios run with RabbitMQ, with the embedded broker, and in a browser from the
//! npm package.

use std::io::{BufRead, BufReader, IsTerminal};
use std::ops::AddAssign;
use std::process::Stdio;

use crate::browser;
use crate::foreign;
use crate::rabbitmq;
use crate::shell::{self, Result};
use crate::steps::Steps;
use crate::toolchain;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run only the tests whose names contain one of these texts
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// The test programs whose scenarios run through one client API each.
const SCENARIOS: [&str; 8] = ["broker", "blocking", "driver", "executors", "foreign", "smol", "tokio", "transports"];

pub(crate) fn run(Arguments { filters }: &Arguments) -> Result {
    let mut steps = Steps::new();
    let requirements =
        [browser::require_node, toolchain::require_wasm, rabbitmq::require, foreign::require, browser::require];
    steps.require(&requirements);
    let mut broker = None;
    steps.run("start RabbitMQ", || rabbitmq::start().map(|started| broker = Some(started)));
    if let Some(broker) = &broker {
        steps.run("cargo test", || cargo_test(&[], filters, &broker.environment));
        for (kind, name, programs) in [
            ("embedded", "the scenarios on the embedded broker", &SCENARIOS[..]),
            ("durable", "the scenarios on the embedded broker with a store", &["broker", "smol"]),
        ] {
            let embedded = [("HOPMQ_BROKER".to_owned(), kind.to_owned())];
            let environment: Vec<_> = broker.environment.iter().cloned().chain(embedded).collect();
            steps.run(name, || cargo_test(programs, filters, &environment));
        }
        steps.step("the npm package", || browser::test(filters, &broker.environment));
    }
    if broker.is_some_and(|broker| broker.started) {
        steps.run("stop RabbitMQ", rabbitmq::stop);
    }
    steps.finish("test")
}

/// Runs the named test programs, or the unit tests, scenarios, examples and doctests of all packages. It is always a
/// build of the whole workspace, so that features stay the same and nothing is built twice.
fn cargo_test(programs: &[&str], filters: &[String], environment: &[(String, String)]) -> Result {
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--features", "hopmq-broker/server", "--no-fail-fast"]);
    command.args(programs.iter().flat_map(|name| ["--test", name]));
    if std::io::stdout().is_terminal() {
        command.args(["--color", "always"]);
    }
    if !filters.is_empty() {
        command.arg("--").args(filters);
    }
    let line = shell::line(&command);
    println!("$ {line}");
    command.envs(environment.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let mut total = Count::default();
    for text in BufReader::new(child.stdout.take().expect("it is piped")).split(b'\n') {
        let text = text?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        total += Count::of(&text);
    }
    let status = child.wait()?;
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    match (status.success(), total.passed) {
        (false, _) => Err(format!("`{line}` failed: {status}").into()),
        (true, 0) if filters.is_empty() => Err(format!("`{line}` ran no test").into()),
        (true, 0) => Err(format!("no test has {} in its name", filters.join(" or ")).into()),
        _ => Ok(()),
    }
}

/// The number of tests by their results.
#[derive(Debug, Default, PartialEq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Count {
    /// Reads a line of libtest's output, `test result: ok. 3 passed; 0 failed; 1 ignored; …`. Others count as zero.
    fn of(line: &str) -> Self {
        let mut count = Self::default();
        let Some((_, summary)) = line.split_once("test result: ") else { return count };
        let words: Vec<&str> = summary.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            if let (Ok(number), what) = (pair[0].parse(), pair[1]) {
                match what {
                    "passed" => count.passed = number,
                    "failed" => count.failed = number,
                    "ignored" => count.skipped = number,
                    _ => {}
                }
            }
        }
        count
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn test_results_are_counted() {
        let line =
            "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 12 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out";
        assert_eq!(Count::of(line), Count { passed: 12, failed: 1, skipped: 2 });
        assert_eq!(Count::of("test proto::tests::it_works ... ok"), Count::default());
    }
}
