//! `cargo xtask bench codec`: the cost of the codec in instructions, which a busy machine does not change.
//!
//! Callgrind counts the instructions of `bench-codec` for few and for many operations; the difference is the cost of
//! the operations between. `--check` compares HopMQ's figures with `bench/codec/baseline.json`, `--update` writes them.

use std::path::Path;

use super::run::Profile;
use super::sample::field;
use crate::rabbitmq::install::apt_get;
use crate::shell::{self, Result};

/// The operations: name, operation to compare with, description.
const OPERATIONS: [(&str, Option<&str>, &str); 5] = [
    ("hopmq-parse", Some("amq-protocol-parse"), "parse a delivery of 100 B"),
    ("hopmq-deliver", Some("amq-protocol-parse"), "parse it, and pass the state machine"),
    ("amq-protocol-parse", None, "parse its frames, amq-protocol"),
    ("hopmq-publish", Some("amq-protocol-publish"), "publish 100 B, and write the bytes"),
    ("amq-protocol-publish", None, "write its frames, amq-protocol"),
];
const FEW: u64 = 640;
const MANY: u64 = 6400;
/// The permitted excess over the baseline, as a share: compilers differ slightly.
const TOLERANCE: f64 = 0.05;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Fail if HopMQ takes more instructions than the baseline
    #[arg(long)]
    check: bool,
    /// Write the baseline
    #[arg(long, conflicts_with = "check")]
    update: bool,
}

/// Compares HopMQ's instructions with the baseline.
pub(crate) fn check() -> Result {
    run(&Arguments { check: true, ..Arguments::default() })
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    require()?;
    let folder = shell::root().join("bench");
    shell::run(Profile::Release.cargo("build").args(["--package", "bench-codec"]))?;
    let binary = folder.join("target/release/bench-codec");
    let mut counts = Vec::new();
    for (name, ..) in OPERATIONS {
        let few = instructions(&binary, name, FEW)?;
        let many = instructions(&binary, name, MANY)?;
        counts.push((name, (many - few) / (MANY - FEW) as f64));
    }
    shell::print(&table(&counts));
    let path = folder.join("codec/baseline.json");
    if arguments.update {
        return shell::write(&path, &json(&counts));
    }
    if arguments.check { compare(&counts, &shell::read(&path)?) } else { Ok(()) }
}

/// Installs valgrind if it is missing.
pub(crate) fn require() -> Result {
    if shell::output(shell::program("valgrind").arg("--version")).is_ok() {
        return Ok(());
    }
    println!("valgrind is not installed: installing the system's package");
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "valgrind"]] {
        apt_get(arguments)
            .map_err(|error| format!("valgrind, which counts instructions, is not installed: install it ({error})"))?;
    }
    Ok(())
}

/// The instructions of the program for `count` operations.
fn instructions(binary: &Path, what: &str, count: u64) -> Result<f64> {
    let mut valgrind = shell::program("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(binary).arg(what).arg(count.to_string());
    let output = valgrind.output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("`{}` failed:\n{report}", shell::line(&valgrind)).into());
    }
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.ok_or_else(|| format!("callgrind printed no `Collected` line:\n{report}").into())
}

fn table(counts: &[(&str, f64)]) -> String {
    let of = |name: &str| counts.iter().find(|(other, _)| *other == name).map(|(_, count)| *count);
    let mut text = String::from("\ninstructions each\n");
    for (name, other, about) in OPERATIONS {
        let Some(count) = of(name) else { continue };
        let ratio = other.and_then(of).map_or_else(String::new, |other| format!("  {:.1}× fewer", other / count));
        text += &format!("  {about:<42}{count:>8.0}{ratio}\n");
    }
    text
}

fn json(counts: &[(&str, f64)]) -> String {
    let lines: Vec<_> = counts.iter().map(|(name, count)| format!("  \"{name}\": {count:.0}")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// Finds operations of HopMQ that cost more than before. The cost of a peer's is not checked.
fn compare(counts: &[(&str, f64)], baseline: &str) -> Result {
    let mut increases = Vec::new();
    for (name, count) in counts.iter().filter(|(name, _)| name.starts_with("hopmq")) {
        let was: f64 = field(baseline, name)
            .and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| format!("bench/codec/baseline.json has no number for {name}: run with --update"))?;
        if *count > was * (1.0 + TOLERANCE) {
            increases.push(format!("{name}: {count:.0} instructions, {was:.0} in the baseline"));
        } else if *count < was * (1.0 - TOLERANCE) {
            println!("{name} became cheaper ({was:.0} → {count:.0}): run `cargo xtask bench codec --update`");
        }
    }
    if increases.is_empty() { Ok(()) } else { Err(increases.join("; ").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_instructions_than_the_tolerance_are_an_error() {
        let baseline = json(&[("hopmq-parse", 1000.0), ("amq-protocol-parse", 50.0)]);
        let check = |ours| compare(&[("hopmq-parse", ours), ("amq-protocol-parse", 5000.0)], &baseline).is_ok();
        assert!(check(1049.0) && check(500.0));
        assert!(!check(1051.0));
    }
}
