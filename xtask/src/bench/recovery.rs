//! `cargo xtask bench recovery`: how long HopMQ, lapin and amqp-client take to come back after a fault, side by side on
//! RabbitMQ.

use std::process::Command;

use super::USAGE;
use crate::rabbitmq;
use crate::shell::{self, Result};

const ROUNDS: &str = "50";
const QUICK_ROUNDS: &str = "5";

pub(super) fn run(arguments: &[String]) -> Result {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let rounds = match words[..] {
        [] => ROUNDS,
        ["--quick"] => QUICK_ROUNDS,
        ["--rounds", rounds] if rounds.parse::<u32>().is_ok() => rounds,
        _ => return Err(USAGE.into()),
    };
    let bench = shell::root().join("bench");
    shell::run(shell::cargo().args(["build", "--release", "--locked", "-p", "bench-recovery"]).current_dir(&bench))?;
    let broker = rabbitmq::start()?;
    let known =
        |name: &str| broker.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let url = known("AMQP_URL").ok_or("the broker has no address")?;
    let ctl = known("HOPMQ_RABBITMQCTL").ok_or("the broker has no command")?;
    let outcome = shell::run(Command::new(bench.join("target/release/bench-recovery")).args([url, ctl, rounds]));
    if broker.started {
        rabbitmq::stop()?;
    }
    outcome
}
