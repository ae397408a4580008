//! `cargo xtask wasm`: the npm package in `wasm/npm`, ready for `npm pack`.
//!
//! The crate is compiled with the features of the package, wasm-bindgen splits it into WebAssembly and glue, and
//! `wasm/npm/build.mjs` assembles the package from them and holds its size below a limit.

use std::path::PathBuf;
use std::process::Command;

use crate::browser;
use crate::shell::{self, Result};
use crate::toolchain::{self, WASM};

#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Skip the optimisation for size, which takes minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Build the example pages too
    #[arg(long)]
    pub(crate) examples: bool,
}

/// Builds the package.
pub(crate) fn run(arguments: Arguments) -> Result {
    toolchain::require_wasm()?;
    browser::require_node()?;
    packages("wasm/npm")?;
    shell::run(cargo_build()?.args(["--package", "hopmq-wasm", "--features", "npm"]))?;
    bindgen("hopmq_wasm", "wasm/npm/pkg")?;
    let mut build = shell::program("node");
    build.arg("wasm/npm/build.mjs");
    if arguments.quick {
        build.arg("--quick");
    }
    shell::run(&mut build)?;
    if arguments.examples {
        shell::run(cargo_build()?.args(["--package", "hopmq-wasm-example"]))?;
        bindgen("hopmq_wasm_example", "wasm/examples/rust/pkg")?;
        shell::run(shell::program("node").arg("wasm/examples/build.mjs"))?;
    }
    Ok(())
}

/// Builds for the browser. The paths in panic messages must not reveal the machine that built the package.
fn cargo_build() -> Result<Command> {
    let sysroot = shell::output(Command::new("rustc").current_dir(shell::root()).args(["--print", "sysroot"]))?;
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = [
        format!("--remap-path-prefix={home}/registry/src=crates"),
        format!("--remap-path-prefix={}/lib/rustlib/src/rust=rust", sysroot.trim()),
    ];
    let mut command = shell::cargo();
    command.args(["build", "--profile", "wasm", "--target", WASM]);
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags.join(" "));
    Ok(command)
}

/// Runs wasm-bindgen on a compiled library. The tool is a workspace of its own, because only this step needs its
/// dependencies.
fn bindgen(library: &str, folder: &str) -> Result {
    let target = target();
    let mut command = shell::cargo();
    command.args([
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
        "wasm/bindgen/Cargo.toml",
        "--target-dir",
    ]);
    command.arg(target.join("bindgen")).arg("--").arg(target.join(WASM).join("wasm").join(format!("{library}.wasm")));
    shell::run(command.arg(folder))
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from)
}

/// Installs the npm packages of a folder from its lock file, unless they are current.
pub(crate) fn packages(folder: &str) -> Result {
    let folder = shell::root().join(folder);
    let lock = folder.join("package-lock.json");
    let stamp = folder.join("node_modules/.package-lock.json");
    let modified = |path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    if modified(stamp).is_some_and(|installed| modified(lock).is_some_and(|locked| locked <= installed)) {
        return Ok(());
    }
    shell::run(Command::new("npm").current_dir(&folder).args(["ci", "--no-audit", "--no-fund"]))
}
