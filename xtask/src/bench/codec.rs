//! `cargo xtask bench codec`: what the codec costs, in instructions, which a busy machine does not move.
//!
//! Callgrind counts the instructions of `bench-codec` doing one thing a few times and many times; the difference is
//! what one time costs. `--check` holds our figures against `bench/codec/baseline.json`, `--update` writes them there.

use std::path::Path;

use super::sample::field;
use crate::rabbitmq::install::apt_get;
use crate::shell::{self, Result};

/// What is counted: its name, what it is held against, and what a reader calls it.
const THINGS: [(&str, Option<&str>, &str); 5] = [
    ("hopmq-parse", Some("amq-protocol-parse"), "parse a delivery of 100 B"),
    ("hopmq-deliver", Some("amq-protocol-parse"), "parse it, and through the state machine"),
    ("amq-protocol-parse", None, "parse its frames, amq-protocol"),
    ("hopmq-publish", Some("amq-protocol-publish"), "publish 100 B, and hand the bytes over"),
    ("amq-protocol-publish", None, "write its frames, amq-protocol"),
];
const FEW: u64 = 640;
const MANY: u64 = 6400;
/// How much more than the baseline passes: compilers differ a little.
const TOLERANCE: f64 = 0.05;

pub(crate) fn run(arguments: &[String]) -> Result {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (check, update) = match words[..] {
        [] => (false, false),
        ["--check"] => (true, false),
        ["--update"] => (false, true),
        _ => return Err("usage: cargo xtask bench codec [--check | --update]".into()),
    };
    if !has_valgrind() {
        install()?;
    }
    let folder = shell::root().join("bench");
    let mut cargo = shell::cargo();
    cargo.current_dir(&folder).env_remove("CARGO_TARGET_DIR");
    shell::run(cargo.args(["build", "--release", "--locked", "--package", "bench-codec", "--target-dir", "target"]))?;
    let binary = folder.join("target/release/bench-codec");
    let mut counts = Vec::new();
    for (name, ..) in THINGS {
        let (few, many) = (instructions(&binary, name, FEW)?, instructions(&binary, name, MANY)?);
        counts.push((name, (many - few) / (MANY - FEW) as f64));
    }
    shell::print(&table(&counts));
    let path = folder.join("codec/baseline.json");
    if update {
        return shell::write(&path, &json(&counts));
    }
    if check { compare(&counts, &shell::read(&path)?) } else { Ok(()) }
}

fn has_valgrind() -> bool {
    shell::output(shell::program("valgrind").arg("--version")).is_ok()
}

fn install() -> Result {
    println!("valgrind is not installed: installing the system's package");
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "valgrind"]] {
        apt_get(arguments)
            .map_err(|error| format!("{error}\nthere is no valgrind to count instructions with; install it by hand"))?;
    }
    Ok(())
}

/// The instructions that the program takes for `count` times.
fn instructions(binary: &Path, what: &str, count: u64) -> Result<f64> {
    let mut valgrind = shell::program("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(binary).arg(what).arg(count.to_string());
    let output = valgrind.output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("`{}` failed:\n{report}", shell::line(&valgrind)).into());
    }
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.ok_or_else(|| format!("callgrind tells no count:\n{report}").into())
}

fn table(counts: &[(&str, f64)]) -> String {
    let of = |name: &str| counts.iter().find(|(other, _)| *other == name).map(|(_, count)| *count);
    let mut text = String::from("\ninstructions each\n");
    for (name, other, about) in THINGS {
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

/// Ours may not cost more than they did. What a peer costs is its own affair.
fn compare(counts: &[(&str, f64)], baseline: &str) -> Result {
    let mut faults = Vec::new();
    for (name, count) in counts.iter().filter(|(name, _)| name.starts_with("hopmq")) {
        let was: f64 = field(baseline, name).and_then(|value| value.trim().parse().ok()).ok_or("no such baseline")?;
        if *count > was * (1.0 + TOLERANCE) {
            faults.push(format!("{name}: {count:.0} instructions, {was:.0} before"));
        } else if *count < was * (1.0 - TOLERANCE) {
            println!("{name} has become cheaper ({was:.0} → {count:.0}): cargo xtask bench codec --update");
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_held_within_the_tolerance() {
        let baseline = json(&[("hopmq-parse", 1000.0), ("amq-protocol-parse", 50.0)]);
        let check = |ours| compare(&[("hopmq-parse", ours), ("amq-protocol-parse", 5000.0)], &baseline).is_ok();
        assert!(check(1049.0) && check(500.0));
        assert!(!check(1051.0));
    }
}
