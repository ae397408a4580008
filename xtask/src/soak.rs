//! `cargo xtask soak`: what is run by night, because it takes long.

use crate::rabbitmq;
use crate::shell::{self, Result};
use crate::steps::Steps;

/// How much of each.
struct Size {
    seeds: u64,
    kills: u64,
    rounds: u64,
    minutes: u64,
}

pub(crate) fn run(arguments: &[String]) -> Result {
    let mut size = Size { seeds: 10_000, kills: 200, rounds: 20, minutes: 30 };
    for pair in arguments.chunks(2) {
        let number = pair.get(1).and_then(|text| text.parse().ok());
        match (pair[0].as_str(), number) {
            ("--seeds", Some(number)) => size.seeds = number,
            ("--kills", Some(number)) => size.kills = number,
            ("--rounds", Some(number)) => size.rounds = number,
            ("--minutes", Some(number)) => size.minutes = number,
            _ => return Err("usage: cargo xtask soak [--seeds N] [--kills N] [--rounds N] [--minutes N]".into()),
        }
    }
    let mut steps = Steps::new();
    steps.run(&format!("the simulation, {} seeds", size.seeds), || {
        test("simulation", &[], &[("HOPMQ_SEEDS", size.seeds)])
    });
    steps.run(&format!("a broker that is killed {} times", size.kills), || {
        let mut command = shell::cargo();
        command.args(["test", "--package", "hopmq-broker", "--features", "server", "--test", "killed"]);
        shell::run(command.args(["--", "--nocapture"]).env("HOPMQ_ROUNDS", size.kills.to_string()))
    });
    let mut broker = None;
    steps.run("a RabbitMQ to break", || rabbitmq::start().map(|started| broker = Some(started)));
    if let Some(broker) = &broker {
        steps.run(&format!("faults, {} rounds of each", size.rounds), || {
            test("recovery", &broker.environment, &[("HOPMQ_ROUNDS", size.rounds)])
        });
        steps.run(&format!("{} minutes under faults", size.minutes), || {
            test("soak", &broker.environment, &[("HOPMQ_SOAK_SECONDS", size.minutes * 60)])
        });
    }
    if broker.is_some_and(|broker| broker.started) {
        steps.run("stop RabbitMQ", rabbitmq::stop);
    }
    steps.finish("soak")
}

fn test(name: &str, environment: &[(String, String)], size: &[(&str, u64)]) -> Result {
    let mut command = shell::cargo();
    command.args(["test", "--package", "hopmq-tests", "--test", name, "--", "--nocapture"]);
    command.envs(environment.iter().cloned());
    command.envs(size.iter().map(|(name, number)| (name, number.to_string())));
    shell::run(&mut command)
}
