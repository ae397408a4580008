//! `cargo xtask test`: every test. The scenarios run with two releases of RabbitMQ, with the embedded broker, and in a
//! browser from the npm package.

use std::io::{BufRead, BufReader, IsTerminal};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::browser;
use crate::foreign;
use crate::python;
use crate::rabbitmq::{self, Release, install, tls};
use crate::shell::{self, Result};
use crate::steps::{Outcome, Steps, skip_outside_ci};
use crate::toolchain;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run only the tests whose names contain one of these texts
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Run only this part
    #[arg(long, value_enum)]
    suite: Option<Suite>,
}

/// A part of the tests that needs no other part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Everything that cargo tests, with the RabbitMQ of this machine
    Rabbitmq,
    /// The npm package, with the RabbitMQ of this machine
    Npm,
    /// The Python package, on the embedded broker
    Python,
    /// The scenarios, and the tests of apps, on RabbitMQ 4.0
    #[value(name = "rabbitmq-4")]
    Rabbitmq4,
    /// The scenarios on the embedded broker
    Embedded,
    /// The scenarios on the embedded broker with a store
    Durable,
    /// The scenarios on the embedded broker as each release of RabbitMQ
    Profiles,
}

/// The suites that run side by side: they wait more than they compute. The longest begin first.
const BESIDE: [Suite; 6] =
    [Suite::Npm, Suite::Python, Suite::Rabbitmq4, Suite::Embedded, Suite::Durable, Suite::Profiles];

/// The test programs whose scenarios run through one client API each.
const SCENARIOS: [&str; 8] = ["broker", "blocking", "driver", "executors", "foreign", "smol", "tokio", "transports"];
/// The programs for further kinds of the same broker: one speaks frames, one uses the client.
const FEW: [&str; 2] = ["broker", "smol"];
/// The tests of `app` that run on any broker.
const OF_APPS: [&str; 1] = ["brokers"];
/// The releases that the embedded broker can follow.
const PROFILES: [&str; 3] = ["3.13", "4.0", "4.3"];

pub(crate) fn run(Arguments { filters, suite }: &Arguments) -> Result {
    let mut steps = Steps::new();
    if let Some(suite) = suite {
        return match suite.run(filters)? {
            Outcome::Passed => Ok(()),
            Outcome::Skipped(reason) => {
                // `Steps::beside` reads this line.
                println!("skipped: {reason}");
                Ok(())
            }
        };
    }
    // The quick checks first: RabbitMQ and Chromium may take minutes to install.
    steps.require(&[
        browser::require_node,
        toolchain::require_wasm,
        toolchain::require_make,
        foreign::require,
        python::require,
    ]);
    steps.require(&[rabbitmq::require, rabbitmq::require_4_0, browser::require]);
    let mut broker = None;
    steps.run("start RabbitMQ", || rabbitmq::start(Release::Installed).map(|started| broker = Some(started)));
    // First and alone: it compiles what the others run.
    steps.step(Suite::Rabbitmq.title(), || Suite::Rabbitmq.run(filters));
    steps.beside(BESIDE.iter().map(|suite| (suite.title(), suite.command(filters))))?;
    if broker.is_some_and(|broker| broker.started) {
        steps.run("stop RabbitMQ", || rabbitmq::stop(Release::Installed));
    }
    steps.finish("test")
}

