//! The npm package's tests and benchmarks, in Debian's Chromium and in Node: `cargo xtask test` and
//! `cargo xtask bench browser`.

use std::path::Path;

use crate::rabbitmq::install;
use crate::shell::{self, Result};
use crate::steps::{Outcome, skip_outside_ci};
use crate::toolchain;
use crate::wasm;

/// The paths where a Chromium may be. The first that exists is used, unless HOPMQ_CHROMIUM names another.
const CHROMIUMS: [&str; 4] =
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/opt/homebrew/bin/chromium"];
/// The oldest Node that the package supports.
const NODE: u32 = 20;

/// Options of `cargo xtask bench browser`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A tenth of the messages, one run
    #[arg(long)]
    quick: bool,
    /// Fail if a goal is missed
    #[arg(long)]
    check: bool,
    /// Runs of each case
    #[arg(long, value_name = "N")]
    runs: Option<u32>,
    /// Only cases whose names contain this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// Installs what [`test()`] and [`bench()`] need: the target for WebAssembly, and Chromium. Node must be there.
pub(crate) fn require() -> Result {
    require_node()?;
    toolchain::require_wasm()?;
    chromium().map(drop)
}

/// Tests the package from its tarball, through the gateway, with the broker of the environment.
pub(crate) fn test(filters: &[String], environment: &[(String, String)]) -> Result<Outcome> {
    if let Err(reason) = require() {
        return skip_outside_ci(reason);
    }
    wasm::run(wasm::Arguments { examples: true, ..wasm::Arguments::default() })?;
    wasm::packages("wasm/tests")?;
    shell::run(shell::cargo().args(["build", "--package", "hopmq-gateway"]))?;
    let gateway = wasm::target().join("debug/hopmq-gateway");
    let mut run = shell::program("node");
    run.arg("wasm/tests/run.mjs").args(filters).envs(environment.iter().cloned());
    shell::run(run.env("HOPMQ_GATEWAY_BIN", gateway).env("HOPMQ_CHROMIUM", chromium()?))?;
    Ok(Outcome::Passed)
}

/// Measures the package and @cloudamqp/amqp-client.
pub(crate) fn bench(arguments: &Arguments) -> Result {
    require()?;
    wasm::run(wasm::Arguments::default())?;
    wasm::packages("wasm/tests")?;
    let mut run = shell::program("node");
    run.arg("wasm/tests/bench/run.mjs");
    run.args(arguments.quick.then_some("--quick")).args(arguments.check.then_some("--check"));
    run.args(arguments.runs.map(|runs| format!("--runs={runs}")));
    run.args(arguments.filter.as_ref().map(|text| format!("--filter={text}")));
    shell::run(run.env("HOPMQ_CHROMIUM", chromium()?))
}

/// Checks that Node and npm run, and that Node is new enough.
pub(crate) fn require_node() -> Result {
    let version = shell::output(shell::program("node").arg("--version"))
        .map_err(|_| format!("Node is not installed: install version {NODE} or later (https://nodejs.org)"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|number| number.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE) {
        return Err(format!("Node is {}: install version {NODE} or later", version.trim()).into());
    }
    shell::output(shell::program("npm").arg("--version"))
        .map(drop)
        .map_err(|_| "npm is not installed: install it (Debian: apt install npm)".into())
}

/// The path of Chromium. Installs Debian's package where there is none.
pub(crate) fn chromium() -> Result<String> {
    if let Ok(path) = std::env::var("HOPMQ_CHROMIUM") {
        return Ok(path);
    }
    let find = || CHROMIUMS.iter().find(|path| Path::new(path).is_file()).map(|path| (*path).to_owned());
    if let Some(found) = find() {
        return Ok(found);
    }
    println!("Chromium is not installed: installing Debian's package");
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium", "fonts-liberation"]]
    {
        install::apt_get(arguments).map_err(|error| {
            format!("Chromium is not installed: install one, or set HOPMQ_CHROMIUM to its path ({error})")
        })?;
    }
    find().ok_or_else(|| "Chromium was installed, but not in a known folder: set HOPMQ_CHROMIUM to its path".into())
}
