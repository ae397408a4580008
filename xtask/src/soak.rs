//! `cargo xtask soak`: tests that are too long for CI and run at night.

use crate::rabbitmq::{self, Release};
use crate::shell::{self, Result};
use crate::steps::{Outcome, Steps, skip_outside_ci};
use crate::test::on_rabbitmq;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seeds of the simulation
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
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let Arguments { seeds, kills, rounds, minutes } = *arguments;
    let mut steps = Steps::new();
    steps.require(&[rabbitmq::require, rabbitmq::require_4_0]);
    steps.run(&format!("the simulation, {seeds} seeds"), || test("simulation", &[], &[("HOPMQ_SEEDS", seeds)]));
    steps.run(&format!("a broker that is killed {kills} times"), || {
        let mut command = shell::cargo();
        command.args(["test", "--package", "hopmq-broker", "--features", "server", "--test", "killed"]);
        shell::run(command.args(["--", "--nocapture"]).env("HOPMQ_ROUNDS", kills.to_string()))
    });
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
    steps.finish("soak")
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
