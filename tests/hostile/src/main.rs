//! Plays the attacks in full sizes, and prints the table: `cargo xtask soak --only hostile`.

use std::process::ExitCode;

use clap::Parser;
use hopmq_hostile::{FAMILY, Kind, Mode, Row, Setting, attacks, play};

/// Attacks on broker and gateway, each beside a well-behaved client
#[derive(Debug, Parser)]
struct Options {
    /// Play only attacks whose names contain one of these texts
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// The brokers to attack
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory,data,embedded")]
    brokers: Vec<Kind>,
    /// Play in the sizes of every change
    #[arg(long)]
    small: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mode = if options.small { Mode::Small } else { Mode::Full };
    let mut failures = Vec::new();
    println!("{}", Row::heading());
    for &kind in &options.brokers {
        for attack in FAMILY.iter().filter(|attack| options.wants(attack.name)) {
            match play(attack, &Setting::new(kind, mode)) {
                Ok(row) => {
                    let excess = if mode == Mode::Full { row.excess() } else { row.wrong() };
                    let mark = if excess.is_empty() { String::new() } else { format!("  ✗ {}", excess.join(", ")) };
                    println!("{row}{mark}");
                    failures.extend((!excess.is_empty()).then_some(attack.name));
                }
                Err(error) => {
                    println!("{:<52} {error}", attack.name);
                    failures.push(attack.name);
                }
            }
        }
    }
    if options.wants(attacks::corruption::NAME) {
        let rounds = if options.small { 30 } else { 750 };
        match attacks::corruption::play(rounds) {
            Ok(outcome) => {
                println!("{:<52} {outcome}", attacks::corruption::NAME);
                failures.extend(outcome.is_wrong().then_some(attacks::corruption::NAME));
            }
            Err(error) => {
                println!("{:<52} {error}", attacks::corruption::NAME);
                failures.push(attacks::corruption::NAME);
            }
        }
    }
    if failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{} attacks went too far", failures.len());
    ExitCode::FAILURE
}