impl Suite {
    fn title(self) -> &'static str {
        match self {
            Self::Rabbitmq => "cargo test",
            Self::Npm => "the npm package",
            Self::Python => "the Python package",
            Self::Rabbitmq4 => "the scenarios on RabbitMQ 4.0",
            Self::Embedded => "the scenarios on the embedded broker",
            Self::Durable => "the scenarios on the embedded broker with a store",
            Self::Profiles => "the scenarios on the embedded broker as each release",
        }
    }

    /// The command that runs this suite alone.
    fn command(self, filters: &[String]) -> Command {
        let value = self.to_possible_value().expect("no value is skipped");
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "xtask".into()));
        command.args(["test", "--suite", value.get_name()]).args(filters);
        command
    }

    fn run(self, filters: &[String]) -> Result<Outcome> {
        match self {
            Self::Rabbitmq => {
                on_rabbitmq(Release::Installed, |environment| match everything(filters, environment)? {
                    // All tests are among these.
                    Outcome::Skipped(reason) => Err(reason.into()),
                    Outcome::Passed => apps(filters, environment).map(|_| Outcome::Passed),
                })
            }
            Self::Npm => on_rabbitmq(Release::Installed, |environment| browser::test(filters, environment)),
            Self::Python => match python::require() {
                Ok(()) => python::test(filters),
                Err(reason) => skip_outside_ci(reason),
            },
            Self::Rabbitmq4 if install::installed_is_4_0() => {
                Ok(Outcome::Skipped("the RabbitMQ of this machine, which `cargo test` used, is 4.0".into()))
            }
            Self::Rabbitmq4 => match rabbitmq::require_4_0() {
                Ok(()) => on_rabbitmq(Release::V4_0, |environment| {
                    match (programs(TESTS, &SCENARIOS, filters, environment)?, apps(filters, environment)?) {
                        (Outcome::Skipped(reason), Outcome::Skipped(_)) => Ok(Outcome::Skipped(reason)),
                        _ => Ok(Outcome::Passed),
                    }
                }),
                Err(reason) => skip_outside_ci(reason),
            },
            Self::Embedded => self.on_embedded("embedded", &SCENARIOS, filters, &[]),
            Self::Durable => self.on_embedded("durable", &FEW, filters, &[]),
            Self::Profiles => {
                let mut outcome = Outcome::Passed;
                for profile in PROFILES {
                    let profile = [("HOPMQ_PROFILE".to_owned(), profile.to_owned())];
                    println!("\nHOPMQ_PROFILE={}", profile[0].1);
                    outcome = self.on_embedded("embedded", &FEW, filters, &profile)?;
                }
                Ok(outcome)
            }
        }
    }

    /// Runs test programs with a broker inside each, `embedded` or `durable`.
    fn on_embedded(
        self,
        kind: &str,
        names: &[&str],
        filters: &[String],
        environment: &[(String, String)],
    ) -> Result<Outcome> {
        // A folder of its own: another suite may read its certificates while this one writes.
        let folder = shell::root().join(format!("target/xtask/tls-{self:?}"));
        tls::write(&folder, rabbitmq::EXTERNAL_USER)?;
        let mut environment = environment.to_vec();
        environment.push(("HOPMQ_BROKER".into(), kind.into()));
        environment.push(("HOPMQ_TLS_DIR".into(), folder.display().to_string()));
        programs(TESTS, names, filters, &environment)
    }
}

/// Runs `work` with the environment of a RabbitMQ, and stops that unless it ran before.
pub(crate) fn on_rabbitmq(
    release: Release,
    work: impl FnOnce(&[(String, String)]) -> Result<Outcome>,
) -> Result<Outcome> {
    let broker = rabbitmq::start(release)?;
    let outcome = work(&broker.environment);
    let stopped = if broker.started { rabbitmq::stop(release) } else { Ok(()) };
    outcome.and_then(|outcome| stopped.map(|()| outcome))
}

/// The whole workspace, always with the same features, so that nothing is built twice.
const WORKSPACE: [&str; 4] = [
    "test",
    "--workspace",
    "--features",
    "hopmq-broker/server,hopmq-app/asyncapi,hopmq-app/blocking,hopmq-app/http,hopmq-app/signals,hopmq-app/sqlite,\
     hopmq-app/tower",
];

/// Runs the unit tests, scenarios, examples and doctests of all packages.
fn everything(filters: &[String], environment: &[(String, String)]) -> Result<Outcome> {
    let mut command = shell::cargo();
    command.args(WORKSPACE).arg("--no-fail-fast");
    if std::io::stdout().is_terminal() {
        command.args(["--color", "always"]);
    }
    if !filters.is_empty() {
        command.arg("--").args(filters);
    }
    let (count, failed) = count_tests(command, environment)?;
    finish(&count, &failed.map_or(Vec::new(), |failure| vec![failure]), filters)
}

