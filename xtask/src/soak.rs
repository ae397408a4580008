//! `cargo xtask soak`: tests that are too long for CI and run at night.

use std::process::Command;

use clap::ValueEnum;

use crate::rabbitmq::{self, Release};
use crate::shell::{self, Result};
use crate::steps::{Outcome, Steps, skip_outside_ci};
use crate::test::on_rabbitmq;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seeds of each simulation
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// How often the broker is killed
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: u64,
    /// Rounds of each fault
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: u64,
    /// Minutes of traffic under faults
    #[arg(long, value_name = "N", default_value_t = 30)]
    minutes: u64,
    /// Run only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// A part of the long tests that needs no other part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Client and broker in one thread, with faults from seeds
    Simulation,
    /// Handlers under faults from seeds
    Handlers,
    /// A broker that is killed again and again
    Kills,
    /// Faults, and traffic under faults, on RabbitMQ
    Faults,
    /// Attacks beside a well-behaved client
    Hostile,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let Arguments { seeds, kills, rounds, minutes, only } = *arguments;
    let wants = |part| only.is_none_or(|only| only == part);
    let mut steps = Steps::new();
    if wants(Part::Faults) {
        steps.require(&[rabbitmq::require, rabbitmq::require_4_0]);
    }
    if wants(Part::Simulation) {
        steps.run(&format!("the simulation, {seeds} seeds"), || test("simulation", &[], &[("HOPMQ_SEEDS", seeds)]));
    }
    if wants(Part::Handlers) {
        steps.run(&format!("handlers under faults, {seeds} seeds"), || {
            let mut command = shell::cargo();
            command.args(["test", "--package", "hopmq-app", "--test", "simulation", "--", "--nocapture"]);
            shell::run(command.env("HOPMQ_SEEDS", seeds.to_string()))
        });
    }
    if wants(Part::Kills) {
        steps.run(&format!("a broker that is killed {kills} times"), || {
            let mut command = shell::cargo();
            command.args(["test", "--package", "hopmq-broker", "--features", "server", "--test", "killed"]);
            shell::run(command.args(["--", "--nocapture"]).env("HOPMQ_ROUNDS", kills.to_string()))
        });
    }
    if wants(Part::Faults) {
        faults(&mut steps, rounds, minutes);
    }
    if wants(Part::Hostile) {
        steps.run("attacks beside a well-behaved client", hostile);
    }
    steps.finish("soak")
}

/// Plays the attacks of `tests/hostile` in full sizes against the released programs, and prints their table.
fn hostile() -> Result {
    let build =
        |arguments: &[&str]| shell::run(shell::cargo().args(["build", "--release", "--locked"]).args(arguments));
    // The program without the test kit, as it is released.
    build(&["--package", "hopmq-broker", "--no-default-features", "--features", "server"])?;
    build(&["--package", "hopmq-gateway", "--package", "hopmq-hostile"])?;
    shell::run(&mut Command::new(shell::root().join("target/release/hopmq-hostile")))
}

fn faults(steps: &mut Steps, rounds: u64, minutes: u64) {
    let mut broker = None;
    steps.run("start RabbitMQ", || rabbitmq::start(Release::Installed).map(|started| broker = Some(started)));
    if let Some(broker) = &broker {
        steps.run(&format!("faults, {rounds} rounds of each"), || {
            test("recovery", &broker.environment, &[("HOPMQ_ROUNDS", rounds)])
        });
        steps.run(&format!("{minutes} minutes under faults"), || {
            test("soak", &broker.environment, &[("HOPMQ_SOAK_SECONDS", minutes * 60)])
        });
    }
    if broker.is_some_and(|broker| broker.started) {
        steps.run("stop RabbitMQ", || rabbitmq::stop(Release::Installed));
    }
    steps.step(&format!("faults on RabbitMQ 4.0, {rounds} rounds of each"), || faults_on_4_0(rounds));
}

fn faults_on_4_0(rounds: u64) -> Result<Outcome> {
    if let Err(reason) = rabbitmq::require_4_0() {
        return skip_outside_ci(reason);
    }
    on_rabbitmq(Release::V4_0, |environment| {
        test("recovery", environment, &[("HOPMQ_ROUNDS", rounds)]).map(|()| Outcome::Passed)
    })
}

fn test(name: &str, environment: &[(String, String)], size: &[(&str, u64)]) -> Result {
    let mut command = shell::cargo();
    command.args(["test", "--package", "hopmq-tests", "--test", name, "--", "--nocapture"]);
    command.envs(environment.iter().cloned());
    command.envs(size.iter().map(|(name, number)| (name, number.to_string())));
    shell::run(&mut command)
}
