//! `cargo xtask bench app`: the rows of handlers only, with none but their runners built.

use super::plan::HANDLERS;
use super::rows::HANDLE;
use super::{Against, Options, run_clients};
use crate::shell::Result;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only clients whose names begin with one of these
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    clients: Vec<String>,
    /// Only against these [default: counterpart,hopmq]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    against: Vec<Against>,
    /// Runs of each client in each row [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: Option<u8>,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let Arguments { clients, against, runs } = arguments;
    run_clients(&Options {
        filter: HANDLE.to_owned(),
        clients: clients.clone(),
        against: against.clone(),
        runs: *runs,
        runners: Some(HANDLERS),
        ..Options::default()
    })
}
