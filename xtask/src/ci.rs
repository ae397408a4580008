//! `cargo xtask ci`: all that a change must pass, in the order in which it is cheapest to learn of a fault.

use std::process::Command;

use crate::shell::{self, Result};
use crate::steps::{Outcome, Steps};
use crate::{bench, codegen, deps, test, tidy};

const WASM: &str = "wasm32-unknown-unknown";

pub(crate) fn run(_: &[String]) -> Result {
    let mut steps = Steps::new();
    steps.run("formatting", || cargo("fmt --all --check"));
    steps.run("tidy", || tidy::run(&[]));
    steps.run("generated code is current", || codegen::run(true));
    steps.run("dependencies", || deps::run(&[]));
    steps.run("clippy, default features", || {
        cargo("clippy -p hopmq-proto -p hopmq -p hopmq-blocking --all-targets -- -D warnings")
    });
    steps.run("clippy, no default features", || cargo("clippy -p hopmq --no-default-features -- -D warnings"));
    steps.run("clippy, tokio without async-io", || {
        cargo("clippy -p hopmq --no-default-features --features tokio,tls,websocket,unix -- -D warnings")
    });
    steps.run("clippy, a broker without a disk", || {
        cargo("clippy -p hopmq-broker --all-targets --no-default-features -- -D warnings")
    });
    steps.run("clippy, all features", || cargo("clippy --workspace --all-targets --all-features -- -D warnings"));
    steps.run("documentation", || {
        shell::run(shell::cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--no-deps", "--workspace"]))
    });
    steps.step("WebAssembly", wasm);
    steps.run("instructions of the codec", || bench::run(&["codec".to_owned(), "--check".to_owned()]));
    steps.run("test", || test::run(&[]));
    steps.finish("ci")
}

fn cargo(words: &str) -> Result {
    shell::run(shell::cargo().args(words.split(' ')))
}

/// The protocol, the core and its door for browsers compile for WebAssembly. Without rustup the target cannot be had;
/// CI always has it.
fn wasm() -> Result<Outcome> {
    match shell::output(Command::new("rustup").args(["target", "list", "--installed"])) {
        Ok(targets) if targets.lines().any(|target| target == WASM) => {}
        Ok(_) => shell::run(shell::program("rustup").args(["target", "add", WASM]))?,
        Err(_) if std::env::var_os("CI").is_none() => return Ok(Outcome::Skipped("there is no rustup".into())),
        Err(error) => return Err(error),
    }
    cargo(&format!("check -p hopmq-proto -p hopmq --no-default-features --target {WASM}"))?;
    cargo(&format!("clippy -p hopmq-wasm --features npm --target {WASM} -- -D warnings"))?;
    Ok(Outcome::Passed)
}
