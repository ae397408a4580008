//! `cargo xtask bench build`: the time that cargo takes to build a program with one dependency from nothing, and the
//! number of crates that it compiles: HopMQ, lapin and amqp-client in turn, debug and release.
//!
//! Crates are downloaded before the clock starts. The versions are those of `bench/Cargo.lock`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::machine;
use crate::shell::{self, Result};

/// The dependency, and the future that the program's `main` polls, so that the client is linked.
const PROGRAMS: [(&str, &str); 3] = [
    ("hopmq", "hopmq::Connection::open(\"amqp://localhost\")"),
    ("lapin", "lapin::Connection::connect(\"amqp://localhost\", lapin::ConnectionProperties::default())"),
    ("amqp-client", "amqp_client::Connection::connect(\"amqp://localhost\")"),
];
/// How HopMQ's time may compare with the shortest of the others, in each profile.
const GOAL: f64 = 0.6;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only the debug build, once
    #[arg(long)]
    quick: bool,
    /// Builds of each program [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    runs: Option<u8>,
}

/// A program with one dependency.
struct Program {
    name: &'static str,
    folder: PathBuf,
    crates: usize,
    /// Seconds of each build: debug, release.
    times: [Vec<f64>; 2],
}

pub(super) fn run(arguments: &Arguments) -> Result {
    let profiles = if arguments.quick { 1 } else { 2 };
    let runs = arguments.runs.unwrap_or(if arguments.quick { 1 } else { 3 });
    let mut programs =
        PROGRAMS.iter().map(|(name, future)| Program::write(name, future)).collect::<Result<Vec<_>>>()?;
    for run in 1..=runs {
        for program in &mut programs {
            for profile in 0..profiles {
                println!("build {run} of {runs}: {}, {}", program.name, ["debug", "release"][profile]);
                let seconds = program.build(profile == 1)?;
                program.times[profile].push(seconds);
            }
        }
    }
    let (text, missed) = report(&programs);
    shell::print(&text);
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ").into()) }
}

impl Program {
    /// Writes the program and downloads its crates.
    fn write(name: &'static str, future: &str) -> Result<Self> {
        let root = shell::root();
        let folder = root.join("bench/target/build").join(name);
        let dependency = match name {
            "hopmq" => format!("path = {:?}", root.join("core")),
            _ => {
                let version = machine::version(name).ok_or_else(|| format!("bench/Cargo.lock has no {name}"))?;
                format!("version = \"={version}\"")
            }
        };
        let manifest = format!(
            "[package]\nname = \"program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
             {name} = {{ {dependency} }}\n\n[workspace]\n"
        );
        shell::write(&folder.join("Cargo.toml"), &manifest)?;
        let main = format!(
            "use std::task::{{Context, Waker}};\n\nfn main() {{\n    let connecting = std::pin::pin!({future});\n    \
             let _ = Future::poll(connecting, &mut Context::from_waker(Waker::noop()));\n}}\n"
        );
        shell::write(&folder.join("src/main.rs"), &main)?;
        shell::write(&folder.join("Cargo.lock"), &shell::read(&root.join("bench/Cargo.lock"))?)?;
        shell::output(cargo(&folder).args(["fetch", "--quiet"]))?;
        let tree = shell::output(cargo(&folder).args(["tree", "--edges", "normal,build", "--prefix", "none"]))?;
        // All but the program itself.
        let crates = crate::deps::distinct(&tree).len() - 1;
        Ok(Self { name, folder, crates, times: [Vec::new(), Vec::new()] })
    }

    /// Builds from nothing, and returns the seconds.
    fn build(&self, release: bool) -> Result<f64> {
        shell::remove_folder(&self.folder.join("target"))?;
        let mut build = cargo(&self.folder);
        build.args(["build", "--quiet", "--offline"]).args(release.then_some("--release"));
        let begun = Instant::now();
        shell::output(&mut build)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The median of the builds in a profile.
    fn time(&self, profile: usize) -> Option<f64> {
        super::sample::median(self.times[profile].clone())
    }
}

/// Cargo in a program's folder, with no setting of the caller's that changes where or how it builds.
fn cargo(folder: &Path) -> std::process::Command {
    let mut command = shell::cargo();
    command.current_dir(folder);
    for variable in ["CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
        command.env_remove(variable);
    }
    command
}

/// The table, and which profiles miss the goal.
fn report(programs: &[Program]) -> (String, Vec<String>) {
    let mut text = format!("\n{:<16}{:>10}{:>10}{:>10}\n", "dependency", "crates", "debug", "release");
    let seconds = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1} s"));
    for program in programs {
        let [debug, release] = [0, 1].map(|profile| seconds(program.time(profile)));
        text += &format!("{:<16}{:>10}{debug:>10}{release:>10}\n", program.name, program.crates);
    }
    let mut missed = Vec::new();
    for (profile, name) in ["debug", "release"].into_iter().enumerate() {
        let (ours, others) = programs.split_at(1);
        let Some(ours) = ours.first().and_then(|ours| ours.time(profile)) else { continue };
        let shortest = others.iter().filter_map(|other| other.time(profile)).min_by(f64::total_cmp);
        let Some(shortest) = shortest else { continue };
        let line = format!("{name}: {:.2} of the shortest of the others (≤ {GOAL})", ours / shortest);
        let held = ours / shortest <= GOAL;
        text += &format!("  {:<13}{line}\n", if held { "held" } else { "MISSED" });
        if !held {
            missed.push(line);
        }
    }
    (text, missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_compared_with_the_shortest_of_the_others() {
        let program = |name, debug: &[f64]| Program {
            name,
            folder: PathBuf::new(),
            crates: 9,
            times: [debug.to_vec(), Vec::new()],
        };
        let report = |ours: &[f64]| {
            report(&[program("hopmq", ours), program("lapin", &[90.0]), program("amqp-client", &[50.0])])
        };
        let (text, missed) = report(&[29.0, 31.0, 99.0]);
        assert!(missed == ["debug: 0.62 of the shortest of the others (≤ 0.6)"] && text.contains("MISSED"), "{text}");
        let (text, missed) = report(&[30.0]);
        assert!(missed.is_empty() && text.contains("30.0 s") && text.contains("held"), "{text}");
    }
}
