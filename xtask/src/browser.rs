//! The npm package's tests and measurements, in Debian's Chromium and in Node: `cargo xtask test` and
//! `cargo xtask bench browser`.

use std::path::Path;

use crate::rabbitmq::install;
use crate::shell::{self, Result};
use crate::steps::Outcome;
use crate::wasm;

/// Where a Chromium may be; the first that is there is taken, unless HOPMQ_CHROMIUM names another.
const CHROMIUMS: [&str; 4] =
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/opt/homebrew/bin/chromium"];
/// The oldest Node that the package works in.
const NODE: u32 = 20;

/// Tests the package from its tarball, through the gateway, on the broker of the environment.
pub(crate) fn test(filters: &[String], environment: &[(String, String)]) -> Result<Outcome> {
    let chromium = match chromium() {
        Ok(chromium) => chromium,
        Err(reason) => return skipped(reason),
    };
    wasm::run(&["--examples".to_owned()])?;
    wasm::packages("wasm/tests")?;
    shell::run(shell::cargo().args(["build", "--package", "hopmq-gateway"]))?;
    let gateway = wasm::target().join("debug/hopmq-gateway");
    let mut run = shell::program("node");
    run.arg("wasm/tests/run.mjs").args(filters).envs(environment.iter().cloned());
    shell::run(run.env("HOPMQ_GATEWAY_BIN", gateway).env("HOPMQ_CHROMIUM", chromium))?;
    Ok(Outcome::Passed)
}

/// Measures the package beside @cloudamqp/amqp-client.
pub(crate) fn bench(arguments: &[String]) -> Result {
    let chromium = chromium()?;
    wasm::run(&[])?;
    wasm::packages("wasm/tests")?;
    let mut run = shell::program("node");
    shell::run(run.arg("wasm/tests/bench/run.mjs").args(arguments).env("HOPMQ_CHROMIUM", chromium))
}

/// CI has all that is needed; a person may not.
fn skipped(reason: Box<dyn std::error::Error>) -> Result<Outcome> {
    if std::env::var_os("CI").is_some() { Err(reason) } else { Ok(Outcome::Skipped(reason.to_string())) }
}

/// The Chromium to use, after installing Debian's where there is none; an error if Node is missing too.
pub(crate) fn chromium() -> Result<String> {
    let version = shell::output(shell::program("node").arg("--version"))
        .map_err(|_| format!("there is no Node: install version {NODE} or later"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|number| number.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE) {
        return Err(format!("Node is {}, and {NODE} or later is needed", version.trim()).into());
    }
    if let Ok(named) = std::env::var("HOPMQ_CHROMIUM") {
        return Ok(named);
    }
    let find = || CHROMIUMS.iter().find(|path| Path::new(path).is_file()).map(|path| (*path).to_owned());
    if let Some(found) = find() {
        return Ok(found);
    }
    println!("Chromium is not installed: installing Debian's package");
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium", "fonts-liberation"]]
    {
        install::apt_get(arguments).map_err(|error| {
            format!("{error}\nthere is no Chromium: install Debian's package `chromium`, or name one in HOPMQ_CHROMIUM")
        })?;
    }
    find().ok_or_else(|| "Chromium was installed, and is not where it should be: name it in HOPMQ_CHROMIUM".into())
}
