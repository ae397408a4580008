//! `cargo xtask bench recovery`: how long HopMQ, lapin and amqp-client take to reconnect to RabbitMQ after a fault.

use std::process::Command;

use super::run::Profile;
use crate::rabbitmq::{self, Release};
use crate::shell::{self, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Five rounds
    #[arg(long)]
    quick: bool,
    /// Rounds of each fault [default: 50]
    #[arg(long, value_name = "N", conflicts_with = "quick")]
    rounds: Option<u32>,
}

pub(super) fn run(arguments: &Arguments) -> Result {
    rabbitmq::require()?;
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 5 } else { 50 }).to_string();
    let bench = shell::root().join("bench");
    shell::run(Profile::Release.cargo("build").args(["--package", "bench-recovery"]))?;
    let broker = rabbitmq::start(Release::Installed)?;
    let variable = |name: &str| {
        let value = broker.environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        value.ok_or_else(|| format!("the environment of RabbitMQ has no {name}"))
    };
    let url = variable("AMQP_URL")?;
    let ctl = variable("HOPMQ_RABBITMQCTL")?;
    let outcome = shell::run(Command::new(bench.join("target/release/bench-recovery")).args([url, ctl, &rounds]));
    if broker.started {
        rabbitmq::stop(Release::Installed)?;
    }
    outcome
}