/// The package of the scenarios, and its folder.
const TESTS: (&str, &str) = ("hopmq-tests", "tests");

/// Runs the tests of apps on the RabbitMQ of the environment.
fn apps(filters: &[String], environment: &[(String, String)]) -> Result<Outcome> {
    let url = environment.iter().find(|(name, _)| name == "AMQP_URL").ok_or("the RabbitMQ has no AMQP_URL")?;
    let environment = [("HOPMQ_TEST_URL".to_owned(), url.1.clone())];
    programs(("hopmq-app", "app"), &OF_APPS, filters, &environment)
}

/// Runs the named test programs of a package, which [`everything`] has compiled. `cargo test --test` would compile them
/// again: it chooses other features for the dependencies when it builds fewer targets.
fn programs(
    (package, folder): (&str, &str),
    names: &[&str],
    filters: &[String],
    environment: &[(String, String)],
) -> Result<Outcome> {
    let mut build = shell::cargo();
    build.args(WORKSPACE).args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let messages = shell::output(&mut build)?;
    let (mut total, mut failures) = (Count::default(), Vec::new());
    for name in names {
        let program =
            executable(&messages, package, name).ok_or_else(|| format!("cargo built no test program {name}"))?;
        let mut command = Command::new(program);
        command.current_dir(shell::root().join(folder)).args(filters);
        let (count, failed) = count_tests(command, environment)?;
        total += count;
        failures.extend(failed);
    }
    finish(&total, &failures, filters)
}

/// The path of a test program of a package, from what cargo writes when it has built it.
fn executable<'a>(messages: &'a str, package: &str, name: &str) -> Option<&'a str> {
    let (package, name) = (format!("#{package}@"), format!("\"name\":\"{name}\""));
    let wanted = [&*package, "\"kind\":[\"test\"]", &name];
    let message = messages.lines().find(|line| wanted.iter().all(|part| line.contains(part)))?;
    message.split_once("\"executable\":\"")?.1.split('"').next()
}

/// Runs a command that tests, and counts the tests in its output. Also returns what failed.
fn count_tests(mut command: Command, environment: &[(String, String)]) -> Result<(Count, Option<String>)> {
    let line = shell::line(&command);
    println!("$ {line}");
    for name in ["HOPMQ_BROKER", "HOPMQ_PROFILE", "HOPMQ_TEST_URL"] {
        command.env_remove(name);
    }
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
    Ok((total, (!status.success()).then(|| format!("`{line}` failed: {status}"))))
}

/// Prints the counts, and returns the outcome.
fn finish(total: &Count, failures: &[String], filters: &[String]) -> Result<Outcome> {
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    match (failures, total.passed) {
        ([], 0) if filters.is_empty() => Err("no test ran".into()),
        ([], 0) => Ok(Outcome::Skipped(format!("no test has {} in its name", filters.join(" or ")))),
        ([], _) => Ok(Outcome::Passed),
        (failures, _) => Err(failures.join("; ").into()),
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
    use super::{Count, executable};

    #[test]
    fn test_results_are_counted() {
        let line =
            "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 12 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out";
        assert_eq!(Count::of(line), Count { passed: 12, failed: 1, skipped: 2 });
        assert_eq!(Count::of("test proto::tests::it_works ... ok"), Count::default());
    }

    #[test]
    fn a_test_program_is_found_by_its_package_and_name() {
        let messages = concat!(
            r#"{"package_id":"path+file:///p/core#hopmq@0.1.0","target":{"kind":["test"],"name":"smol"},"executable":"/t/a"}"#,
            "\n",
            r#"{"package_id":"path+file:///p/tests#hopmq-tests@0.1.0","target":{"kind":["test"],"name":"smol"},"executable":"/t/b"}"#,
        );
        assert_eq!(executable(messages, "hopmq-tests", "smol"), Some("/t/b"));
        assert_eq!(executable(messages, "hopmq-tests", "tokio"), None);
    }
}
